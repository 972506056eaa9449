//! Which tasks there are and how many bytes they take: in memory, and right whatever fails on the disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::Shared;
use super::error::SpoolError;
use super::file;
use super::folder::Sort;
use super::record::TaskRecord;
use crate::task::TaskId;

/// Room kept for an outcome's own record: parameters of at most 1 KiB, names, an error's text.
const OUTCOME_RECORD_BYTES: u64 = 4096;

/// The books. Nothing here waits or touches the disk.
#[derive(Debug)]
pub struct Ledger {
    limit_bytes: u64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    entries: HashMap<TaskId, Arc<Entry>>,
    /// Of the files there are, and of those being written.
    bytes: u64,
    /// Kept for outcomes to come. Records may promise anything, and their sum must not overflow.
    promised: u128,
}

/// One task.
#[derive(Debug)]
pub struct Entry {
    /// What was put.
    pub task: Arc<TaskRecord>,
    /// Its place in the order of submission.
    pub sequence: u64,
    /// It has its outcome.
    answered: AtomicBool,
    files: Arc<tokio::sync::Mutex<Files>>,
}

/// The files of one task. Whoever holds the lock around it, and nobody else, changes them.
#[derive(Debug, Default)]
pub struct Files {
    task: Option<u64>,
    outcome: Option<u64>,
    promise: u64,
    /// The task is in the books no more; somebody waited for the lock meanwhile.
    removed: bool,
}

/// Bytes that are counted until this is dropped, or for good.
#[derive(Debug)]
pub struct Counted<'a> {
    ledger: &'a Ledger,
    bytes: u64,
}

impl Ledger {
    /// Empty books.
    pub fn new(limit_bytes: u64) -> Self {
        Ledger { limit_bytes, books: Mutex::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every change is whole before anything can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the files there are and of those being written.
    pub fn bytes(&self) -> u64 {
        self.books().bytes
    }

    /// Enters a task that was found on disk, with the lengths of its files.
    pub fn restore(&self, task: Arc<TaskRecord>, sequence: u64, task_bytes: Option<u64>, outcome_bytes: Option<u64>) {
        let promise = if outcome_bytes.is_some() { 0 } else { promise(&task, 0) };
        let files = Files { task: task_bytes, outcome: outcome_bytes, promise, removed: false };
        let answered = outcome_bytes.is_some().into();
        let mut books = self.books();
        books.bytes += task_bytes.unwrap_or(0) + outcome_bytes.unwrap_or(0);
        books.promised += u128::from(promise);
        books.entries.insert(task.id, Arc::new(Entry { task, sequence, answered, files: Arc::new(files.into()) }));
    }

    /// How long the answer may be of a task that waits for one.
    pub fn awaits(&self, id: TaskId) -> Option<u64> {
        let books = self.books();
        books.entries.get(&id).filter(|entry| !entry.answered.load(Relaxed)).map(|entry| entry.task.answer_bytes)
    }

    /// A task.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] if there is none of that id.
    pub fn entry(&self, id: TaskId) -> Result<Arc<Entry>, SpoolError> {
        self.books().entries.get(&id).cloned().ok_or(SpoolError::Unknown { id, what: "the record" })
    }

    /// Counts a file that is about to be written, whatever the limit.
    pub fn count(&self, bytes: u64) -> Counted<'_> {
        self.books().bytes += bytes;
        Counted { ledger: self, bytes }
    }

    /// Strikes a task out; its files are gone, or counted no more.
    pub fn forget(&self, id: TaskId, files: &mut Files) {
        let mut books = self.books();
        books.promised -= u128::from(std::mem::take(&mut files.promise));
        files.removed = true;
        books.entries.remove(&id);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.ledger.books().bytes -= self.bytes;
    }
}

impl Entry {
    /// Its outcome is on the disk.
    pub fn answered(&self) {
        self.answered.store(true, Relaxed);
    }

    /// The task's files, when nobody else works on them.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] if the task was removed meanwhile.
    pub async fn lock(&self) -> Result<OwnedMutexGuard<Files>, SpoolError> {
        let files = self.files.clone().lock_owned().await;
        if files.removed { Err(SpoolError::Unknown { id: self.task.id, what: "the record" }) } else { Ok(files) }
    }
}

impl Files {
    /// The length of a file, if it is there.
    pub fn bytes(&self, sort: Sort) -> Option<u64> {
        match sort {
            Sort::Task => self.task,
            Sort::Outcome => self.outcome,
        }
    }

