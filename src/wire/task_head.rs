//! The head of a task: what a worker must know before it takes the payload.

use crate::task::{Format, TaskId};

use super::Record;

/// One task, without its payload. A message on a work queue carries one or more of them; the payloads of those with
/// `pull_from == None` stand in the body one after another, in the order of the heads.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct TaskHead {
    /// The task, the same at every attempt.
    pub id: TaskId,
    /// The kind, as in the queue's name.
    pub kind: String,
    /// How often a worker was lost with it, from 0.
    pub attempt: u32,
    /// The form of the payload, and of the answer.
    pub format: Format,
    /// Milliseconds since 1970-01-01 UTC on the boss's clock after which nobody wants the answer; 0 for never.
    pub deadline_unix_ms: u64,
    /// When the boss published it, by the same clock: a worker learns from it how far that is from its own. 0 if the sender
    /// does not say; its clock is then trusted.
    pub sent_unix_ms: u64,
    /// Floating point operations, estimated.
    pub flops: u64,
    /// Length of the payload.
    pub payload_bytes: u64,
    /// CRC-32 of an inline payload. `None` for a pulled one, whose parts carry their own, and within one process.
    pub checksum: Option<u32>,
    /// `None`: the payload is in the body. `Some(queue)`: ask for it there with a [`super::PullRequest`].
    pub pull_from: Option<String>,
    /// The queue to be told how far the task is, in [`super::Progress`]; `None` for not at all.
    pub progress_to: Option<String>,
    /// The kind's own parameters.
    pub params: Vec<u8>,
}

impl Record for TaskHead {
    const MAGIC: [u8; 4] = *b"RBTT";
    const NAME: &'static str = "task head";
}
