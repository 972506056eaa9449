//! Large tasks whose boss is away: they wait at the broker, and hold nothing of a worker's.
//!
//! A pull queue that is there and has no consumer waits for its boss. What would be pulled from it goes to another queue, from
//! which the broker gives it back after [`Options::later`](crate::worker::Options::later). Must not touch: slots, memory, the
//! order of fetches. Invariants: a head waits as it came, with the attempts it had (a loss that its delivery showed has been
//! counted before); it is confirmed there before its delivery is acked.

use std::time::{Duration, Instant};

use super::{Back, Missing, Ran, Runnable, Way};
use crate::broker::{Error, Route};
use crate::task::{Shared, ambient, unix_ms};
use crate::transport;
use crate::transport::fetch::{self, Served};
use crate::transport::incoming::{self, Job};
use crate::wire::TaskHead;

/// What a look has shown is believed for so long: memory may be long in coming.
const LOOK_HOLDS: Duration = Duration::from_secs(1);

/// A head that left its boss so long ago waits no more: a bridge's queues go after a day without a reader, and each look at
/// one is a sign of life to the broker, so that it and its heads would keep each other for ever. A boss that comes back
/// publishes what is unanswered again.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(25 * 3600);

fn is_given_up(head: &TaskHead, now_unix_ms: u64) -> bool {
    let age_ms = u128::from(now_unix_ms.saturating_sub(head.sent_unix_ms));
    // A client may not say when it sent it.
    head.sent_unix_ms != 0 && age_ms > GIVEN_UP_AFTER.as_millis()
}

/// The jobs of a message of which one can't be pulled: those of the same boss wait, the others come again, each alone.
pub(super) fn back(jobs: Vec<Runnable>, queue: &str) -> Vec<Ran> {
    let waits = |job: &Job| job.payload.is_none() && job.head.pull_from.as_deref() == Some(queue);
    let how = |job: &Job| if waits(job) { Back::Later } else { Back::Uncounted };
    jobs.into_iter().map(|Runnable { job, .. }| (how(&job), job)).map(|(how, job)| Ran::Back(job, how)).collect()
}

impl Way<'_> {
    /// Puts the message's one task aside if its boss is away; whether it did.
    pub(super) async fn put_aside_if_away(&self) -> Result<bool, Error> {
        // One that can't be read meets that where it is computed.
        let jobs = incoming::unpack(self.message, self.routing_key).unwrap_or_default();
        let [job] = &jobs[..] else { return Ok(false) };
        if matches!(self.look_at(job).await, Err(Missing::Away(_))) {
            self.put_aside(job).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Looks whether what the jobs need can be had, before anything is reserved for it.
    pub(super) async fn look(&self, jobs: &[Runnable], shared: Option<Shared>) -> Result<(), Missing> {
        if let (Some(shared), Some(first)) = (shared, jobs.first())
            && self.session.worker.shared.has(first.handler.kind().as_str(), shared)
        {
            return Ok(());
        }
        let mut seen = None;
        for Runnable { job, .. } in jobs.iter().filter(|runnable| runnable.job.payload.is_none()) {
            // One boss has sent them all, mostly.
            if seen != Some(&job.head.pull_from) {
                self.look_at(job).await?;
            }
            seen = Some(&job.head.pull_from);
        }
        Ok(())
    }

    /// Looks once more, if the last time was too long ago.
    pub(super) async fn look_again(&self, job: &Job, looked: Instant) -> Result<(), Missing> {
        if ambient::now().duration_since(looked) > LOOK_HOLDS { self.look_at(job).await } else { Ok(()) }
    }

    async fn look_at(&self, job: &Job) -> Result<(), Missing> {
        let locked = &self.session.worker.locked;
        let Some(queue) = job.head.pull_from.as_ref().filter(|queue| !locked.contains(queue)) else { return Ok(()) };
        match fetch::served(&*self.session.connection, queue).await.map_err(Missing::Broker)? {
            Served::Yes => Ok(()),
            Served::Locked => {
                locked.add(queue.clone());
                Ok(())
            }
            Served::No => Err(Missing::Away(queue.clone())),
        }
    }

    /// Puts a job to where it waits, as it came; or drops it, if that was for long enough.
    pub(super) async fn put_aside(&self, job: &Job) -> Result<(), Error> {
        if is_given_up(&job.head, unix_ms()) {
            tracing::warn!(task = %job.head.id, pull_from = job.head.pull_from, "dropped a task of more than a day ago: its boss is away");
            return Ok(());
        }
        let (connection, options) = (&*self.session.connection, &self.session.worker.options);
        let queue = transport::declare_later(connection, self.kind(), options.quorum, options.later).await?;
        tracing::debug!(task = %job.head.id, pull_from = job.head.pull_from, queue, "its boss is away; it waits");
        self.confirmed(&Route::queue(queue), incoming::repack(job, job.head.attempt, self.message)).await
    }
}
