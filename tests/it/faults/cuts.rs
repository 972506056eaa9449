//! The network cut, between a worker and the broker and between a boss and the broker: nothing is closed and nothing
//! refused, bytes only do not arrive. Only heartbeats notice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::task::TaskId;
use rabbitry::wire::{self, OutcomeHead};

use super::load::{Known, Stream, Watched};
use super::proxy::{Proxy, Way};
use super::{BACK_WITHIN, PATIENCE, nothing_died, on_node, short_and_long, within};
use crate::pool::{Client, Place, raw};
use crate::programs::{Process, WORKER, program, watcher};
use crate::rabbitmq::Node;

mod worker {
    use super::*;
    short_and_long!(a_worker_that_was_cut_off_does_not_answer_what_another_has, cut_worker, 1, 10);
}

mod boss {
    use super::*;
    short_and_long!(a_boss_that_was_cut_off_has_each_answer_once, cut_boss, 1, 10);
}

const HEARTBEAT_SECS: u64 = 2;
/// A broker gives a silent connection up after two to three heartbeats, a client after two. The rest is for busy cores.
const NOTICED_WITHIN: Duration = Duration::from_secs(10 * HEARTBEAT_SECS);
/// Unknowns: 8 MB, one message.
const N: usize = 1000;
/// Taken ahead by a worker of one slot, by default.
const PREFETCH: usize = 2;
const IN_FLIGHT: usize = 24;

/// When the program says this for the `times`th time.
async fn until_said(program: &Process, word: &str, times: usize) -> Instant {
    let said = async {
        while program.said().matches(word).count() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(PATIENCE, word, said).await;
    Instant::now()
}

/// Sends tasks straight to the queue, so that every outcome in the results queue can be counted.
async fn send(client: &Client, known: &Known, tasks: usize) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for x in 0..tasks {
        let (head, body) = raw(known.system(x as f64 + 1.0));
        client.send(&head, &body).await;
        ids.push(head.id);
    }
    ids
}

/// Waits until the acks of all that was answered are in: what is not acked at the cut is computed a second time, as promised.
async fn until_acked(node: &Node) {
    let counted = ["list_queues", "--vhost", "t0", "messages_unacknowledged"];
    let acked = async {
        while node.ctl(&counted).await.lines().any(|line| line.trim().parse().is_ok_and(|held: u64| held > 0)) {}
    };
    within(PATIENCE, "the acks", acked).await;
}

/// Waits until the broker has closed both connections of the worker that is cut off: two are the client's, two the other
/// worker's. Before that an outcome that was on its way may still come through the one that publishes, as a second one: the
/// broker gives each connection up at a time of its own, and the task with the one that consumes.
async fn until_given_up(node: &Node) {
    let given_up = async { while node.ctl(&["list_connections", "pid"]).await.matches('<').count() > 4 {} };
    within(PATIENCE, "the broker to give the worker up", given_up).await;
}

/// Outcomes by their task, until each of these has one.
async fn collect(client: &mut Client, ids: &[TaskId], outcomes: &mut HashMap<TaskId, usize>) {
    while !ids.iter().all(|id| outcomes.contains_key(id)) {
        let reply = within(PATIENCE, "an outcome", client.replies.next()).await.expect("a reply");
        let outcome: OutcomeHead = wire::decode(&reply.message.head).expect("one outcome");
        assert_eq!(outcome.error, None);
        *outcomes.entry(outcome.id).or_default() += 1;
    }
}

