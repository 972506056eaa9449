//! The tasks that the bridge knows, from their submission until nobody wants to know of them any more.
//!
//! An *attached* task lives as long as the request that waits for it. A *detached* one is in the spool before its id is
//! given away, and survives a restart.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::budget::Reservation;
use super::form::Submission;
use super::kinds::KindForm;
use crate::boss::{Boss, Handle, RawTicket, Submit};
use crate::task::{Blob, Encoded, Format, TaskError, TaskId, WorkerRef};

/// One task.
pub(super) struct Entry {
    pub id: TaskId,
    pub kind: &'static dyn KindForm,
    /// By which its answer is read.
    pub params: Vec<u8>,
    pub created: Timestamp,
    /// Its place in the order of submission.
    pub number: u64,
    phase: watch::Sender<Phase>,
}

/// How far it is.
#[derive(Clone)]
pub(super) enum Phase {
    /// In the spool; it has not been sent yet.
    Waiting,
    /// With the pool.
    Sent(Handle),
    /// It has its outcome.
    Ended(Arc<Ended>),
}

/// The outcome of a task.
pub(super) struct Ended {
    pub at: Timestamp,
    pub result: Result<Answer, TaskError>,
    pub worker: Option<WorkerRef>,
    pub compute_seconds: f64,
    /// When it was read first.
    pub read: OnceLock<Instant>,
}

/// Where an answer is.
pub(super) enum Answer {
    /// In memory, with the room that it takes there.
    Here(Blob, Arc<Reservation>),
    /// In the spool.
    Spooled { format: Format, params: Vec<u8>, payload_bytes: u64 },
}

impl Entry {
    /// What it is doing now.
    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits for its outcome.
    pub(super) async fn ended(&self) -> Arc<Ended> {
        let mut phase = self.phase.subscribe();
        loop {
            if let Phase::Ended(ended) = &*phase.borrow_and_update() {
                return ended.clone();
            }
            // The entry holds the sender.
            let _ = phase.changed().await;
        }
    }

    /// Ends it if it has not ended yet; false if it has.
    fn end(&self, ended: Ended) -> bool {
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Ended(_));
            if open {
                *phase = Phase::Ended(Arc::new(ended));
            }
            open
        })
    }
}

/// All of them.
pub(super) struct Tasks {
    boss: Arc<Boss>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<TaskId, Arc<Entry>>,
    /// By their numbers.
    order: BTreeMap<u64, TaskId>,
    last_number: u64,
}

impl Tasks {
    pub(super) fn new(boss: Arc<Boss>) -> Self {
        Tasks { boss, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a task to the pool whose client waits for it.
    pub(super) async fn attach(self: &Arc<Self>, kind: &'static dyn KindForm, task: Submission) -> Arc<Entry> {
        let Submission { encoded, wishes, reservation, .. } = task;
        let id = TaskId::random();
        let params = encoded.blob.params.clone();
        let how = Submit { format: encoded.blob.format, deadline: wishes.deadline, priority: wishes.priority };
        let ticket = self.send(id, kind, encoded, how).await;
        let entry = self.enter(id, kind, params, Timestamp::now(), Phase::Sent(ticket.handle()));
        tokio::spawn(attend(entry.clone(), ticket, reservation));
        entry
    }

    async fn send(&self, id: TaskId, kind: &dyn KindForm, encoded: Encoded, how: Submit) -> RawTicket {
        let room = self.boss.reserve(encoded.blob.payload_bytes(), encoded.answer_bytes).await;
        room.submit_encoded(id, &kind.kind(), encoded, how)
    }

    fn enter(
        &self,
        id: TaskId,
        kind: &'static dyn KindForm,
        params: Vec<u8>,
        created: Timestamp,
        phase: Phase,
    ) -> Arc<Entry> {
        let mut table = self.table();
        table.last_number += 1;
        let number = table.last_number;
        let entry = Arc::new(Entry { id, kind, params, created, number, phase: watch::Sender::new(phase) });
        table.entries.insert(id, entry.clone());
        table.order.insert(number, id);
        entry
    }

    /// The task of this id.
    pub(super) fn find(&self, id: TaskId) -> Option<Arc<Entry>> {
        self.table().entries.get(&id).cloned()
    }

    /// Nobody wants to know of it any more.
    pub(super) fn forget(&self, entry: &Entry) {
        let mut table = self.table();
        table.entries.remove(&entry.id);
        table.order.remove(&entry.number);
    }
}

/// Waits for the outcome of an attached task.
async fn attend(entry: Arc<Entry>, ticket: RawTicket, reservation: Arc<Reservation>) {
    let outcome = ticket.outcome().await;
    let result = outcome.result.map(|blob| {
        reservation.shrink_to(blob.payload_bytes());
        Answer::Here(blob, reservation)
    });
    let (worker, compute_seconds) = (outcome.worker, outcome.compute_seconds);
    entry.end(Ended { at: Timestamp::now(), result, worker, compute_seconds, read: OnceLock::new() });
}
