//! Detached tasks on disk: a folder that is the source of truth for tasks that were accepted (202) and for their outcomes
//! until somebody removes them. A restart of the bridge, or of the machine, loses none of them.
//!
//! Must not touch: time to live, dispatch, HTTP. Whoever uses it decides; the spool knows files.
//!
//! # Files
//!
//! | name             | what it is                                                                               |
//! |------------------|------------------------------------------------------------------------------------------|
//! | `<id>.task`      | a task without an outcome: its record and its payload; `<id>` is 32 hexadecimal digits   |
//! | `<id>.outcome`   | a task with its outcome: both records and the answer's payload; it wins over the `.task` |
//! | `<name>.tmp`     | one being written; those found at a start are removed                                    |
//! | `<name>.damaged` | one that is not what was written, set aside with a warning; not counted, yours to delete |
//! | `boss.id`        | under which name the tasks are submitted, in one line: their answers wait at the broker for it |
//! | `spool.lock`     | locked for as long as a spool is open, with the process id of its owner as text          |
//!
//! A file is, with all numbers little-endian:
//!
//! | offset | bytes | what it is                                                                    |
//! |--------|-------|-------------------------------------------------------------------------------|
//! | 0      | 4     | `RBSP`                                                                        |
//! | 4      | 2     | version of the record's layout, [`record::VERSION`]                           |
//! | 6      | 4     | R, length of the record, at most [`record::RECORD_MAX_BYTES`]                 |
//! | 10     | 4     | CRC-32 (IEEE) of the 10 bytes above and of the record                         |
//! | 14     | R     | [`record::Record`], as bincode 2 writes it with fixed-width integers          |
//! | 14 + R | P     | payload; P = `payload_bytes` of the outcome if there is one, else of the task |
//! | ..     | 4     | CRC-32 of the payload; the file ends here                                     |
//!
//! The first 14 bytes are the same in every version, so a file of another version is told from a damaged one; it is left
//! alone, as are files with other names. The payload's checksum stands at the end because it is computed while writing:
//! a start reads the records only, a payload is checked whenever it is read.
//!
//! # Invariants
//!
//! A `.task` or `.outcome` was whole and synced before it got its name, and its name was synced before the caller heard
//! of it. What one task's files are is decided under that task's lock ([`ledger::Files`]), which travels with the work
//! into the blocking thread: a dropped future never lets go of half-done work. [`Spool::bytes`] counts a file from before
//! its first byte is written until it is gone.

mod error;
mod file;
mod folder;
mod ledger;
mod record;
mod recover;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::task::TaskId;

pub use error::SpoolError;
use file::{Fault, Payload};
use folder::{Folder, Sort};
use ledger::{Draft, Files, Ledger};
pub use record::{AnswerHead, Idempotency, OutcomeRecord, TaskRecord};

/// Files written at a time, and files read or removed at a time: more of either make no disk faster, and small reads
/// need not wait for large writes.
const AT_A_TIME: usize = 4;

/// An open spool. Clones are the same spool; the folder is free again when the last one is gone and its work is done.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
}

/// A task that was in the folder when it was opened.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// What was put.
    pub task: Arc<TaskRecord>,
    /// What was told to [`Spool::finish`], if anything was; the task's payload is gone then.
    pub outcome: Option<OutcomeRecord>,
}

