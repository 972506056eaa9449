//! Request bodies: bounded in bytes and in memory, and never longer in memory than what has come. Bounds in time are
//! [`Arrival`](super::arrival::Arrival)'s, and what is refused is read to its end there.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt;

use super::arrival::TooSlow;
use super::budget::{Budget, Refused, Reservation};
use super::problem::Problem;

/// A body on its way in, with the memory it may take.
pub(super) struct Incoming {
    body: Body,
    announced: Option<u64>,
    max_bytes: u64,
    read_bytes: u64,
    /// Memory for each byte of body, in eighths.
    eighths: u64,
    reservation: Arc<Reservation>,
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
        if let Some(coding) = headers.get_all(header::CONTENT_ENCODING).iter().find(|coding| *coding != "identity") {
            let detail = format!("the body is sent as {coding:?}; send it as it is: no content coding is read");
            return Err(Problem::unsupported(detail).at("Content-Encoding"));
        }
        // hyper has checked that it is a number, and the only one.
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > max_bytes) {
            return Err(too_long(max_bytes));
        }
        let reservation = budget.reserve(memory_bytes(announced.unwrap_or(0), eighths)).map_err(no_room)?;
        Ok(Incoming { body, announced, max_bytes, read_bytes: 0, eighths, reservation: Arc::new(reservation) })
    }

    /// The next bytes.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(self.read_bytes, error)),
                Some(Ok(frame)) => frame,
            };
            // Trailers say nothing to us.
            let Ok(bytes) = frame.into_data() else { continue };
            self.read_bytes += bytes.len() as u64;
            if self.read_bytes > self.max_bytes {
                return Err(too_long(self.max_bytes));
            }
            self.reservation.grow_to(memory_bytes(self.read_bytes, self.eighths)).map_err(no_room)?;
            return Ok(Some(bytes));
        }
    }

    /// All of it in one piece, and the memory it has.
    pub(super) async fn whole(mut self) -> Result<(Vec<u8>, Arc<Reservation>), Problem> {
        let mut whole = self.buffer();
        while let Some(bytes) = self.chunk().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok((whole, self.reservation))
    }

    /// A buffer for all that was announced and that memory was reserved for: it never moves, and memory nobody touches
    /// costs nothing. What was not announced makes it grow.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut buffer = Vec::new();
        // If there is no memory for it, the vector grows as it likes.
        let _ = buffer.try_reserve_exact(self.announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0));
        buffer
    }

    /// For a reader that wants a stream, and the memory it has.
    pub(super) fn into_stream(self) -> (impl Stream<Item = Result<Bytes, io::Error>> + Send, Arc<Reservation>) {
        let reservation = self.reservation.clone();
        let stream = futures_util::stream::unfold(Some(self), |incoming| async {
            let mut incoming = incoming?;
            match incoming.chunk().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(incoming))),
                Ok(None) => None,
                Err(problem) => Some((Err(io::Error::other(Unread(problem))), None)),
            }
        });
        (stream, reservation)
    }
}

fn memory_bytes(body_bytes: u64, eighths: u64) -> u64 {
    (body_bytes / 8 + 1).saturating_mul(eighths)
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

fn broken(read_bytes: u64, error: axum::Error) -> Problem {
    let error = error.into_inner();
    // Once as we made it, and once as axum hands on what we made.
    let slow = error.downcast_ref::<TooSlow>().or_else(|| error.source()?.downcast_ref());
    match slow {
        Some(slow) => {
            let detail = format!("the body comes too slowly: {slow}; send it again");
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "The body came too slowly", detail)
        }
        None => {
            Problem::bad_request(format!("the body ended after {read_bytes} bytes: {}; send it again", said(&*error)))
        }
    }
}

/// An error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).fold(String::new(), |text, error| {
        let more = error.to_string();
        match text.is_empty() {
            true => more,
            // Some say their cause themselves.
            false if text.contains(&more) => text,
            false => format!("{text}: {more}"),
        }
    })
}
