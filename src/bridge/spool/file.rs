//! One file of the spool: writing it, reading its record, reading its payload.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use bytes::Bytes;

use super::record::{self, FRAME_BYTES, Record};

/// Bytes of payload that are summed and written (or read and summed) at a time, while they are in the cache.
const STEP_BYTES: usize = 256 * 1024;

/// Pieces below this are collected before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

const CRC_BYTES: usize = 4;

/// The length of the file that a head and a payload make.
pub fn bytes(head: &[u8], payload: &[Bytes]) -> u64 {
    let payload: u64 = payload.iter().map(|piece| piece.len() as u64).sum();
    payload + (head.len() + CRC_BYTES) as u64
}

/// Writes a whole file and syncs it. Each piece is let go of when it is written.
///
/// # Errors
/// The disk's, or [`io::ErrorKind::Interrupted`] soon after `wanted` turned false.
pub fn write(file: File, head: &[u8], payload: Vec<Bytes>, wanted: &dyn Fn() -> bool) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut crc = crc32fast::Hasher::new();
    out.write_all(head)?;
    for piece in payload {
        for step in piece.chunks(STEP_BYTES) {
            if !wanted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            crc.update(step);
            out.write_all(step)?;
        }
    }
    out.write_all(&crc.finalize().to_le_bytes())?;
    out.into_inner()?.sync_all()
}

/// Why a file can't be used.
#[derive(Debug)]
pub enum Fault {
    /// The system's error.
    Io(io::Error),
    /// It is not what was written, and why.
    Damaged(String),
    /// It is whole, but this version of the program wrote it.
    Version(u16),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // It was long enough when it was looked at.
            io::ErrorKind::UnexpectedEof => Fault::Damaged("it ends early".into()),
            _ => Fault::Io(error),
        }
    }
}

/// Reads a file's record, and compares the length of the whole file with what it says; gives the record, the file's
/// length and the file, which then stands at the payload.
///
/// # Errors
/// Any [`Fault`]. The payload is not looked at.
pub fn open(path: &Path) -> Result<(Record, u64, File), Fault> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut frame = [0; FRAME_BYTES];
    if length < (FRAME_BYTES + CRC_BYTES) as u64 {
        return Err(Fault::Damaged(format!("it has {length} bytes, too few for any")));
    }
    file.read_exact(&mut frame)?;
    let record_bytes = record::record_bytes(&frame).map_err(Fault::Damaged)?;
    let mut head = vec![0; FRAME_BYTES + record_bytes];
    head[..FRAME_BYTES].copy_from_slice(&frame);
    file.read_exact(&mut head[FRAME_BYTES..])?;
    let record = record::decode(&head).map_err(Fault::Damaged)?.map_err(Fault::Version)?;
    let said = record.payload_bytes().checked_add((head.len() + CRC_BYTES) as u64);
    if said != Some(length) {
        let payload = record.payload_bytes();
        return Err(Fault::Damaged(format!("it has {length} bytes, which does not fit a payload of {payload}")));
    }
    Ok((record, length, file))
}

/// A payload being read: its length was compared with the file's, so it may be allocated.
#[derive(Debug)]
pub struct Payload {
    file: File,
    left: u64,
    crc: crc32fast::Hasher,
}

impl Payload {
    /// Of a file.
    ///
    /// # Errors
    /// Any [`Fault`].
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let (record, _, file) = open(path)?;
        Ok(Payload { file, left: record.payload_bytes(), crc: crc32fast::Hasher::new() })
    }

    /// Appends all of it; with the last byte the checksum is checked.
    fn read(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        while self.left > 0 {
            let start = out.len();
            let step = self.left.min(STEP_BYTES as u64);
            if (&mut self.file).take(step).read_to_end(out)? as u64 != step {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.crc.update(&out[start..]);
            self.left -= step;
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), Fault> {
        let mut said = [0; CRC_BYTES];
        self.file.read_exact(&mut said)?;
        let (said, found) = (u32::from_le_bytes(said), self.crc.clone().finalize());
        if said == found {
            Ok(())
        } else {
            Err(Fault::Damaged(format!("its payload has the checksum {found:08x}, not {said:08x}")))
        }
    }

    /// All of it, in one allocation of its length.
    ///
    /// # Errors
    /// [`Fault::Io`] (also if there is not the memory) or [`Fault::Damaged`].
    pub fn read_whole(mut self) -> Result<Bytes, Fault> {
        let bytes = usize::try_from(self.left).map_err(|_| Fault::Io(io::ErrorKind::OutOfMemory.into()))?;
        let mut out = Vec::new();
        out.try_reserve_exact(bytes).map_err(|_| Fault::Io(io::ErrorKind::OutOfMemory.into()))?;
        self.read(&mut out)?;
        Ok(out.into())
    }
}