struct Shared {
    folder: Folder,
    ledger: Ledger,
    /// The next task's place in the order of submission.
    sequence: AtomicU64,
    writing: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl Spool {
    /// Takes a folder, made with mode 0700 if it is missing, and reads the records in it; the tasks come in the order of
    /// their submission. `limit_bytes` bounds what [`Spool::put`] accepts; what is there already is kept whatever it is.
    /// Blocks: some 10 us a file.
    ///
    /// # Errors
    /// [`SpoolError::Taken`] if another spool has the folder, or what is wrong with the folder itself. Damaged files are
    /// set aside with a warning and are no error.
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<(Spool, Vec<Found>), SpoolError> {
        let folder = Folder::take(folder)?;
        let recovered = recover::scan(&folder)?;
        let ledger = Ledger::new(limit_bytes);
        let sequence = recovered.iter().map(|task| task.record.sequence.saturating_add(1)).max().unwrap_or(0);
        let found = recovered.into_iter().map(|task| {
            let record = Arc::new(task.record.task);
            ledger.restore(record.clone(), task.record.sequence, task.task_bytes, task.outcome_bytes);
            Found { task: record, outcome: task.record.outcome }
        });
        let found = found.collect();
        let lane = || Arc::new(Semaphore::new(AT_A_TIME));
        let shared = Shared { folder, ledger, sequence: AtomicU64::new(sequence), writing: lane(), reading: lane() };
        Ok((Spool { shared: Arc::new(shared) }, found))
    }

    /// Writes a task. It survives a crash of the machine as soon as this returns; the pieces are written one after another
    /// and each is let go of when it is written. If the future is dropped before it returned, there is no such
    /// task (or, after a crash in that very moment, one that nobody was told of).
    ///
    /// Room for the answer (`answer_bytes`) is set aside with it, so that the limit never stands in the way of
    /// [`Spool::finish`].
    ///
    /// # Errors
    /// [`SpoolError::Full`] before anything is written, [`SpoolError::Exists`] for an id that is there,
    /// [`SpoolError::Length`] and [`SpoolError::Record`] for a record that can't be right, or what the disk says. There is
    /// then no such task, and nothing of it is counted.
    pub async fn put(&self, task: Arc<TaskRecord>, payload: Vec<Bytes>) -> Result<(), SpoolError> {
        check_length(task.id, task.payload_bytes, &payload)?;
        let sequence = self.shared.sequence.fetch_add(1, Relaxed);
        let head = record::encode_task(sequence, &task)?;
        let mut draft = Draft::admit(&self.shared, task, sequence, head)?;
        let unwanted = CancellationToken::new();
        let _guard = unwanted.clone().drop_guard();
        // The draft undoes itself wherever it is dropped: by the job that failed, by the runtime if nobody waits for the
        // job any more, or here.
        let write = move || draft.write(payload, &|| !unwanted.is_cancelled()).map(|()| draft);
        self.shared.blocking(&self.shared.writing, write).await?.keep();
        Ok(())
    }

    /// The payload of a task without an outcome, in one piece, checked.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] if there is no such task or it has its outcome; [`SpoolError::Damaged`] if it is not what
    /// was written: the payload is then lost and its file set aside, but the task is still there to be finished (with an
    /// error) or removed.
    pub async fn payload(&self, id: TaskId) -> Result<Bytes, SpoolError> {
        self.read(id, Sort::Task).await
    }

    /// Writes a task's outcome and its payload (empty for an error), then drops the task's own payload. It survives a
    /// crash of the machine as soon as this returns. Once begun it is carried through, even if the future is dropped. The
    /// limit does not apply: the room was set aside by [`Spool::put`].
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] if there is no such task, [`SpoolError::Exists`] if it has an outcome,
    /// [`SpoolError::Length`] and [`SpoolError::Record`] for an outcome that can't be right, or what the disk says. The
    /// task is then as it was.
    pub async fn finish(&self, id: TaskId, outcome: &OutcomeRecord, payload: Vec<Bytes>) -> Result<(), SpoolError> {
        check_length(id, outcome.payload_bytes, &payload)?;
        let entry = self.shared.ledger.entry(id)?;
        let head = record::encode_outcome(entry.sequence, &entry.task, outcome)?;
        let mut files = entry.lock().await?;
        if files.bytes(Sort::Outcome).is_some() {
            return Err(SpoolError::Exists { id, what: "an outcome" });
        }
        let shared = self.shared.clone();
        let write = move || {
            let counted = shared.ledger.count(file::bytes(&head, &payload));
            shared.folder.write(id, Sort::Outcome, &head, payload, &|| true)?;
            files.placed(&shared.ledger, Sort::Outcome, counted);
            entry.answered();
            if let Err(error) = shared.unlink(id, Sort::Task, &mut files) {
                // It stays counted; the outcome wins over it at the next start, and remove() tries again.
                tracing::warn!(%error, task = %id, "the payload of a finished task is still on disk");
            }
            Ok(())
        };
        self.shared.blocking(&self.shared.writing, write).await
    }

    /// The payload of a task's answer, in one piece, checked.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] if there is no such task or it has no outcome; [`SpoolError::Damaged`] if it is not what
    /// was written: it is then lost, and [`Spool::remove`] is what is left to do.
    pub async fn answer(&self, id: TaskId) -> Result<Bytes, SpoolError> {
        self.read(id, Sort::Outcome).await
    }

    /// Removes a task and what came of it; one that is not there is no error. Once begun it is carried through. Not
    /// synced: after a crash of the machine, what was removed in its last seconds may be there again.
    ///
    /// # Errors
    /// What the disk says. What could not be removed is still there and still counted.
    pub async fn remove(&self, id: TaskId) -> Result<(), SpoolError> {
        let Ok(entry) = self.shared.ledger.entry(id) else { return Ok(()) };
        let Ok(mut files) = entry.lock().await else { return Ok(()) };
        let shared = self.shared.clone();
        let unlink = move || {
            // The task first: an outcome without it is whole, a task without its outcome would be computed again.
            shared.unlink(id, Sort::Task, &mut files)?;
            shared.unlink(id, Sort::Outcome, &mut files)?;
            shared.ledger.forget(id, &mut files);
            Ok(())
        };
        self.shared.blocking(&self.shared.reading, unlink).await
    }

