//! The boss's connection: publishes what is submitted, serves parts, takes outcomes, and comes back after it was lost.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keep::{HeldParts, Keep, PARTS_HELD_FOR, Queues, Receipt, Unclaimed, Unsettled};
use super::race::race;
use super::{Answered, Caller, Shared, Word, presence};
use crate::broker::{
    Broker, Confirm, Connection, Consume, Consumer, Delivery, Error, Message, Published, Queue, Route, Settle,
};
use crate::task::{Blob, Kind, Outcome, TaskError, TaskId, Times, ambient, monotonic_ns};
use crate::transport::backoff::Backoff;
use crate::transport::collect::Collector;
use crate::transport::outgoing::{self, Batch, Names, Outgoing};
use crate::transport::{self, names};
use crate::wire::{self, Cancelled, Command, Control, OutcomeHead, Part, PullRequest};

/// Outcome messages taken ahead of their ack.
const PREFETCH: u16 = 64;

/// Requests for parts served at a time; each waits until the broker has its parts.
const SERVED: usize = 4;

/// Words said in one message, at most: some 7 kB.
const WORDS_MAX: usize = 256;

/// While something is in flight, small tasks wait this long for company.
const LINGER: Duration = Duration::from_millis(1);

/// A link that has lived so long was a good one.
const SETTLED: Duration = Duration::from_secs(2);

/// Before what the broker did not take is published again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// A connection with this boss's queues on it.
///
/// The queues are exclusive: when the connection dies they are gone, and workers that meet one of its tasks see at once
/// that nobody waits for it. What is unanswered is published again on the next link, with the names of that. The queues of kept
/// tasks are not: see [`super::keep`].
pub(super) struct Link {
    /// Among those that this boss has opened, or tried to.
    number: u64,
    name: String,
    connection: Arc<dyn Connection>,
    outcomes: Consumer,
    pulls: Consumer,
    heard: Consumer,
    kept: Option<Queues>,
}

/// What the callers of a boss want of its link; it outlives the links.
pub(super) struct Inputs {
    /// Tasks to publish.
    pub(super) queue: mpsc::UnboundedReceiver<TaskId>,
    /// Things to say.
    pub(super) words: mpsc::UnboundedReceiver<Word>,
}

impl Link {
    /// The `number`th link of this boss, from 1.
    pub(super) async fn open(broker: &dyn Broker, shared: &Shared, number: u64) -> Result<Self, Error> {
        let connection = broker.connect().await?;
        let name = names::on_connection(&shared.id, number);
        let own = |name: String| Queue { name, exclusive: true, ..Queue::default() };
        let (results, pull) = (names::results_queue(&name), names::pull_queue(&name));
        transport::declare_shared(&*connection, &[], shared.options.quorum).await?;
        connection.declare_queue(&own(results.clone())).await?;
        connection.declare_queue(&own(pull.clone())).await?;
        let outcomes = connection.consume(&results, Consume { prefetch: PREFETCH, no_ack: false }).await?;
        let pulls = connection.consume(&pull, Consume { prefetch: 0, no_ack: true }).await?;
        let heard = presence::open(&*connection, &name).await?;
        let kept = match &shared.keep {
            Some(keep) => Some(Queues::open(&*connection, keep, shared.options.quorum).await?),
            None => None,
        };
        Ok(Link { number, name, connection, outcomes, pulls, heard, kept })
    }

    /// Works until the connection, or one of its consumers, ends.
    async fn run(&mut self, shared: &Arc<Shared>, inputs: &mut Inputs) -> Error {
        let tasks = TaskTracker::new();
        let ended = race([
            pin!(self.connection.closed()),
            pin!(publish_all(&self.connection, shared, (&self.name, self.number), &mut inputs.queue, &tasks)),
            pin!(speak(&*self.connection, shared, &mut inputs.words)),
            pin!(take_outcomes(shared, &mut self.outcomes)),
            pin!(serve_pulls(&self.connection, shared, &mut self.pulls)),
            pin!(presence::listen(shared, &mut self.heard)),
            pin!(attend_kept(&self.connection, shared, self.kept.as_mut())),
        ])
        .await;
        tasks.close();
        ended
    }

