//! Who gets which task, and when.

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use rabbitry::boss::{self, Priority, Submit};
use rabbitry::broker::Message;
use rabbitry::task::Task;
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire;
use rabbitry::worker::Options;
use tokio::sync::mpsc::unbounded_channel;

use crate::pool::{Place, Probe, ProbeHandler, head, on_both, one_slot, solve_handler, soon, submit};

on_both!(
    two_workers_share_one_job,
    a_worker_that_comes_late_gets_what_waits,
    a_second_worker_takes_from_a_long_queue,
    high_priority_goes_before_low,
    what_is_delivered_first_is_computed_first,
    a_window_smaller_than_a_task_lets_one_through_at_a_time,
    the_directory_knows_the_living,
);

async fn two_workers_share_one_job(on: Place) {
    let boss = on.boss().await;
    // The first two tasks meet: that takes two workers, as each has one slot.
    let (meet, count) = (Barrier::new(2), Mutex::new(0));
    let handler = ProbeHandler::new(move |bytes| {
        let number = {
            let mut count = count.lock().expect("no panic");
            *count += 1;
            *count
        };
        if number <= 2 {
            meet.wait();
        }
        Ok(bytes)
    });
    let _workers = [on.worker(handler.clone(), one_slot()), on.worker(handler, one_slot())];
    let mut tickets = Vec::new();
    for i in 0..20u8 {
        tickets.push(submit(&boss, Probe(Bytes::from(vec![i]))).await);
    }
    let mut shares: HashMap<String, u32> = HashMap::new();
    for outcome in soon("outcomes", join_all(tickets.into_iter().map(|ticket| ticket.outcome()))).await {
        assert!(outcome.result.is_ok());
        *shares.entry(outcome.worker.expect("a worker").id).or_default() += 1;
    }
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert_eq!(shares.values().sum::<u32>(), 20);
}

async fn a_worker_that_comes_late_gets_what_waits(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let mut tickets = Vec::new();
    for seed in 0..5 {
        tickets.push(submit(&boss, System::random(400, 1, seed)).await);
    }
    client.until(&names::work_queue("solve"), "tasks in the queue", |q| q.is_some_and(|q| q.ready > 0)).await;
    let _worker = on.solver();
    for ticket in tickets {
        assert!(soon("an outcome", ticket.outcome()).await.result.is_ok());
    }
}

async fn a_second_worker_takes_from_a_long_queue(on: Place) {
    let boss = on.boss().await;
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let busy = ProbeHandler::new(move |bytes| {
        // Closed for good once the test has dropped its end.
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(bytes)
    });
    let first = on.worker(busy.clone(), Options { prefetch: 1, ..one_slot() });
    let mut tickets = Vec::new();
    for i in 0..10u8 {
        tickets.push(submit(&boss, Probe(Bytes::from(vec![i]))).await);
    }
    busy.until_planned(1).await;
    let second = on.worker(ProbeHandler::new(Ok), one_slot());
    let held = tickets.remove(0);
    for ticket in tickets {
        assert!(soon("an outcome of the second worker", ticket.outcome()).await.result.is_ok());
    }
    drop(open);
    assert!(soon("the first worker's outcome", held.outcome()).await.result.is_ok());
    assert_eq!((first.stop().await.done, second.stop().await.done), (1, 9));
}

async fn high_priority_goes_before_low(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tickets = Vec::new();
    for (name, priority) in [
        ("low 1", Priority::Low),
        ("normal 1", Priority::Normal),
        ("high 1", Priority::High),
        ("low 2", Priority::Low),
        ("high 2", Priority::High),
        ("normal 2", Priority::Normal),
    ] {
        let how = Submit { priority, ..Submit::default() };
        tickets.push(soon("room", boss.submit(Probe(name.into()), how)).await.expect("a task"));
    }
    client.until_ready(&names::work_queue("probe"), 6).await;
    let record = order.clone();
    let handler = ProbeHandler::new(move |name| {
        record.lock().expect("no panic").push(String::from_utf8_lossy(&name).into_owned());
        Ok(name)
    });
    let _worker = on.worker(handler, Options { prefetch: 1, ..one_slot() });
    for ticket in tickets {
        assert!(soon("an outcome", ticket.outcome()).await.result.is_ok());
    }
    let order = order.lock().expect("no panic").clone();
    assert_eq!(order, ["high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]);
}

async fn what_is_delivered_first_is_computed_first(on: Place) {
    let client = on.client().await;
    let sent: Vec<String> = (0..40).map(|number| format!("number {number}")).collect();
    for payload in &sent {
        let head = head(&Probe::KIND, payload.as_bytes());
        let message = client.message(wire::encode(&head), payload.as_bytes());
        // Of nobody whom a worker would have to ask for first.
        let reply_to = Some("amq.rabbitmq.reply-to.nobody".into());
        client.publish(&names::work_queue("probe"), Message { reply_to, ..message }).await;
    }
    let (tell, mut begun) = unbounded_channel();
    let handler = ProbeHandler::new(move |payload| {
        let _ = tell.send(String::from_utf8_lossy(&payload).into_owned());
        Ok(payload)
    });
    // All come in one go.
    let _worker = on.worker(handler, Options { prefetch: 40, ..one_slot() });
    let mut order = Vec::new();
    while order.len() < sent.len() {
        soon("tasks to begin", begun.recv_many(&mut order, sent.len())).await;
    }
    assert_eq!(order, sent);
}

async fn a_window_smaller_than_a_task_lets_one_through_at_a_time(on: Place) {
    let boss = on.boss_with(boss::Options { window_bytes: 1024, ..boss::Options::default() }).await;
    let _worker = on.solver();
    let mut tickets = Vec::new();
    for seed in 0..6 {
        // Waits for the outcome of the one before, which frees the window.
        tickets.push(submit(&boss, System::random(50, 2, seed)).await);
    }
    for ticket in tickets {
        assert!(soon("an outcome", ticket.outcome()).await.result.is_ok());
    }
}

async fn the_directory_knows_the_living(on: Place) {
    let boss = on.boss().await;
    let patience = Duration::from_millis(300);
    assert!(boss.workers(patience).await.expect("a census").is_empty());
    let options = Options { slots: 3, threads: 2, prefetch: 4, ..one_slot() };
    let worker = on.worker(solve_handler(), options);
    assert!(soon("an outcome", submit(&boss, System::random(3, 1, 0)).await.outcome()).await.result.is_ok());
    let nodes = soon("a node", async {
        loop {
            let nodes = boss.workers(patience).await.expect("a census");
            if !nodes.is_empty() {
                return nodes;
            }
        }
    })
    .await;
    assert_eq!(nodes.len(), 1);
    let node = &nodes[0];
    assert!(node.id.starts_with(&format!("{}-{}-", node.host, std::process::id())), "{}", node.id);
    assert_eq!((node.host.clone(), node.pid), (names::host(), std::process::id()));
    assert_eq!(node.address, on.broker.local_address());
    assert_eq!((node.slots, node.busy, node.done, node.failed), (3, 0, 1, 0));
    assert_eq!((node.kinds.join(","), node.version.as_str()), ("solve".into(), env!("CARGO_PKG_VERSION")));
    assert!(node.cores >= 1 && node.gflops >= 0.0 && node.last_seen_seconds < 60.0);
    worker.stop().await;
    assert!(boss.workers(patience).await.expect("a census").is_empty(), "it has said goodbye");
}
