//! The way of one delivery through a worker: unpack, count attempts, plan, look, reserve, fetch, compute, answer, ack.

mod away;
mod back;
mod handler;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use self::handler::{finish, plan, run_one};
use super::compute::catch;
use super::presence;
use super::running::Entered;
use super::session::Session;
use super::shared::InUse;
use crate::broker::{Delivery, Error, Message, Published, Route};
use crate::task::{
    ContentHash, Handler, Plan, Prepared, Shared, TaskError, TaskId, Watch, ambient, monotonic_ns, unix_ms,
};
use crate::transport::answer::{self, Return};
use crate::transport::fetch::FetchError;
use crate::transport::incoming::{self, Job};
use crate::transport::{self, dead, names};
use crate::wire::{self, Command, Control, OutcomeHead, TaskHead};

/// The consumer that a delivery came from. Once the broker has ended it, an ack may mean nothing any more: the broker may have
/// given the message to somebody else, or to nobody.
#[derive(Clone, Default)]
pub(super) struct Source {
    ended: CancellationToken,
    let_go: Arc<AtomicBool>,
}

impl Source {
    /// The broker has ended it.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Nobody sees any more whether the broker ends it.
    pub(super) fn let_go(&self) {
        self.let_go.store(true, Relaxed);
    }
}

/// Before what the broker does not take goes back.
const BACK_AFTER: Duration = Duration::from_secs(1);

/// Words in one message, at most: 40 kB with the longest names.
const WORDS_MAX: usize = 128;

/// What to do with the delivery in the end.
enum End {
    /// Its outcomes are with the broker, or nobody wants them.
    Ack,
    /// It comes to nothing here: requeue it, which counts as an attempt.
    Retry,
}

/// Brings one delivery to its end. Errors of the connection requeue it, if the broker has not done so already.
pub(super) async fn process(session: Arc<Session>, delivery: Delivery, source: Source) {
    let Delivery { mut message, routing_key, redelivered, settle } = delivery;
    dead::forget_waits(&mut message.headers);
    let received_ns = monotonic_ns();
    let way = Way { session: &session, source, message: &message, routing_key: &routing_key, received_ns };
    match way.go(redelivered).await {
        Ok(End::Ack) => settle.ack(),
        Ok(End::Retry) => settle.requeue(),
        Err(error @ (Error::Nacked { .. } | Error::Down { .. })) => {
            tracing::warn!(%error, "a task goes back to its queue in a moment");
            // What fills a queue, or takes its node away, does so for longer than a round trip.
            tokio::time::sleep(BACK_AFTER).await;
            way.back(redelivered, settle).await;
        }
        // It would be too long again.
        Err(error @ Error::MessageTooLarge { .. }) => match way.refuse(&error).await {
            Ok(()) => settle.ack(),
            Err(_) => settle.requeue(),
        },
        // Every task would meet this.
        Err(error @ (Error::Forbidden { .. } | Error::Refused { .. })) => {
            settle.requeue();
            session.fail(error);
        }
        // It would fail again, here and elsewhere: what it says comes from outside, and no broker takes it.
        Err(error) if !error.is_transient() => match way.dead_letter(&error.to_string()).await {
            Ok(_) => settle.ack(),
            Err(_) => settle.requeue(),
        },
        Err(error) => {
            tracing::warn!(%error, "a task goes back to its queue");
            settle.requeue();
        }
    }
}

/// Publishes a delivery anew that this worker does not begin: no attempt is counted.
pub(super) async fn put_back(session: Arc<Session>, delivery: Delivery) {
    let Delivery { mut message, routing_key, redelivered, settle } = delivery;
    dead::forget_waits(&mut message.headers);
    let (source, received_ns) = (Source::default(), monotonic_ns());
    let way = Way { session: &session, source, message: &message, routing_key: &routing_key, received_ns };
    way.back(redelivered, settle).await;
}

/// Gives a task that is to be computed with nothing beside it to `taker`, unless its boss is away: it is put aside then, and
/// nothing else has to wait for it.
pub(super) async fn unless_away(session: Arc<Session>, mut delivery: Delivery, taker: oneshot::Sender<Delivery>) {
    dead::forget_waits(&mut delivery.message.headers);
    let aside = {
        let Delivery { message, routing_key, .. } = &delivery;
        let (source, received_ns) = (Source::default(), monotonic_ns());
        Way { session: &session, source, message, routing_key, received_ns }.put_aside_if_away().await
    };
    match aside {
        Ok(true) => delivery.settle.ack(),
        // Whoever meets it next may be more fortunate; the worker may have been told to stop meanwhile.
        Ok(false) | Err(_) => {
            if let Err(untaken) = taker.send(delivery) {
                put_back(session, untaken).await;
            }
        }
    }
}

