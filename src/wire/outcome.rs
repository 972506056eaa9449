//! The head of an outcome: an answer, or why there is none.

use crate::task::{Format, TaskError, TaskId, WorkerRef, WorkerTimes};

use super::Record;

/// What came of a task. A message on a results queue carries one or more; their payloads stand in the body one after
/// another. The payload of one with `in_parts` came before it, as [`super::Part`]s of the same task and run.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct OutcomeHead {
    /// The task.
    pub id: TaskId,
    /// The execution: a random number that tells two workers apart that both answer the same task.
    pub run: u64,
    /// Who computed it.
    pub worker: WorkerRef,
    /// Nanoseconds the handler ran.
    pub compute_ns: u64,
    /// When it did what with the task; `None` if no handler ran.
    pub times: Option<WorkerTimes>,
    /// `None` for an answer. Else there is no payload in binary, and the error in words in JSON.
    pub error: Option<TaskError>,
    /// The form of the payload.
    pub format: Format,
    /// Length of the payload.
    pub payload_bytes: u64,
    /// CRC-32 of a payload in the body. `None` for one in parts, and within one process.
    pub checksum: Option<u32>,
    /// Whether the payload travelled as parts.
    pub in_parts: bool,
    /// The kind's own answer parameters (for `solve` the certificate).
    pub params: Vec<u8>,
}

impl Record for OutcomeHead {
    const MAGIC: [u8; 4] = *b"RBTO";
    const NAME: &'static str = "outcome head";
}
