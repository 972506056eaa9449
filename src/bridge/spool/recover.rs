//! What is in a spool's folder at a start. Nothing found there keeps the bridge from starting: what is no sound file of the
//! spool is removed (half-written), set aside (damaged) or left alone (anybody else's), and said.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::fs::{self, DirEntry};

use super::error::SpoolError;
use super::file::{self, Fault};
use super::folder::{Folder, Name, Sort};
use super::record::Record;
use crate::task::TaskId;

/// A task and the lengths of its files.
#[derive(Debug)]
pub struct Recovered {
    /// Its records: those of the `.outcome` if there is one.
    pub record: Record,
    /// Length of the `.task`.
    pub task_bytes: Option<u64>,
    /// Length of the `.outcome`.
    pub outcome_bytes: Option<u64>,
}

/// The tasks in a folder, in the order of their submission.
///
/// # Errors
/// If the folder itself can't be read.
pub fn scan(folder: &Folder) -> Result<Vec<Recovered>, SpoolError> {
    let failed = |error| SpoolError::io("list the folder", folder.path(), &error);
    let mut tasks: HashMap<TaskId, Recovered> = HashMap::new();
    for entry in fs::read_dir(folder.path()).map_err(failed)? {
        let Some((id, sort, record, bytes)) = look(folder, &entry.map_err(failed)?) else { continue };
        let found = match sort {
            Sort::Task => Recovered { record, task_bytes: Some(bytes), outcome_bytes: None },
            Sort::Outcome => Recovered { record, task_bytes: None, outcome_bytes: Some(bytes) },
        };
        match tasks.entry(id) {
            Vacant(place) => drop(place.insert(found)),
            Occupied(mut other) => {
                let other = other.get_mut();
                other.task_bytes = other.task_bytes.or(found.task_bytes);
                other.outcome_bytes = other.outcome_bytes.or(found.outcome_bytes);
                if sort == Sort::Outcome {
                    other.record = found.record;
                }
            }
        }
    }
    let mut tasks: Vec<Recovered> = tasks.into_values().collect();
    tasks.sort_by_key(|task| (task.record.sequence, task.record.task.id));
    tasks.iter_mut().filter(|task| task.outcome_bytes.is_some()).for_each(|task| drop_payload(folder, task));
    Ok(tasks)
}

/// A crash came between an outcome and the removal of its task's payload.
fn drop_payload(folder: &Folder, task: &mut Recovered) {
    if task.task_bytes.is_some() {
        match folder.unlink(task.record.task.id, Sort::Task) {
            Ok(()) => task.task_bytes = None,
            Err(error) => tracing::warn!(%error, "the payload of a finished task is still on disk"),
        }
    }
}

fn look(folder: &Folder, entry: &DirEntry) -> Option<(TaskId, Sort, Record, u64)> {
    let path = entry.path();
    let file = path.display();
    let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
    let (id, sort) = match entry.file_name().to_str().map_or(Name::Foreign, Name::of) {
        Name::Whole(id, sort) if is_file => (id, sort),
        Name::Partial if is_file => {
            match fs::remove_file(&path) {
                Ok(()) => tracing::info!(%file, "removed a file that was not written to its end"),
                Err(error) => tracing::warn!(%file, %error, "a half-written file can't be removed"),
            }
            return None;
        }
        Name::Ours => return None,
        _ => {
            tracing::warn!(%file, "left alone what is no file of the spool; keep the spool's folder to itself");
            return None;
        }
    };
    match file::open(&path) {
        Ok((record, bytes, _)) if fits(&record, id, sort) => return Some((id, sort, record, bytes)),
        Ok(_) => drop(folder.set_aside(&path, "its record is that of another file")),
        Err(Fault::Damaged(reason)) => drop(folder.set_aside(&path, &reason)),
        Err(Fault::Version(version)) => {
            tracing::warn!(%file, version, "left alone a task of another version of this program; that one can finish it");
        }
        Err(Fault::Io(error)) => {
            tracing::warn!(%file, %error, "left alone a file that can't be read; check its owner and the disk")
        }
    }
    None
}

/// Whether a record belongs under a name.
fn fits(record: &Record, id: TaskId, sort: Sort) -> bool {
    record.task.id == id && record.outcome.is_some() == (sort == Sort::Outcome)
}