    /// Deletes the queues of this boss and tells the workers to forget it: in this order, because a worker asks the broker
    /// whether it is true.
    async fn goodbye(&self, shared: &Shared) -> Result<(), Error> {
        let mut gone = vec![names::results_queue(&self.name)];
        self.connection.delete_queue(&names::results_queue(&self.name)).await?;
        self.connection.delete_queue(&names::pull_queue(&self.name)).await?;
        if let Some(keep) = shared.keep.as_ref().filter(|_| shared.lets_go.load(Relaxed)) {
            keep.let_go(&*self.connection).await?;
            gone.push(names::results_queue(keep.name()));
        }
        let mut head = Vec::new();
        for reply_to in gone {
            wire::encode_into(&Control { command: Command::BossGone { reply_to } }, &mut head);
        }
        let message = Message { head: head.into(), ..Message::default() };
        self.connection.publish(&Route::exchange(names::CONTROL, ""), message).await?.0.await?;
        Ok(())
    }
}

/// Keeps a link up until `closing`.
pub(super) async fn supervise(
    broker: Arc<dyn Broker>,
    shared: Arc<Shared>,
    first: Link,
    mut inputs: Inputs,
    closing: CancellationToken,
) {
    let mut link = first;
    let mut backoff = Backoff::default();
    loop {
        let started = ambient::now();
        shared.connection.send_replace(Some(link.connection.clone()));
        let ended = closing.run_until_cancelled(link.run(&shared, &mut inputs)).await;
        shared.connection.send_replace(None);
        let Some(error) = ended else { break };
        tracing::warn!(%error, "reconnecting; what is unanswered will be published again");
        let number = link.number;
        drop(link);
        // A link that dies at once would otherwise be opened and closed without a pause.
        if ambient::now().duration_since(started) > SETTLED {
            backoff = Backoff::default();
        } else if closing.run_until_cancelled(tokio::time::sleep(backoff.next())).await.is_none() {
            return;
        }
        let Some(again) = closing.run_until_cancelled(reopen(&*broker, &shared, number)).await else { return };
        match again {
            Ok(opened) => link = opened,
            Err(error) => {
                tracing::error!(%error, "giving up on the broker");
                // Closed first: what is submitted from now on fails at once, what came before is in `pending`.
                inputs.queue.close();
                let _ = shared.refusal.set(error.to_string());
                shared.ended.cancel();
                let abandoned = shared.pending().ids();
                abandoned.into_iter().for_each(|task| {
                    shared.fail(task, TaskError::Refused(error.to_string()));
                });
                return;
            }
        }
    }
    let goodbye = async {
        if let Err(error) = link.goodbye(&shared).await {
            tracing::debug!(%error, "could not clean up; the queues go with the connection");
        }
        link.connection.close().await;
    };
    // A broker that hangs must not keep the process alive.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}

/// Opens a link after the `last` one. Each try has a name of its own: what an earlier one has declared before its connection
/// was lost may still be there, locked.
async fn reopen(broker: &dyn Broker, shared: &Shared, last: u64) -> Result<Link, Error> {
    let mut backoff = Backoff::default();
    let mut number = last;
    loop {
        number += 1;
        match Link::open(broker, shared, number).await {
            Err(error) if error.is_transient() => {
                let wait = backoff.next();
                tracing::warn!(%error, retry_ms = wait.as_millis() as u64, "not connected");
                tokio::time::sleep(wait).await;
            }
            done => return done,
        }
    }
}

/// Publishes what was unanswered on an earlier link, then what comes in, small tasks together.
async fn publish_all(
    connection: &Arc<dyn Connection>,
    shared: &Arc<Shared>,
    (name, number): (&str, u64),
    queue: &mut mpsc::UnboundedReceiver<TaskId>,
    tasks: &TaskTracker,
) -> Error {
    let mut publisher =
        Publisher { connection, shared, tasks, name, number, declared: HashSet::new(), batch: Batch::default() };
    let unanswered = if number > 1 { shared.pending().ids() } else { Vec::new() };
    for id in unanswered {
        if let Err(error) = publisher.add(id).await {
            return error;
        }
    }
    let mut ids = Vec::new();
    loop {
        let company = publisher.batch.tasks().is_empty() || publisher.batch.is_full();
        let received = if company {
            if let Err(error) = publisher.flush().await {
                return error;
            }
            queue.recv_many(&mut ids, 256).await
        } else {
            // Something small is waiting: give others a moment to share its message, unless the pool may be idle. A timeout
            // of nothing would not do: the runtime's clock has ticks of a millisecond.
            let is_busy = shared.pending().len() > publisher.batch.tasks().len();
            let more = queue.recv_many(&mut ids, 256);
            let more = if is_busy { tokio::time::timeout(LINGER, more).await.ok() } else { more.now_or_never() };
            match more {
                Some(received) => received,
                None => {
                    if let Err(error) = publisher.flush().await {
                        return error;
                    }
                    continue;
                }
            }
        };
        if received == 0 {
            return Error::Lost("the boss was dropped".into());
        }
        for id in ids.drain(..) {
            if let Err(error) = publisher.add(id).await {
                return error;
            }
        }
    }
}

struct Publisher<'a> {
    connection: &'a Arc<dyn Connection>,
    shared: &'a Arc<Shared>,
    tasks: &'a TaskTracker,
    name: &'a str,
    number: u64,
    declared: HashSet<String>,
    batch: Batch,
}

