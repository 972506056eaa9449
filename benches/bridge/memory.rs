//! Peak memory of a bridge over RabbitMQ: one large body of each form, and eight clients at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rabbitry::tasks::solve::System;

use super::bodies::Form;
use super::client::{Body, Client};
use super::process::{Bridge, Process};
use super::report::{Report, Target};

/// Peak memory above idle by the length of the body.
const OF_BODY: f64 = 1.5;
/// Clients at once.
const CLIENTS: usize = 8;
/// Memory of the bridge with them, in bodies: a third of it is for leases.
const BODIES: f64 = 6.0;
/// They ask again until they are through, or so long.
const PATIENCE: Duration = Duration::from_secs(180);

const MIB: f64 = (1 << 20) as f64;

/// All forms.
pub async fn run(report: &mut Report, n: usize, url: &str) {
    let worker = Process::worker(url);
    for form in Form::ALL {
        let body = form.body(System::random(n, 1, 0));
        one(report, form, &body, url).await;
        crowd(report, form, &body, url).await;
    }
    drop(worker);
}

/// One body at a time.
async fn one(report: &mut Report, form: Form, body: &Body, url: &str) {
    let bridge = Bridge::start(Some(url), &[]).await;
    let idle = warm(&bridge, form).await;
    let mut client = Client::connect(bridge.address).await.expect("it listens");
    let answer = client.post("/v1/solve?wait=600", body).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let more = bridge.memory().peak - idle;
    let what = format!("{:.0} MB {}: peak above idle / body", body.len() as f64 / 1e6, form.name());
    report.judge(what, "x", &[more / body.len() as f64], Target::Below(OF_BODY));
}

/// Resident bytes once everything has been used.
async fn warm(bridge: &Bridge, form: Form) -> f64 {
    let mut client = Client::connect(bridge.address).await.expect("it listens");
    let answer = client.post("/v1/solve", &form.body(System::random(10, 1, 0))).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    bridge.memory().resident
}

/// What one of many clients met with.
struct Met {
    /// 503 with Retry-After, read to its end.
    refusals: usize,
    through: bool,
    /// The connection broke, so that it got to read nothing.
    broken: usize,
}

async fn crowd(report: &mut Report, form: Form, body: &Body, url: &str) {
    let limit = (body.len() as f64 * BODIES).max(512.0 * MIB) as u64;
    let bridge = Bridge::start(Some(url), &["--memory", &format!("{limit}B")]).await;
    warm(&bridge, form).await;
    let clients = (0..CLIENTS).map(|_| tokio::spawn(insist(bridge.address, body.clone())));
    let mut met = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        met.push(client.await.expect("no panic"));
    }
    let what = format!("{CLIENTS} x {:.0} MB {}", body.len() as f64 / 1e6, form.name());
    let peak = bridge.memory().peak / limit as f64;
    report.judge(format!("{what}: peak / --memory {:.0} MB", limit as f64 / 1e6), "x", &[peak], Target::Below(1.0));
    let sum = |of: fn(&Met) -> usize| met.iter().map(of).sum::<usize>() as f64;
    report.judge(format!("{what}: 503 with Retry-After"), "", &[sum(|met| met.refusals)], Target::AtLeast(1.0));
    report.judge(format!("{what}: answers not read"), "", &[sum(|met| met.broken)], Target::Below(1.0));
    let through = sum(|met| usize::from(met.through));
    report.judge(format!("{what}: through in the end"), "", &[through], Target::AtLeast(CLIENTS as f64));
}

/// Sends until it is through, as Retry-After says.
async fn insist(address: SocketAddr, body: Body) -> Met {
    let mut met = Met { refusals: 0, through: false, broken: 0 };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let sent = async { Client::connect(address).await?.post("/v1/solve?wait=600", &body).await };
        let Ok(answer) = sent.await else {
            met.broken += 1;
            continue;
        };
        let again = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
        match (answer.status, again) {
            (200, _) => {
                met.through = true;
                return met;
            }
            (503, Some(seconds)) => {
                met.refusals += 1;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            (status, _) => panic!("status {status}: {}", answer.text()),
        }
    }
    met
}
