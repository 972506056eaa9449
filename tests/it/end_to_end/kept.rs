//! Kept tasks below the bridge: what a boss has not written is read by the next one.

use bytes::Bytes;
use rabbitry::boss::{self, Boss, Keep, KeptName, RawTicket, Receipt, Submit, Unclaimed};
use rabbitry::task::{Blob, Format, Outcome, Task, TaskError, TaskId};
use rabbitry::transport::names;
use tokio::sync::mpsc;

use crate::pool::{Client, Place, Probe, ProbeHandler, cut_all_connections, endless, on_both, one_slot, soon};

on_both!(
    an_outcome_that_was_not_written_is_read_by_the_next_boss,
    an_outcome_in_parts_that_was_not_written_is_read_whole_by_the_next_boss,
    a_kept_task_goes_on_while_there_is_no_boss_and_an_ordinary_one_does_not,
    copies_of_a_task_that_is_written_stop,
    what_nobody_waits_for_is_dropped,
    tasks_of_a_boss_that_is_gone_for_good_are_dropped,
);

/// A boss that keeps tasks, and what comes for those of an earlier one.
struct Keeper {
    boss: Boss,
    unclaimed: mpsc::Receiver<Unclaimed>,
}

impl Keeper {
    /// Tasks in `awaited` have answers of at most 64 MB.
    async fn start(on: &Place, name: &KeptName, awaited: &[TaskId]) -> Keeper {
        Self::with(on, boss::Options::default(), name, awaited).await
    }

    async fn with(on: &Place, options: boss::Options, name: &KeptName, awaited: &[TaskId]) -> Keeper {
        let awaited = awaited.to_vec();
        let (keep, unclaimed) = Keep::new(name.clone(), move |task| awaited.contains(&task).then_some(64 << 20));
        Keeper { boss: on.boss_keeping(options, keep).await, unclaimed }
    }

    async fn submit(&self, id: TaskId, payload: impl Into<Bytes>) -> RawTicket {
        let encoded = Probe(payload.into()).encode(Format::Binary).expect("a right task");
        let room = soon("room", self.boss.reserve(encoded.window_bytes(), 0)).await;
        room.submit_kept(id, &Probe::KIND, encoded, Submit::default(), false)
    }

    async fn unclaimed(&mut self) -> Option<(Outcome<Blob>, Receipt)> {
        match soon("what was kept", self.unclaimed.recv()).await.expect("the boss is there") {
            Unclaimed::Outcome(outcome, receipt) => Some((*outcome, receipt)),
            Unclaimed::CaughtUp => None,
        }
    }
}

fn results(name: &KeptName) -> String {
    names::results_queue(name.as_str())
}

/// Nothing is in the queue, and nothing is unacked in it.
async fn until_empty(client: &Client, on: &Place, name: &KeptName) {
    client.until_ready(&results(name), 0).await;
    // A boss that gets nothing has read all there is.
    let mut last = Keeper::start(on, name, &[]).await;
    assert!(last.unclaimed().await.is_none());
}

async fn an_outcome_that_was_not_written_is_read_by_the_next_boss(on: Place) {
    let (client, name, id) = (on.client().await, KeptName::fresh(), TaskId::random());
    let worker = on.worker(ProbeHandler::new(Ok), one_slot());
    let first = Keeper::start(&on, &name, &[id]).await;
    let ticket = first.submit(id, "mine").await;
    let (outcome, receipt) = soon("an outcome", ticket.received()).await;
    assert!(outcome.result.is_ok());
    // It dies before it has written a word.
    std::mem::forget(receipt);
    drop(first);
    client.until_ready(&results(&name), 1).await;
    let mut second = Keeper::start(&on, &name, &[id]).await;
    let (outcome, receipt) = second.unclaimed().await.expect("an outcome");
    assert_eq!((outcome.task, outcome.result.map(|blob| blob.payload.concat())), (id, Ok(b"mine".to_vec())));
    receipt.written();
    assert!(second.unclaimed().await.is_none(), "caught up");
    second.boss.close().await;
    until_empty(&client, &on, &name).await;
    assert_eq!(worker.stop().await.done, 1, "computed once");
}

