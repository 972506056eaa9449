//! Rates: binary over HTTP against `boss` on the same pool, JSON against Python.

use super::Options;
use super::bodies::Form;
use super::client::{Body, Client, rate};
use super::process::{Bridge, Process, Python, boss_rate, cpu_seconds};
use super::report::{Report, Target};

/// Systems that are sent in turn.
const SYSTEMS: u64 = 8;

/// Tasks of a turn in JSON: Python takes half a second for each.
const JSON_COUNT: u64 = 16;

/// The bridge has to keep so much of the boss's rate.
const OF_BOSS: f64 = 0.8;
/// and to be so much faster than Python.
const OF_PYTHON: f64 = 3.0;

/// One way to the pool, and what came of it.
struct Pool<'a> {
    name: &'static str,
    url: Option<&'a str>,
    bridge: Bridge,
    /// CPU of a boss that does next to nothing.
    idle: f64,
    boss: Vec<[f64; 2]>,
    /// Of each form.
    http: [Vec<[f64; 2]>; 2],
}

impl<'a> Pool<'a> {
    async fn new(name: &'static str, url: Option<&'a str>) -> Self {
        Pool { name, url, bridge: Bridge::start(url, &[]).await, idle: 0.0, boss: Vec::new(), http: Default::default() }
    }

    /// A turn of each: tasks a second, and CPU seconds of a task.
    async fn round(&mut self, options: &Options, n: usize, count: u64, forms: &[(Form, Vec<Body>); 2], counts: bool) {
        let (rate_of_boss, cpu) = boss_rate(self.url, n, count);
        if counts {
            self.boss.push([rate_of_boss, (cpu - self.idle) / count as f64]);
        } else {
            self.idle = boss_rate(self.url, n, 1).1;
        }
        for ((_, bodies), figures) in forms.iter().zip(&mut self.http) {
            let cpu = || self.bridge.cpu_seconds() + cpu_seconds("self")[0];
            let before = cpu();
            let rate = rate(self.bridge.address, options.connections, bodies, count).await.expect("a rate");
            if counts {
                figures.push([rate, (cpu() - before) / count as f64]);
            }
        }
    }

    fn report(&mut self, report: &mut Report, n: usize, forms: &[(Form, Vec<Body>); 2]) {
        let column = |figures: &[[f64; 2]], which: usize| figures.iter().map(|of| of[which]).collect::<Vec<f64>>();
        let pool = self.name;
        report.row(format!("N={n} {pool}: boss"), "tasks/s", &column(&self.boss, 0));
        for ((form, _), http) in forms.iter().zip(&self.http) {
            let name = form.name();
            report.row(format!("N={n} {pool}: {name}"), "tasks/s", &column(http, 0));
            let ratios: Vec<f64> = http.iter().zip(&self.boss).map(|(http, boss)| http[0] / boss[0]).collect();
            let what = format!("N={n} {pool}: {name} / boss");
            // What is said of small tasks is how they compare; the target is of large ones.
            match n {
                1000.. => report.judge(what, "x", &ratios, Target::AtLeast(OF_BOSS)),
                _ => report.row(what, "x", &ratios),
            }
            // Not through RabbitMQ: what that and the worker use is in neither.
            if self.url.is_none() {
                let ratios: Vec<f64> = http.iter().zip(&self.boss).map(|(http, boss)| boss[1] / http[1]).collect();
                report.row(format!("N={n} {pool}: CPU of boss / of bridge and client, {name}"), "x", &ratios);
            }
        }
        (self.boss, self.http) = Default::default();
    }
}

/// Binary over HTTP by the rate of `boss`, embedded and over RabbitMQ with one worker.
pub async fn binary(report: &mut Report, options: &Options, url: Option<&str>) {
    let worker = url.map(Process::worker);
    let mut pools = vec![Pool::new("embedded", None).await];
    if let Some(url) = url {
        pools.push(Pool::new("RabbitMQ", Some(url)).await);
        pools[1].bridge.until_worker().await;
    }
    for &n in &options.sizes {
        // As many as take about as long.
        let count = (options.count as f64 * (1000.0 / n as f64).powi(2)).clamp(8.0, 20_000.0) as u64;
        let forms = [Form::Multipart, Form::Raw].map(|form| (form, form.bodies(n, SYSTEMS)));
        for round in 0..=options.rounds {
            for pool in &mut pools {
                pool.round(options, n, count, &forms, round > 0).await;
            }
        }
        for pool in &mut pools {
            pool.report(report, n, &forms);
        }
    }
    drop(worker);
}

/// JSON, in lists as Python reads it and in base64, by the rate of the same through Python and NumPy.
pub async fn json(report: &mut Report, options: &Options) {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let python = match Python::start(threads) {
        Ok(python) => python,
        Err(error) => return report.note(&format!("json: {error}")),
    };
    let bridge = Bridge::start(None, &[]).await;
    for &n in &options.sizes {
        let (lists, packed) = (Form::Json.bodies(n, SYSTEMS), Form::Base64.bodies(n, SYSTEMS));
        let mut answers = Vec::new();
        for address in [bridge.address, python.address] {
            let mut client = Client::connect(address).await.expect("it listens");
            let answer = client.post("/v1/solve", &lists[0]).await.expect("an answer");
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            answers.push(answer["x"][n - 1].as_f64().expect("the last number"));
        }
        let [ours, theirs] = answers[..] else { unreachable!("two") };
        assert!((ours - theirs).abs() <= 1e-6 * ours.abs().max(1.0), "different answers: {ours} and {theirs}");
        let contestants = [(python.address, &lists), (bridge.address, &lists), (bridge.address, &packed)];
        let mut rates = [const { Vec::new() }; 3];
        for round in 0..=options.rounds {
            for ((address, bodies), rates) in contestants.iter().zip(&mut rates) {
                let rate = rate(*address, options.connections, bodies, JSON_COUNT).await.expect("a rate");
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let ratios =
            |ours: &[f64]| ours.iter().zip(&rates[0]).map(|(ours, theirs)| ours / theirs).collect::<Vec<f64>>();
        report.row(format!("N={n} JSON: Python, NumPy {}", python.version), "tasks/s", &rates[0]);
        report.row(format!("N={n} JSON lists"), "tasks/s", &rates[1]);
        report.judge(format!("N={n} JSON lists / Python"), "x", &ratios(&rates[1]), Target::AtLeast(OF_PYTHON));
        report.row(format!("N={n} JSON base64 / Python with lists"), "x", &ratios(&rates[2]));
    }
}
