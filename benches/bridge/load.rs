//! What waits and what must not: thousands of long polls, and short calls while a large body comes in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rabbitry::tasks::solve::System;

use super::bodies::Form;
use super::client::{Body, Client};
use super::process::{Bridge, Process};
use super::report::{Report, Target, at};

/// More of the bridge than when it is idle, with all long polls open.
const POLLS_MIB: f64 = 100.0;
/// More threads than when it is idle: those that were busy with files may still be there.
const POLLS_THREADS: f64 = 40.0;
/// The 99th percentile of short calls.
const SHORT_MS: f64 = 50.0;
/// A short call is due so often.
const PAUSE: Duration = Duration::from_millis(5);
/// Large bodies of a form, one after another.
const BODIES: usize = 4;

const MIB: f64 = (1 << 20) as f64;

/// So many long polls, each for a task of its own that no worker computes yet; then a worker comes and all are answered.
pub async fn polls(report: &mut Report, count: usize, url: &str) {
    raise_descriptor_limit(count);
    let bridge = Bridge::start(Some(url), &[]).await;
    let mut client = Client::connect(bridge.address).await.expect("it listens");
    let body = Form::Json.body(System::random(2, 1, 0));
    let mut paths = Vec::new();
    for _ in 0..count {
        let answer = client.post("/v1/tasks?kind=solve", &body).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text());
        paths.push(format!("{}?wait=120", answer.header("location").expect("where it is")));
    }
    let idle = bridge.memory();
    let waiting: Vec<_> = paths
        .into_iter()
        .map(|path| {
            let address = bridge.address;
            tokio::spawn(async move {
                let mut client = Client::connect(address).await.expect("it listens");
                client.get(&path).await.expect("an answer")
            })
        })
        .collect();
    // All have been sent when they have been quiet for some time.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let open = bridge.memory();
    assert!(waiting.iter().all(|poll| !poll.is_finished()), "they wait");
    let worker = Process::worker(url);
    for poll in waiting {
        let answer = poll.await.expect("no panic");
        assert!(answer.status == 200 && answer.text().contains("\"done\""), "{}", answer.text());
    }
    drop(worker);
    let what = format!("{count} long polls");
    report.row(format!("{what}: resident before"), "MiB", &[idle.resident / MIB]);
    report.row(format!("{what}: of it not mapped from files"), "MiB", &[idle.anonymous / MIB]);
    report.row(format!("{what}: resident with them"), "MiB", &[open.resident / MIB]);
    let more = (open.resident - idle.resident) / MIB;
    report.judge(format!("{what}: more resident"), "MiB", &[more], Target::Below(POLLS_MIB));
    let more = open.anonymous / MIB;
    report.judge(format!("{what}: all that is not mapped from files"), "MiB", &[more], Target::Below(POLLS_MIB));
    report.row(format!("{what}: threads before"), "", &[idle.threads as f64]);
    report.judge(format!("{what}: threads with them"), "", &[open.threads as f64], Target::Below(POLLS_THREADS));
}

/// Short calls while nothing happens, and while large bodies come in, by one connection and by two.
pub async fn latency(report: &mut Report, n: usize, url: Option<&str>) {
    let worker = url.map(Process::worker);
    let bridge = Bridge::start(url, &[]).await;
    bridge.until_worker().await;
    let idle = Probe::start(bridge.address);
    tokio::time::sleep(Duration::from_secs(3)).await;
    row(report, "nothing else", &idle.stop(), false);
    for form in Form::ALL {
        let body = form.body(System::random(n, 1, 0));
        for streams in [1, 2] {
            let probe = Probe::start(bridge.address);
            let sending: Vec<_> = (0..streams).map(|_| tokio::spawn(send(bridge.address, body.clone()))).collect();
            for sending in sending {
                sending.await.expect("no panic");
            }
            // The target is for one body; what two do is shown.
            let with = format!("{streams} x {:.0} MB {}", body.len() as f64 / 1e6, form.name());
            row(report, &with, &probe.stop(), streams == 1);
        }
    }
    drop(worker);
}

/// Large bodies one after another, as whoever sends files does: in pieces.
async fn send(address: SocketAddr, body: Body) {
    let mut client = Client::connect(address).await.expect("it listens");
    let cut = |piece: &Bytes| {
        let starts = (0..piece.len()).step_by(256 << 10);
        starts.map(|start| piece.slice(start..piece.len().min(start + (256 << 10)))).collect::<Vec<_>>()
    };
    let body = Body { pieces: body.pieces.iter().flat_map(cut).collect(), ..body };
    for _ in 0..BODIES {
        let answer = client.post("/v1/solve?wait=600", &body).await.expect("an answer");
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
    }
}

fn row(report: &mut Report, with: &str, calls: &[f64], is_judged: bool) {
    let (what, p99) = (format!("healthz, workers with {with}"), at(calls, 0.99));
    report.row(format!("{what}: median of {}", calls.len()), "ms", &[at(calls, 0.5)]);
    report.row(format!("{what}: longest"), "ms", &[at(calls, 1.0)]);
    if is_judged {
        report.judge(format!("{what}: 99 %"), "ms", &[p99], Target::Below(SHORT_MS));
    } else {
        report.row(format!("{what}: 99 %"), "ms", &[p99]);
    }
}

/// Short calls from a thread of its own, which no large body holds up.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl Probe {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let calls = async move {
            let mut client = Client::connect(address).await.expect("it listens");
            let (mut calls, mut due) = (Vec::new(), Instant::now());
            for path in ["/healthz", "/v1/workers"].into_iter().cycle() {
                if until.load(Relaxed) {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                let answer = client.get(path).await.expect("an answer");
                // From when it was due: a stall is met by all who would have called meanwhile.
                calls.push(due.elapsed().as_secs_f64() * 1e3);
                assert_eq!(answer.status, 200);
                due += PAUSE;
            }
            calls
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Probe { stop, thread: std::thread::spawn(move || runtime.block_on(calls)) }
    }

    fn stop(self) -> Vec<f64> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("no panic")
    }
}

/// Room for `connections` sockets: the system's first offer is 1024, and the bridge inherits it.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + 256;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, limit).expect("enough descriptors");
    }
}
