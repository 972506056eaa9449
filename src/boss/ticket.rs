//! The caller's side of a submitted task.

use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::{Answered, Receipt, Shared};
use crate::task::{Blob, Outcome, Task, TaskError, TaskId};

/// A task on its way. Dropped, its outcome is not wanted, but the task goes on; [`Ticket::cancel`] stops it.
pub struct Ticket<T: Task> {
    raw: RawTicket,
    /// As they were sent, to read the answer by.
    params: Vec<u8>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Task> Ticket<T> {
    pub(super) fn new(raw: RawTicket, params: Vec<u8>) -> Self {
        Ticket { raw, params, kind: PhantomData }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.raw.handle.id
    }

    /// To cancel the task, or to see how far it is, while [`Ticket::outcome`] waits.
    pub fn handle(&self) -> Handle {
        self.raw.handle.clone()
    }

    /// As [`Handle::cancel`].
    pub fn cancel(&self) -> bool {
        self.raw.handle.cancel()
    }

    /// As [`Handle::progress`].
    pub fn progress(&self) -> f64 {
        self.raw.handle.progress()
    }

    /// Waits for the one outcome. A boss that was dropped meanwhile gives [`TaskError::Shutdown`].
    pub async fn outcome(self) -> Outcome<T::Answer> {
        let Outcome { task, result, worker, compute_seconds, times } = self.raw.outcome().await;
        let result = result.and_then(|answer| T::decode_answer(&self.params, answer));
        Outcome { task, result, worker, compute_seconds, times }
    }
}

/// A task on its way whose answer the boss does not read. Dropped, its outcome is not wanted, but the task goes on.
pub struct RawTicket {
    handle: Handle,
    answered: oneshot::Receiver<Answered>,
}

impl RawTicket {
    pub(super) fn new(handle: Handle, answered: oneshot::Receiver<Answered>) -> Self {
        RawTicket { handle, answered }
    }

    /// To cancel the task, or to see how far it is, while [`RawTicket::outcome`] waits.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the one outcome; the answer as the worker sent it, to be read with [`Task::decode_answer`].
    pub async fn outcome(self) -> Outcome<Blob> {
        let (outcome, receipt) = self.received().await;
        receipt.not_written();
        outcome
    }

    /// As [`RawTicket::outcome`], of a kept task: the broker has the outcome until the receipt says that it is written.
    pub async fn received(self) -> (Outcome<Blob>, Receipt) {
        let answered = self.answered.await.unwrap_or_else(|_| Answered::failed(TaskError::Shutdown));
        let Answered { result, worker, compute_seconds, times, receipt } = answered;
        (Outcome { task: self.handle.id, result, worker, compute_seconds, times }, receipt)
    }
}

/// A task on its way, without its outcome. Clones are the same task.
#[derive(Clone)]
pub struct Handle {
    id: TaskId,
    /// Weak, so that the end of the boss is the end of its tickets.
    boss: Weak<Shared>,
}

impl Handle {
    pub(super) fn new(id: TaskId, boss: &Arc<Shared>) -> Self {
        Handle { id, boss: Arc::downgrade(boss) }
    }

    /// The task's id.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Ends the task with [`TaskError::Cancelled`], at once for its caller; a worker that computes it stops when its kind
    /// next looks. False if the task has its outcome already.
    pub fn cancel(&self) -> bool {
        self.boss.upgrade().is_some_and(|boss| boss.call_off(self.id, TaskError::Cancelled))
    }

    /// How far the task is, 0 to 1, as its worker said last; 1 once it has its outcome. A task that is computed anew after
    /// a lost connection begins at 0 again. Small tasks say nothing: they stay at 0 until they are done.
    pub fn progress(&self) -> f64 {
        self.boss.upgrade().and_then(|boss| boss.pending().share(self.id)).unwrap_or(1.0)
    }
}