    fn slot(&mut self, sort: Sort) -> &mut Option<u64> {
        match sort {
            Sort::Task => &mut self.task,
            Sort::Outcome => &mut self.outcome,
        }
    }

    /// A file is there; for an outcome, the promise is kept.
    pub fn placed(&mut self, ledger: &Ledger, sort: Sort, mut counted: Counted<'_>) {
        *self.slot(sort) = Some(std::mem::take(&mut counted.bytes));
        if sort == Sort::Outcome {
            ledger.books().promised -= u128::from(std::mem::take(&mut self.promise));
        }
    }

    /// A file is gone.
    pub fn gone(&mut self, ledger: &Ledger, sort: Sort) {
        ledger.books().bytes -= self.slot(sort).take().unwrap_or(0);
    }
}

/// Room to keep for the outcome of a task whose own head has `head_bytes`.
fn promise(task: &TaskRecord, head_bytes: u64) -> u64 {
    task.answer_bytes.saturating_add(head_bytes).saturating_add(OUTCOME_RECORD_BYTES)
}

/// A task that is being put. It holds the task's lock; unless it is kept, dropping it undoes everything.
pub struct Draft {
    shared: Arc<Shared>,
    id: TaskId,
    head: Vec<u8>,
    files: OwnedMutexGuard<Files>,
    kept: bool,
    placed: bool,
}

impl Draft {
    /// Enters a task into the books if there is room for it and its answer.
    ///
    /// # Errors
    /// [`SpoolError::Exists`] or [`SpoolError::Full`].
    pub fn admit(
        shared: &Arc<Shared>,
        task: Arc<TaskRecord>,
        sequence: u64,
        head: Vec<u8>,
    ) -> Result<Self, SpoolError> {
        let (id, head_bytes) = (task.id, head.len() as u64);
        let bytes = file::bytes(&head, &[]).saturating_add(task.payload_bytes);
        let promise = promise(&task, head_bytes);
        let files = Files { task: Some(bytes), outcome: None, promise, removed: false };
        let files = Arc::new(tokio::sync::Mutex::new(files));
        // Nobody else knows it yet, so it is free.
        let lock = files.clone().try_lock_owned().map_err(|_| SpoolError::Interrupted)?;

        let limit_bytes = shared.ledger.limit_bytes;
        let mut books = shared.ledger.books();
        let books = &mut *books;
        let used = u128::from(books.bytes) + books.promised;
        let needed = u128::from(bytes) + u128::from(promise);
        let place = match books.entries.entry(id) {
            Occupied(_) => return Err(SpoolError::Exists { id, what: "a record" }),
            Vacant(place) => place,
        };
        if used + needed > u128::from(limit_bytes) {
            let clamp = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
            return Err(SpoolError::Full { needed_bytes: clamp(needed), used_bytes: clamp(used), limit_bytes });
        }
        place.insert(Arc::new(Entry { task, sequence, answered: AtomicBool::new(false), files }));
        books.bytes += bytes;
        books.promised += u128::from(promise);
        Ok(Draft { shared: shared.clone(), id, head, files: lock, kept: false, placed: false })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the disk says, or [`SpoolError::Interrupted`] if it is no longer `wanted`.
    pub fn write(&mut self, payload: Vec<Bytes>, wanted: &dyn Fn() -> bool) -> Result<(), SpoolError> {
        self.shared.folder.write(self.id, Sort::Task, &self.head, payload, wanted)?;
        self.placed = true;
        Ok(())
    }

    /// The caller knows of the task: it stays.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Mostly on the blocking thread that wrote it. Between its end and the caller's next turn it may be on a thread of
        // the runtime, which one unlink won't hold up for long.
        if self.placed
            && let Err(error) = self.shared.folder.unlink(self.id, Sort::Task)
        {
            tracing::warn!(%error, task = %self.id, "a task nobody waits for is still on disk; it comes back at a restart");
        }
        self.files.gone(&self.shared.ledger, Sort::Task);
        self.shared.ledger.forget(self.id, &mut self.files);
    }
}
