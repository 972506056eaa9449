//! Every byte layout of the protocol: task heads, outcomes, parts, pull requests, heartbeats, control messages, progress.
//!
//! Pure: no I/O, no clocks, no queues. A record is a 4-byte magic, a `u16` version and the fields in order, as bincode 2
//! writes them with fixed-width little-endian integers: any language can read it as a plain struct. Strings and byte
//! blocks are a `u64` length and the bytes; an `Option` is a `u8` (0 or 1) and the value; an enum is a `u32` index and its
//! fields. `docs/protocol.md` says the same for people who write a client.
//!
//! Bytes come from outside: decoding never panics and never allocates more than [`RECORD_MAX_BYTES`].

mod heartbeat;
mod outcome;
mod part;
mod progress;
mod task_head;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};

pub use heartbeat::{Cancelled, Command, Control, Heartbeat};
pub use outcome::OutcomeHead;
pub use part::{Gone, PART_BYTES, PART_BYTES_MAX, Part, PullRequest};
pub use progress::{Progress, SHARES_MAX, Share};
pub use task_head::TaskHead;

/// The version of every layout here. A change of any field raises it; a reader refuses others by name.
pub const VERSION: u16 = 4;

/// No record is longer. It also bounds what decoding may allocate.
pub const RECORD_MAX_BYTES: usize = 32 * 1024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<RECORD_MAX_BYTES>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<RECORD_MAX_BYTES>();

/// A layout with a magic of its own, so that a message of one sort is never read as another.
pub trait Record: bincode::Encode + bincode::Decode<()> {
    /// The first four bytes.
    const MAGIC: [u8; 4];
    /// What to call it in an error.
    const NAME: &'static str;
}

/// Bytes that are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// They do not start with the record's magic.
    #[error("no {expected}: the bytes start with {found:02x?}")]
    Magic {
        /// The record asked for.
        expected: &'static str,
        /// The first bytes, up to four.
        found: Vec<u8>,
    },
    /// Written by another version of the program.
    #[error(
        "a {record} of version {found}; this program speaks version {VERSION}: run the same rabbitry on both sides"
    )]
    Version {
        /// The record.
        record: &'static str,
        /// Its version.
        found: u16,
    },
    /// Truncated, too long, or a field that cannot be.
    #[error("malformed {record}: {reason}")]
    Malformed {
        /// The record.
        record: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The payload is not what was sent.
    #[error("checksum mismatch: the head says {expected:08x}, the {bytes} bytes of payload give {found:08x}")]
    Checksum {
        /// As the head says.
        expected: u32,
        /// As computed.
        found: u32,
        /// Of how many bytes.
        bytes: usize,
    },
}

/// Appends a record.
pub fn encode_into<T: Record>(record: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(&T::MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // Writing a struct into memory has no way to fail: the limit holds for reading only.
    if let Err(error) = bincode::encode_into_std_write(record, out, CONFIG.with_no_limit()) {
        unreachable!("encoding a {} into memory: {error}", T::NAME);
    }
}

/// One record as bytes.
pub fn encode<T: Record>(record: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(192);
    encode_into(record, &mut out);
    out
}

/// Reads one record from the front of `bytes` and moves `bytes` past it.
///
/// # Errors
/// [`Error::Magic`], [`Error::Version`] or [`Error::Malformed`]; `bytes` is then where it was.
pub fn decode_front<T: Record>(bytes: &mut &[u8]) -> Result<T, Error> {
    if !is::<T>(bytes) {
        return Err(Error::Magic { expected: T::NAME, found: bytes.iter().copied().take(4).collect() });
    }
    let malformed = |reason: String| Error::Malformed { record: T::NAME, reason };
    let version = bytes.get(4..6).ok_or_else(|| malformed("it ends before its version".into()))?;
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version != VERSION {
        return Err(Error::Version { record: T::NAME, found: version });
    }
    let (record, used) =
        bincode::decode_from_slice(&bytes[6..], CONFIG).map_err(|error| malformed(describe(&error)))?;
    *bytes = &bytes[6 + used..];
    Ok(record)
}

/// Reads a record that is alone in `bytes`.
///
/// # Errors
/// As [`decode_front`], and [`Error::Malformed`] if bytes are left over.
pub fn decode<T: Record>(mut bytes: &[u8]) -> Result<T, Error> {
    let record = decode_front(&mut bytes)?;
    if bytes.is_empty() {
        Ok(record)
    } else {
        Err(Error::Malformed { record: T::NAME, reason: format!("{} bytes follow it", bytes.len()) })
    }
}

/// Reads records one after another to the end of `bytes`; at least one.
///
/// # Errors
/// As [`decode_front`], of the first that is wrong.
pub fn decode_all<T: Record>(mut bytes: &[u8]) -> Result<Vec<T>, Error> {
    let mut records = vec![decode_front(&mut bytes)?];
    while !bytes.is_empty() {
        records.push(decode_front(&mut bytes)?);
    }
    Ok(records)
}

/// Whether `bytes` start like this record.
pub fn is<T: Record>(bytes: &[u8]) -> bool {
    bytes.starts_with(&T::MAGIC)
}

/// The CRC-32 (IEEE, as in zlib and `zlib.crc32` of Python) of the pieces in order.
pub fn checksum<B: AsRef<[u8]>>(pieces: &[B]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    pieces.iter().for_each(|piece| crc.update(piece.as_ref()));
    crc.finalize()
}

/// Compares a payload with the checksum in its head.
///
/// # Errors
/// [`Error::Checksum`]. Without an expectation there is nothing to fail.
pub fn verify(expected: Option<u32>, payload: &[u8]) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    let found = checksum(&[payload]);
    if found == expected { Ok(()) } else { Err(Error::Checksum { expected, found, bytes: payload.len() }) }
}

fn describe(error: &bincode::error::DecodeError) -> String {
    use bincode::error::DecodeError;
    match error {
        DecodeError::UnexpectedEnd { additional } => format!("it ends early, {additional} more bytes are needed"),
        DecodeError::LimitExceeded => format!("it is longer than {RECORD_MAX_BYTES} bytes"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
