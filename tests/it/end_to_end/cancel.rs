//! Tasks that are stopped: by their caller, by another boss, by a deadline, or because nobody is left to answer to.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::poll;
use rabbitry::boss::{Boss, Submit, Ticket};
use rabbitry::broker::{Consumer, Message};
use rabbitry::task::{Task, TaskError, TaskId, WorkerRef};
use rabbitry::transport::names;
use rabbitry::wire::{self, Cancelled, Command, Control, OutcomeHead, PullRequest, Record, TaskHead};
use rabbitry::worker::Options;

use crate::pool::{
    Did, Place, Probe, ProbeHandler, cut_all_connections, endless, head, on_both, one_slot, pulled_head, soon, submit,
};

on_both!(
    a_running_task_stops_and_its_slot_is_free,
    a_prefetched_task_leaves_without_waiting_for_its_turn,
    a_queued_task_is_never_computed,
    a_worker_that_comes_later_hears_what_was_cancelled,
    a_task_whose_payload_is_on_its_way_is_let_go,
    one_of_two_that_run_stops_and_the_other_goes_on,
    an_answer_that_comes_after_all_is_dropped,
    a_deadline_stops_what_runs,
    a_deadline_calls_the_task_off,
    another_boss_can_cancel_and_hears_whether_it_did,
    a_boss_that_hears_it_from_the_worker_first_says_so_too,
    a_boss_that_closes_stops_its_tasks,
    a_dead_boss_is_noticed_at_its_first_answer,
    a_forged_goodbye_stops_nothing_that_runs,
    a_lost_connection_frees_the_slots_and_fails_no_task,
    a_lost_consumer_fails_no_task,
    a_worker_that_drains_can_still_be_told_to_stop,
    copies_of_what_is_answered_stop_without_a_word_and_what_was_published_again_goes_on,
);

async fn task(boss: &Boss, payload: &'static str) -> Ticket<Probe> {
    submit(boss, Probe(payload.into())).await
}

async fn cancelled<T: Task>(ticket: Ticket<T>)
where
    T::Answer: std::fmt::Debug + PartialEq,
{
    assert_eq!(soon("an outcome", ticket.outcome()).await.result, Err(TaskError::Cancelled));
}

async fn answered(ticket: Ticket<Probe>, payload: &'static str) {
    assert_eq!(soon("an answer", ticket.outcome()).await.result, Ok(Bytes::from(payload)));
}

async fn a_running_task_stops_and_its_slot_is_free(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), one_slot());
    for _ in 0..3 {
        let ticket = task(&boss, "a").await;
        tasks.begins("a").await;
        assert!(ticket.cancel());
        assert!(!ticket.cancel(), "it has its outcome");
        assert_eq!(ticket.progress(), 1.0);
        cancelled(ticket).await;
        tasks.stops("a").await;
    }
    tasks.enough();
    answered(task(&boss, "b").await, "b").await;
    let summary = worker.stop().await;
    assert_eq!((summary.done, summary.failed), (4, 3));
}

async fn a_prefetched_task_leaves_without_waiting_for_its_turn(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), Options { prefetch: 2, ..one_slot() });
    let runs = task(&boss, "runs").await;
    tasks.begins("runs").await;
    let waits = task(&boss, "waits").await;
    tasks.handler.until_planned(2).await;
    let next = task(&boss, "next").await;
    assert!(waits.cancel());
    cancelled(waits).await;
    // It has been acked, or this one would not have been prefetched.
    tasks.handler.until_planned(3).await;
    assert!(runs.cancel());
    tasks.stops("runs").await;
    tasks.begins("next").await;
    tasks.enough();
    answered(next, "next").await;
}

async fn a_queued_task_is_never_computed(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), Options { prefetch: 1, ..one_slot() });
    let runs = task(&boss, "runs").await;
    tasks.begins("runs").await;
    let (queued, next) = (task(&boss, "queued").await, task(&boss, "next").await);
    let client = on.client().await;
    client.until_ready(&names::work_queue("probe"), 2).await;
    // The worker hears of them in this order.
    assert!(queued.cancel() && runs.cancel());
    cancelled(queued).await;
    tasks.stops("runs").await;
    tasks.begins("next").await;
    tasks.enough();
    answered(next, "next").await;
    let summary = worker.stop().await;
    assert_eq!((summary.done, summary.failed), (3, 2));
}