async fn an_outcome_in_parts_that_was_not_written_is_read_whole_by_the_next_boss(on: Place) {
    let (client, name, id) = (on.client().await, KeptName::fresh(), TaskId::random());
    let worker = on.worker(ProbeHandler::new(Ok), one_slot());
    let payload: Bytes = (0..10 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<u8>>().into();
    let first = Keeper::start(&on, &name, &[id]).await;
    let ticket = first.submit(id, payload.clone()).await;
    let (_, receipt) = soon("an outcome", ticket.received()).await;
    std::mem::forget(receipt);
    drop(first);
    let messages = if on.embedded.is_some() { 1 } else { 4 };
    client.until_ready(&results(&name), messages).await;
    let mut second = Keeper::start(&on, &name, &[id]).await;
    let (outcome, receipt) = second.unclaimed().await.expect("an outcome");
    assert!(outcome.result.expect("an answer").payload.concat() == payload);
    receipt.written();
    assert!(second.unclaimed().await.is_none());
    second.boss.close().await;
    until_empty(&client, &on, &name).await;
    assert_eq!(worker.stop().await.done, 1);
}

async fn a_kept_task_goes_on_while_there_is_no_boss_and_an_ordinary_one_does_not(on: Place) {
    let (client, name, id) = (on.client().await, KeptName::fresh(), TaskId::random());
    let mut runs = endless(Probe::KIND);
    let _worker = on.worker(runs.handler.clone(), one_slot());
    let keeper = Keeper::start(&on, &name, &[id]).await;
    let _ordinary = crate::pool::submit(&keeper.boss, Probe("ordinary".into())).await;
    runs.begins("ordinary").await;
    let _kept = keeper.submit(id, "kept").await;
    runs.handler.until_planned(2).await;
    keeper.boss.close().await;
    runs.stops("ordinary").await;
    runs.begins("kept").await;
    runs.enough();
    client.until_ready(&results(&name), 1).await;
    let mut next = Keeper::start(&on, &name, &[id]).await;
    let (outcome, receipt) = next.unclaimed().await.expect("an outcome");
    assert_eq!(outcome.result.map(|blob| blob.payload.concat()), Ok(b"kept".to_vec()));
    receipt.written();
}

async fn copies_of_a_task_that_is_written_stop(on: Place) {
    let (name, id) = (KeptName::fresh(), TaskId::random());
    let mut runs = endless(Probe::KIND);
    // Each takes one copy and no more.
    let one = || rabbitry::worker::Options { prefetch: 1, ..one_slot() };
    let _first_worker = on.worker(runs.handler.clone(), one());
    let keeper = Keeper::start(&on, &name, &[id]).await;
    let ticket = keeper.submit(id, "copied").await;
    runs.begins("copied").await;
    if !cut_all_connections(&on).await {
        return;
    }
    // The worker's end of it is lost as well; the broker delivers it again, and the boss publishes another.
    runs.stops("copied").await;
    let mut others = endless(Probe::KIND);
    let _second_worker = on.worker(others.handler.clone(), one());
    runs.begins("copied").await;
    others.begins("copied").await;
    runs.enough();
    let (outcome, receipt) = soon("an outcome", ticket.received()).await;
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    receipt.written();
    others.stops("copied").await;
}

async fn what_nobody_waits_for_is_dropped(on: Place) {
    let (client, name, id) = (on.client().await, KeptName::fresh(), TaskId::random());
    let mut runs = endless(Probe::KIND);
    let _worker = on.worker(runs.handler.clone(), one_slot());
    let keeper = Keeper::start(&on, &name, &[id]).await;
    let _ticket = keeper.submit(id, "kept").await;
    runs.begins("kept").await;
    drop(keeper);
    runs.enough();
    client.until_ready(&results(&name), 1).await;
    let mut next = Keeper::start(&on, &name, &[]).await;
    assert!(next.unclaimed().await.is_none());
    next.boss.close().await;
    until_empty(&client, &on, &name).await;
}

async fn tasks_of_a_boss_that_is_gone_for_good_are_dropped(on: Place) {
    let (client, name, id) = (on.client().await, KeptName::fresh(), TaskId::random());
    let keeper = Keeper::start(&on, &name, &[id]).await;
    let ticket = keeper.submit(id, vec![7; 10 << 20]).await;
    client.until_ready(&names::work_queue("probe"), 1).await;
    keeper.boss.let_go_of_kept();
    keeper.boss.close().await;
    assert_eq!(soon("an outcome", ticket.outcome()).await.result.err(), Some(TaskError::Shutdown));
    for queue in [results(&name), names::pull_queue(name.as_str())] {
        client.until(&queue, "no queue", |queue| queue.is_none()).await;
    }
    let worker = on.worker(ProbeHandler::new(|_| panic!("computed for nobody")), one_slot());
    client
        .until(&names::work_queue("probe"), "a worker", |queue| queue.is_some_and(|queue| queue.consumers == 1))
        .await;
    client.until_ready(&names::work_queue("probe"), 0).await;
    assert_eq!(worker.stop().await.done, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_quorum_queues_answers_wait_as_well() {
    let on = Place::rabbitmq().await;
    let (name, id) = (KeptName::fresh(), TaskId::random());
    let quorum = boss::Options { quorum: true, ..boss::Options::default() };
    let options = rabbitry::worker::Options { quorum: true, ..one_slot() };
    let worker = on.worker(ProbeHandler::new(Ok), options);
    let first = Keeper::with(&on, quorum, &name, &[id]).await;
    let ticket = first.submit(id, "mine").await;
    let (_, receipt) = soon("an outcome", ticket.received()).await;
    std::mem::forget(receipt);
    drop(first);
    let mut second = Keeper::with(&on, quorum, &name, &[id]).await;
    // What the first one had may come back after the second has caught up.
    let (outcome, receipt) = match second.unclaimed().await {
        Some(outcome) => outcome,
        None => second.unclaimed().await.expect("an outcome"),
    };
    assert_eq!((outcome.task, outcome.result.map(|blob| blob.payload.concat())), (id, Ok(b"mine".to_vec())));
    receipt.written();
    second.boss.let_go_of_kept();
    second.boss.close().await;
    assert_eq!(worker.stop().await.done, 1);
}
