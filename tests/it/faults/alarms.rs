//! A broker without memory, and without disk: it takes nothing until the alarm is over.
//!
//! What is true then: RabbitMQ stops reading from each connection that publishes. So a boss waits, and a worker too: what
//! was on its way may still come, and the outcomes of what is computed meanwhile stay with their worker, unacked, until the
//! alarm is over. By the rules of the broker they can't flow; only deliveries go on, as far as the prefetch goes. Nobody is
//! disconnected, however long it lasts: the broker expects no heartbeats of what it does not read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::{Stream, Watched};
use super::restarts::{LOOK, Site};
use super::{BACK_WITHIN, PATIENCE, on_node, short_and_long, within};
use crate::http::client::Ask;
use crate::programs::{BOSS, Process, WORKER, program, watcher};
use crate::rabbitmq::Node;

short_and_long!(an_alarm_stops_everybody_and_loses_nothing, raise_alarms, 1, 5);

/// Small, so that a scenario can outlast some of them.
const HEARTBEAT_SECS: u64 = 2;
/// Longer than it takes a broker to give up a silent connection.
const ALARM: Duration = Duration::from_secs(4 * HEARTBEAT_SECS);
/// By then everybody has met the alarm: workers say that they are there every 5 s.
const ALL_BLOCKED: Duration = Duration::from_secs(6);
const IN_FLIGHT: usize = 24;
const HINT: &str = "the broker takes no messages at the moment";

/// How an alarm is raised, and how it is cleared.
const ALARMS: [(&str, [&str; 2], [&str; 2]); 2] = [
    ("memory", ["set_vm_memory_high_watermark", "0.0000001"], ["set_vm_memory_high_watermark", "0.4"]),
    ("disk", ["set_disk_free_limit", "100000GB"], ["set_disk_free_limit", "50MB"]),
];

async fn raise_alarms(rounds: usize) -> String {
    let node = on_node(Node::start);
    let url = format!("{}?heartbeat={HEARTBEAT_SECS}", node.url("t0"));
    let log = Watched::default();
    let boss = Arc::new(watcher(&url).await);
    let quiet = quiet_boss(&node, &url).await;
    let mut workers = [0, 1].map(|_| Process::start(program(WORKER, &["--broker", &url, "--slots", "1"])));
    for worker in &mut workers {
        worker.until_consuming().await;
    }
    let stream = Stream::start(boss.clone(), IN_FLIGHT, 8, log.clone());
    let (mut late, mut resumed) = (0, Duration::ZERO);
    for (name, raise, clear) in std::iter::repeat_n(ALARMS, rounds).flatten() {
        log.until_more(IN_FLIGHT).await;
        node.ctl(&raise).await;
        let raised = Instant::now();
        // A person who comes now hears why nothing happens.
        let job = ["--broker", &url, "solve", "--random", "50", "--count", "100"];
        let mut job = Process::start(program(BOSS, &job));
        job.until_said(HINT).await;
        // The time itself is what is tested: an alarm that lasts.
        tokio::time::sleep_until((raised + ALL_BLOCKED).into()).await;
        late = late.max(log.now().answers_since(raised).count());
        let silent = Instant::now();
        tokio::time::sleep_until((raised + ALL_BLOCKED + ALARM).into()).await;
        assert_eq!(log.now().answers_since(silent).count(), 0, "no outcome passes in a {name} alarm");
        node.ctl(&clear).await;
        let cleared = Instant::now();
        log.until(PATIENCE, "an answer after the alarm", |log| log.answers_since(cleared).last().map(drop)).await;
        resumed = resumed.max(cleared.elapsed());
        waited_and_ended(job).await;
    }
    waited_and_ended(quiet).await;
    let tally = stream.end(PATIENCE).await;
    assert!(resumed < BACK_WITHIN, "{resumed:?}");
    for worker in &workers {
        assert_eq!(worker.said().matches("consuming").count(), 1, "no connection was lost: {}", worker.said());
    }
    boss.close().await;
    format!(
        "{rounds} memory and {rounds} disk alarms of {:.0} s (heartbeats of {HEARTBEAT_SECS} s); {late} answers at most came \
         after an alarm was raised, and none later than {:.0} s; the first one {:.2} s after its end at most; no connection \
         lost; {} tasks, each answered once and right",
        (ALL_BLOCKED + ALARM).as_secs_f64(),
        ALL_BLOCKED.as_secs_f64(),
        resumed.as_secs_f64(),
        tally.small + tally.pulled,
    )
}

/// Nothing but the question itself makes it publish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_without_a_request_is_not_ready_while_the_broker_takes_nothing() {
    let node = on_node(Node::start);
    let site = Site::start(&node.url("t0")).await;
    within(PATIENCE, "the bridge", site.until_ready()).await;
    for (name, raise, clear) in ALARMS {
        node.ctl(&raise).await;
        let unready = async {
            loop {
                // The broker itself has to notice.
                let reply = site.ask(Ask::get("/readyz")).await;
                if reply.status != 200 {
                    break reply;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let reply = within(PATIENCE, "the bridge to notice", unready).await.problem(503, "busy");
        assert!(
            reply["detail"].as_str().is_some_and(|detail| detail.contains(HINT) && detail.contains(name)),
            "{reply}"
        );
        node.ctl(&clear).await;
        within(PATIENCE, "the end of the alarm", site.until_ready()).await;
    }
}

/// A boss that has published all it has when the alarm comes is told, too. Its tasks wait for workers.
async fn quiet_boss(node: &Node, url: &str) -> Process {
    let mut job = Process::start(program(BOSS, &["--broker", url, "solve", "--random", "50", "--count", "10"]));
    job.until_said("no worker takes solve tasks yet").await;
    let (_, raise, clear) = ALARMS[0];
    node.ctl(&raise).await;
    job.until_said(HINT).await;
    node.ctl(&clear).await;
    job
}

async fn waited_and_ended(mut job: Process) {
    assert_eq!(job.code().await, Some(0), "{}", job.said());
    assert_eq!(job.said().matches(HINT).count(), 1, "it is said once: {}", job.said());
}
