//! Nothing is lost and nothing is counted that should not be: shutdowns, closes, cut connections.

use std::collections::BTreeSet;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use futures_util::future::join_all;
use rabbitry::broker::Queue;
use rabbitry::task::{Task, TaskError};
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::worker::Options;

use crate::pool::{Place, Probe, ProbeHandler, cut_all_connections, endless, on_both, one_slot, soon, submit};

on_both!(
    a_worker_that_leaves_hands_back_what_it_had_not_begun,
    a_suspect_that_waits_to_be_alone_when_its_worker_leaves_is_handed_back_uncounted,
    suspects_that_follow_each_other_are_handed_over_once,
    a_boss_that_closes_takes_its_queues_with_it,
    a_connection_cut_in_mid_job_loses_nothing,
);

async fn a_worker_that_leaves_hands_back_what_it_had_not_begun(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let leaving = ProbeHandler::new(move |bytes| {
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(bytes)
    });
    let mut tickets = Vec::new();
    for i in 0..6u8 {
        tickets.push(submit(&boss, Probe(Bytes::from(vec![i]))).await);
    }
    let worker = on.worker(leaving.clone(), Options { prefetch: 4, ..one_slot() });
    leaving.until_planned(4).await;
    worker.ask_to_stop();
    client.until_ready(&names::work_queue("probe"), 5).await;
    drop(open);
    assert_eq!(worker.stop().await.done, 1, "what ran was finished and answered");
    // With one attempt allowed, a task that came back as redelivered would end in TooManyAttempts.
    let next = on.worker(ProbeHandler::new(Ok), Options { attempts_max: 1, ..one_slot() });
    for (i, ticket) in tickets.into_iter().enumerate() {
        let answer = soon("an outcome", ticket.outcome()).await.result.unwrap_or_else(|error| panic!("{i}: {error}"));
        assert_eq!(answer, vec![i as u8]);
    }
    assert_eq!(next.stop().await.done, 5);
}

async fn a_suspect_that_waits_to_be_alone_when_its_worker_leaves_is_handed_back_uncounted(on: Place) {
    let (boss, mut client, mut runs) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let worker = on.worker(runs.handler.clone(), one_slot());
    let _innocent = submit(&boss, Probe("innocent".into())).await;
    runs.begins("innocent").await;
    let queue = names::work_queue("probe");
    let suspect = client.send_suspect().await;
    // It takes nothing more: it has seen what it has.
    client.until(&queue, "no consumer", |queue| queue.is_some_and(|queue| queue.consumers == 0)).await;
    worker.ask_to_stop();
    runs.enough();
    assert_eq!(worker.stop().await.done, 1, "what ran was finished");
    // A third attempt would be one too many.
    let next = on.worker(ProbeHandler::new(Ok), Options { attempts_max: 3, ..one_slot() });
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error), (suspect, None));
    assert_eq!(next.stop().await.done, 1);
}

async fn suspects_that_follow_each_other_are_handed_over_once(on: Place) {
    const SUSPECTS: u64 = 10;
    let mut client = on.client().await;
    let mut sent = BTreeSet::new();
    for _ in 0..SUSPECTS {
        sent.insert(client.send_suspect().await);
    }
    // Has a copy of whatever is published for this kind: what is handed over.
    let copies = Queue { name: format!("copies-{}", client.reply_to), exclusive: true, ..Queue::default() };
    client.connection.declare_queue(&copies).await.expect("declared");
    client.connection.bind_queue(&copies.name, names::WORK, "probe").await.expect("bound");
    let worker = on.worker(ProbeHandler::new(Ok), Options { prefetch: SUSPECTS as u16, ..one_slot() });
    for _ in 0..SUSPECTS {
        let outcome = client.outcome().await;
        assert_eq!(outcome.error, None);
        assert!(sent.remove(&outcome.id));
    }
    assert_eq!(worker.stop().await.done, SUSPECTS);
    let status = client.connection.queue_status(&copies.name).await.expect("a status").expect("it is there");
    // Once, or twice if the broker paused between two of them; for each of them it would be 45.
    assert!(status.ready < 2 * SUSPECTS, "{} were handed over for {SUSPECTS}", status.ready);
}

async fn a_boss_that_closes_takes_its_queues_with_it(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let queues = [names::results_queue(boss.id()), names::pull_queue(boss.id())];
    for queue in &queues {
        // There, and locked for everybody else.
        assert!(client.connection.queue_status(queue).await.is_err(), "{queue}");
    }
    let unanswered = submit(&boss, System::random(3, 1, 0)).await;
    boss.close().await;
    assert_eq!(soon("the end", unanswered.outcome()).await.result, Err(TaskError::Shutdown));
    for queue in &queues {
        assert_eq!(client.connection.queue_status(queue).await.expect("a status"), None, "{queue}");
    }
    // A worker that finds what it left drops it, and goes on for others.
    let (worker, other) = (on.solver(), on.boss().await);
    assert!(soon("another", submit(&other, System::random(3, 1, 1)).await.outcome()).await.result.is_ok());
    other.close().await;
    assert!(worker.is_running());
}

async fn a_connection_cut_in_mid_job_loses_nothing(on: Place) {
    let boss = on.boss().await;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let handler = ProbeHandler::new(move |bytes| {
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(bytes)
    });
    let _workers = [on.worker(handler.clone(), one_slot()), on.worker(handler.clone(), one_slot())];
    let mut tickets = Vec::new();
    for i in 0..30u8 {
        tickets.push(submit(&boss, Probe(Bytes::from(vec![i; 100]))).await);
    }
    // Two compute, two are prefetched, the rest is in the queue.
    handler.until_planned(4).await;
    if !cut_all_connections(&on).await {
        return;
    }
    drop(open);
    let outcomes = soon("all outcomes", join_all(tickets.into_iter().map(|ticket| ticket.outcome()))).await;
    for (i, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.result.unwrap_or_else(|error| panic!("{i}: {error}")), vec![i as u8; 100]);
    }
    boss.close().await;
}