    /// The name that whoever submits the tasks has from start to start: what `read` makes of the one in the folder, or else
    /// `fresh`, whose `text` is there from now on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn owner<N>(
        &self,
        read: impl Fn(&str) -> Option<N>,
        fresh: N,
        text: impl Fn(&N) -> &str,
    ) -> Result<N, SpoolError> {
        let found = self.shared.folder.owner()?;
        if let Some(name) = found.as_deref().and_then(read) {
            return Ok(name);
        }
        if let Some(found) = found {
            tracing::warn!(
                found,
                "what is in the spool's boss.id is no name; answers that wait under another are not read"
            );
        }
        self.shared.folder.set_owner(text(&fresh))?;
        Ok(fresh)
    }

    /// Tells how long the answer may be of a task that waits for one; of others, and once the spool is closed, `None`.
    pub fn awaits(&self) -> impl Fn(TaskId) -> Option<u64> + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move |id| shared.upgrade()?.ledger.awaits(id)
    }

    /// Bytes of all tasks and outcomes, records and payloads, those being written included. The disk adds up to one of
    /// its blocks (4 KiB) to each file.
    pub fn bytes(&self) -> u64 {
        self.shared.ledger.bytes()
    }

    async fn read(&self, id: TaskId, sort: Sort) -> Result<Bytes, SpoolError> {
        let path = self.locate(id, sort).await?;
        let read = move || Ok(Payload::open(&path).and_then(Payload::read_whole));
        let read = self.shared.blocking(&self.shared.reading, read).await?;
        self.sound(id, sort, read).await
    }

    /// Where a file is that ought to be there; waits for work on the task that is under way.
    async fn locate(&self, id: TaskId, sort: Sort) -> Result<PathBuf, SpoolError> {
        let files = self.shared.ledger.entry(id)?.lock().await?;
        match files.bytes(sort) {
            Some(_) => Ok(self.shared.folder.file(id, sort)),
            None => Err(SpoolError::Unknown { id, what: sort.payload() }),
        }
    }

    /// What was read, or why it can't be; a damaged file is set aside. No permit may be held here: whoever holds the task's
    /// lock may wait for one.
    async fn sound<T>(&self, id: TaskId, sort: Sort, read: Result<T, Fault>) -> Result<T, SpoolError> {
        let path = self.shared.folder.file(id, sort);
        let reason = match read {
            Ok(sound) => return Ok(sound),
            // Removed, or finished, after it was located.
            Err(Fault::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SpoolError::Unknown { id, what: sort.payload() });
            }
            Err(Fault::Io(error)) => return Err(SpoolError::io("read", &path, &error)),
            Err(Fault::Damaged(reason)) => reason,
            Err(Fault::Version(found)) => format!("it turned into a file of version {found}"),
        };
        if let Ok(mut files) = self.shared.ledger.entry(id)?.lock().await {
            let (shared, why) = (self.shared.clone(), reason.clone());
            let aside = move || {
                if files.bytes(sort).is_some() && shared.folder.set_aside(&shared.folder.file(id, sort), &why) {
                    files.gone(&shared.ledger, sort);
                }
                Ok(())
            };
            self.shared.blocking(&self.shared.reading, aside).await?;
        }
        Err(SpoolError::Damaged { id, what: sort.payload(), path, reason })
    }
}

impl Shared {
    /// Runs file work on a blocking thread when its lane has room. Once it has begun it runs to its end.
    async fn blocking<T: Send + 'static>(
        &self,
        lane: &Arc<Semaphore>,
        work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        // Lanes are never closed; work is cut short if it panics or the runtime is shut down.
        let permit = lane.clone().acquire_owned().await.map_err(|_| SpoolError::Interrupted)?;
        let work = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        work.await.unwrap_or(Err(SpoolError::Interrupted))
    }

    fn unlink(&self, id: TaskId, sort: Sort, files: &mut OwnedMutexGuard<Files>) -> Result<(), SpoolError> {
        if files.bytes(sort).is_some() {
            self.folder.unlink(id, sort)?;
            files.gone(&self.ledger, sort);
        }
        Ok(())
    }
}

fn check_length(id: TaskId, said: u64, payload: &[Bytes]) -> Result<(), SpoolError> {
    let found = payload.iter().map(|piece| piece.len() as u64).sum();
    if said == found { Ok(()) } else { Err(SpoolError::Length { id, said, found }) }
}

#[cfg(test)]
mod tests;