impl Publisher<'_> {
    async fn add(&mut self, id: TaskId) -> Result<(), Error> {
        let claimed = self.shared.pending().claim(id, self.number);
        let Some(task) = claimed else { return Ok(()) };
        if let Err(task) = self.batch.push(task) {
            self.flush().await?;
            // The first of a batch always fits.
            let _ = self.batch.push(task);
        }
        Ok(())
    }

    /// Publishes the batch. What the broker refuses for good fails the tasks; only a lost connection is an error here.
    async fn flush(&mut self) -> Result<(), Error> {
        let mut batch = std::mem::take(&mut self.batch);
        // Some may have been cancelled while they waited for company.
        batch.keep_only(|task| self.shared.pending().is_published(task));
        match self.publish(&batch).await {
            Err(error @ (Error::Nacked { .. } | Error::Down { .. })) => {
                let ids = batch.tasks().iter().map(|task| task.head.id).collect();
                self.tasks.spawn(again(self.shared.clone(), ids, self.number, error));
                Ok(())
            }
            Err(error) if !error.is_transient() => {
                let failed = batch.tasks().iter().map(|task| task.head.id);
                failed.for_each(|task| {
                    self.shared.fail(task, TaskError::Refused(error.to_string()));
                });
                Ok(())
            }
            done => done,
        }
    }

    async fn publish(&mut self, batch: &Batch) -> Result<(), Error> {
        let Some(first) = batch.tasks().first() else { return Ok(()) };
        let kind = first.head.kind.clone();
        if !self.declared.contains(&kind) {
            self.declare(&kind).await?;
            self.declared.insert(kind);
        }
        let kept = self.shared.keep.as_ref().filter(|_| first.kept);
        let names = Names { boss: kept.map_or(self.name, Keep::name), ear: self.name };
        if let Some(confirm) = outgoing::publish(&**self.connection, batch, names).await? {
            self.watch(confirm, batch.tasks());
        }
        Ok(())
    }

    /// A boss may be first: the tasks then wait in the queue for a worker.
    async fn declare(&self, kind: &str) -> Result<(), Error> {
        let Ok(declared) = Kind::new(kind) else { return Ok(()) };
        let queue = names::work_queue(kind);
        let is_missing = self.connection.queue_status(&queue).await?.is_none();
        self.shared.sees(&queue);
        transport::declare_shared(&**self.connection, &[declared], self.shared.options.quorum).await?;
        if is_missing {
            // New, or it was deleted with the tasks of others, who do not know.
            let control = Control { command: Command::QueueLost { queue, was_there: false } };
            let message = Message { head: wire::encode(&control).into(), ..Message::default() };
            self.connection.publish(&Route::exchange(names::CONTROL, ""), message).await?;
        }
        Ok(())
    }

    /// Sees to the confirm without holding up what follows.
    fn watch(&self, confirm: Confirm, tasks: &[Arc<Outgoing>]) {
        let (shared, connection, number) = (self.shared.clone(), self.connection.clone(), self.number);
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.head.id).collect();
        let queue = tasks.first().map_or_else(String::new, |task| names::work_queue(&task.head.kind));
        self.tasks.spawn(async move {
            let reason = match confirm.0.await {
                Ok(Published::Routed) => return confirmed(&shared, &ids),
                Err(Error::Lost(_)) => return,
                Err(error) if error.is_transient() => return again(shared, ids, number, error).await,
                Ok(Published::Unroutable) => {
                    // The work queue was deleted under us. A new link declares it, tells the others, and publishes these again.
                    tracing::warn!(queue, "a work queue was deleted");
                    return connection.close().await;
                }
                Err(error) => error.to_string(),
            };
            ids.into_iter().for_each(|task| {
                shared.fail(task, TaskError::Refused(reason.clone()));
            });
        });
    }
}