async fn cut_worker(rounds: usize) -> String {
    let node = on_node(Node::start);
    let proxy = Proxy::before(node.port()).await;
    let mut client = Place::of(Arc::new(AmqpBroker::new(&node.url("t0")).expect("an address"))).client().await;
    let known = Known::new(N);
    let behind = format!("{}?heartbeat={HEARTBEAT_SECS}", node.url_through(proxy.port(), "t0"));
    let cut_off = Process::start(program(WORKER, &["--broker", &behind, "--slots", "1"]));
    let (mut outcomes, mut sent) = (HashMap::new(), Vec::new());
    let (mut taken_back, mut noticed, mut again) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for number in 1..=rounds {
        until_said(&cut_off, "consuming", number).await;
        until_acked(&node).await;
        let mut carried = proxy.carried_back();
        let whole = *carried.borrow_and_update() + (PREFETCH * N * N * 8) as u64;
        // What it says from now on is on its way when the line goes dead.
        proxy.hold(Way::Out);
        let held = Instant::now();
        let ids = send(&client, &known, PREFETCH + 1).await;
        within(PATIENCE, "its tasks to reach it", carried.wait_for(|bytes| *bytes >= whole)).await.expect("alive");
        proxy.hold_both();
        let mut other = Process::start(program(WORKER, &["--broker", &node.url("t0"), "--slots", "1"]));
        collect(&mut client, &ids, &mut outcomes).await;
        taken_back = taken_back.max(held.elapsed());
        let lost = until_said(&cut_off, "the connection to the broker was lost", number).await;
        noticed = noticed.max(lost.duration_since(held));
        until_given_up(&node).await;
        proxy.release();
        let released = Instant::now();
        let back = until_said(&cut_off, "consuming", number + 1).await;
        again = again.max(back.duration_since(released));
        // The other one leaves, so that these show that the first takes tasks, and come after all it had to say.
        other.terminate();
        assert_eq!(other.code().await, Some(0), "{}", other.said());
        let after = send(&client, &known, PREFETCH + 1).await;
        collect(&mut client, &after, &mut outcomes).await;
        sent.extend(ids.into_iter().chain(after));
    }
    assert!(outcomes.values().all(|count| *count == 1), "each has one outcome: {outcomes:?}");
    assert_eq!(outcomes.len(), sent.len());
    assert!(noticed < NOTICED_WITHIN && taken_back < NOTICED_WITHIN, "noticed {noticed:?}, answered {taken_back:?}");
    assert!(again < BACK_WITHIN + BACK_WITHIN, "it was back after {again:?}");
    format!(
        "{rounds} cuts of a worker's network, heartbeats of {HEARTBEAT_SECS} s: its tasks were answered by another one within \
         {:.1} s, it noticed within {:.1} s, and was back {:.1} s after the network; {} tasks, {} outcomes in the queue",
        taken_back.as_secs_f64(),
        noticed.as_secs_f64(),
        again.as_secs_f64(),
        sent.len(),
        outcomes.values().sum::<usize>(),
    )
}

async fn cut_boss(rounds: usize) -> String {
    let node = on_node(Node::start);
    let proxy = Proxy::before(node.port()).await;
    let log = Watched::default();
    let behind = format!("{}?heartbeat={HEARTBEAT_SECS}", node.url_through(proxy.port(), "t0"));
    let boss = Arc::new(watcher(&behind).await);
    let mut workers = [0, 1].map(|_| Process::start(program(WORKER, &["--broker", &node.url("t0"), "--slots", "1"])));
    for worker in &mut workers {
        worker.until_consuming().await;
    }
    let stream = Stream::start(boss.clone(), IN_FLIGHT, 8, log.clone());
    let (mut noticed, mut again, mut broken) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    for number in 0..rounds {
        log.until_more(IN_FLIGHT).await;
        // Both directions, or one of them: what the broker says does not arrive, and then what it is told.
        match number % 3 {
            0 => proxy.hold_both(),
            1 => proxy.hold(Way::Back),
            _ => proxy.hold(Way::Out),
        }
        let held = Instant::now();
        let unconnected = async {
            while boss.is_connected() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(PATIENCE, "the boss to notice", unconnected).await;
        noticed = noticed.max(held.elapsed());
        proxy.release();
        again = again.max(next_answer(&log, Instant::now()).await);
        log.until_more(IN_FLIGHT).await;
        proxy.cut();
        broken = broken.max(next_answer(&log, Instant::now()).await);
    }
    let tally = stream.end(PATIENCE).await;
    assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
    assert!(again < BACK_WITHIN * 2 && broken < BACK_WITHIN, "answers after {again:?} and {broken:?}");
    nothing_died(&node.url("t0")).await;
    boss.close().await;
    format!(
        "{rounds} silent and {rounds} hard cuts of a boss's network, heartbeats of {HEARTBEAT_SECS} s: it noticed a silent one \
         within {:.1} s, had the next answer {:.1} s after the network was back, and {:.1} s after a hard one; {} tasks, each \
         answered once and right",
        noticed.as_secs_f64(),
        again.as_secs_f64(),
        broken.as_secs_f64(),
        tally.small + tally.pulled,
    )
}

/// How long after this moment an answer came.
async fn next_answer(log: &Watched, from: Instant) -> Duration {
    log.until(PATIENCE, "an answer after a cut", |log| log.answers_since(from).last().map(|it| it.at)).await - from
}
