//! The tasks that the bridge knows, from their submission until nobody wants to know of them any more.
//!
//! An *attached* task lives as long as the request that waits for it. A *detached* one is in the spool before its id is
//! given away: it survives a restart, and waits on disk, not in memory, until the pool has room for it.
//!
//! The answers of detached tasks are kept by the broker until they are in the spool ([`crate::boss::Keep`]), also while there is
//! no bridge.
//!
//! Invariants: a task has one outcome; what was answered with 202 is in the spool until its result was read, has expired
//! or was deleted.

mod detached;
mod entry;
mod table;
mod unclaimed;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::{Budget, Reservation};
use super::form::Submission;
use super::metrics::Metrics;
use super::problem::Problem;
use super::spool::Spool;
use crate::boss::{Boss, Handle, RawTicket, Submit};
use crate::task::{Blob, TaskError, TaskId};
pub(super) use entry::{Answer, Ended, Entry, Phase};
use entry::{Birth, Kept, deadline};
use table::Table;

/// How long results are kept.
#[derive(Clone, Copy)]
pub(super) struct KeepFor {
    /// One that nobody reads.
    pub unread: Duration,
    /// One that was read, for a client whose connection broke in the middle.
    pub read: Duration,
}

/// All of them.
pub(super) struct Tasks {
    boss: Arc<Boss>,
    spool: Spool,
    budget: Budget,
    metrics: Metrics,
    keep_for: KeepFor,
    table: Mutex<Table>,
    /// Something waits to be sent, or waits no longer.
    waiting: Notify,
    /// Those that wait for an outcome, and put it where it belongs.
    attending: TaskTracker,
    /// What the broker kept from an earlier bridge is read.
    caught_up: CancellationToken,
    /// The bridge is going down: tasks that end for that reason go on after the next start.
    stop: CancellationToken,
}

/// What [`Tasks::keep`] came to.
pub(super) enum Keep {
    /// It is in the spool.
    Kept,
    /// It had ended before it was.
    Ended(Arc<Ended>),
}

impl Tasks {
    pub(super) fn new(
        boss: Arc<Boss>,
        spool: Spool,
        budget: Budget,
        metrics: Metrics,
        keep_for: KeepFor,
        stop: CancellationToken,
    ) -> Self {
        Tasks {
            boss,
            spool,
            budget,
            metrics,
            keep_for,
            table: Mutex::default(),
            waiting: Notify::new(),
            attending: TaskTracker::new(),
            caught_up: CancellationToken::new(),
            stop,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Its methods leave it whole: a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a task to the pool whose client waits for it.
    pub(super) async fn attach(self: &Arc<Self>, task: Submission) -> Arc<Entry> {
        let Submission { kind, encoded, wishes, reservation } = task;
        let id = TaskId::random();
        let deadline = wishes.deadline.and_then(deadline);
        let birth = Birth { priority: wishes.priority, deadline, ..Birth::new(id, kind, &encoded) };
        let how = Submit { format: encoded.blob.format, deadline: wishes.deadline, priority: wishes.priority };
        let room = self.boss.reserve(encoded.blob.payload_bytes(), encoded.answer_bytes).await;
        let ticket = room.submit_encoded(id, &kind.kind(), encoded.clone(), how);
        let entry = self.table().enter(birth, Phase::Sent(ticket.handle()), Kept::Not(Some(encoded)));
        self.metrics.submitted(&kind.kind());
        self.attending.spawn(self.clone().attend(entry.clone(), ticket, reservation));
        entry
    }

    /// Waits for the outcome of a task that was sent, and puts it where it belongs.
    async fn attend(self: Arc<Self>, entry: Arc<Entry>, ticket: RawTicket, reservation: Arc<Reservation>) {
        let (outcome, receipt) = ticket.received().await;
        if !entry.is_kept() {
            let answer = outcome.result.clone().map(|blob| {
                reservation.shrink_to(blob.payload_bytes());
                Answer::Here(blob, reservation.clone())
            });
            if entry.end_unless_kept(Ended::made(&outcome, answer)) {
                receipt.not_written();
                return self.metrics.ended(&entry);
            }
        }
        // Of the bridge or its broker, not of the task: it goes on after the next start.
        let refused = self.boss.refusal().is_some();
        let goes_on = match &outcome.result {
            Err(TaskError::Shutdown) => refused || self.stop.is_cancelled(),
            Err(TaskError::Refused(_)) => refused && outcome.worker.is_none(),
            _ => false,
        };
        if !goes_on {
            self.finish(&entry, outcome, reservation, receipt).await;
        }
    }

    /// Waits until every outcome that has come is where it belongs. The boss is closed: all have come.
    pub(super) async fn settled(&self) {
        self.attending.close();
        self.attending.wait().await;
    }

    /// The task of this id.
    pub(super) fn find(&self, id: TaskId) -> Option<Arc<Entry>> {
        self.table().find(id)
    }

    /// Tasks, the newest first, below this number.
    pub(super) fn recent(&self, before: Option<u64>, limit: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        self.table().recent(before, limit, wanted)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.table().len()
    }

    /// How many detached ones wait in the spool.
    pub(super) fn waiting(&self) -> usize {
        self.table().waiting()
    }

    /// Bytes in the spool.
    pub(super) fn spool_bytes(&self) -> u64 {
        self.spool.bytes()
    }

    /// Ends a task; false if it has its outcome already.
    pub(super) async fn cancel(&self, entry: &Entry) -> bool {
        if self.end_waiting(entry, TaskError::Cancelled).await {
            return true;
        }
        match entry.phase() {
            Phase::Sent(handle) => handle.cancel(),
            _ => false,
        }
    }

    /// Its client is gone, and nobody else knows it.
    pub(super) fn abandon(&self, entry: &Entry) {
        if let Phase::Sent(handle) = entry.phase() {
            Handle::cancel(&handle);
        }
        self.table().remove(entry);
    }

    /// The answer of a task that has one, read from where it is, with memory for so many times its length.
    pub(super) async fn answer(
        &self,
        entry: &Entry,
        answer: &Answer,
        times: u64,
    ) -> Result<(Blob, Arc<Reservation>), Problem> {
        let bytes = answer.payload_bytes().saturating_mul(times);
        match answer {
            Answer::Here(blob, reservation) => {
                reservation.grow_to(bytes).map_err(super::body::no_room)?;
                Ok((blob.clone(), reservation.clone()))
            }
            Answer::Spooled { format, params, .. } => {
                let reservation = Arc::new(self.budget.reserve(bytes).map_err(super::body::no_room)?);
                let payload = self.spool.answer(entry.id()).await;
                let payload = payload.map_err(|error| detached::problem(&error).of(entry.id()))?;
                Ok((Blob { format: *format, params: params.clone(), payload: vec![payload] }, reservation))
            }
        }
    }

    /// Nobody wants to know of it any more.
    pub(super) async fn remove(&self, entry: &Entry) {
        self.table().remove(entry);
        if entry.is_kept()
            && let Err(error) = self.spool.remove(entry.id()).await
        {
            tracing::warn!(%error, task = %entry.id(), "a task is still in the spool");
        }
    }
}
