//! HTTP for everybody else: submit tasks, read results, find the live workers, bring workers in other languages.
//!
//! Must not touch: queues and their messages (it holds a [`Boss`], never a broker).

mod answer;
mod api;
mod app;
mod body;
mod budget;
mod form;
mod guard;
mod kinds;
mod problem;
mod server;
mod tasks;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::HeaderValue;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::boss::Boss;
pub use guard::Tokens;

/// How a bridge behaves.
#[derive(Clone)]
pub struct Options {
    /// Bytes of bodies, tasks and answers in memory, in all.
    pub memory_bytes: u64,
    /// The longest body.
    pub max_body_bytes: u64,
    /// Who may speak to it; `None` for everybody.
    pub tokens: Option<Tokens>,
    /// Web pages of these origins may use it from a browser.
    pub cors_origins: Vec<HeaderValue>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections at a time.
    pub connections_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_bytes: 1 << 30,
            max_body_bytes: 1 << 30,
            tokens: None,
            cors_origins: Vec::new(),
            tls: None,
            connections_max: 8192,
        }
    }
}

/// A bridge that listens, and does not answer yet.
pub struct Bridge {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    options: Options,
}

impl Bridge {
    /// Takes the address, and reads the certificate.
    ///
    /// # Errors
    /// What is wrong with the address or the files, in words.
    pub async fn bind(listen: &str, options: Options) -> Result<Self, String> {
        let tls = options.tls.as_ref().map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()?;
        let in_use = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{listen}: something listens there already; stop it, or choose another port with --listen")
            }
            _ => format!("can't listen on {listen:?}: {error}; write --listen HOST:PORT"),
        };
        server::raise_descriptor_limit(options.connections_max);
        let listener = TcpListener::bind(listen).await.map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        Ok(Bridge { listener, address, tls, options })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Answers until `stop`, then ends in good order and gives the boss back to be closed.
    pub async fn serve(self, boss: Boss, stop: CancellationToken) -> Option<Boss> {
        let Bridge { listener, address, tls, options } = self;
        let boss = Arc::new(boss);
        let connections_max = options.connections_max;
        let app = Arc::new(app::App {
            budget: budget::Budget::new(options.memory_bytes),
            tasks: Arc::new(tasks::Tasks::new(boss.clone())),
            boss: boss.clone(),
            options,
            address,
            stop: stop.clone(),
        });
        server::serve(listener, tls, api::service(app), connections_max, stop).await;
        Arc::into_inner(boss)
    }
}
