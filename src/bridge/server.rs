//! Connections: accepted within bounds, in TLS or not, each with its limits in time and size, and ended in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::arrival::Arrival;
use super::patient::Patient;

/// Headers of a request, at most.
const HEADERS_MAX: usize = 64;

/// Bytes of head and of what is read ahead of a body. Smaller reads are more calls; what larger ones bring may have left
/// the processor's cache when it is copied.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// Bytes of head over HTTP/2.
const HEAD_BYTES: u32 = 32 << 10;

/// What clients may send ahead over HTTP/2, per request.
const WINDOW_BYTES: u32 = 1 << 20;

/// Requests at a time on one connection of HTTP/2.
const STREAMS_MAX: u32 = 64;

/// What is not done so long after the stop is cut off.
const GOODBYE: Duration = Duration::from_secs(10);

/// The system may be out of something for a moment: descriptors, as a rule.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The peer's address, in the extensions of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

/// What connections may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// At a time.
    pub connections_max: usize,
    /// A client has so long for its handshake, for the head of a request and between the pieces of its body; a connection
    /// without a request lives no longer.
    pub patience: Duration,
    /// The longest body.
    pub max_body_bytes: u64,
}

/// Serves until `stop`, then until the connections have ended.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(bounds.connections_max));
    let graceful = GracefulShutdown::new();
    let builder = builder(bounds.patience);
    let (running, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        // Beyond the bound the system keeps them waiting.
        let next = async {
            // The semaphore is never closed.
            let turn = connections.clone().acquire_owned().await.ok();
            (listener.accept().await, turn)
        };
        let Some((accepted, turn)) = stop.run_until_cancelled(next).await else { break };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection { stream, peer, app: app.clone(), builder: builder.clone(), bounds, turn };
                let run = connection.run(tls.clone(), graceful.watcher());
                running.spawn(cut.clone().run_until_cancelled_owned(run));
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(GOODBYE, graceful.shutdown()).await.is_err() {
        tracing::warn!("cut off connections that did not end in {GOODBYE:?}");
    }
    cut.cancel();
    running.close();
    running.wait().await;
}

fn builder(patience: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_AHEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES);
    builder
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    builder: auto::Builder<TokioExecutor>,
    bounds: Bounds,
    /// Given back at its end.
    turn: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run(self, tls: Option<TlsAcceptor>, watcher: Watcher) {
        let Connection { stream, peer, app, builder, bounds, turn } = self;
        // Answers are written whole: there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        match tls {
            None => speak(stream, peer, app, builder, bounds, watcher).await,
            Some(tls) => match tokio::time::timeout(bounds.patience, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak(stream, peer, app, builder, bounds, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            },
        }
        drop(turn);
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    app: Router,
    builder: auto::Builder<TokioExecutor>,
    bounds: Bounds,
    watcher: Watcher,
) {
    let service = app.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        Arrival::of(request, bounds.patience, bounds.max_body_bytes).map(Body::new)
    });
    let service = service.map_err(|never: Infallible| match never {});
    let connection = builder
        .serve_connection(TokioIo::new(Patient::new(stream, bounds.patience)), TowerToHyperService::new(service))
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        // A client that goes away in the middle, mostly.
        tracing::debug!(%peer, error = %error, "a connection ended");
    }
}

/// Room for `connections` sockets beside what the process has open anyway: the system's first offer is 1024.
pub(super) fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = connections as u64 + 256;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "can't raise the number of open files");
    }
}
