//! HTTP for everybody else: submit tasks, read results, find the live workers, bring workers in other languages.
//!
//! Must not touch: queues and their messages (it holds a [`Boss`], never a broker).

mod answer;
mod api;
mod app;
mod arrival;
mod blocking;
mod body;
mod budget;
mod form;
mod guard;
mod kinds;
pub mod leases;
mod metrics;
mod patient;
mod problem;
mod rates;
mod renders;
mod server;
mod spool;
mod tasks;
mod tls;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::boss::{Boss, Keep, KeptName, Unclaimed};
use crate::worker::{Launcher, Memory};
use app::App;
use budget::Budget;
pub use guard::Tokens;
use leases::Leases;
use metrics::Metrics;
use renders::Renders;
use server::Bounds;
use spool::{Found, Spool};
use tasks::{KeepFor, Tasks};

/// Leases are handed back within this time, or left to the broker.
const HAND_BACK: Duration = Duration::from_secs(10);

/// How long a result that was read stays, if nothing else is said.
pub const READ_AGAIN: Duration = Duration::from_secs(60);

/// The patience with silent clients, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Let everybody in who can reach it, without a token.
    pub insecure: bool,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections at a time.
    pub connections_max: usize,
    /// The folder of detached tasks and their results.
    pub spool: PathBuf,
    /// The most that may lie there.
    pub spool_bytes: u64,
    /// How long a result is kept that nobody reads.
    pub result_ttl: Duration,
    /// A result that was read stays so long, for a client whose connection broke in the middle.
    pub read_again: Duration,
    /// How long a client may be silent within its handshake, its head or its body.
    pub patience: Duration,
    /// How long a worker outside has a task without saying a word.
    pub lease: Duration,
    /// Declare work queues as quorum queues.
    pub quorum: bool,
}

/// A bridge that listens, and does not answer yet.
pub struct Bridge {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    options: Options,
    spool: Spool,
    found: Vec<Found>,
    keep: Keep,
    unclaimed: mpsc::Receiver<Unclaimed>,
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
        let (spool, found) = Spool::open(&options.spool, options.spool_bytes).map_err(|error| error.to_string())?;
        let name = spool.owner(KeptName::read, KeptName::fresh(), KeptName::as_str);
        let (keep, unclaimed) = Keep::new(name.map_err(|error| error.to_string())?, spool.awaits());
        server::raise_descriptor_limit(options.connections_max);
        let listener = TcpListener::bind(listen).await.map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        if !address.ip().is_loopback() && options.tokens.is_none() && !options.insecure {
            return Err(format!(
                "{address} can be reached from other machines: say who may with --token-file FILE, or that everybody may with \
                 --insecure"
            ));
        }
        Ok(Bridge { listener, address, tls, options, spool, found, keep, unclaimed })
    }

    /// For its boss ([`Boss::connect_keeping`]): answers to detached tasks wait at the broker while there is no bridge.
    pub fn keep(&self) -> Keep {
        self.keep.clone()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Answers until `stop`, then ends in good order: tasks that somebody waits for go on after the next start, leases are
    /// handed back. `launcher` is of the boss's broker; workers outside compute through it.
    ///
    /// # Errors
    /// Why the broker was given up. Detached tasks go on after the next start.
    pub async fn serve(self, boss: Boss, launcher: Launcher, stop: CancellationToken) -> Result<(), String> {
        tracing::info!(url = self.url(), spool = %self.options.spool.display(), "listening; the calls are described at /docs");
        let Bridge { listener, tls, options, spool, found, keep, unclaimed, .. } = self;
        // The boss has it. If it has not, there is nothing to wait for.
        drop(keep);
        let boss = Arc::new(boss);
        // The end of the broker is that of the bridge, and not the other way round.
        let stop = stop.child_token();
        let (asked, stopped) = (boss.clone(), stop.clone());
        let watched = AbortOnDropHandle::new(tokio::spawn(async move {
            asked.refused().await;
            stopped.cancel();
        }));
        let bounds = Bounds {
            connections_max: options.connections_max,
            patience: options.patience,
            max_body_bytes: options.max_body_bytes,
        };
        // A third for tasks that are with workers outside.
        let leased = leases::Options {
            lease: options.lease,
            memory: Memory::new(options.memory_bytes / 3),
            quorum: options.quorum,
            ..leases::Options::default()
        };
        let (metrics, budget) = (Metrics::new(), Budget::new(options.memory_bytes / 3 * 2));
        let keep = KeepFor { unread: options.result_ttl, read: options.read_again };
        let tasks = Tasks::new(boss.clone(), spool, budget.clone(), metrics.clone(), keep, stop.clone());
        let tasks = Arc::new(tasks);
        let (ttl, stopped) = (options.result_ttl, stop.clone());
        let renders = Arc::new(Renders::new(boss.clone(), budget.clone(), metrics.clone(), ttl, stopped));
        tasks.recover(found);
        let background = [
            tokio::spawn(tasks.clone().claim_all(unclaimed)),
            tokio::spawn(tasks.clone().dispatch()),
            tokio::spawn(tasks.clone().sweep()),
        ];
        let background = background.map(AbortOnDropHandle::new);
        let (ending, pictures) = (tasks.clone(), renders.clone());
        let leases = Leases::new(launcher, kinds::offers(), leased);
        let (open, guarded, mut document) = api::calls();
        if options.tokens.is_some() {
            api::wants_token(&mut document);
        }
        let (boss_, stopped) = (boss.clone(), stop.clone());
        let app = App { boss: boss_, options, budget, tasks, renders, leases, metrics, document, stop: stopped };
        let app = Arc::new(app);
        let service = api::service(app.clone(), open, guarded);
        let hand_back = async {
            stop.cancelled().await;
            if tokio::time::timeout(HAND_BACK, app.leases.close()).await.is_err() {
                tracing::warn!("leases are not handed back yet; the broker gives their tasks to others");
            }
        };
        tokio::join!(server::serve(listener, tls, service, bounds, stop.clone()), hand_back);
        for running in background {
            running.abort();
            let _ = running.await;
        }
        // While there is a boss to say to the workers that their tiles are called off.
        pictures.settled().await;
        if !ending.await_answers() {
            boss.let_go_of_kept();
        }
        drop(watched);
        boss.close().await;
        ending.settled().await;
        match boss.refusal() {
            None => Ok(()),
            Some(reason) => {
                Err(format!("gave up on the broker: {reason}; tasks that are not answered wait in the spool"))
            }
        }
    }
}
