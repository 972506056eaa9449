//! Large payloads travel in parts: asked for by a worker (a task), or sent one after another (an answer).

use crate::task::TaskId;

use super::Record;

/// Bytes of body in every part but the last. 4 to 8 MB move fastest through RabbitMQ; a quarter of a megabyte halves the
/// rate, 16 MB stalls it. A little below 32 frames of 128 KiB, because lapin's receive buffer grows by doubling from one
/// frame: the 33rd would make it twice as long.
pub const PART_BYTES: u32 = 4_000_000;

/// The longest part one may ask for: below the 16 MiB that a broker takes by default.
pub const PART_BYTES_MAX: u32 = 12 << 20;

/// One part of a payload; the bytes are the message's body.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Part {
    /// The task.
    pub id: TaskId,
    /// As in the [`PullRequest`] or the [`super::OutcomeHead`] it belongs to. A part of another run is dropped.
    pub run: u64,
    /// From 0; its offset is `index * part_bytes`.
    pub index: u32,
    /// Length of every part but the last.
    pub part_bytes: u32,
    /// Length of the whole payload.
    pub total_bytes: u64,
    /// CRC-32 of the body.
    pub checksum: u32,
}

impl Record for Part {
    const MAGIC: [u8; 4] = *b"RBTP";
    const NAME: &'static str = "part";
}

/// A worker's wish for parts `first .. first + count`, to the boss's pull queue, with the worker's inbox as `reply_to`.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct PullRequest {
    /// The task.
    pub id: TaskId,
    /// Chosen by the worker for this fetch; comes back in each part.
    pub run: u64,
    /// The first part wanted.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// How long they shall be.
    pub part_bytes: u32,
}

impl Record for PullRequest {
    const MAGIC: [u8; 4] = *b"RBTQ";
    const NAME: &'static str = "pull request";
}

/// The boss's answer to a request for a task it no longer waits for: answered, cancelled, or past its deadline.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Gone {
    /// The task.
    pub id: TaskId,
    /// As in the request.
    pub run: u64,
}

impl Record for Gone {
    const MAGIC: [u8; 4] = *b"RBTG";
    const NAME: &'static str = "gone";
}
