//! Tasks on lease to workers outside: in other languages, on the far side of HTTP.
//!
//! Must not touch: HTTP, queues. An outside worker that asks for a task gets a *session*: a [`worker`] of this process,
//! with one slot and its own place in the directory, whose handler ([`front`]) offers the task to the request that waits
//! and holds it until the outcome is here. So all that is promised of workers is promised of it. [`table`] is the state,
//! without clock or I/O.
//!
//! Invariants: a session holds at most one undone task; a task on lease ends with an outcome, or goes back to its queue
//! when the lease is not renewed (an attempt counted) or given back (none counted); a session without a lease and without
//! a request ends after a moment of grace; the tasks of all sessions together stay within one limit of memory.

mod answer;
mod error;
mod front;
mod lease;
mod session;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Error;
use crate::task::{Blob, HandBack, Handler, Kind, TaskError};
use crate::worker::{self, Launcher, Memory, Summary};
pub use answer::Offer;
use answer::{check_answer, short};
pub use error::{Ended, LeaseError};
use front::Front;
pub use lease::{Lease, LeaseId, Leased, Minion, Renewed};
use table::{Table, Verdict};

/// How leases are given.
#[derive(Clone, Debug)]
pub struct Options {
    /// A lease that is not renewed for so long is over. Default: 30 s.
    pub lease: Duration,
    /// A worker that has no lease and asks for none is forgotten after so long. Default: 2 s.
    pub grace: Duration,
    /// Outside workers at a time, each with connections of its own to the broker. Default: 256.
    pub sessions_max: usize,
    /// What the tasks on lease may take together. Default: 70 % of what is free.
    pub memory: Memory,
    /// Declare work queues as quorum queues.
    pub quorum: bool,
    /// Attempts before a task that loses its worker is dead-lettered. Default: 5.
    pub attempts_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(2),
            sessions_max: 256,
            memory: Memory::default(),
            quorum: false,
            attempts_max: 5,
        }
    }
}

type Start =
    dyn Fn(Vec<Arc<Front>>, worker::Options, CancellationToken) -> JoinHandle<Result<Summary, Error>> + Send + Sync;

/// The leases of a bridge.
pub struct Leases {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    offers: Vec<Offer>,
    /// Of each session, but for its identity.
    worker: worker::Options,
    start: Box<Start>,
    /// A permit for each session that has not come to its end.
    room: Arc<Semaphore>,
    sessions: TaskTracker,
    sessions_max: usize,
}

impl Leases {
    /// Leases tasks of these kinds through workers of `launcher`.
    pub fn new(launcher: Launcher, offers: Vec<Offer>, options: Options) -> Self {
        let start = move |fronts: Vec<Arc<Front>>, options, stop| {
            let handlers = fronts.into_iter().map(|front| front as Arc<dyn Handler>);
            launcher.start(handlers.collect(), options, stop)
        };
        Self::with(Box::new(start), offers, options)
    }

    fn with(start: Box<Start>, offers: Vec<Offer>, options: Options) -> Self {
        let table = Mutex::new(Table::new(options.lease, options.grace));
        let room = Arc::new(Semaphore::new(options.sessions_max.min(Semaphore::MAX_PERMITS)));
        let worker = worker::Options {
            slots: 1,
            threads: 1,
            quorum: options.quorum,
            attempts_max: options.attempts_max,
            memory: Some(options.memory),
            one_by_one: true,
            ..worker::Options::default()
        };
        let (sessions, sessions_max) = (TaskTracker::new(), options.sessions_max);
        Leases { shared: Arc::new(Shared { table, offers, worker, start, room, sessions, sessions_max }) }
    }

