//! How far a task is, from its handler to its caller.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rabbitry::task::Task;
use rabbitry::transport::names;
use rabbitry::wire::{self, OutcomeHead, Progress, TaskHead};
use rabbitry::worker::Options;

use crate::pool::{Place, Probe, ProbeHandler, cut_all_connections, head, on_both, one_slot, soon, submit};

on_both!(
    a_ticket_sees_its_task_get_on,
    a_task_that_is_computed_anew_begins_at_nothing,
    reports_are_few_and_only_of_what_moves,
    a_queue_that_cannot_be_harms_nobody,
);

/// A handler that is as far as the test says, and ends when the test drops the other end.
fn led() -> (std::sync::Arc<ProbeHandler>, mpsc::Sender<f64>) {
    let (lead, shares) = mpsc::channel();
    let shares = Mutex::new(shares);
    let handler = ProbeHandler::watching(Probe::KIND, move |bytes, watch| {
        while let Ok(share) = shares.lock().expect("no panic").recv_timeout(Duration::from_millis(20)).or_else(idle) {
            watch.check()?;
            watch.advance(share);
        }
        Ok(bytes)
    });
    (handler, lead)
}

/// Nothing was said: look whether to stop, and listen again.
fn idle(error: mpsc::RecvTimeoutError) -> Result<f64, mpsc::RecvTimeoutError> {
    if error == mpsc::RecvTimeoutError::Timeout { Ok(0.0) } else { Err(error) }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    soon(what, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn a_ticket_sees_its_task_get_on(on: Place) {
    let boss = on.boss().await;
    let (handler, lead) = led();
    let _worker = on.worker(handler, one_slot());
    let one = submit(&boss, Probe("one".into())).await;
    assert_eq!((one.progress(), boss.progress()), (0.0, 0.0));
    let handle = one.handle();
    lead.send(0.125).expect("it runs");
    until("progress", || handle.progress() == 0.125).await;
    let other = submit(&boss, Probe("other".into())).await;
    let mut last = 0.0;
    for share in [0.25, 0.5, 0.125, 0.75] {
        lead.send(share).expect("it runs");
        last = f64::max(last, share);
        until("progress", || {
            assert!(handle.progress() <= last, "never ahead of its handler");
            handle.progress() == last
        })
        .await;
        assert_eq!((other.progress(), boss.progress()), (0.0, last));
    }
    drop(lead);
    for ticket in [one, other] {
        assert!(soon("an answer", ticket.outcome()).await.result.is_ok());
    }
    assert_eq!((handle.progress(), boss.progress()), (1.0, 0.0), "done, and no longer on its way");
}

async fn a_task_that_is_computed_anew_begins_at_nothing(on: Place) {
    let boss = on.boss().await;
    let (handler, lead) = led();
    // Room for the copy of the old link beside that of the new one.
    let _worker = on.worker(handler, Options { slots: 2, prefetch: 3, ..one_slot() });
    let ticket = submit(&boss, Probe("a".into())).await;
    lead.send(0.5).expect("there is a handler");
    until("progress", || ticket.progress() == 0.5).await;
    if !cut_all_connections(&on).await {
        return;
    }
    until("a new begin", || ticket.progress() == 0.0).await;
    until("progress again", || {
        // Whichever copy hears it.
        lead.send(0.25).expect("there is a handler");
        ticket.progress() == 0.25
    })
    .await;
    drop(lead);
    assert!(soon("an answer", ticket.outcome()).await.result.is_ok());
}

const BODY: &[u8] = b"body";

fn reporting(progress_to: String) -> TaskHead {
    TaskHead { progress_to: Some(progress_to), ..head(&Probe::KIND, BODY) }
}

async fn reports_are_few_and_only_of_what_moves(on: Place) {
    let mut client = on.client().await;
    let steady = ProbeHandler::watching(Probe::KIND, |bytes, watch| {
        for step in 0..=1000 {
            watch.advance(f64::from(step) / 1000.0);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(bytes)
    });
    let _worker = on.worker(steady, one_slot());
    let head = reporting(client.reply_to.clone());
    let begun = Instant::now();
    client.publish(&names::work_queue("probe"), client.message(wire::encode(&head), BODY)).await;
    let (mut reports, mut last) = (0u32, 0);
    let outcome: OutcomeHead = loop {
        let reply = client.reply().await;
        if !wire::is::<Progress>(&reply.head) {
            break wire::decode(&reply.head).expect("the outcome");
        }
        let report: Progress = wire::decode(&reply.head).expect("a report");
        assert_eq!(report.tasks.len(), 1, "one task runs");
        assert_eq!(report.tasks[0].task, head.id);
        assert!(report.tasks[0].permille > last && report.tasks[0].permille <= 1000, "{report:?} after {last}");
        (reports, last) = (reports + 1, report.tasks[0].permille);
    };
    assert_eq!((outcome.id, outcome.error), (head.id, None));
    let most = (begun.elapsed().as_secs_f64() / 0.25) as u32;
    assert!((1..=most).contains(&reports), "{reports} in {:?}", begun.elapsed());
}

async fn a_queue_that_cannot_be_harms_nobody(on: Place) {
    let (boss, mut client) = (on.boss().await, on.client().await);
    let (open, gate) = mpsc::channel::<()>();
    let (gate, (begin, mut begun)) = (Mutex::new(gate), tokio::sync::mpsc::unbounded_channel());
    let half = ProbeHandler::watching(Probe::KIND, move |bytes, watch| {
        watch.advance(0.5);
        let _ = begin.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(bytes)
    });
    let worker = on.worker(half, Options { slots: 3, prefetch: 4, ..one_slot() });
    // Longer than AMQP allows, and one that is not there. Both come before that of a boss in the order of reports.
    for queue in ["q".repeat(300), "nobody".to_owned()] {
        client.publish(&names::work_queue("probe"), client.message(wire::encode(&reporting(queue)), BODY)).await;
        soon("its begin", begun.recv()).await;
    }
    let good = submit(&boss, Probe("good".into())).await;
    until("a report", || good.progress() == 0.5).await;
    drop(open);
    for _ in 0..2 {
        assert_eq!(client.outcome().await.error, None);
    }
    assert!(soon("an answer", good.outcome()).await.result.is_ok());
    assert_eq!(worker.stop().await.done, 3);
}
