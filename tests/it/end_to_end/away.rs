//! A boss whose queues are there while it is not: its large tasks wait, and hold nothing that others need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::{Connection, Consume, Consumer, Message, Published, Queue, QueueStatus, Route};
use rabbitry::task::{Format, Task, TaskError, TaskId, unix_ms};
use rabbitry::transport::outgoing::{self, Outgoing};
use rabbitry::transport::{self, names};
use rabbitry::wire::{self, OutcomeHead, PullRequest, TaskHead};
use rabbitry::worker::{Memory, Options};

use crate::pool::{
    Did, Place, Probe, ProbeHandler, endless, head, lost_twice, on_both, one_slot, pulled_head, soon, submit, until,
    until_ready,
};
use crate::rabbitmq::Node;

on_both!(
    a_task_whose_boss_is_away_holds_nothing_and_is_computed_when_it_is_back,
    a_task_waits_as_it_came,
    a_suspect_whose_boss_is_away_ends_nothing_else,
    a_boss_that_goes_away_in_mid_pull_gets_its_memory_back_to_others,
    a_task_of_a_boss_that_is_gone_for_good_is_dropped_when_it_comes_back,
    a_task_that_waits_past_its_deadline_is_answered_so,
    a_task_whose_boss_was_away_for_a_day_waits_no_more,
    of_a_message_only_what_is_to_be_pulled_waits,
    a_boss_that_goes_while_its_task_waits_for_memory_is_not_asked,
);

/// What one payload takes, and all there is.
const BYTES: usize = 5 << 20;

/// Long enough to be seen waiting.
const LATER: Duration = Duration::from_millis(200);

/// A boss below the boss. It is away until it consumes from its queues.
struct Absent {
    connection: Arc<dyn Connection>,
    results: String,
    pull: String,
    task: Outgoing,
}

impl Absent {
    async fn new(on: &Place, quorum: bool) -> Self {
        let connection = soon("a connection", on.broker.connect()).await.expect("a connection");
        transport::declare_shared(&*connection, &[Probe::KIND], quorum).await.expect("declared");
        let name = format!("absent-{:08x}", rand::random::<u32>());
        let (results, pull) = (names::results_queue(&name), names::pull_queue(&name));
        for name in [&results, &pull] {
            let expires = Some(Duration::from_secs(600));
            connection
                .declare_queue(&Queue { name: name.clone(), expires, ..Queue::default() })
                .await
                .expect("declared");
        }
        // No two parts alike.
        let payload: Bytes = (0..BYTES as u32 / 4).flat_map(u32::to_le_bytes).collect();
        let head = TaskHead { sent_unix_ms: unix_ms(), ..pulled_head(&Probe::KIND, payload.len() as u64, &pull) };
        let task = Outgoing { head, payload: vec![payload], shared: true, priority: 5, kept: true };
        Absent { connection, results, pull, task }
    }

    fn message(&self) -> Message {
        Message {
            head: wire::encode(&self.task.head).into(),
            content_type: Some(Format::Binary.content_type().into()),
            reply_to: Some(self.results.clone()),
            correlation_id: Some(self.task.head.id.to_string()),
            priority: self.task.priority,
            persistent: true,
            headers: vec![("note".into(), "kept".into())],
            ..Message::default()
        }
    }

    async fn submit(&self) {
        self.publish(self.message()).await;
    }

    async fn publish(&self, message: Message) {
        let route = Route::exchange(names::WORK, Probe::KIND.as_str());
        let confirm = soon("room", self.connection.publish(&route, message)).await.expect("published");
        assert_eq!(soon("a confirm", confirm.0).await.expect("confirmed"), Published::Routed);
    }

    async fn consume(&self, queue: &str) -> Consumer {
        self.connection.consume(queue, Consume { prefetch: 0, no_ack: true }).await.expect("consuming")
    }

