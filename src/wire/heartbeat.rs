//! Who is there, and what everybody should know.

use crate::task::{TaskId, WorkerRef};

use super::Record;

/// A worker's sign of life on the presence exchange: every 5 s, when asked, and once when it leaves.
#[derive(Clone, PartialEq, Debug, bincode::Encode, bincode::Decode)]
pub struct Heartbeat {
    /// Id and host name.
    pub worker: WorkerRef,
    /// The address it reaches the broker from, or `embedded`.
    pub address: String,
    /// Process id.
    pub pid: u32,
    /// Cores of its machine.
    pub cores: u32,
    /// Slots: how many small tasks it computes at a time.
    pub slots: u32,
    /// Slots in use.
    pub busy: u32,
    /// Kinds it computes.
    pub kinds: Vec<String>,
    /// GFLOP/s of one core, measured at start-up.
    pub gflops: f64,
    /// Version of the program.
    pub version: String,
    /// Tasks answered since it started.
    pub done: u64,
    /// Of these, with an error.
    pub failed: u64,
    /// It takes no more tasks: forget it.
    pub leaving: bool,
}

impl Record for Heartbeat {
    const MAGIC: [u8; 4] = *b"RBTB";
    const NAME: &'static str = "heartbeat";
}

/// A word to all workers and bosses, on the control exchange. Several may stand in one message.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Control {
    /// What to do.
    pub command: Command,
}

/// What a [`Control`] asks for.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub enum Command {
    /// Send a heartbeat now.
    WhoIsThere,
    /// Nobody reads this results queue any more: drop the tasks that would answer there.
    BossGone {
        /// The queue's name.
        reply_to: String,
    },
    /// Nobody wants this task any more: its boss ends it, a worker stops it or does not begin it.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// A work queue was deleted with what was in it: who waits for an answer publishes its tasks again.
    QueueLost {
        /// The queue's name.
        queue: String,
        /// Whoever says so knows that it was there. If not it may only be new, and who has just come to it need do nothing.
        was_there: bool,
    },
    /// The boss has the outcome of this task, and the broker may deliver it once more: a worker stops it, or drops it.
    Answered {
        /// The task.
        task: TaskId,
        /// The results queue that has the outcome.
        reply_to: String,
        /// As in its head. Published again, with a time of its own, it is to be answered again.
        sent_unix_ms: u64,
    },
}

impl Record for Control {
    const MAGIC: [u8; 4] = *b"RBTC";
    const NAME: &'static str = "control message";
}

/// A boss's word on the presence exchange that it has ended a task because somebody else asked for it: the answer to a
/// [`Command::Cancel`].
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Cancelled {
    /// The task.
    pub task: TaskId,
    /// The boss whose task it was.
    pub boss: String,
}

impl Record for Cancelled {
    const MAGIC: [u8; 4] = *b"RBTK";
    const NAME: &'static str = "word of a cancelled task";
}