async fn a_worker_that_comes_later_hears_what_was_cancelled(on: Place) {
    let (boss, client, mut tasks) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let mut ear = client.hear(names::CONTROL).await;
    let (queued, next) = (task(&boss, "queued").await, task(&boss, "next").await);
    client.until_ready(&names::work_queue("probe"), 2).await;
    let id = queued.id();
    assert!(queued.cancel());
    cancelled(queued).await;
    while heard::<Control>(&mut ear).await.command != (Command::Cancel { task: id }) {}
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    // It may have begun the first when it hears of it: that would run for ever.
    while tasks.next().await != Did::Begin("next".into()) {}
    tasks.enough();
    answered(next, "next").await;
}

async fn a_task_whose_payload_is_on_its_way_is_let_go(on: Place) {
    let (mut client, _worker) = (on.client().await, on.worker(ProbeHandler::new(Ok), one_slot()));
    let head = pulled_head(&Probe::KIND, 10 << 20, &client.reply_to);
    client.publish(&names::work_queue("probe"), client.message(wire::encode(&head), b"")).await;
    let request: PullRequest = wire::decode(&client.reply().await.head).expect("a request for parts");
    assert_eq!(request.id, head.id);
    client.control(Command::Cancel { task: head.id }).await;
    let asked = Instant::now();
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error), (head.id, Some(TaskError::Cancelled)));
    assert!(asked.elapsed() < Duration::from_secs(5), "it did not wait for the parts");
}

async fn one_of_two_that_run_stops_and_the_other_goes_on(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), Options { slots: 2, prefetch: 3, ..one_slot() });
    let one = task(&boss, "one").await;
    tasks.begins("one").await;
    let other = task(&boss, "other").await;
    tasks.begins("other").await;
    assert!(one.handle().cancel());
    cancelled(one).await;
    tasks.stops("one").await;
    let third = task(&boss, "third").await;
    tasks.begins("third").await;
    tasks.enough();
    answered(other, "other").await;
    answered(third, "third").await;
}

async fn an_answer_that_comes_after_all_is_dropped(on: Place) {
    let boss = on.boss().await;
    let (open, gate) = mpsc::channel::<()>();
    let (gate, (begin, mut begun)) = (Mutex::new(gate), tokio::sync::mpsc::unbounded_channel());
    // It does not look at its watch.
    let deaf = ProbeHandler::new(move |bytes| {
        let _ = begin.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(bytes)
    });
    let worker = on.worker(deaf, one_slot());
    let ticket = task(&boss, "deaf").await;
    soon("its begin", begun.recv()).await;
    let handle = ticket.handle();
    assert!(handle.cancel());
    cancelled(ticket).await;
    drop(open);
    answered(task(&boss, "next").await, "next").await;
    assert!(!handle.cancel());
    let summary = worker.stop().await;
    assert_eq!((summary.done, summary.failed), (2, 0), "the worker did answer it");
}

async fn a_deadline_stops_what_runs(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    let deadline = Duration::from_secs(2);
    let how = Submit { deadline: Some(deadline), ..Submit::default() };
    let submitted = Instant::now();
    let late = soon("room", boss.submit(Probe("late".into()), how)).await.expect("a task");
    tasks.begins("late").await;
    tasks.stops("late").await;
    let took = submitted.elapsed();
    assert!(took >= Duration::from_millis(1990) && took < deadline + Duration::from_millis(500), "{took:?}");
    assert_eq!(soon("its end", late.outcome()).await.result, Err(TaskError::DeadlineExceeded));
    tasks.enough();
    answered(task(&boss, "next").await, "next").await;
}

/// The next record of this sort that is heard.
async fn heard<T: Record>(ear: &mut Consumer) -> T {
    loop {
        let delivery = soon("a word", ear.next()).await.expect("the ear lives");
        if wire::is::<T>(&delivery.message.head) {
            return wire::decode(&delivery.message.head).expect("a whole record");
        }
    }
}