    async fn serve(&self, request: &Message, cut: impl Fn(&mut PullRequest)) {
        let mut wanted: PullRequest = wire::decode(&request.head).expect("a pull request");
        cut(&mut wanted);
        let inbox = request.reply_to.as_deref().expect("an inbox");
        outgoing::serve(&*self.connection, &wanted, inbox, Some(&self.task)).await.expect("served");
    }

    async fn outcome(&self) -> (OutcomeHead, Message) {
        let outcome = soon("the outcome", self.consume(&self.results).await.next()).await.expect("an outcome").message;
        (wire::decode(&outcome.head).expect("one outcome"), outcome)
    }

    /// Comes back, and is there until its task is answered.
    async fn is_back(&self) {
        let mut pulls = self.consume(&self.pull).await;
        let serve = async {
            while let Some(request) = pulls.next().await {
                self.serve(&request.message, |_| {}).await;
            }
        };
        let (head, outcome) = tokio::select! {
            outcome = self.outcome() => outcome,
            () = serve => panic!("its queue has ended"),
        };
        assert_eq!((head.id, head.error), (self.task.head.id, None));
        assert!(outcome.body.concat() == self.task.payload.concat(), "{} bytes", outcome.body_bytes());
    }

    async fn until_ready(&self, queue: &str, ready: u64) {
        until_ready(&*self.connection, queue, ready).await;
    }

    /// Nothing of its task is anywhere.
    async fn nothing_is_left(&self) {
        for queue in [names::work_queue("probe"), names::later_queue("probe"), names::DEAD.into()] {
            until(&*self.connection, &queue, "nothing left", |q| q.is_none_or(|q| q.ready == 0)).await;
        }
        assert!(self.connection.queue_status(&self.pull).await.expect("a status").is_none_or(|q| q.ready == 0));
    }
}

/// One slot, memory for one payload, and the first attempt is the last.
fn narrow() -> (Options, Memory) {
    let memory = Memory::new(BYTES as u64);
    (Options { memory: Some(memory.clone()), attempts_max: 1, later: LATER, ..one_slot() }, memory)
}

/// Tasks that take the slot and all the memory, one after another.
async fn others_go_on(on: &Place, many: u8) {
    let boss = on.boss().await;
    for i in 0..many {
        let payload = Bytes::from(vec![i; BYTES]);
        let answer = soon("an answer", submit(&boss, Probe(payload.clone())).await.outcome()).await;
        assert!(answer.result == Ok(payload), "{i}: {:?}", answer.result.map(|bytes| bytes.len()));
    }
    boss.close().await;
}

async fn a_task_whose_boss_is_away_holds_nothing_and_is_computed_when_it_is_back(on: Place) {
    let ((options, memory), handler) = (narrow(), ProbeHandler::new(Ok));
    let away = Absent::new(&on, false).await;
    away.submit().await;
    let worker = on.worker(handler.clone(), options);
    handler.until_planned(3).await;
    others_go_on(&on, 5).await;
    // At least eight of these were of the one that waits.
    handler.until_planned(3 + 5 + 5).await;
    let status = away.connection.queue_status(&away.pull).await.expect("a status");
    assert_eq!(status, Some(QueueStatus { ready: 0, consumers: 0 }), "nothing was asked of nobody");
    away.is_back().await;
    assert_eq!(worker.stop().await.done, 6);
    assert_eq!(memory.available_bytes(), BYTES as u64);
    away.nothing_is_left().await;
}

async fn waits_as_it_came(on: &Place, quorum: bool) {
    let (options, handler) = (Options { quorum, ..narrow().0 }, ProbeHandler::new(Ok));
    let away = Absent::new(on, quorum).await;
    away.submit().await;
    let worker = on.worker(handler.clone(), options);
    // One attempt is allowed, so nothing has counted as one.
    handler.until_planned(7).await;
    let mut waiting = away.consume(&names::later_queue("probe")).await;
    let waits = soon("the task", waiting.next()).await.expect("the task");
    assert_eq!(waits.message, away.message(), "and what the broker said of it is forgotten");
    assert_eq!(worker.stop().await.done, 0);
    away.nothing_is_left().await;
}

