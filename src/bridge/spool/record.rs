//! The records of the spool and their bytes: the head of every file. Pure: no I/O.
//!
//! Bytes come from outside (a disk may lie): decoding never panics and never allocates more than [`RECORD_MAX_BYTES`].

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};

use super::error::SpoolError;
use crate::task::{Format, Priority, TaskError, TaskId, WorkerRef};

/// The version of the record's layout. A change of any field raises it.
pub const VERSION: u16 = 1;

/// Every file starts like this.
pub const MAGIC: [u8; 4] = *b"RBSP";

/// Bytes before the record; the same in every version.
pub const FRAME_BYTES: usize = 14;

/// No record is longer. It also bounds what decoding may allocate.
pub const RECORD_MAX_BYTES: usize = 64 * 1024;

/// No task's record is longer: an outcome's record repeats it, and may have 32 KiB of its own from the wire.
pub const TASK_RECORD_MAX_BYTES: usize = 16 * 1024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<RECORD_MAX_BYTES>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<RECORD_MAX_BYTES>();

/// A detached task, without its payload.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct TaskRecord {
    /// The task.
    pub id: TaskId,
    /// Its kind's name.
    pub kind: String,
    /// The form of the payload, and of the answer.
    pub format: Format,
    /// The kind's own parameters.
    pub params: Vec<u8>,
    /// Floating point operations, estimated.
    pub flops: u64,
    /// An upper bound of the answer's payload in bytes; the spool keeps that much room for it.
    pub answer_bytes: u64,
    /// Which tasks go first.
    pub priority: Priority,
    /// Milliseconds since 1970-01-01 UTC after which nobody wants the answer; `None` for never.
    pub deadline_unix_ms: Option<u64>,
    /// Milliseconds since 1970-01-01 UTC when it was submitted.
    pub created_unix_ms: u64,
    /// How a repeated submission is known.
    pub idempotency: Option<Idempotency>,
    /// Length of the payload.
    pub payload_bytes: u64,
}

/// A submission's key, and what it was a key for.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct Idempotency {
    /// As the client gave it.
    pub key: String,
    /// A hash of what was submitted with it.
    pub fingerprint: u64,
}

/// What came of a detached task, without the answer's payload.
#[derive(Clone, PartialEq, Debug, bincode::Encode, bincode::Decode)]
pub struct OutcomeRecord {
    /// Milliseconds since 1970-01-01 UTC when it came.
    pub finished_unix_ms: u64,
    /// The answer, or why there is none.
    pub result: Result<AnswerHead, TaskError>,
    /// Who made it, or `None` if no worker did.
    pub worker: Option<WorkerRef>,
    /// Seconds the handler ran, on the worker's clock.
    pub compute_seconds: f64,
    /// Length of the answer's payload; 0 for an error.
    pub payload_bytes: u64,
}

/// An answer without its payload.
#[derive(Clone, PartialEq, Eq, Debug, bincode::Encode, bincode::Decode)]
pub struct AnswerHead {
    /// The form of the payload.
    pub format: Format,
    /// The kind's own small struct.
    pub params: Vec<u8>,
}

/// The record of a file as it was read.
#[derive(Clone, PartialEq, Debug, bincode::Decode)]
pub struct Record {
    /// The task's place in the order of submission.
    pub sequence: u64,
    /// The task.
    pub task: TaskRecord,
    /// In an `.outcome` only.
    pub outcome: Option<OutcomeRecord>,
}

impl Record {
    /// Length of the payload that follows it in the file.
    pub fn payload_bytes(&self) -> u64 {
        self.outcome.as_ref().map_or(self.task.payload_bytes, |outcome| outcome.payload_bytes)
    }
}

/// The head of a `.task`: frame and record.
///
/// # Errors
/// [`SpoolError::Record`] if it is longer than [`TASK_RECORD_MAX_BYTES`].
pub fn encode_task(sequence: u64, task: &TaskRecord) -> Result<Vec<u8>, SpoolError> {
    encode(sequence, task, None, TASK_RECORD_MAX_BYTES)
}

/// The head of an `.outcome`: frame and record.
///
/// # Errors
/// [`SpoolError::Record`] if it is longer than [`RECORD_MAX_BYTES`].
pub fn encode_outcome(sequence: u64, task: &TaskRecord, outcome: &OutcomeRecord) -> Result<Vec<u8>, SpoolError> {
    encode(sequence, task, Some(outcome), RECORD_MAX_BYTES)
}

fn encode(
    sequence: u64,
    task: &TaskRecord,
    outcome: Option<&OutcomeRecord>,
    max: usize,
) -> Result<Vec<u8>, SpoolError> {
    let mut head = Vec::with_capacity(512);
    head.resize(FRAME_BYTES, 0);
    // Writing a struct into memory has no way to fail: the limit holds for reading only.
    if let Err(error) = bincode::encode_into_std_write((sequence, task, outcome), &mut head, CONFIG.with_no_limit()) {
        unreachable!("encoding a record into memory: {error}");
    }
    let found = head.len() - FRAME_BYTES;
    let length = match u32::try_from(found) {
        Ok(length) if found <= max => length,
        _ => return Err(SpoolError::Record { id: task.id, found, max }),
    };
    head[..4].copy_from_slice(&MAGIC);
    head[4..6].copy_from_slice(&VERSION.to_le_bytes());
    head[6..10].copy_from_slice(&length.to_le_bytes());
    let crc = head_crc(&head);
    head[10..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(head)
}

/// The CRC-32 of a head without its own checksum.
fn head_crc(head: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..10]);
    crc.update(&head[FRAME_BYTES..]);
    crc.finalize()
}

/// The length of the record, by the frame before it.
///
/// # Errors
/// What is wrong with the frame.
pub fn record_bytes(frame: &[u8; FRAME_BYTES]) -> Result<usize, String> {
    if frame[..4] != MAGIC {
        return Err(format!("it starts with {:02x?}, not with {MAGIC:02x?}", &frame[..4]));
    }
    let length = u32::from_le_bytes([frame[6], frame[7], frame[8], frame[9]]) as usize;
    if length > RECORD_MAX_BYTES {
        return Err(format!("it announces a record of {length} bytes, at most {RECORD_MAX_BYTES} there may be"));
    }
    Ok(length)
}

/// The record of a head, or `Err(version)` if another version wrote it.
///
/// # Errors
/// What is wrong with the head.
pub fn decode(head: &[u8]) -> Result<Result<Record, u16>, String> {
    let said = u32::from_le_bytes([head[10], head[11], head[12], head[13]]);
    let found = head_crc(head);
    if said != found {
        return Err(format!("its record has the checksum {found:08x}, not {said:08x}"));
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version != VERSION {
        return Ok(Err(version));
    }
    let record = &head[FRAME_BYTES..];
    match bincode::decode_from_slice(record, CONFIG) {
        Ok((decoded, used)) if used == record.len() => Ok(Ok(decoded)),
        Ok((_, used)) => Err(format!("{} bytes follow its record", record.len() - used)),
        Err(error) => Err(format!("its record can't be read: {error}")),
    }
}