async fn a_deadline_calls_the_task_off(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let mut ear = client.hear(names::CONTROL).await;
    let how = Submit { deadline: Some(Duration::from_secs(1)), ..Submit::default() };
    let late = soon("room", boss.submit(Probe("late".into()), how)).await.expect("a task");
    client.until_ready(&names::work_queue("probe"), 1).await;
    let task = late.id();
    assert_eq!(soon("its end", late.outcome()).await.result, Err(TaskError::DeadlineExceeded));
    // Whatever the clock of a worker says.
    assert_eq!(heard::<Control>(&mut ear).await.command, Command::Cancel { task });
}

async fn another_boss_can_cancel_and_hears_whether_it_did(on: Place) {
    let (boss, other, mut tasks) = (on.boss().await, on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    let one = task(&boss, "one").await;
    tasks.begins("one").await;
    let two = task(&boss, "two").await;
    let id = one.id();
    assert!(soon("a word", other.cancel(id)).await.expect("said"), "its boss says so");
    cancelled(one).await;
    tasks.stops("one").await;
    tasks.begins("two").await;
    assert!(soon("its own", boss.cancel(two.id())).await.expect("said"));
    cancelled(two).await;
    tasks.stops("two").await;
    assert!(!soon("silence", other.cancel(id)).await.expect("said"), "it has ended");
    assert!(!soon("silence", boss.cancel(TaskId::random())).await.expect("said"), "nobody knows it");
}

async fn a_boss_that_hears_it_from_the_worker_first_says_so_too(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let mut ear = client.hear(names::PRESENCE).await;
    let ticket = task(&boss, "a").await;
    let head = OutcomeHead {
        id: ticket.id(),
        run: 1,
        worker: WorkerRef { id: "w".into(), host: "h".into() },
        compute_ns: 0,
        times: None,
        error: Some(TaskError::Cancelled),
        format: Default::default(),
        payload_bytes: 0,
        checksum: None,
        in_parts: false,
        params: vec![],
    };
    let outcome = Message { head: wire::encode(&head).into(), ..Message::default() };
    client.publish(&names::results_queue(boss.id()), outcome).await;
    assert_eq!(heard::<Cancelled>(&mut ear).await, Cancelled { task: head.id, boss: boss.id().to_owned() });
    assert_eq!(soon("its end", ticket.outcome()).await.result, Err(TaskError::Cancelled));
}

async fn a_boss_that_closes_stops_its_tasks(on: Place) {
    let (boss, other, mut tasks) = (on.boss().await, on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), one_slot());
    let runs = task(&boss, "runs").await;
    tasks.begins("runs").await;
    let waits = task(&boss, "waits").await;
    tasks.handler.until_planned(2).await;
    boss.close().await;
    assert_eq!(soon("its end", runs.outcome()).await.result, Err(TaskError::Shutdown));
    tasks.stops("runs").await;
    let next = task(&other, "next").await;
    tasks.begins("next").await;
    tasks.enough();
    answered(next, "next").await;
    drop(waits);
}