/// Publishes again what the broker did not take, in a moment. Meanwhile what it has taken goes on.
async fn again(shared: Arc<Shared>, tasks: Vec<TaskId>, link: u64, why: Error) {
    tracing::warn!(error = %why, tasks = tasks.len(), "tasks are published again in a moment");
    tokio::time::sleep(AGAIN).await;
    shared.pending().unclaim(&tasks, link);
    for task in tasks {
        // Fails when the boss is at its end, and the task with it.
        let _ = shared.submitted.send(task);
    }
}

fn confirmed(shared: &Shared, tasks: &[TaskId]) {
    let now = monotonic_ns();
    let mut pending = shared.pending();
    for &task in tasks {
        // The first counts: what is published again has begun its way long ago.
        if let Some(caller) = pending.caller(task) {
            caller.confirmed_ns.get_or_insert(now);
        }
    }
}

/// Says what there is to say; what came together in one message.
async fn speak(connection: &dyn Connection, shared: &Shared, words: &mut mpsc::UnboundedReceiver<Word>) -> Error {
    let mut unsaid = Vec::new();
    while words.recv_many(&mut unsaid, WORDS_MAX).await > 0 {
        let mut control = Vec::new();
        let mut said = Vec::new();
        for word in unsaid.drain(..) {
            match word {
                Word::Cancel(task) => {
                    shared.keep_called_off(task);
                    wire::encode_into(&Control { command: Command::Cancel { task } }, &mut control);
                }
                Word::Cancelled(task) => {
                    let cancelled = Cancelled { task, boss: shared.id.clone() };
                    said.push((names::PRESENCE, wire::encode(&cancelled)));
                }
            }
        }
        if !control.is_empty() {
            said.push((names::CONTROL, control));
        }
        for (exchange, head) in said {
            let message = Message { head: head.into(), ..Message::default() };
            if let Err(error) = connection.publish(&Route::exchange(exchange, ""), message).await {
                return error;
            }
        }
    }
    Error::Lost("the boss was dropped".into())
}

async fn take_outcomes(shared: &Shared, outcomes: &mut Consumer) -> Error {
    let mut collector = Collector::default();
    while let Some(Delivery { message, settle, .. }) = outcomes.next().await {
        match collector.accept(message, |task| shared.pending().answer_bytes(task)) {
            Ok(whole) => whole.into_iter().for_each(|(head, payload)| {
                // What nobody waits for is dropped.
                drop(take_outcome(shared, head, payload, Receipt::default()));
            }),
            Err(error) => tracing::error!(%error, "dropped a message from the results queue"),
        }
        collector.keep_only(|task| shared.pending().answer_bytes(task).is_some());
        settle.ack();
    }
    Error::Lost("the results queue ended".into())
}

/// Takes outcomes of kept tasks, and serves their parts, until the connection ends; for ever where none are kept.
async fn attend_kept(connection: &Arc<dyn Connection>, shared: &Arc<Shared>, kept: Option<&mut Queues>) -> Error {
    let (Some(queues), Some(keep)) = (kept, &shared.keep) else { return std::future::pending().await };
    let Queues { outcomes, pulls, waited } = queues;
    race([pin!(take_kept(shared, keep, outcomes, *waited)), pin!(serve_pulls(connection, shared, pulls))]).await
}