async fn a_task_waits_as_it_came(on: Place) {
    waits_as_it_came(&on, false).await;
}

async fn a_suspect_whose_boss_is_away_ends_nothing_else(on: Place) {
    let (boss, mut runs) = (on.boss().await, endless(Probe::KIND));
    let away = Absent::new(&on, false).await;
    let worker = on.worker(runs.handler.clone(), Options { later: LATER, ..one_slot() });
    let other = submit(&boss, Probe("other".into())).await;
    runs.begins("other").await;
    away.publish(lost_twice(&away.task.head, away.message())).await;
    away.until_ready(&names::later_queue("probe"), 1).await;
    // It comes some times more, and the other does not end meanwhile.
    let (since, work) = (Instant::now(), names::work_queue("probe"));
    while since.elapsed() < 4 * LATER {
        let status = away.connection.queue_status(&work).await.expect("a status");
        assert_eq!(status.expect("it is there").consumers, 1, "it takes tasks all the time");
    }
    runs.enough();
    assert!(soon("an answer", other.outcome()).await.result.is_ok());
    away.is_back().await;
    assert_eq!(worker.stop().await.done, 2);
    away.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_quorum_queues_waits_as_it_came() {
    waits_as_it_came(&Place::rabbitmq().await, true).await;
}

/// What the broker says of itself is left out.
fn without_news(mut message: Message) -> Message {
    message.headers.retain(|(name, _)| !name.starts_with("x-"));
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_a_restart_of_its_broker() {
    let mut node = tokio::task::block_in_place(Node::start);
    let on = Place::of(Arc::new(AmqpBroker::new(&node.url("t0")).expect("a legal address")));
    let away = Absent::new(&on, false).await;
    away.submit().await;
    let worker = on.worker(ProbeHandler::new(Ok), Options { later: Duration::from_secs(3), ..narrow().0 });
    away.until_ready(&names::later_queue("probe"), 1).await;
    worker.stop().await;
    tokio::task::block_in_place(|| {
        node.stop();
        node.start_again()
    });
    let connection = soon("a connection", on.broker.connect()).await.expect("a connection");
    let away = Absent { connection, ..away };
    let mut tasks = away.consume(&names::work_queue("probe")).await;
    let back = soon("the task", tasks.next()).await.expect("the task");
    assert!(!back.redelivered, "or it would count as an attempt");
    assert_eq!(without_news(back.message), away.message());
}

async fn a_boss_that_goes_away_in_mid_pull_gets_its_memory_back_to_others(on: Place) {
    let ((options, memory), handler) = (narrow(), ProbeHandler::new(Ok));
    let away = Absent::new(&on, false).await;
    let mut pulls = away.consume(&away.pull).await;
    let worker = on.worker(handler, options);
    away.submit().await;
    let request = soon("a request", pulls.next()).await.expect("a request").message;
    assert_eq!(memory.available_bytes(), 0, "the payload is to come");
    away.serve(&request, |wanted| wanted.count = 1).await;
    pulls.cancel().await;
    // Before it misses the second part.
    others_go_on(&on, 3).await;
    away.is_back().await;
    assert_eq!(worker.stop().await.done, 4);
    away.nothing_is_left().await;
}

async fn a_task_of_a_boss_that_is_gone_for_good_is_dropped_when_it_comes_back(on: Place) {
    let ((options, memory), handler) = (narrow(), ProbeHandler::new(Ok));
    let away = Absent::new(&on, false).await;
    away.submit().await;
    let worker = on.worker(handler.clone(), options.clone());
    handler.until_planned(3).await;
    assert_eq!(worker.stop().await.done, 0);
    away.connection.delete_queue(&away.pull).await.expect("deleted");
    away.until_ready(&names::work_queue("probe"), 1).await;
    let worker = on.worker(handler.clone(), Options { prefetch: 1, ..options });
    // Taken when it has settled what it took before.
    others_go_on(&on, 1).await;
    assert_eq!(worker.stop().await.done, 1);
    assert_eq!(memory.available_bytes(), BYTES as u64);
    away.nothing_is_left().await;
}

async fn a_task_that_waits_past_its_deadline_is_answered_so(on: Place) {
    let ((options, _), handler) = (narrow(), ProbeHandler::new(|_| panic!("computed too late")));
    let mut away = Absent::new(&on, false).await;
    away.task.head.deadline_unix_ms = unix_ms() + 1000;
    away.submit().await;
    let worker = on.worker(handler, options);
    let (head, _) = away.outcome().await;
    assert_eq!((head.id, head.error), (away.task.head.id, Some(TaskError::DeadlineExceeded)));
    assert_eq!(worker.stop().await.done, 1);
    away.nothing_is_left().await;
}

async fn a_task_whose_boss_was_away_for_a_day_waits_no_more(on: Place) {
    const HOUR_MS: u64 = 3_600_000;
    let ((options, _), handler) = (narrow(), ProbeHandler::new(Ok));
    let mut away = Absent::new(&on, false).await;
    let worker = on.worker(handler.clone(), options);
    away.task.head.sent_unix_ms = unix_ms() - 24 * HOUR_MS;
    away.submit().await;
    handler.until_planned(3).await;
    let newer = away.task.head.id;
    (away.task.head.id, away.task.head.sent_unix_ms) = (TaskId::random(), unix_ms() - 26 * HOUR_MS);
    away.submit().await;
    // Of the two only the newer comes back, again and again.
    handler.until_planned(3 + 6).await;
    let mut waiting = away.consume(&names::later_queue("probe")).await;
    let waits = soon("the newer", waiting.next()).await.expect("the newer").message;
    assert_eq!(wire::decode::<TaskHead>(&waits.head).expect("a head").id, newer);
    assert_eq!(worker.stop().await.done, 0);
    away.nothing_is_left().await;
}

async fn of_a_message_only_what_is_to_be_pulled_waits(on: Place) {
    let ((options, _), handler) = (narrow(), ProbeHandler::new(Ok));
    let away = Absent::new(&on, false).await;
    let inline = head(&Probe::KIND, b"inline");
    let mut message = away.message();
    message.head = [wire::encode(&away.task.head), wire::encode(&inline)].concat().into();
    message.body = vec![Bytes::from_static(b"inline")];
    away.publish(message).await;
    let worker = on.worker(handler.clone(), options);
    let mut results = away.consume(&away.results).await;
    let answer = soon("an answer", results.next()).await.expect("an answer").message;
    let head: OutcomeHead = wire::decode(&answer.head).expect("one outcome");
    assert_eq!((head.id, head.error, &answer.body.concat()[..]), (inline.id, None, &b"inline"[..]));
    drop(results);
    away.is_back().await;
    assert_eq!(worker.stop().await.done, 2);
    away.nothing_is_left().await;
}

async fn a_boss_that_goes_while_its_task_waits_for_memory_is_not_asked(on: Place) {
    let ((options, _), mut other) = (narrow(), endless(Probe::KIND));
    let (away, boss) = (Absent::new(&on, false).await, on.boss().await);
    let pulls = away.consume(&away.pull).await;
    let ticket = submit(&boss, Probe(Bytes::from(vec![1; BYTES]))).await;
    let worker = on.worker(other.handler.clone(), options);
    assert!(matches!(other.next().await, Did::Begin(_)));
    away.submit().await;
    other.handler.until_planned(2).await;
    // The time itself is what is tested: what was seen is believed for a second.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    pulls.cancel().await;
    other.enough();
    assert!(soon("an answer", ticket.outcome()).await.result.is_ok());
    away.until_ready(&names::later_queue("probe"), 1).await;
    let status = away.connection.queue_status(&away.pull).await.expect("a status");
    assert_eq!(status, Some(QueueStatus { ready: 0, consumers: 0 }), "nothing was asked of nobody");
    away.is_back().await;
    assert_eq!(worker.stop().await.done, 2);
    away.nothing_is_left().await;
}