async fn a_dead_boss_is_noticed_at_its_first_answer(on: Place) {
    let (dead, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), Options { slots: 2, prefetch: 3, ..one_slot() });
    let one = task(&dead, "one").await;
    tasks.begins("one").await;
    let two = task(&dead, "two").await;
    tasks.begins("two").await;
    let (client, results) = (on.client().await, names::results_queue(dead.id()));
    let id = one.id();
    // No goodbye.
    drop((dead, one, two));
    soon("the end of its queues", async {
        while !matches!(client.connection.queue_status(&results).await, Ok(None)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Somebody who knows the id stops one of them; its answer finds no queue.
    client.control(Command::Cancel { task: id }).await;
    tasks.stops("one").await;
    tasks.stops("two").await;
}

async fn a_forged_goodbye_stops_nothing_that_runs(on: Place) {
    let (boss, client, mut tasks) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let _worker = on.worker(tasks.handler.clone(), Options { slots: 2, prefetch: 3, ..one_slot() });
    let one = task(&boss, "one").await;
    tasks.begins("one").await;
    let other = task(&boss, "other").await;
    tasks.begins("other").await;
    client.control(Command::BossGone { reply_to: names::results_queue(boss.id()) }).await;
    // Heard after it.
    client.control(Command::Cancel { task: other.id() }).await;
    tasks.stops("other").await;
    tasks.enough();
    answered(one, "one").await;
}

async fn a_lost_connection_frees_the_slots_and_fails_no_task(on: Place) {
    let (boss, mut tasks) = (on.boss().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), one_slot());
    let ticket = task(&boss, "a").await;
    tasks.begins("a").await;
    if !cut_all_connections(&on).await {
        return;
    }
    tasks.stops("a").await;
    tasks.begins("a").await;
    tasks.enough();
    answered(ticket, "a").await;
    assert_eq!(worker.stop().await.failed, 0, "what was stopped for its connection is no outcome");
}

async fn a_lost_consumer_fails_no_task(on: Place) {
    let (boss, client, mut tasks) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), one_slot());
    let lost = task(&boss, "lost").await;
    tasks.begins("lost").await;
    // The connection is as good as ever, and the message is gone with the queue.
    client.connection.delete_queue(&names::work_queue("probe")).await.expect("deleted");
    let queue = names::work_queue("probe");
    client.until(&queue, "the worker", |queue| queue.is_some_and(|queue| queue.consumers > 0)).await;
    let next = task(&boss, "next").await;
    let outcome = lost.outcome();
    tokio::pin!(outcome);
    assert!(poll!(&mut outcome).is_pending(), "nobody has cancelled it");
    tasks.enough();
    assert_eq!(soon("an answer", outcome).await.result, Ok(Bytes::from("lost")));
    answered(next, "next").await;
    assert_eq!(worker.stop().await.failed, 0);
}

async fn a_worker_that_drains_can_still_be_told_to_stop(on: Place) {
    let (boss, client, mut tasks) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), Options { prefetch: 2, ..one_slot() });
    let runs = task(&boss, "runs").await;
    tasks.begins("runs").await;
    let waits = task(&boss, "waits").await;
    tasks.handler.until_planned(2).await;
    worker.ask_to_stop();
    // Handed back: it drains.
    client.until_ready(&names::work_queue("probe"), 1).await;
    assert!(runs.cancel());
    assert_eq!(tasks.next().await, Did::Stop("runs".into()));
    assert_eq!(worker.stop().await.done, 1);
    assert!(waits.cancel());
    cancelled(waits).await;
}

async fn copies_of_what_is_answered_stop_without_a_word_and_what_was_published_again_goes_on(on: Place) {
    let (mut client, mut tasks) = (on.client().await, endless(Probe::KIND));
    let worker = on.worker(tasks.handler.clone(), Options { slots: 2, prefetch: 4, ..one_slot() });
    let publish = async |id, attempt, sent_unix_ms, payload: &'static str| {
        let head = TaskHead { id, attempt, sent_unix_ms, ..head(&Probe::KIND, payload.as_bytes()) };
        let message = client.message(wire::encode(&head), payload.as_bytes());
        client.publish(&names::work_queue("probe"), message).await;
    };
    let (one, other) = (TaskId::random(), TaskId::random());
    publish(one, 0, 5, "first").await;
    tasks.begins("first").await;
    publish(one, 0, 6, "anew").await;
    tasks.begins("anew").await;
    client.control(Command::Answered { task: one, reply_to: client.reply_to.clone(), sent_unix_ms: 5 }).await;
    tasks.stops("first").await;
    publish(one, 1, 5, "copy").await;
    publish(other, 0, 5, "other").await;
    tasks.begins("other").await;
    tasks.enough();
    let mut answered = [client.outcome().await, client.outcome().await];
    answered.sort_by_key(|outcome| outcome.id != one);
    assert_eq!(answered.map(|outcome| (outcome.id, outcome.error)), [(one, None), (other, None)]);
    assert_eq!(worker.stop().await.done, 2);
}
