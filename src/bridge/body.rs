//! Request bodies: bounded in bytes, in memory and in time, and never longer in memory than what has come.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;

use super::budget::{Budget, Refused, Reservation};
use super::problem::Problem;

/// A client may be silent for so long within its body.
const SILENCE: Duration = Duration::from_secs(30);

/// After [`SILENCE`] a body has to come at this rate in the mean: slower ones only hold memory.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// A refused body is still read and thrown away for so long: many clients read no answer before they have sent it all.
const DRAIN: Duration = Duration::from_secs(20);

/// The most that an empty buffer is given before anything has come.
const FIRST_BYTES: usize = 64 << 10;

/// A body on its way in, with the memory it may take.
pub(super) struct Incoming {
    body: Body,
    announced: Option<u64>,
    max_bytes: u64,
    read_bytes: u64,
    /// Memory for each byte of body, in eighths.
    eighths: u64,
    reservation: Arc<Reservation>,
    started: Instant,
}

/// A body that was not to be had: carried through libraries that know only of I/O errors.
#[derive(Debug, thiserror::Error)]
#[error("the body was refused")]
pub(super) struct Unread(pub(super) Problem);

impl Incoming {
    /// Checks what the headers say and reserves memory: `eighths` / 8 for each byte of body.
    pub(super) fn new(
        headers: &HeaderMap,
        body: Body,
        max_bytes: u64,
        budget: &Budget,
        eighths: u64,
    ) -> Result<Self, Problem> {
        let refused = |problem: Problem, body: Body| {
            drain(body, max_bytes);
            problem
        };
        if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            let detail = format!("the body is sent as {coding:?}; send it as it is: no content coding is read");
            return Err(refused(Problem::unsupported(detail).at("Content-Encoding"), body));
        }
        // hyper has checked that it is a number, and the only one.
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > max_bytes) {
            return Err(refused(too_long(max_bytes), body));
        }
        let reservation = budget.reserve(memory_bytes(announced.unwrap_or(0), eighths));
        match reservation {
            Ok(reservation) => Ok(Incoming {
                body,
                announced,
                max_bytes,
                read_bytes: 0,
                eighths,
                reservation: Arc::new(reservation),
                started: Instant::now(),
            }),
            Err(why) => Err(refused(no_room(why), body)),
        }
    }

    /// Bytes that are still to come, as far as the client has said.
    pub(super) fn remaining_bytes(&self) -> Option<u64> {
        Some(self.announced?.saturating_sub(self.read_bytes))
    }

    /// Throws the rest away, and gives the problem back.
    pub(super) fn refuse(self, problem: Problem) -> Problem {
        drain(self.body, self.max_bytes);
        problem
    }

    /// The next bytes.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let next = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = match next.map_err(|_| too_slow("nothing has come for 30 s"))? {
                None => return Ok(None),
                Some(Err(error)) => {
                    let detail = format!("the body ended after {} bytes: {error}; send it again", self.read_bytes);
                    return Err(Problem::bad_request(detail));
                }
                Some(Ok(frame)) => frame,
            };
            // Trailers say nothing to us.
            let Ok(bytes) = frame.into_data() else { continue };
            self.read_bytes += bytes.len() as u64;
            let taken = self.started.elapsed().saturating_sub(SILENCE).as_secs();
            if self.read_bytes / BYTES_PER_SECOND_MIN < taken {
                return Err(too_slow("it comes at less than 16 KiB/s"));
            }
            if self.read_bytes > self.max_bytes {
                return Err(too_long(self.max_bytes));
            }
            self.reservation.grow_to(memory_bytes(self.read_bytes, self.eighths)).map_err(no_room)?;
            return Ok(Some(bytes));
        }
    }

    /// All of it in one piece, and the memory it has.
    pub(super) async fn whole(mut self) -> Result<(Vec<u8>, Arc<Reservation>), Problem> {
        let mut whole = Vec::new();
        loop {
            match self.chunk().await {
                Ok(Some(bytes)) => append(&mut whole, &bytes, self.remaining_bytes()),
                Ok(None) => return Ok((whole, self.reservation)),
                Err(problem) => {
                    drain(self.body, self.max_bytes);
                    return Err(problem);
                }
            }
        }
    }

    /// For a reader that wants a stream, and the memory it has.
    pub(super) fn into_stream(self) -> (impl Stream<Item = Result<Bytes, io::Error>> + Send, Arc<Reservation>) {
        let reservation = self.reservation.clone();
        let stream = futures_util::stream::unfold(Some(self), |incoming| async {
            let mut incoming = incoming?;
            match incoming.chunk().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(incoming))),
                Ok(None) => None,
                Err(problem) => {
                    drain(incoming.body, incoming.max_bytes);
                    Some((Err(io::Error::other(Unread(problem))), None))
                }
            }
        });
        (stream, reservation)
    }
}

/// Appends what has come. The buffer doubles, up to what is still to come, so that most of it is there before it is given.
pub(super) fn append(whole: &mut Vec<u8>, bytes: &[u8], remaining_bytes: Option<u64>) {
    if whole.capacity() - whole.len() < bytes.len() {
        let rest = remaining_bytes.and_then(|rest| usize::try_from(rest).ok()).unwrap_or(usize::MAX);
        let more = whole.len().max(FIRST_BYTES).min(rest.saturating_add(bytes.len())).max(bytes.len());
        whole.reserve_exact(more);
    }
    whole.extend_from_slice(bytes);
}

fn memory_bytes(body_bytes: u64, eighths: u64) -> u64 {
    (body_bytes / 8 + 1).saturating_mul(eighths)
}

/// Reads on in the background and throws away, so that the client gets to read the refusal.
fn drain(mut body: Body, max_bytes: u64) {
    tokio::spawn(tokio::time::timeout(DRAIN, async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
            if read > max_bytes {
                return;
            }
        }
    }));
}

pub(super) fn no_room(why: Refused) -> Problem {
    match why {
        Refused::Now => {
            Problem::busy(2, "the memory of the bridge is taken by other tasks; ask again, or raise --memory")
        }
        Refused::Never { limit_bytes } => Problem::too_large(format!(
            "it takes more than the {limit_bytes} bytes of the bridge's --memory; raise that"
        )),
    }
}

fn too_long(max_bytes: u64) -> Problem {
    Problem::too_large(format!("the body is longer than {max_bytes} bytes; raise --max-body"))
}

fn too_slow(how: &str) -> Problem {
    let detail = format!("the body comes too slowly: {how}; send it again");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "The body came too slowly", detail)
}
