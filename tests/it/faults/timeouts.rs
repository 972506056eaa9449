//! A task that takes longer than the broker waits for its ack. The short form is in `recovery.rs`.
//!
//! From RabbitMQ 4.3 on this takes quorum queues, which look once a minute.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rabbitry::boss;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::task::Task;
use rabbitry::transport::names;
use rabbitry::worker::Options;

use super::{PATIENCE, nothing_died, on_node, report, within};
use crate::pool::{Place, Probe, ProbeHandler, one_slot, submit};
use crate::rabbitmq::{Node, classic_queues_time_out};

const TIMEOUT: Duration = Duration::from_secs(60);
const WORK: Duration = Duration::from_secs(90);
/// Of quorum queues: the timeout, a minute until the next look, and as much again.
const LONGER_WORK: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make test-faults"]
async fn a_task_of_90_seconds_outlasts_a_consumer_timeout_of_60() {
    report("a_task_of_90_seconds_outlasts_a_consumer_timeout_of_60", outlast()).await;
}

async fn outlast() -> String {
    let node = on_node(Node::start);
    let limits = format!(
        "application:set_env(rabbit, consumer_timeout, {}), application:set_env(rabbit, channel_tick_interval, 1000).",
        TIMEOUT.as_millis()
    );
    node.ctl(&["eval", &limits]).await;
    let on = Place::of(Arc::new(AmqpBroker::new(&node.url("t0")).expect("a legal address")));
    let quorum = !classic_queues_time_out();
    let work = if quorum { LONGER_WORK } else { WORK };
    let boss = on.boss_with(boss::Options { quorum, ..boss::Options::default() }).await;
    let handler = ProbeHandler::watching(Probe::KIND, move |bytes, watch| {
        let end = Instant::now() + if bytes == b"long"[..] { work } else { Duration::ZERO };
        while Instant::now() < end {
            watch.check()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(bytes)
    });
    let options = Options { slots: 2, quorum, ..one_slot() };
    let mut health = options.health.subscribe();
    let worker = on.worker(handler, options);
    let submitted = Instant::now();
    let long = submit(&boss, Probe("long".into())).await;
    let ended = async {
        health.wait_for(|health| health.is_ready()).await.expect("the worker is there");
        health.wait_for(|health| !health.is_ready()).await.expect("the worker is there");
        let ended = submitted.elapsed();
        health.wait_for(|health| health.is_ready()).await.expect("the worker is there");
        (ended, submitted.elapsed() - ended)
    };
    let (ended, idle) = within(work, "the end of its consumer", ended).await;
    let other =
        within(work - ended, "another task meanwhile", submit(&boss, Probe("short".into())).await.outcome()).await;
    assert!(other.result.is_ok());
    let outcome = within(work * 2, "the long one", long.outcome()).await;
    assert_eq!(outcome.result.as_deref(), Ok(&b"long"[..]));
    let took = submitted.elapsed();
    assert!(took < work + Duration::from_secs(5), "it was computed anew: {took:?}");
    let connection = on.broker.connect().await.expect("a connection");
    within(PATIENCE, "the end of the copy", async {
        let queue = names::work_queue("probe");
        while connection.queue_status(&queue).await.expect("a status").is_none_or(|queue| queue.ready > 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(worker.stop().await.done, 2, "the copy was dropped");
    nothing_died(&node.url("t0")).await;
    format!(
        "the broker ended the consumer after {:.1} s; the worker consumed again {:.1} s later; the task of {} s was \
         answered once after {:.1} s, and another one meanwhile",
        ended.as_secs_f64(),
        idle.as_secs_f64(),
        work.as_secs(),
        took.as_secs_f64()
    )
}
