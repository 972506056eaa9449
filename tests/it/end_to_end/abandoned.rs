//! What a boss leaves behind, or seems to, holds up nobody else.

use bytes::Bytes;
use futures_util::future::join_all;
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire::Command;
use rabbitry::worker::Options;

use crate::pool::{Place, Probe, ProbeHandler, on_both, one_slot, solve_handler, soon, submit};

on_both!(
    tasks_of_a_dead_boss_are_dropped_at_once,
    what_a_boss_left_behind_is_not_computed_by_a_worker_that_comes_later,
    a_forged_goodbye_stops_nothing,
    small_tasks_that_fit_only_one_by_one_may_share_a_message,
);

async fn tasks_of_a_dead_boss_are_dropped_at_once(on: Place) {
    let (dead, client) = (on.boss().await, on.client().await);
    // Too long for one message on RabbitMQ: a worker has to ask the boss for them.
    let large = Bytes::from(vec![7; 10 << 20]);
    let mut tickets = Vec::new();
    for _ in 0..4 {
        tickets.push(submit(&dead, Probe(large.clone())).await);
    }
    client.until_ready(&names::work_queue("probe"), 4).await;
    let pull = names::pull_queue(dead.id());
    // No goodbye: its connection is lost, as with kill -9.
    drop((dead, tickets));
    soon("the end of its queues", async {
        while !matches!(client.connection.queue_status(&pull).await, Ok(None)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let worker = on.worker(ProbeHandler::new(Ok), one_slot());
    let boss = on.boss().await;
    // Each of the dead tasks would take 20 s if the worker waited for its parts: longer than `soon` has patience.
    let answer = soon("an answer", submit(&boss, Probe(Bytes::from_static(b"alive"))).await.outcome()).await;
    assert_eq!(answer.result, Ok(Bytes::from_static(b"alive")));
    assert!(worker.is_running());
}

async fn what_a_boss_left_behind_is_not_computed_by_a_worker_that_comes_later(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let mut tickets = Vec::new();
    for _ in 0..4 {
        // Each in a message of its own.
        tickets.push(submit(&boss, Probe(Bytes::from(vec![7; 1 << 20]))).await);
    }
    client.until_ready(&names::work_queue("probe"), 4).await;
    boss.close().await;
    let worker = on.worker(ProbeHandler::new(|_| panic!("computed for nobody")), one_slot());
    client.until_ready(&names::work_queue("probe"), 0).await;
    assert_eq!(worker.stop().await.done, 0);
}

async fn a_forged_goodbye_stops_nothing(on: Place) {
    let (boss, client, _worker) = (on.boss().await, on.client().await, on.solver());
    assert!(soon("an answer", submit(&boss, System::random(3, 1, 0)).await.outcome()).await.result.is_ok());
    client.control(Command::BossGone { reply_to: names::results_queue(boss.id()) }).await;
    for seed in 0..20 {
        let outcome = soon("an answer", submit(&boss, System::random(3, 1, seed)).await.outcome()).await;
        assert!(outcome.result.is_ok(), "{seed}");
    }
}

async fn small_tasks_that_fit_only_one_by_one_may_share_a_message(on: Place) {
    let boss = on.boss().await;
    let mut tickets = Vec::new();
    for seed in 0..300 {
        tickets.push(submit(&boss, System::random(10, 1, seed)).await);
    }
    // One takes 68 kB, a message of them several MB.
    let _worker = on.worker(solve_handler(), Options { memory_bytes: 200 << 10, ..one_slot() });
    let outcomes = soon("all answers", join_all(tickets.into_iter().map(|ticket| ticket.outcome()))).await;
    outcomes.into_iter().for_each(|outcome| assert!(outcome.result.is_ok(), "{:?}", outcome.result));
}
