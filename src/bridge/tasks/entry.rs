//! One task: what it is, how far it is, and what came of it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::super::budget::Reservation;
use super::super::kinds::KindForm;
use crate::boss::{Handle, Priority};
use crate::task::{Blob, Encoded, Format, Outcome, TaskError, TaskId, WorkerRef};

/// One task.
pub(in super::super) struct Entry {
    pub birth: Birth,
    /// Its place in the order of submission.
    pub number: u64,
    phase: watch::Sender<Phase>,
    kept: Mutex<Kept>,
    /// It waits no more: its outcome is being written, though it was not sent. Changed under the lock of `phase`.
    claimed: AtomicBool,
    /// An earlier bridge may have sent it.
    pub(super) came_before: bool,
}

/// What is known of a task from the start.
pub(in super::super) struct Birth {
    pub id: TaskId,
    pub kind: &'static dyn KindForm,
    /// By which its answer is read.
    pub params: Vec<u8>,
    pub format: Format,
    pub flops: u64,
    pub payload_bytes: u64,
    pub answer_bytes: u64,
    pub created: Timestamp,
    pub deadline: Option<Timestamp>,
    pub priority: Priority,
    /// By which a repeated submission is known.
    pub key: Option<String>,
}

impl Birth {
    pub(super) fn new(id: TaskId, kind: &'static dyn KindForm, task: &Encoded) -> Self {
        Birth {
            id,
            kind,
            params: task.blob.params.clone(),
            format: task.blob.format,
            flops: task.flops,
            payload_bytes: task.blob.payload_bytes(),
            answer_bytes: task.answer_bytes,
            created: now(),
            deadline: None,
            priority: Priority::default(),
            key: None,
        }
    }
}

/// The time, as exact as the spool keeps it: it is the same after a restart.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// When so much time will have passed; `None` if that is beyond all calendars.
pub(super) fn deadline(in_time: Duration) -> Option<Timestamp> {
    let in_time = Duration::from_millis(u64::try_from(in_time.as_millis()).ok()?);
    now().checked_add(in_time).ok()
}

/// Whether a task is in the spool.
pub(super) enum Kept {
    Yes,
    /// No; the task itself, as long as it has not ended.
    Not(Option<Encoded>),
}

/// How far it is.
#[derive(Clone)]
pub(in super::super) enum Phase {
    /// In the spool; it has not been sent yet.
    Waiting,
    /// With the pool.
    Sent(Handle),
    /// It has its outcome.
    Ended(Arc<Ended>),
}

/// The outcome of a task.
pub(in super::super) struct Ended {
    pub at: Timestamp,
    pub result: Result<Answer, TaskError>,
    pub worker: Option<WorkerRef>,
    pub compute_seconds: f64,
    /// When it was read first.
    pub read: OnceLock<Instant>,
}

impl Ended {
    /// Just now, by nobody.
    pub(super) fn new(result: Result<Answer, TaskError>) -> Self {
        Ended { at: now(), result, worker: None, compute_seconds: 0.0, read: OnceLock::new() }
    }

    /// Just now, by the worker of an outcome.
    pub(super) fn made(outcome: &Outcome<Blob>, answer: Result<Answer, TaskError>) -> Self {
        Ended { worker: outcome.worker.clone(), compute_seconds: outcome.compute_seconds, ..Self::new(answer) }
    }
}

/// Where an answer is.
pub(in super::super) enum Answer {
    /// In memory, with the room that it takes there.
    Here(Blob, Arc<Reservation>),
    /// In the spool.
    Spooled { format: Format, params: Vec<u8>, payload_bytes: u64 },
}

impl Answer {
    /// Its length.
    pub(in super::super) fn payload_bytes(&self) -> u64 {
        match self {
            Answer::Here(blob, _) => blob.payload_bytes(),
            Answer::Spooled { payload_bytes, .. } => *payload_bytes,
        }
    }
}

impl Entry {
    pub(super) fn new(birth: Birth, number: u64, phase: Phase, kept: Kept, came_before: bool) -> Self {
        let (phase, kept) = (watch::Sender::new(phase), Mutex::new(kept));
        Entry { birth, number, phase, kept, claimed: AtomicBool::new(false), came_before }
    }

    pub(in super::super) fn id(&self) -> TaskId {
        self.birth.id
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is in the spool.
    pub(in super::super) fn is_kept(&self) -> bool {
        matches!(*self.kept(), Kept::Yes)
    }

    /// The task itself, if it is neither in the spool nor ended.
    pub(super) fn task(&self) -> Option<Encoded> {
        match &*self.kept() {
            Kept::Yes => None,
            Kept::Not(task) => task.clone(),
        }
    }

    /// It is in the spool now, unless it has ended before.
    pub(super) fn keep(&self) -> Result<(), Arc<Ended>> {
        let mut kept = self.kept();
        if let Phase::Ended(ended) = self.phase() {
            return Err(ended);
        }
        *kept = Kept::Yes;
        Ok(())
    }

    /// What it is doing now.
    pub(in super::super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Its phases from now on.
    pub(in super::super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Waits for its outcome.
    pub(in super::super) async fn ended(&self) -> Arc<Ended> {
        let mut phase = self.phase.subscribe();
        loop {
            if let Phase::Ended(ended) = &*phase.borrow_and_update() {
                return ended.clone();
            }
            // The entry holds the sender.
            let _ = phase.changed().await;
        }
    }

    fn waits(&self, phase: &Phase) -> bool {
        matches!(phase, Phase::Waiting) && !self.claimed.load(Relaxed)
    }

    /// Its outcome is here before it was sent: from now on it is neither sent nor cancelled. False if it waits no more.
    pub(super) fn claim(&self) -> bool {
        let mut claimed = false;
        self.phase.send_if_modified(|phase| {
            claimed = self.waits(phase);
            self.claimed.fetch_or(claimed, Relaxed);
            false
        });
        claimed
    }

    /// Sends it if it still waits: `send` gives it to the pool.
    pub(super) fn sent<T>(&self, send: impl FnOnce() -> (T, Handle)) -> Option<T> {
        let mut sent = None;
        self.phase.send_if_modified(|phase| {
            let waits = self.waits(phase);
            if waits {
                let (ticket, handle) = send();
                (*phase, sent) = (Phase::Sent(handle), Some(ticket));
            }
            waits
        });
        sent
    }

    /// Ends it if it has not ended yet; false if it has.
    pub(super) fn end(&self, ended: Ended) -> bool {
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Ended(_));
            if open {
                *phase = Phase::Ended(Arc::new(ended));
            }
            open
        })
    }

    /// Ends it if it was not sent yet; false if it was.
    pub(super) fn end_waiting(&self, ended: Ended) -> bool {
        self.phase.send_if_modified(|phase| {
            let waits = self.waits(phase);
            if waits {
                *phase = Phase::Ended(Arc::new(ended));
            }
            waits
        })
    }

    /// Ends a task that is not in the spool; false if it is there by now.
    pub(super) fn end_unless_kept(&self, ended: Ended) -> bool {
        let mut kept = self.kept();
        if matches!(*kept, Kept::Yes) {
            return false;
        }
        *kept = Kept::Not(None);
        self.end(ended);
        true
    }
}
