//! What a lease says, and to whom.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::table::Held;
use crate::task::{Blob, Kind, TaskError, TaskId};
use crate::worker::Claim;

/// An outside worker that asks for a task. It is the same one as long as name, host and pid are.
#[derive(Clone, Debug, Default)]
pub struct Minion {
    /// Who it says it is.
    pub claim: Claim,
    /// The kinds it computes.
    pub kinds: Vec<String>,
}

/// What tells outside workers apart: name, host, pid.
pub(super) type Key = (String, String, u32);

/// 128 random bits that name a lease. Who knows them has the lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(u128);

impl LeaseId {
    pub(super) fn random() -> Self {
        LeaseId(rand::random())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = TaskError;

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, TaskError> {
        match u128::from_str_radix(text, 16) {
            // The parser takes a sign, too.
            Ok(id) if text.len() == 32 && !text.starts_with('+') => Ok(LeaseId(id)),
            _ => Err(TaskError::Invalid(format!("a lease id is 32 hexadecimal digits, not {text:?}"))),
        }
    }
}

/// A task on lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id, new with each lease.
    pub id: LeaseId,
    /// How long until it is over, unless it is renewed.
    pub expires_in: Duration,
    /// The task.
    pub leased: Leased,
}

/// What a lease is for.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task's id, for logs.
    pub task: TaskId,
    /// Attempts at the task that came to no outcome before.
    pub attempt: u32,
    /// Its kind.
    pub kind: Kind,
    /// Parameters and payload. The answer is in the same form.
    pub blob: Blob,
    /// The task is stopped then, on this machine's monotonic clock.
    pub deadline: Option<Instant>,
}

impl Leased {
    pub(super) fn new(held: &Held) -> Self {
        Leased {
            // Every task that came from a queue has one.
            task: held.watch.task().unwrap_or(TaskId(0)),
            attempt: held.watch.attempt(),
            kind: held.kind.clone(),
            blob: held.blob.clone(),
            deadline: held.watch.deadline(),
        }
    }
}

/// The answer to a renewal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// How long until the lease is over, unless it is renewed again; zero if it is.
    pub expires_in: Duration,
    /// Nobody wants the task any more, for this reason ([`TaskError::Cancelled`] or [`TaskError::DeadlineExceeded`]): the
    /// lease is over, and the worker should stop.
    pub stopped: Option<TaskError>,
}