/// A job that can run here.
struct Runnable {
    job: Job,
    handler: Arc<dyn Handler>,
    entered: Entered,
}

/// A job that runs next.
struct Ready {
    head: TaskHead,
    payload: Bytes,
    shared: Option<InUse>,
    handler: Arc<dyn Handler>,
    entered: Entered,
    received_ns: u64,
    fetched_ns: u64,
}

/// What the jobs of one message take, all of it.
struct Taken {
    /// `None` for a task that its boss has given up.
    payloads: Vec<Option<Bytes>>,
    memory: OwnedSemaphorePermit,
    shared: Option<InUse>,
    slots: OwnedSemaphorePermit,
    fetched_ns: u64,
}

/// Why it could not be had.
enum Missing {
    /// Never here.
    Failed(TaskError),
    /// A payload did not come, for this reason.
    Stalled(String),
    /// Nobody consumes from this pull queue.
    Away(String),
    /// The process is going down.
    Ending,
    /// Their bosses have given them up, all of them.
    Unwanted,
    Broker(Error),
}

/// The outcome of a task, and when that was sent.
struct Answer {
    head: OutcomeHead,
    payload: Vec<Bytes>,
    sent_unix_ms: u64,
}

struct Way<'a> {
    session: &'a Session,
    source: Source,
    message: &'a Message,
    routing_key: &'a str,
    received_ns: u64,
}

/// What a handler came to.
enum Ran {
    Answer(Answer),
    Back(Job, Back),
}

/// How a job goes back to its queue.
enum Back {
    /// Nothing has failed.
    Uncounted,
    /// Nothing has, but its boss is away: not at once.
    Later,
    /// An attempt has, for this reason.
    Counted(String),
}

/// Why a message that was delivered before had no outcome.
const LOST: &str = "a worker, or its connection, was lost with it";

/// What [`Way::run`] came to.
enum Computed {
    /// They are in hand until they are answered: a copy that comes meanwhile waits for that.
    Ran(Vec<Ran>, Vec<Entered>),
    /// The worker drains; nothing was begun.
    Drained,
    /// Its consumer was ended; nothing was begun.
    Ended,
    /// The process is going down.
    Ending,
}

