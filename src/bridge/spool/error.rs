//! What can go wrong with a spool, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::task::TaskId;

/// Why the spool did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another spool has the folder.
    #[error(
        "the spool {} is in use by {owner}: two bridges can't share one; stop the other, or give this one its own folder",
        folder.display()
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// `process 123`, or what is known of it.
        owner: String,
    },
    /// The spool's own limit is reached.
    #[error(
        "the spool has no room: the task and its answer take {needed_bytes} bytes, {used_bytes} of {limit_bytes} are taken \
         (room kept for answers included); try again when results were read or have expired, or raise the spool's limit"
    )]
    Full {
        /// What the task takes, with room for its answer.
        needed_bytes: u64,
        /// What is taken: files, and room kept for answers to come.
        used_bytes: u64,
        /// The limit given to the spool.
        limit_bytes: u64,
    },
    /// The disk is full, or the user's quota of it.
    #[error(
        "the disk is full: can't {doing} {}; make room there, or move the spool's folder to a larger disk",
        path.display()
    )]
    DiskFull {
        /// The verb.
        doing: &'static str,
        /// What was worked on.
        path: PathBuf,
    },
    /// The user of the bridge may not do that, or nobody may.
    #[error(
        "may not {doing} {} ({reason}): the spool's folder must be writable and belong to the user who runs the bridge",
        path.display()
    )]
    Denied {
        /// The verb.
        doing: &'static str,
        /// What was worked on.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Anything else the system says.
    #[error("can't {doing} {}: {reason}; check the spool's folder and its disk", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// What was worked on.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file is not what was written.
    #[error(
        "{what} of task {id} is lost: {} is damaged ({reason}) and was set aside as .damaged; submit the task again, and \
         check the disk",
        path.display()
    )]
    Damaged {
        /// The task.
        id: TaskId,
        /// `the payload` or `the answer`.
        what: &'static str,
        /// The file, before it was set aside.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such thing in the spool.
    #[error("the spool has not got {what} of task {id}: it was not put, was removed, or is not there in this state")]
    Unknown {
        /// The task.
        id: TaskId,
        /// `the record`, `the payload` or `the answer`.
        what: &'static str,
    },
    /// There is one already.
    #[error("task {id} has {what} in the spool already: the first stays; remove the task to write it anew")]
    Exists {
        /// The task.
        id: TaskId,
        /// `a record` or `an outcome`.
        what: &'static str,
    },
    /// The record says another length than the pieces have.
    #[error("the record of task {id} says {said} bytes of payload and the pieces have {found}: make them agree")]
    Length {
        /// The task.
        id: TaskId,
        /// By the record.
        said: u64,
        /// By the pieces.
        found: u64,
    },
    /// A record that is too long to be one.
    #[error("the record of task {id} has {found} bytes, at most {max} it may: shorten its texts and parameters")]
    Record {
        /// The task.
        id: TaskId,
        /// Its length.
        found: usize,
        /// The most there may be.
        max: usize,
    },
    /// The work did not come to its end.
    #[error("work on the spool was cut short: the bridge is stopping, or see its log; try again when it is up")]
    Interrupted,
}

impl SpoolError {
    /// What the system said while `doing` something (a verb) to a path.
    pub fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::DiskFull { doing, path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                SpoolError::Denied { doing, path, reason: error.to_string() }
            }
            _ => SpoolError::Io { doing, path, reason: error.to_string() },
        }
    }
}
