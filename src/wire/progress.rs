//! How far running tasks are.

use crate::task::TaskId;

use super::Record;

/// Tasks in one [`Progress`], at most: a record has an upper length.
pub const SHARES_MAX: usize = 512;

/// A worker's word to a boss on all the tasks it computes for it, to the queue that their heads name as `progress_to`.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Progress {
    /// Those that got on since the last report.
    pub tasks: Vec<Share>,
}

/// How far one task is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Share {
    /// The task.
    pub task: TaskId,
    /// What is done of it, in thousandths.
    pub permille: u16,
}

impl Record for Progress {
    const MAGIC: [u8; 4] = *b"RBTS";
    const NAME: &'static str = "progress report";
}
