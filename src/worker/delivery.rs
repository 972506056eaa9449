//! The way of one delivery through a worker: unpack, count attempts, plan, reserve, fetch, compute, answer, ack.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::Worker;
use super::compute::catch;
use super::session::Session;
use crate::broker::{Delivery, Error, Message, Published, Route};
use crate::task::{Blob, Handler, MAX_PARAMS, Plan, TaskError, Watch};
use crate::transport::HEADS_MAX_BYTES;
use crate::transport::answer::{self, Return};
use crate::transport::fetch::FetchError;
use crate::transport::incoming::{self, Job};
use crate::transport::names;
use crate::wire::{OutcomeHead, TaskHead};

/// What to do with the delivery in the end.
enum End {
    /// Its outcomes are with the broker, or nobody wants them.
    Ack,
    /// It failed here for no fault of its own: requeue it, which counts as an attempt.
    Retry,
}

/// Brings one delivery to its end. Errors of the connection requeue it, if the broker has not done so already.
pub(super) async fn process(session: Arc<Session>, delivery: Delivery) {
    let Delivery { message, routing_key, redelivered, settle } = delivery;
    let way = Way { session: &session, message: &message, routing_key: &routing_key };
    match way.go(redelivered).await {
        Ok(End::Ack) => settle.ack(),
        Ok(End::Retry) => settle.requeue(),
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

/// A job that can run, with what it takes.
struct Ready {
    head: TaskHead,
    payload: Bytes,
    handler: Arc<dyn Handler>,
}

type Answer = (OutcomeHead, Vec<Bytes>);

struct Way<'a> {
    session: &'a Session,
    message: &'a Message,
    routing_key: &'a str,
}

/// What [`Way::run`] came to.
enum Computed {
    Answers(Vec<Answer>),
    /// The worker drains; nothing was begun.
    Drained,
    /// A payload did not come.
    Stalled,
}

impl Way<'_> {
    async fn go(&self, redelivered: bool) -> Result<End, Error> {
        let Some(reply_to) = self.message.reply_to.clone() else {
            return self.dead_letter("it has no reply_to: nobody would read the answer").await;
        };
        if self.is_gone(&reply_to).await? {
            return Ok(End::Ack);
        }
        let jobs = match incoming::unpack(self.message, self.routing_key) {
            Ok(jobs) => jobs,
            Err(error) => return self.dead_letter(&error.to_string()).await,
        };
        let to = Return {
            reply_to,
            correlation_id: self.message.correlation_id.clone(),
            persistent: self.message.persistent,
        };
        if redelivered { self.try_again(jobs, &to).await } else { self.compute(jobs, &to).await }
    }

    /// Whether nobody reads this results queue any more. The list is a reason to ask, and the broker has the word: a
    /// control message may be forged, and a queue may be declared again.
    async fn is_gone(&self, reply_to: &str) -> Result<bool, Error> {
        let gone = &self.session.worker.gone;
        if !gone.contains(reply_to) {
            return Ok(false);
        }
        match self.session.connection.queue_status(reply_to).await {
            Ok(None) => Ok(true),
            Err(error) if error.is_transient() => Err(error),
            // It is there, or locked by the boss that owns it.
            Ok(Some(_)) | Err(_) => {
                gone.remove(reply_to);
                Ok(false)
            }
        }
    }

    /// A worker was lost with these: one attempt more for each, or the end.
    async fn try_again(&self, jobs: Vec<Job>, to: &Return) -> Result<End, Error> {
        for job in jobs {
            let attempts = job.head.attempt.saturating_add(1);
            if attempts < self.session.worker.options.attempts_max {
                // Where it came from: the kind in the head is a claim from outside.
                let route = Route::exchange(names::WORK, self.kind());
                self.confirmed(&route, incoming::repack(&job, attempts, self.message)).await?;
                continue;
            }
            let error = TaskError::TooManyAttempts { attempts };
            let mut dead = incoming::repack(&job, attempts, self.message);
            dead.headers.push(("rabbitry-reason".into(), error.to_string()));
            dead.persistent = true;
            self.confirmed(&Route::queue(names::DEAD), dead).await?;
            self.answer(to, vec![self.failure(&job.head, error)]).await?;
        }
        Ok(End::Ack)
    }

    async fn compute(&self, jobs: Vec<Job>, to: &Return) -> Result<End, Error> {
        let worker = &*self.session.worker;
        let mut answers = Vec::new();
        let mut runnable = Vec::new();
        let mut needed = Plan { memory_bytes: 0, threads: 1 };
        for job in jobs {
            match plan(worker, &job.head) {
                Ok((handler, plan)) => {
                    // They run one after another; only payloads that are pulled wait for each other in memory.
                    needed.memory_bytes = match job.payload {
                        Some(_) => needed.memory_bytes.max(plan.memory_bytes),
                        None => needed.memory_bytes.saturating_add(plan.memory_bytes),
                    };
                    needed.threads = needed.threads.max(plan.threads);
                    runnable.push((job, handler));
                }
                Err(error) => answers.push(self.failure(&job.head, error)),
            }
        }
        if !runnable.is_empty() {
            match self.run(runnable, needed).await? {
                Computed::Answers(computed) => answers.extend(computed),
                Computed::Stalled => return Ok(End::Retry),
                Computed::Drained => {
                    // Published anew rather than requeued: a worker that leaves in good order is no failed attempt.
                    self.confirmed(&Route::exchange(names::WORK, self.kind()), self.message.clone()).await?;
                    return Ok(End::Ack);
                }
            }
        }
        self.answer(to, answers).await?;
        Ok(End::Ack)
    }

    fn kind(&self) -> &str {
        incoming::kind_of(self.routing_key)
    }

    /// Reserves, fetches and computes.
    async fn run(&self, jobs: Vec<(Job, Arc<dyn Handler>)>, needed: Plan) -> Result<Computed, Error> {
        let worker = &self.session.worker;
        let draining = &self.session.draining;
        let reserve = worker.memory.reserve(needed.memory_bytes);
        let Some(memory) = draining.run_until_cancelled(reserve).await else { return Ok(Computed::Drained) };
        // Each alone fits (it was checked); several pulled by one message that together do not is the way to fail here.
        let memory = match memory {
            Ok(memory) => memory,
            Err(error) => {
                let fail = |(job, _): &(Job, _)| self.failure(&job.head, error.clone());
                return Ok(Computed::Answers(jobs.iter().map(fail).collect()));
            }
        };
        let ahead = if jobs.iter().any(|(job, _)| job.payload.is_none()) {
            let Some(permit) = draining.run_until_cancelled(worker.ahead.acquire()).await else {
                return Ok(Computed::Drained);
            };
            Some(permit)
        } else {
            None
        };
        let ready = match draining.run_until_cancelled(self.fetch(jobs)).await {
            Some(Ok(ready)) => ready,
            Some(Err(FetchError::Broker(error))) => return Err(error),
            Some(Err(error)) => {
                tracing::warn!(%error, "could not fetch a payload");
                return Ok(Computed::Stalled);
            }
            None => return Ok(Computed::Drained),
        };
        let threads = u32::try_from(needed.threads.min(worker.options.slots)).unwrap_or(1);
        let slots = worker.slots.clone().acquire_many_owned(threads);
        let Some(Ok(slots)) = draining.run_until_cancelled(slots).await else {
            return Ok(Computed::Drained);
        };
        drop(ahead);
        let this = worker.clone();
        let computed = worker
            .compute
            .run(threads as usize, move || {
                let answers: Vec<Answer> = ready.into_iter().map(|job| run_one(&this, job, threads as usize)).collect();
                // Free for the next task before this one's answer is on its way.
                drop(slots);
                drop(memory);
                answers
            })
            .await;
        // No compute threads: the process is going down.
        Ok(computed.map_or(Computed::Stalled, Computed::Answers))
    }

    /// Pulls the payloads that are not there yet. A task that its boss has given up is left out.
    async fn fetch(&self, jobs: Vec<(Job, Arc<dyn Handler>)>) -> Result<Vec<Ready>, FetchError> {
        let mut ready = Vec::with_capacity(jobs.len());
        for (Job { head, payload }, handler) in jobs {
            let payload = match payload {
                Some(payload) => payload,
                None => match self.session.inbox.fetch(&head, &self.session.worker.buffers).await {
                    Err(FetchError::Gone) => continue,
                    fetched => fetched?,
                },
            };
            ready.push(Ready { head, payload, handler });
        }
        Ok(ready)
    }

    fn failure(&self, head: &TaskHead, error: TaskError) -> Answer {
        finish(&self.session.worker, head, Err(error), Duration::ZERO)
    }

    async fn answer(&self, to: &Return, answers: Vec<Answer>) -> Result<(), Error> {
        let worker = &self.session.worker;
        worker.done.fetch_add(answers.len() as u64, Relaxed);
        worker.failed.fetch_add(answers.iter().filter(|(head, _)| head.error.is_some()).count() as u64, Relaxed);
        let sent = answer::send(&*self.session.connection, to, answers).await?;
        // RabbitMQ calls a message to a pseudo-queue of direct reply-to unroutable although it has delivered it.
        if sent == Published::Unroutable && !to.reply_to.starts_with("amq.rabbitmq.reply-to") {
            tracing::info!(queue = to.reply_to, "nobody reads these answers any more");
            worker.gone.add(to.reply_to.clone());
        }
        Ok(())
    }

    /// Puts the message aside for a person to look at. Whatever came from outside must not keep it from getting there:
    /// what is too long for a message of ours is left out.
    async fn dead_letter(&self, reason: &str) -> Result<End, Error> {
        tracing::warn!(reason, "dead-lettered a message that can't be computed");
        let mut message = self.message.clone();
        message.headers.retain(|(name, _)| name.starts_with("rabbitry-"));
        message.headers.truncate(8);
        message.head.truncate(HEADS_MAX_BYTES);
        let reason: String = reason.chars().take(1000).collect();
        message.headers.push(("rabbitry-reason".into(), reason));
        message.headers.push(("rabbitry-worker".into(), self.session.worker.identity.id.clone()));
        message.persistent = true;
        match self.confirmed(&Route::queue(names::DEAD), message).await {
            Err(error) if !error.is_transient() => {
                tracing::error!(%error, "dropped a message that can't even be dead-lettered");
                Ok(End::Ack)
            }
            done => done.map(|()| End::Ack),
        }
    }

    async fn confirmed(&self, route: &Route, message: Message) -> Result<(), Error> {
        match self.session.connection.publish(route, message).await?.0.await? {
            Published::Routed => Ok(()),
            Published::Unroutable => Err(Error::Lost(format!("the queue for {:?} was deleted", route.key))),
        }
    }
}