    /// The next task for this worker, or `None` if none came within `wait`. If the future is dropped while it waits, a task
    /// that has come stays for the worker's next request, or goes back to its queue.
    ///
    /// # Errors
    /// [`LeaseError::Kinds`], [`LeaseError::Busy`], [`LeaseError::Replaced`], [`LeaseError::Full`], [`LeaseError::Closing`] or
    /// [`LeaseError::Broker`].
    pub async fn next(&self, minion: &Minion, wait: Duration) -> Result<Option<Lease>, LeaseError> {
        let kinds = self.shared.kinds(&minion.kinds)?;
        let end = Instant::now() + wait;
        loop {
            let (waiting, woken) = self.shared.ask(minion, &kinds)?;
            match tokio::time::timeout_at(end, woken).await {
                // A session tells before it ends.
                Ok(Err(_)) => return Err(LeaseError::Closing),
                Ok(Ok(told)) => told?,
                Err(_) => return Ok(None),
            }
            let taken = self.shared.table().take(waiting.session, waiting.turn, Instant::now())?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }

    /// What a lease is for.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`] or [`LeaseError::Ended`].
    pub fn task(&self, lease: LeaseId) -> Result<Leased, LeaseError> {
        self.shared.table().leased(lease)
    }

    /// The lease begins anew; `progress` is how far the task is, 0 to 1.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`] or [`LeaseError::Ended`].
    pub fn renew(&self, lease: LeaseId, progress: Option<f64>) -> Result<Renewed, LeaseError> {
        self.shared.table().renew(lease, progress, Instant::now())
    }

    /// The answer to the task, which ends the lease. It returns when the answer has been checked and is on its way.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Ended`], [`LeaseError::Answering`], or [`LeaseError::Refused`], which leaves
    /// the lease open.
    pub async fn complete(&self, lease: LeaseId, answer: Blob) -> Result<(), LeaseError> {
        let asked = self.shared.table().begin_answer(lease, Instant::now())?;
        // Open again, whatever ends this early.
        let _reopen = Reopen { shared: &self.shared, lease };
        let check = self.shared.offers.iter().find(|offer| offer.handler.kind() == asked.kind).map(|offer| offer.check);
        let checked = answer.clone();
        let checking = tokio::task::spawn_blocking(move || check_answer(check, &asked.blob, checked));
        checking
            .await
            .map_err(|_| TaskError::Panicked("the check of the answer".into()))
            .flatten()
            .map_err(LeaseError::Refused)?;
        self.shared.table().finish(lease, Ended::Answered, Verdict::Outcome(Ok(answer)), Instant::now())
    }

    /// Why the task has no answer, which ends the lease. The error goes to the caller as the task's outcome.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Ended`] or [`LeaseError::Answering`].
    pub async fn fail(&self, lease: LeaseId, error: TaskError) -> Result<(), LeaseError> {
        let mut table = self.shared.table();
        table.begin_answer(lease, Instant::now())?;
        table.finish(lease, Ended::Answered, Verdict::Outcome(Err(short(error))), Instant::now())
    }

    /// The task goes back to its queue; no attempt is counted. For a worker that leaves in good order.
    ///
    /// # Errors
    /// [`LeaseError::Unknown`], [`LeaseError::Ended`] or [`LeaseError::Answering`].
    pub fn give_back(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let mut table = self.shared.table();
        table.begin_answer(lease, Instant::now())?;
        table.finish(lease, Ended::GivenBack, Verdict::Back(HandBack::Uncounted), Instant::now())
    }

    /// How many outside workers there are, and how many of them have a lease.
    pub fn counts(&self) -> (usize, usize) {
        self.shared.table().counts()
    }

    /// Gives no more leases, hands those back that are open (no attempt is counted), and waits until the last session has
    /// left the directory.
    pub async fn close(&self) {
        self.shared.table().close();
        self.shared.sessions.close();
        self.shared.sessions.wait().await;
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Its methods leave it whole: a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kinds asked for, each once, in order.
    fn kinds(&self, asked: &[String]) -> Result<Vec<Kind>, LeaseError> {
        let known: Vec<Kind> = self.offers.iter().map(|offer| offer.handler.kind()).collect();
        let is_known = |name: &&String| known.iter().any(|kind| kind.as_str() == name.as_str());
        let unknown: Vec<String> = asked.iter().filter(|name| !is_known(name)).take(8).cloned().collect();
        if asked.is_empty() || !unknown.is_empty() {
            let known = known.iter().map(Kind::as_str).collect::<Vec<_>>().join(", ");
            return Err(LeaseError::Kinds { unknown, known });
        }
        Ok(known.into_iter().filter(|kind| asked.iter().any(|name| name == kind.as_str())).collect())
    }
}

/// An answer that is being checked; dropped, the lease is open again, unless it has ended.
struct Reopen<'a> {
    shared: &'a Shared,
    lease: LeaseId,
}

impl Drop for Reopen<'_> {
    fn drop(&mut self) {
        self.shared.table().reopen(self.lease, Instant::now());
    }
}
