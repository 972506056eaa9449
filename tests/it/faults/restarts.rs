//! The broker stopped and started, and killed and started, while tasks are on their way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::load::{Stream, Watched, is_solution};
use super::{BACK_WITHIN, PATIENCE, nothing_died, on_node, short_and_long, within};
use crate::http::client::{Ask, Connection};
use crate::programs::{BRIDGE, Process, WORKER, program, watcher};
use crate::rabbitmq::Node;

short_and_long!(a_broker_that_restarts_loses_no_task_and_everybody_is_back_in_10_seconds, restart_broker, 2, 20);

/// Detached tasks for each restart: before it, and while the broker is away.
const DETACHED: usize = 4;
const IN_FLIGHT: usize = 24;
/// Looked at so often while a program comes back.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// A bridge process and what was given to it.
pub(super) struct Site {
    process: Process,
    address: SocketAddr,
    /// URLs, and the solution of each.
    detached: Vec<(String, f64)>,
    _spool: tempfile::TempDir,
}

impl Site {
    pub(super) async fn start(url: &str) -> Site {
        let spool = tempfile::TempDir::new().expect("a folder");
        let folder = spool.path().to_string_lossy().into_owned();
        let arguments = ["--broker", url, "--listen", "127.0.0.1:0", "--spool", &folder, "--memory", "256MiB"];
        let mut process = Process::start(program(BRIDGE, &arguments));
        let url = process.until_listening().await;
        let address = url.rsplit('/').next().expect("an address").parse().expect("an address");
        Site { process, address, detached: Vec::new(), _spool: spool }
    }

    pub(super) async fn ask(&self, ask: Ask) -> crate::http::client::Reply {
        let asked = async { Connection::one(self.address).await.ask(ask).await.expect("a reply") };
        within(PATIENCE, "a reply", asked).await
    }

    async fn submit(&mut self, tasks: usize) {
        for _ in 0..tasks {
            let x = self.detached.len() as f64 + 1.0;
            let system = json!({"a": [[4.0, 1.0], [2.0, 3.0]], "b": [5.0 * x, 5.0 * x]});
            let url = self.ask(Ask::json("/v1/tasks?kind=solve", &system)).await.accepted();
            self.detached.push((url, x));
        }
    }

    /// When it was ready again.
    pub(super) async fn until_ready(&self) -> Instant {
        while self.ask(Ask::get("/readyz")).await.status != 200 {
            tokio::time::sleep(LOOK).await;
        }
        Instant::now()
    }

    async fn check(&self) {
        for (url, x) in &self.detached {
            let view = self.ask(Ask::get(format!("{url}?wait=60"))).await.is(200);
            assert_eq!(view["state"], "done", "{view}");
            let solution: Vec<f64> = serde_json::from_value(view["result"]["x"].clone()).expect("numbers");
            is_solution(&solution, 2, *x);
        }
    }
}

/// When this worker has said so often that it takes tasks.
async fn until_consuming(worker: &Process, times: usize) -> Instant {
    while worker.said().matches("consuming").count() < times {
        tokio::time::sleep(LOOK).await;
    }
    Instant::now()
}

/// From the port taking connections until each of them was back.
#[derive(Default)]
struct Figures {
    boss: Vec<Duration>,
    bridge: Vec<Duration>,
    workers: Vec<Duration>,
}

async fn restart_broker(rounds: usize) -> String {
    let mut node = on_node(Node::start);
    let log = Watched::default();
    let boss = Arc::new(watcher(&node.url("t0")).await);
    let start = |_| Process::start(program(WORKER, &["--broker", &node.url("t0"), "--slots", "1"]));
    let workers = [0, 1].map(start);
    let mut site = Site::start(&node.url("t0")).await;
    let stream = Stream::start(boss.clone(), IN_FLIGHT, 8, log.clone());
    let mut figures = Figures::default();
    for number in 0..2 * rounds {
        log.until_more(IN_FLIGHT).await;
        assert!(!stream.has_failed(), "an answer was wrong: see above");
        site.submit(DETACHED).await;
        // Each has been there once more than the broker has gone.
        for worker in &workers {
            within(PATIENCE, "both workers", until_consuming(worker, number + 1)).await;
        }
        on_node(|| if number % 2 == 0 { node.stop() } else { node.kill() });
        let unready = async {
            while site.ask(Ask::get("/readyz")).await.status == 200 {
                tokio::time::sleep(LOOK).await;
            }
        };
        within(PATIENCE, "the bridge to notice", unready).await;
        site.submit(DETACHED).await;
        let up = on_node(|| node.start_again());
        let answered =
            log.until(PATIENCE, "an answer after the restart", |log| log.answers_since(up).last().map(|it| it.at));
        let back = async {
            tokio::join!(
                answered,
                site.until_ready(),
                until_consuming(&workers[0], number + 2),
                until_consuming(&workers[1], number + 2)
            )
        };
        let (boss, bridge, first, second) = within(PATIENCE, "everybody to come back", back).await;
        figures.boss.push(boss.duration_since(up));
        figures.bridge.push(bridge.saturating_duration_since(up));
        figures.workers.extend([first, second].map(|at| at.saturating_duration_since(up)));
    }
    let tally = stream.end(PATIENCE).await;
    site.check().await;
    nothing_died(&node.url("t0")).await;
    boss.close().await;
    site.process.terminate();
    assert_eq!(site.process.code().await, Some(0), "{}", site.process.said());
    let longest = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    for times in [&figures.boss, &figures.bridge, &figures.workers] {
        assert!(longest(times) < BACK_WITHIN, "{times:?}");
    }
    let seconds = |times: &[Duration]| longest(times).as_secs_f64();
    format!(
        "{rounds} stops and {rounds} kills; after the port was there a boss had an answer in {:.1} s, a bridge was ready in \
         {:.1} s, a worker consumed in {:.1} s (the longest of each); {} attached and {} detached tasks, each answered once \
         and right",
        seconds(&figures.boss),
        seconds(&figures.bridge),
        seconds(&figures.workers),
        tally.small + tally.pulled,
        site.detached.len(),
    )
}