fn plan(worker: &Worker, head: &TaskHead) -> Result<(Arc<dyn Handler>, Plan), TaskError> {
    let handler = worker.registry.find(&head.kind)?;
    if is_late(head) {
        return Err(TaskError::DeadlineExceeded);
    }
    if head.params.len() > MAX_PARAMS {
        return Err(TaskError::Invalid(format!("{} bytes of parameters, {MAX_PARAMS} are allowed", head.params.len())));
    }
    let plan = catch(|| handler.plan(head.format, &head.params, head.payload_bytes, worker.options.threads))?;
    worker.memory.check(plan.memory_bytes)?;
    Ok((handler.clone(), plan))
}

fn is_late(head: &TaskHead) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    head.deadline_unix_ms != 0 && now.as_millis() > u128::from(head.deadline_unix_ms)
}

/// On a compute thread.
fn run_one(worker: &Worker, job: Ready, threads: usize) -> Answer {
    let Ready { head, payload, handler } = job;
    if is_late(&head) {
        return finish(worker, &head, Err(TaskError::DeadlineExceeded), Duration::ZERO);
    }
    let blob = Blob { format: head.format, params: head.params.clone(), payload: vec![payload] };
    let started = Instant::now();
    let result = catch(|| handler.run(blob, threads, &Watch::default()));
    finish(worker, &head, result, started.elapsed())
}

fn finish(worker: &Worker, head: &TaskHead, result: Result<Blob, TaskError>, took: Duration) -> Answer {
    let (blob, error) = match result {
        Ok(blob) => (blob, None),
        Err(error) => (Blob::default(), Some(error)),
    };
    let outcome = OutcomeHead {
        id: head.id,
        run: rand::random(),
        worker: worker.identity.clone(),
        compute_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        error,
        format: head.format,
        // Filled in by whoever sends it.
        payload_bytes: 0,
        checksum: None,
        in_parts: false,
        params: blob.params,
    };
    (outcome, blob.payload)
}
