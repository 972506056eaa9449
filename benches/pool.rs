//! The pool as its users get it: the built programs, a private RabbitMQ on this machine, interleaved rounds.
//!
//!     cargo bench --bench pool                       all of it, about four minutes
//!     cargo bench --bench pool -- transport small    only the named parts: transport, small, large, queue, waiting, idle
//!
//! Prints medians with their quartiles; figures of one run may be compared with each other, those of two runs may not.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "pool/transport.rs"]
mod transport;
#[path = "pool/waiting.rs"]
mod waiting;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/rabbitmq.rs"]
mod rabbitmq;

const ROUNDS: usize = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    let node = rabbitmq::Node::start_with(rabbitmq::Setup { vhosts: 6, ..rabbitmq::Setup::default() });
    println!("{:<44} {:>10} {:>10} {:>10}", "", "median", "lower", "upper");
    if is_wanted("transport") {
        transport::run(&node.url("t0"));
    }
    if is_wanted("small") {
        throughput(&node.url("t1"));
    }
    if is_wanted("large") {
        memory(&node.url("t2"));
    }
    if is_wanted("queue") {
        queue(&node.url("t3"));
    }
    if is_wanted("waiting") {
        waiting::run(&node.url("t5"));
    }
    if is_wanted("idle") {
        idle(&node.url("t4"));
    }
}

/// A worker process, ended by pid.
struct Worker(Child);

impl Worker {
    /// Starts one, and waits until `boss workers` lists it.
    fn start(url: &str) -> Self {
        let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"));
        worker.args(["--broker", url]).stderr(Stdio::null()).stdin(Stdio::null());
        let worker = Worker(worker.spawn().expect("the worker starts"));
        let listed =
            || run_boss(&["--broker", url, "workers", "--json"]).0.as_array().is_some_and(|nodes| !nodes.is_empty());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !listed() {
            assert!(Instant::now() < deadline, "no worker came up");
        }
        worker
    }

    fn status_kib(&self, field: &str) -> f64 {
        status_kib(self.0.id(), field)
    }

    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("/proc");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        // utime and stime, in clock ticks of 10 ms.
        (11..13).map(|i| fields[i].parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status_kib(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// Runs `boss`, gives what it printed and its peak resident memory in KiB (looked at while it runs).
fn run_boss(arguments: &[&str]) -> (serde_json::Value, f64) {
    let mut boss = Command::new(env!("CARGO_BIN_EXE_boss"));
    boss.args(arguments).env_remove("RABBITRY_BROKER").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut boss = boss.spawn().expect("the boss starts");
    let mut output = boss.stdout.take().expect("its output");
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut output));
    let mut peak: f64 = 0.0;
    while boss.try_wait().expect("its state").is_none() {
        peak = peak.max(status_kib(boss.id(), "VmHWM"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = reader.join().expect("the reader").expect("its output is text");
    (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}")), peak)
}

fn solve(broker: Option<&str>, arguments: &[&str]) -> serde_json::Value {
    let mut all: Vec<&str> = broker.map_or(vec![], |url| vec!["--broker", url]);
    all.extend(["solve", "--json"]);
    all.extend(arguments);
    let (report, _) = run_boss(&all);
    assert_eq!(report["failed"], 0, "{report}");
    report
}

fn row(what: &str, unit: &str, mut figures: Vec<f64>) {
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share).round() as usize];
    println!("{:<44} {:>10.4} {:>10.4} {:>10.4}", format!("{what}, {unit}"), at(0.5), at(0.25), at(0.75));
}

/// Tasks per second at N=100 and N=1000, embedded and through RabbitMQ, with one worker process.
fn throughput(url: &str) {
    let worker = Worker::start(url);
    let cases = [("100", "20000"), ("1000", "200")];
    let mut figures = vec![Vec::new(); 4];
    for round in 0..=ROUNDS {
        for (case, (n, count)) in cases.iter().enumerate() {
            for (way, broker) in [None, Some(url)].into_iter().enumerate() {
                let report = solve(broker, &["--random", n, "--count", count]);
                if round > 0 {
                    figures[case * 2 + way].push(report["tasks_per_second"].as_f64().expect("a rate"));
                }
            }
        }
    }
    let names = ["N=100 embedded", "N=100 RabbitMQ", "N=1000 embedded", "N=1000 RabbitMQ"];
    names.into_iter().zip(figures).for_each(|(name, figures)| row(name, "tasks/s", figures));
    drop(worker);
}

/// Peak resident memory at N=5000, as a multiple of the payload (worker) and of the window (boss).
fn memory(url: &str) {
    let payload_kib = 5000.0 * 5001.0 * 8.0 / 1024.0;
    let one = Worker::start(url);
    solve(Some(url), &["--random", "5000"]);
    row("N=5000, one task: worker / payload", "x", vec![one.status_kib("VmHWM") / payload_kib]);
    drop(one);
    let ahead = Worker::start(url);
    let (report, boss_kib) =
        run_boss(&["--broker", url, "--window", "1GiB", "solve", "--json", "--random", "5000", "--count", "8"]);
    assert_eq!(report["failed"], 0, "{report}");
    row("N=5000, the next pulled: worker / payload", "x", vec![ahead.status_kib("VmHWM") / payload_kib]);
    row("N=5000, 8 tasks: boss / window of 1 GiB", "x", vec![boss_kib / f64::from(1 << 20)]);
    row("N=5000, 8 tasks", "tasks/s", vec![report["tasks_per_second"].as_f64().expect("a rate")]);
}

/// N=10 tasks: the rate of 100,000 against that of 1,000, and the boss's memory with a window of 64 MiB.
fn queue(url: &str) {
    let worker = Worker::start(url);
    let mut ratios = Vec::new();
    let mut peaks = Vec::new();
    for _ in 0..3 {
        let few = solve(Some(url), &["--random", "10", "--count", "2000"]);
        let (many, kib) =
            run_boss(&["--broker", url, "--window", "64MiB", "solve", "--json", "--random", "10", "--count", "100000"]);
        let rate = |report: &serde_json::Value| report["tasks_per_second"].as_f64().expect("a rate");
        ratios.push(rate(&many) / rate(&few));
        peaks.push(kib / 1024.0);
    }
    row("N=10: rate of 100,000 / rate of 2,000", "x", ratios);
    row("N=10, 100,000, window 64 MiB: boss", "MiB", peaks);
    drop(worker);
}

/// CPU of a worker that has nothing to do.
fn idle(url: &str) {
    let worker = Worker::start(url);
    std::thread::sleep(Duration::from_secs(1));
    let before = worker.cpu_seconds();
    std::thread::sleep(Duration::from_secs(20));
    row("idle worker, CPU of one core", "%", vec![(worker.cpu_seconds() - before) / 20.0 * 100.0]);
}
