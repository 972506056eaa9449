//! A report for the tests, with every part in it.

use crate::bench::model::*;

/// Quartiles of 5 % around a middle.
pub fn spread(median: f64) -> Spread {
    let (lower, upper, min, max) = (median * 0.95, median * 1.05, median * 0.9, median * 1.5);
    Spread { median, lower, upper, min, max, count: 30, outliers: vec![max] }
}

/// Measured once.
pub fn once(median: f64) -> Spread {
    Spread { median, lower: median, upper: median, min: median, max: median, count: 1, outliers: Vec::new() }
}

fn cube(n: usize) -> f64 {
    (n as f64).powi(3)
}

fn payload(n: usize, payload: Payload) -> PayloadRow {
    let amount = (n * n * 8) as f64;
    let (slow, fat) = match payload {
        Payload::Binary => (1.0, 1.0),
        Payload::Json => (14.0, 2.4),
        Payload::Base64 => (2.5, 1.34),
    };
    let stages = Stages {
        encode: amount * slow * 1.1e-10 + 2e-6,
        publish: amount * fat * 4e-10 + 60e-6,
        queue: 80e-6,
        receive: amount * fat * 6e-10 + 40e-6,
        decode: amount * slow * 2e-10 + 1e-6,
        compute: cube(n) * 1.4e-11 + 9e-6,
        reply: 150e-6 + n as f64 * slow * 1e-8,
    };
    let Stages { encode, publish, queue, receive, decode, compute, reply } = stages;
    let total = encode + publish + queue + receive + decode + compute + reply;
    PayloadRow {
        n,
        payload,
        task_bytes: (amount * fat) as u64,
        answer_bytes: (n as f64 * 8.0 * fat) as u64,
        round_trip_seconds: Some(spread(total)),
        stages_seconds: Some(stages),
        tasks_per_second: Some(spread(1.8 / total)),
        boss_peak_bytes: Some(120_000_000),
        worker_peak_bytes: Some(340_000_000),
        missing: None,
    }
}

fn compute(contestant: &str, detail: &str, n: usize, threads: usize, factor: f64) -> ComputeRow {
    let seconds = factor * (cube(n) * 1.4e-11 / (threads as f64).powf(0.8) + 4e-6);
    ComputeRow {
        contestant: contestant.to_owned(),
        detail: detail.to_owned(),
        n,
        threads,
        seconds: Some(spread(seconds)),
        backward_error: Some(3.2e-17),
        missing: None,
    }
}

fn computes() -> Vec<ComputeRow> {
    let mut rows = Vec::new();
    for n in [10, 100, 1000, 5000] {
        for threads in [1, 8] {
            rows.push(compute("rabbitry", "MKL getrf, refined", n, threads, 1.0));
            rows.push(compute("numpy", "NumPy 2.4.0, OpenBLAS 0.3.30", n, threads, 1.3));
            rows.push(compute("eigen", "Eigen 3.4.0, PartialPivLU", n, threads, 2.1));
        }
        rows.push(compute("numpy (published)", "2019 laptop", n, 1, 1.7));
        rows.push(compute("eigen (published)", "2019 laptop", n, 1, 2.6));
    }
    let last = rows.len() - 1;
    rows[last].seconds = None;
    rows[last].backward_error = None;
    rows[last].missing = Some("the project published no figure for this size".to_owned());
    rows
}

fn pool(sweep: Sweep, n: usize, workers: usize, in_flight: usize, prefetch: u16, efficiency: f64) -> PoolRow {
    let rate = workers as f64 * efficiency / (cube(n) * 1.4e-11 + 20e-6);
    let (tasks_per_second, efficiency) = (spread(rate), spread(efficiency));
    PoolRow { sweep, n, workers, slots: workers, in_flight, prefetch: Some(prefetch), tasks_per_second, efficiency }
}

fn pools() -> Vec<PoolRow> {
    let mut rows = Vec::new();
    for (n, loss) in [(10, 0.35), (100, 0.12), (1000, 0.02)] {
        for workers in [1, 2, 4, 8] {
            rows.push(pool(Sweep::Workers, n, workers, 32, 2, 0.95 / (1.0 + loss * workers as f64)));
        }
        for in_flight in [1, 4, 16, 64] {
            let efficiency = 0.9 / (1.0 + loss * 8.0 / in_flight as f64);
            rows.push(pool(Sweep::InFlight, n, 8, in_flight, 2, efficiency));
        }
        for prefetch in [1, 2, 8] {
            rows.push(pool(Sweep::Prefetch, n, 8, 32, prefetch, 0.9 / (1.0 + loss * 2.0 / f64::from(prefetch))));
        }
    }
    rows
}

