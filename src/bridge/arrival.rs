//! Request bodies on their way in: bounded in time, and read to their end where nobody wants the rest, because many
//! clients read no answer before they have sent it all.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, header};
use tokio::runtime::Handle;
use tokio::time::Sleep;

/// After its patience is over a body has to come at this rate in the mean: slower ones only hold memory.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// What nobody wants is still read and thrown away for so long.
const DRAIN: Duration = Duration::from_secs(20);

/// A body that comes too slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum TooSlow {
    #[error("nothing has come for {} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("it comes at less than 16 KiB/s")]
    Trickle,
}

/// A body.
pub(super) struct Arrival {
    /// Until it has ended, or failed.
    body: Option<Incoming>,
    patience: Duration,
    /// Runs while the client is silent and somebody waits for it.
    silence: Option<Pin<Box<Sleep>>>,
    started: Instant,
    read_bytes: u64,
    drain_bytes: u64,
    /// The client sends nothing before it is asked to.
    waits_to_be_asked: bool,
}

impl Arrival {
    /// The body of a request, from a client that may be silent for `patience`; `drain_bytes` of it are read if nobody
    /// wants them.
    pub(super) fn of(request: Request<Incoming>, patience: Duration, drain_bytes: u64) -> Request<Self> {
        let expects = request.headers().get(header::EXPECT);
        let waits_to_be_asked = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        request.map(|body| Arrival {
            body: (!body.is_end_stream()).then_some(body),
            patience,
            silence: None,
            started: Instant::now(),
            read_bytes: 0,
            drain_bytes,
            waits_to_be_asked,
        })
    }

    /// A body's next frame, or that it took too long.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        self.waits_to_be_asked = false;
        let Poll::Ready(next) = Pin::new(body).poll_frame(context) else {
            let patience = self.patience;
            let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(silence.as_mut().poll(context));
            return Poll::Ready(Some(Err(axum::Error::new(TooSlow::Silent(patience)))));
        };
        self.silence = None;
        let Some(frame) = next else { return Poll::Ready(None) };
        let frame = frame.map_err(axum::Error::new)?;
        self.read_bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        let seconds = self.started.elapsed().saturating_sub(self.patience).as_secs();
        if self.read_bytes / BYTES_PER_SECOND_MIN < seconds {
            return Poll::Ready(Some(Err(axum::Error::new(TooSlow::Trickle))));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for Arrival {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let next = ready!(self.poll_next(context));
        if !matches!(next, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let (mut read_bytes, drain_bytes) = (self.read_bytes, self.drain_bytes);
        // Who waits to be asked for it reads the answer first.
        let Some(runtime) = Handle::try_current().ok().filter(|_| !self.waits_to_be_asked) else { return };
        runtime.spawn(tokio::time::timeout(DRAIN, async move {
            while let Some(Ok(frame)) = body.frame().await {
                read_bytes += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                if read_bytes > drain_bytes {
                    return;
                }
            }
        }));
    }
}