impl Way<'_> {
    async fn go(&self, redelivered: bool) -> Result<End, Error> {
        let Some(to) = self.to() else {
            return self.dead_letter("it has no reply_to: nobody would read the answer").await;
        };
        if presence::is_gone(&*self.session.connection, &self.session.worker, &to.reply_to).await? {
            return Ok(End::Ack);
        }
        let mut jobs = match incoming::unpack(self.message, self.routing_key) {
            Ok(jobs) => jobs,
            Err(error) => return self.dead_letter(&error.to_string()).await,
        };
        let running = &self.session.worker.running;
        for job in jobs.iter().filter(|job| redelivered || job.head.attempt > 0) {
            // It may be in hand here, from a consumer that has ended.
            running.until_left(job.head.id).await;
        }
        // Copies only: who publishes it again with the same id wants to hear again.
        let is_copy = |job: &Job| redelivered || job.head.attempt > 0;
        jobs.retain(|job| !(is_copy(job) && running.is_answered(job.head.id, &to.reply_to, job.head.sent_unix_ms)));
        if redelivered {
            self.hand_back(jobs.into_iter().map(|job| (job, Back::Counted(LOST.to_owned()))).collect(), &to).await
        } else if jobs.len() > 1 && self.session.worker.options.one_by_one {
            self.hand_back(jobs.into_iter().map(|job| (job, Back::Uncounted)).collect(), &to).await
        } else {
            self.compute(jobs, &to).await
        }
    }

    async fn compute(&self, jobs: Vec<Job>, to: &Return) -> Result<End, Error> {
        let worker = &*self.session.worker;
        let mut answers = Vec::new();
        let mut in_hand = Vec::new();
        let mut runnable = Vec::new();
        let mut needed = Plan { memory_bytes: 0, threads: 1, shared: None };
        let mut apart = false;
        let reply_to = Arc::from(to.reply_to.as_str());
        let (unix_ms, now) = (unix_ms(), ambient::now());
        for job in jobs {
            let deadline = worker.clocks.deadline(&reply_to, &job.head, unix_ms, now);
            let entered = worker.running.enter(&job.head, &reply_to, self.session.number, deadline);
            match entered.watch.check().and_then(|()| plan(worker, &job.head)) {
                Ok((handler, plan)) => {
                    // They run one after another; only payloads that are pulled wait for each other in memory.
                    needed.memory_bytes = match job.payload {
                        Some(_) => needed.memory_bytes.max(plan.memory_bytes),
                        None if plan.shared.is_some() => needed.memory_bytes.max(plan.memory_bytes),
                        None => needed.memory_bytes.saturating_add(plan.memory_bytes),
                    };
                    needed.threads = needed.threads.max(plan.threads);
                    let first: Option<&Runnable> = runnable.first();
                    needed.shared = if first.is_none() { plan.shared } else { needed.shared };
                    let other_kind = first.is_some_and(|first| !Arc::ptr_eq(&first.handler, &handler));
                    apart |= needed.shared != plan.shared || (plan.shared.is_some() && other_kind);
                    runnable.push(Runnable { job, handler, entered });
                }
                Err(error) => answers.push(self.failure(&job.head, error)),
            }
        }
        // Each alone fits, or it would have been answered. What waits for one shared payload holds no other.
        if apart || (runnable.len() > 1 && worker.memory.check(needed.memory_bytes).is_err()) {
            self.hand_back(runnable.into_iter().map(|it| (it.job, Back::Uncounted)).collect(), to).await?;
        } else if !runnable.is_empty() {
            match self.run(runnable, needed).await? {
                Computed::Ran(all, entered) => {
                    in_hand = entered;
                    let mut back = Vec::new();
                    for ran in all {
                        match ran {
                            Ran::Answer(answer) => answers.push(answer),
                            Ran::Back(job, how) => back.push((job, how)),
                        }
                    }
                    self.hand_back(back, to).await?;
                }
                Computed::Ended | Computed::Ending => return Ok(End::Retry),
                Computed::Drained => return self.anew().await,
            }
        }
        self.answer(to, answers).await?;
        drop(in_hand);
        Ok(End::Ack)
    }

    /// Answers all of its tasks with why the broker does not take their outcomes. Whoever has one already drops this.
    async fn refuse(&self, error: &Error) -> Result<(), Error> {
        let Some(to) = self.to() else { return Ok(()) };
        // It was read before.
        let jobs = incoming::unpack(self.message, self.routing_key).unwrap_or_default();
        let refused = TaskError::Refused(error.to_string());
        self.answer(&to, jobs.iter().map(|job| self.failure(&job.head, refused.clone())).collect()).await
    }

    /// Where the outcomes go; `None` if nobody would read them.
    fn to(&self) -> Option<Return> {
        Some(Return {
            reply_to: self.message.reply_to.clone()?,
            correlation_id: self.message.correlation_id.clone(),
            persistent: self.message.persistent,
        })
    }

    fn kind(&self) -> &str {
        incoming::kind_of(self.routing_key)
    }

    /// Takes what the jobs need and computes them.
    async fn run(&self, jobs: Vec<Runnable>, needed: Plan) -> Result<Computed, Error> {
        let worker = &self.session.worker;
        let threads = u32::try_from(needed.threads.min(worker.options.slots)).unwrap_or(1);
        let watches: Vec<Watch> = jobs.iter().map(|runnable| runnable.entered.watch.clone()).collect();
        let fail_all = |why: &dyn Fn(&Runnable) -> TaskError| {
            let answers = jobs.iter().map(|job| Ran::Answer(self.failure(&job.job.head, why(job))));
            Ok(Computed::Ran(answers.collect(), Vec::new()))
        };
        let stopped = |job: &Runnable| job.entered.watch.check().err().unwrap_or(TaskError::Cancelled);
        let taken = tokio::select! {
            // First: what a lost session stops is handed back, not answered.
            biased;
            () = self.source.ended.cancelled() => return Ok(Computed::Ended),
            () = self.session.draining.cancelled() => return Ok(Computed::Drained),
            taken = self.take(&jobs, needed, threads) => taken,
            () = worker.running.all_stopped(&watches) => return fail_all(&stopped),
        };
        let Taken { payloads, memory, shared, slots, fetched_ns } = match taken {
            Ok(taken) => taken,
            Err(Missing::Failed(error)) => return fail_all(&|_| error.clone()),
            Err(Missing::Stalled(why)) => {
                let back = jobs.into_iter().map(|runnable| Ran::Back(runnable.job, Back::Counted(why.clone())));
                return Ok(Computed::Ran(back.collect(), Vec::new()));
            }
            Err(Missing::Away(queue)) => return Ok(Computed::Ran(away::back(jobs, &queue), Vec::new())),
            Err(Missing::Ending) => return Ok(Computed::Ending),
            Err(Missing::Unwanted) => return Ok(Computed::Ran(Vec::new(), Vec::new())),
            Err(Missing::Broker(error)) => return Err(error),
        };
        let received_ns = self.received_ns;
        let with_payload = jobs.into_iter().zip(payloads).filter_map(|(runnable, payload)| {
            let Runnable { job, handler, entered } = runnable;
            let (head, payload, shared) = (job.head, payload?, shared.clone());
            Some(Ready { head, payload, shared, handler, entered, received_ns, fetched_ns })
        });
        let (this, ready) = (worker.clone(), with_payload.collect::<Vec<_>>());
        let computed = worker
            .compute
            .run(threads as usize, move || {
                let ran: (Vec<Ran>, Vec<Entered>) =
                    ready.into_iter().map(|job| run_one(&this, job, threads as usize)).unzip();
                // Free for the next task before this one's answer is on its way.
                drop(slots);
                drop(memory);
                ran
            })
            .await;
        // No compute threads: the process is going down.
        Ok(computed.map_or(Computed::Ending, |(ran, entered)| Computed::Ran(ran, entered)))
    }

    /// Reserves, fetches, and waits for slots.
    async fn take(&self, jobs: &[Runnable], needed: Plan, threads: u32) -> Result<Taken, Missing> {
        let worker = &self.session.worker;
        self.look(jobs, needed.shared).await?;
        let looked = ambient::now();
        let (payloads, (memory, shared), ahead) = match (needed.shared, jobs.first()) {
            (Some(shared), Some(first)) => {
                let kind = first.handler.kind();
                let entered = worker.shared.enter(kind.as_str(), shared, needed, &worker.memory).await;
                let (lease, memory) = entered.map_err(Missing::Failed)?;
                let in_use = lease.prepared(self.prepare(jobs, looked, shared, lease.room())).await?;
                let payloads = jobs.iter().map(|runnable| Some(runnable.job.payload.clone().unwrap_or_default()));
                (payloads.collect(), (memory, Some(in_use)), None)
            }
            _ => {
                let memory = worker.memory.reserve(needed.memory_bytes).await.map_err(Missing::Failed)?;
                let pulled = jobs.iter().any(|runnable| runnable.job.payload.is_none());
                // The semaphores are never closed.
                let ahead = if pulled { worker.ahead.acquire().await.ok() } else { None };
                let mut payloads = Vec::with_capacity(jobs.len());
                for runnable in jobs {
                    payloads.push(self.fetch(&runnable.job, looked).await?);
                }
                (payloads, (memory, None), ahead)
            }
        };
        let fetched_ns = monotonic_ns();
        let slots = worker.slots.clone().acquire_many_owned(threads).await.map_err(|_| Missing::Ending)?;
        drop(ahead);
        Ok(Taken { payloads, memory, shared, slots, fetched_ns })
    }

    /// Pulls the payload that these jobs share, by whichever of them is still wanted, and has it prepared.
    async fn prepare(
        &self,
        jobs: &[Runnable],
        looked: Instant,
        shared: Shared,
        room: Arc<OwnedSemaphorePermit>,
    ) -> Result<Prepared, Missing> {
        let worker = &self.session.worker;
        let mut found = None;
        for Runnable { job, handler, .. } in jobs {
            found = self.fetch(job, looked).await?.map(|payload| (payload, handler.clone()));
            if found.is_some() {
                break;
            }
        }
        let (payload, handler) = found.ok_or(Missing::Unwanted)?;
        let slot = worker.slots.clone().acquire_owned().await.map_err(|_| Missing::Ending)?;
        let prepare = move || {
            // It goes on if nobody waits for it any more.
            let _held = (slot, room);
            if ContentHash::of(&payload) != shared.hash {
                return Err(TaskError::Invalid(format!("the payload is not the one of hash {}", shared.hash)));
            }
            catch(|| handler.prepare(payload))
        };
        worker.compute.run(1, prepare).await.map_err(|_| Missing::Ending)?.map_err(Missing::Failed)
    }

    /// A payload, pulled if it is not there yet; `None` of a task that its boss has given up.
    async fn fetch(&self, job: &Job, looked: Instant) -> Result<Option<Bytes>, Missing> {
        if let Some(payload) = &job.payload {
            return Ok(Some(payload.clone()));
        }
        self.look_again(job, looked).await?;
        match self.session.inbox.fetch(&job.head, self.session.worker.memory.buffers()).await {
            Ok(payload) => Ok(Some(payload)),
            Err(FetchError::Gone) => Ok(None),
            Err(FetchError::Away) => Err(Missing::Away(job.head.pull_from.clone().unwrap_or_default())),
            Err(FetchError::Broker(error)) => Err(Missing::Broker(error)),
            Err(error) => {
                tracing::warn!(%error, "could not fetch a payload");
                Err(Missing::Stalled(format!("its payload did not come: {error}")))
            }
        }
    }

    fn failure(&self, head: &TaskHead, error: TaskError) -> Answer {
        finish(&self.session.worker, head, Err(error), None)
    }

    async fn answer(&self, to: &Return, mut answers: Vec<Answer>) -> Result<(), Error> {
        let worker = &self.session.worker;
        if self.session.lost.is_cancelled() {
            // They may have been stopped for that alone, and are redelivered.
            return Err(Error::Lost("the session ended before the answer".into()));
        }
        // What was stopped because of another's answer, or because nobody reads its own, has nothing to say.
        answers.retain(|Answer { head, sent_unix_ms, .. }| {
            let is_stopped = head.error == Some(TaskError::Cancelled);
            !(is_stopped && worker.running.is_answered(head.id, &to.reply_to, *sent_unix_ms))
        });
        worker.done.fetch_add(answers.len() as u64, Relaxed);
        worker.failed.fetch_add(answers.iter().filter(|it| it.head.error.is_some()).count() as u64, Relaxed);
        // The desk sends a dead letter again without a time: of one that never had any nothing may be remembered.
        let is_told = |it: &&Answer| {
            let is_dead = matches!(it.head.error, Some(TaskError::TooManyAttempts { .. }));
            !is_dead || it.sent_unix_ms != 0
        };
        let answered = answers.iter().filter(is_told).map(|it| (it.head.id, it.sent_unix_ms));
        let answered: Vec<(TaskId, u64)> = answered.collect();
        let sent_ns = monotonic_ns();
        answers.iter_mut().filter_map(|it| it.head.times.as_mut()).for_each(|times| times.sent_ns = sent_ns);
        let outcomes = answers.into_iter().map(|it| (it.head, it.payload)).collect();
        let sent = answer::send(&*self.session.connection, to, outcomes).await.inspect_err(|_| {
            // RabbitMQ 4 does not take what meets a queue that is just being deleted: the next delivery asks whether it is.
            worker.there.remove(&to.reply_to);
        })?;
        // RabbitMQ calls a message to a pseudo-queue of direct reply-to unroutable although it has delivered it.
        if sent == Published::Unroutable && !to.reply_to.starts_with("amq.rabbitmq.reply-to") {
            if transport::is_there(&*self.session.connection, &to.reply_to).await? {
                // It was not a moment ago.
                return Err(Error::Nacked { operation: format!("publish to {:?}", to.reply_to) });
            }
            tracing::info!(queue = to.reply_to, "nobody reads these answers any more");
            worker.gone.add(to.reply_to.clone());
            worker.running.stop_for(&to.reply_to);
        }
        // While it drains nobody sees a consumer end.
        let unseen = self.source.let_go.load(Relaxed) || self.session.draining.is_cancelled();
        if sent == Published::Routed && (unseen || self.source.ended.is_cancelled()) {
            self.tell_answered(&answered, &to.reply_to).await;
        }
        Ok(())
    }

    /// Copies of these tasks may be anywhere: whoever meets one need not compute it. They are answered, whether this gets
    /// through or not.
    async fn tell_answered(&self, tasks: &[(TaskId, u64)], reply_to: &str) {
        for tasks in tasks.chunks(WORDS_MAX) {
            let mut head = Vec::new();
            for &(task, sent_unix_ms) in tasks {
                self.session.worker.running.answered(task, reply_to, sent_unix_ms);
                let command = Command::Answered { task, reply_to: reply_to.to_owned(), sent_unix_ms };
                wire::encode_into(&Control { command }, &mut head);
            }
            let message = Message { head: head.into(), ..Message::default() };
            let control = Route::exchange(names::CONTROL, "");
            if let Err(error) = self.session.connection.publish(&control, message).await {
                tracing::debug!(%error, "copies of answered tasks may be computed");
            }
        }
    }
}