fn break_even() -> BreakEven {
    let cost = |n: usize| Cost {
        n,
        local_seconds: cube(n) * 1e-11,
        alone_seconds: 3e-4 + (n * n) as f64 * 1e-8,
        stream_seconds: 2e-6 + (n * n) as f64 * 3e-9,
    };
    let point = |workers: usize, alone_n: Option<f64>, stream_n: Option<f64>| Point { workers, alone_n, stream_n };
    BreakEven {
        measured: [10, 100, 1000].map(cost).to_vec(),
        points: vec![
            point(1, None, None),
            point(2, None, Some(2100.0)),
            point(4, Some(4200.0), Some(840.0)),
            point(8, Some(2600.0), Some(510.0)),
            point(16, Some(2200.0), Some(390.0)),
            point(32, Some(2050.0), Some(350.0)),
            point(64, Some(2000.0), Some(330.0)),
        ],
        sentences: vec![
            "With 8 workers like this machine a stream of tasks pays from n = 510 on, one by one from n = 2600."
                .to_owned(),
        ],
    }
}

fn peer(name: &str, n: usize, rate: f64) -> PeerRow {
    PeerRow {
        peer: name.to_owned(),
        detail: format!("{name} 1.0, default settings"),
        n,
        count: 500,
        workers: 8,
        tasks_per_second: Some(spread(rate)),
        backward_error: Some(4.4e-17),
        missing: None,
    }
}

fn machine() -> Machine {
    Machine {
        host: "lab-17".to_owned(),
        cpu: "AMD EPYC 7443P 24-Core Processor".to_owned(),
        cores: 8,
        memory_bytes: 33_500_000_000,
        os: "Debian GNU/Linux 12".to_owned(),
        governor: Some("performance".to_owned()),
        load: 0.31,
        rabbitry: "0.1.0".to_owned(),
        kernel: "Intel oneAPI Math Kernel Library 2026.2".to_owned(),
        broker: Some("RabbitMQ 3.10.8".to_owned()),
        workers: Vec::new(),
    }
}

/// Every part, some rows without figures.
pub fn report() -> Report {
    let mut payloads: Vec<_> = [10, 100, 1000, 5000]
        .iter()
        .flat_map(|&n| [Payload::Binary, Payload::Json, Payload::Base64].map(|form| payload(n, form)))
        .collect();
    payloads[10] = PayloadRow {
        round_trip_seconds: None,
        stages_seconds: None,
        tasks_per_second: None,
        boss_peak_bytes: None,
        worker_peak_bytes: None,
        missing: Some("too large: 480 MB of text are above --window; raise it to measure this".to_owned()),
        ..payloads[10].clone()
    };
    let mut peers: Vec<_> = [(10, 9000.0), (100, 6000.0), (1000, 110.0)]
        .iter()
        .flat_map(|&(n, rate)| {
            [("rabbitry", 1.0), ("dask", 0.2), ("celery", 0.31)].map(|(name, part)| peer(name, n, rate * part))
        })
        .collect();
    peers[8].tasks_per_second = None;
    peers[8].backward_error = None;
    peers[8].missing = Some("celery did not start: ModuleNotFoundError: No module named 'celery'".to_owned());
    Report {
        schema: SCHEMA,
        started: "2026-11-21T15:00:00Z".to_owned(),
        seconds: 812.4,
        complete: true,
        settings: Settings {
            broker: "amqp://127.0.0.1:5672/%2f".to_owned(),
            sizes: vec![10, 100, 1000, 5000],
            payloads: vec![Payload::Binary, Payload::Json, Payload::Base64],
            baselines: vec!["numpy".to_owned(), "eigen".to_owned()],
            peers: vec!["dask".to_owned(), "celery".to_owned()],
            rounds: 30,
            seed: 7,
        },
        machine: machine(),
        notes: vec!["Clocks of the workers were compared by the heartbeats; they differ by at most 0.2 ms.".to_owned()],
        payload: payloads,
        compute: computes(),
        pool: pools(),
        break_even: Some(break_even()),
        peers,
    }
}

/// Nothing was measured.
pub fn empty() -> Report {
    let mut report = report();
    (report.payload, report.compute, report.pool, report.peers) = Default::default();
    report.break_even = None;
    report.notes.clear();
    report.settings.broker = "embedded".to_owned();
    report
}
