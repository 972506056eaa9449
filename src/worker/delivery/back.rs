//! How a delivery goes back to where it came from: as a failed attempt, as none, or to the dead letters.
//!
//! Must not touch: handlers, what else is in hand. Invariant: what goes back is confirmed before its delivery is acked.

use super::{Back, End, Way};
use crate::broker::{Error, Message, Published, Route, Settle};
use crate::task::{TaskError, unix_ms};
use crate::transport::HEADS_MAX_BYTES;
use crate::transport::answer::Return;
use crate::transport::incoming::{self, Job};
use crate::transport::{dead, names};

impl Way<'_> {
    /// Each goes back to its queue alone; with one attempt more and the reason, if that counts, or to its end.
    pub(super) async fn hand_back(&self, jobs: Vec<(Job, Back)>, to: &Return) -> Result<End, Error> {
        if self.source.ended.is_cancelled() {
            // The broker may have delivered them elsewhere: another copy would be one too many.
            return Ok(End::Retry);
        }
        // Where it came from: the kind in the head is a claim from outside.
        let route = Route::exchange(names::WORK, self.kind());
        let worker = self.session.worker.identity.id();
        for (job, back) in jobs {
            let reason = match back {
                Back::Counted(reason) => reason,
                Back::Uncounted => {
                    self.confirmed(&route, incoming::repack(&job, job.head.attempt, self.message)).await?;
                    continue;
                }
                Back::Later => {
                    self.put_aside(&job).await?;
                    continue;
                }
            };
            let attempts = job.head.attempt.saturating_add(1);
            let mut message = incoming::repack(&job, attempts, self.message);
            dead::attempt_failed(&mut message.headers, &reason, worker);
            if attempts < self.session.worker.options.attempts_max {
                self.confirmed(&route, message).await?;
                continue;
            }
            let reason = format!("{attempts} attempts ended without an outcome; the last: {reason}");
            dead::put_aside(&mut message.headers, &reason, worker, self.kind(), unix_ms());
            message.persistent = true;
            self.confirmed(&Route::queue(names::DEAD), message).await?;
            let error = TaskError::TooManyAttempts { attempts };
            // The letter is there: without its word to the boss it must not come back and become another.
            match self.answer(to, vec![self.failure(&job.head, error)]).await {
                Err(error @ Error::Lost(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, task = %job.head.id, "its boss is not told that it is dead-lettered")
                }
                Ok(()) => {}
            }
        }
        Ok(End::Ack)
    }

    /// Published anew rather than requeued: a worker that leaves in good order is no failed attempt.
    pub(super) async fn anew(&self) -> Result<End, Error> {
        self.confirmed(&Route::exchange(names::WORK, self.kind()), self.message.clone()).await?;
        Ok(End::Ack)
    }

    /// Brings a delivery back to its queue, uncounted.
    pub(super) async fn back(&self, redelivered: bool, settle: Settle) {
        // What was delivered before has an attempt to be counted, by whoever takes it next; from a consumer that has ended it may
        // be with somebody else.
        let requeued = redelivered || self.source.ended.is_cancelled();
        if !requeued && self.anew().await.is_ok() { settle.ack() } else { settle.requeue() }
    }

    /// Puts the message aside for a person to look at. Whatever came from outside must not keep it from getting there:
    /// what is too long for a message of ours is left out.
    pub(super) async fn dead_letter(&self, reason: &str) -> Result<End, Error> {
        tracing::warn!(reason, "dead-lettered a message that can't be computed");
        let mut message = self.message.clone();
        dead::keep_ours(&mut message.headers);
        message.head.truncate(HEADS_MAX_BYTES);
        let worker = self.session.worker.identity.id();
        dead::put_aside(&mut message.headers, reason, worker, self.kind(), unix_ms());
        message.persistent = true;
        match self.confirmed(&Route::queue(names::DEAD), message).await {
            Err(error) if !error.is_transient() => {
                tracing::error!(%error, "dropped a message that can't even be dead-lettered");
                Ok(End::Ack)
            }
            done => done.map(|()| End::Ack),
        }
    }

    pub(super) async fn confirmed(&self, route: &Route, message: Message) -> Result<(), Error> {
        match self.session.connection.publish(route, message).await?.0.await? {
            Published::Routed => Ok(()),
            Published::Unroutable => Err(Error::Lost(format!("the queue for {:?} was deleted", route.key))),
        }
    }
}