async fn take_kept(shared: &Shared, keep: &Keep, outcomes: &mut Consumer, mut waited: u64) -> Error {
    let mut collector = Collector::default();
    let mut held = HeldParts::default();
    let longest = |task| shared.pending().answer_bytes(task).or_else(|| keep.answer_bytes(task));
    if waited == 0 {
        keep.give(Unclaimed::CaughtUp).await;
    }
    loop {
        let next = tokio::time::timeout(PARTS_HELD_FOR, outcomes.next()).await;
        held.let_go_of_old();
        let Ok(next) = next else { continue };
        let Some(Delivery { message, settle, .. }) = next else {
            return Error::Lost("the results queue of kept tasks ended".into());
        };
        let part = wire::is::<Part>(&message.head).then(|| message.head.clone());
        let whole = collector.accept(message, longest).unwrap_or_else(|error| {
            tracing::error!(%error, "dropped a message from the results queue of kept tasks");
            Vec::new()
        });
        if let Some(part) = part {
            held.add(&part, settle, &collector);
        } else {
            let mut settles = held.left(&collector);
            settles.push(settle);
            let message = Unsettled::new(settles, whole.len());
            for (head, payload) in whole {
                take_kept_outcome(shared, keep, head, payload, &message).await;
            }
        }
        collector.keep_only(|task| longest(task).is_some());
        held.left(&collector).into_iter().for_each(Settle::ack);
        if waited == 1 {
            keep.give(Unclaimed::CaughtUp).await;
        }
        waited = waited.saturating_sub(1);
    }
}

/// To the caller of the task; to whoever keeps it, if it is of an earlier boss.
async fn take_kept_outcome(
    shared: &Shared,
    keep: &Keep,
    head: OutcomeHead,
    payload: Result<bytes::Bytes, wire::Error>,
    message: &Arc<Unsettled>,
) {
    let task = head.id;
    let is_pending = shared.pending().get(task).is_some();
    let is_wanted = is_pending || keep.answer_bytes(task).is_some();
    // Of an earlier boss's tasks nobody knows how often they were published.
    let has_copies = !is_pending || shared.pending().has_copies(task);
    let receipt = Receipt::new(message, has_copies.then(|| (task, shared.words.clone())));
    if !is_wanted {
        return receipt.not_written();
    }
    if let Some((answered, receipt)) = take_outcome(shared, head, payload, receipt) {
        let Answered { result, worker, compute_seconds, times, .. } = answered;
        let outcome = Outcome { task, result, worker, compute_seconds, times };
        keep.give(Unclaimed::Outcome(Box::new(outcome), receipt)).await;
    }
}

/// Gives an outcome to the caller of its task; it comes back if there is none.
fn take_outcome(
    shared: &Shared,
    head: OutcomeHead,
    payload: Result<bytes::Bytes, wire::Error>,
    receipt: Receipt,
) -> Option<(Answered, Receipt)> {
    // The worker may have heard of it before this boss did; whoever asked for it waits for an answer.
    let cancelled = head.error == Some(TaskError::Cancelled);
    let result = match (head.error, payload) {
        (Some(error), _) => Err(error),
        (None, Ok(payload)) => Ok(Blob { format: head.format, params: head.params, payload: vec![payload] }),
        (None, Err(error)) => Err(TaskError::Invalid(format!("the answer was damaged on its way: {error}"))),
    };
    let compute_seconds = Duration::from_nanos(head.compute_ns).as_secs_f64();
    let answered =
        Answered { result, worker: Some(head.worker), compute_seconds, ..Answered::failed(TaskError::Shutdown) };
    let Some(caller) = shared.take(head.id) else { return Some((answered, receipt)) };
    let Caller { submitted_ns, confirmed_ns, .. } = caller;
    let answered_ns = monotonic_ns();
    let times = head.times.map(|worker| Times { submitted_ns, confirmed_ns, worker, answered_ns });
    caller.answer(Answered { times, receipt, ..answered });
    if cancelled {
        shared.say(Word::Cancelled(head.id));
    }
    None
}

async fn serve_pulls(connection: &Arc<dyn Connection>, shared: &Arc<Shared>, pulls: &mut Consumer) -> Error {
    let served = Arc::new(Semaphore::new(SERVED));
    while let Some(Delivery { message, .. }) = pulls.next().await {
        let request = wire::decode::<PullRequest>(&message.head);
        let (Ok(request), Some(inbox)) = (request, message.reply_to) else {
            tracing::warn!("dropped a message from the pull queue that is no request");
            continue;
        };
        // The semaphore is never closed.
        let Ok(turn) = served.clone().acquire_owned().await else { continue };
        let (connection, task) = (connection.clone(), shared.pending().get(request.id));
        let serve = async move {
            let served = outgoing::serve(&*connection, &request, &inbox, task.as_deref()).await;
            drop(turn);
            served
        };
        tokio::spawn(serve.map(|served| {
            if let Err(error) = served {
                tracing::debug!(%error, "could not serve parts; the worker will ask again");
            }
        }));
    }
    Error::Lost("the pull queue ended".into())
}
