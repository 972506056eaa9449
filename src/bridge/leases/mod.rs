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

mod error;
mod front;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Error;
use crate::task::{Blob, HandBack, Handler, Kind, MAX_PARAMS, Task, TaskError, TaskId};
use crate::worker::{self, Claim, Identity, Launcher, Memory, Summary};
pub use error::{Ended, LeaseError};
use front::Front;
use table::{Asked, Due, Held, Number, Over, Table, Verdict};

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

/// A kind of task that can be leased.
#[derive(Clone)]
pub struct Offer {
    handler: Arc<dyn Handler>,
    check: fn(&[u8], Blob) -> Result<(), TaskError>,
}

impl Offer {
    /// The kind of `T`. The handler only plans, and computes nothing.
    pub fn new<T: Task>(handler: Arc<dyn Handler>) -> Self {
        Offer { handler, check: |task, answer| T::decode_answer(task, answer).map(drop) }
    }
}

/// An outside worker that asks for a task. It is the same one as long as name, host and pid are.
#[derive(Clone, Debug, Default)]
pub struct Minion {
    /// Who it says it is.
    pub claim: Claim,
    /// The kinds it computes.
    pub kinds: Vec<String>,
}

/// What tells outside workers apart: name, host, pid.
type Key = (String, String, u32);

/// 128 random bits that name a lease. Who knows them has the lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(u128);

impl LeaseId {
    fn random() -> Self {
        LeaseId(rand::random())
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

impl FromStr for LeaseId {
    type Err = TaskError;

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, TaskError> {
        match u128::from_str_radix(text, 16) {
            // The parser takes a sign, too.
            Ok(id) if text.len() == 32 && !text.starts_with('+') => Ok(LeaseId(id)),
            _ => Err(TaskError::Invalid(format!("a lease id is 32 hexadecimal digits, not {text:?}"))),
        }
    }
}

/// A task on lease.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id, new with each lease.
    pub id: LeaseId,
    /// How long until it is over, unless it is renewed.
    pub expires_in: Duration,
    /// The task.
    pub leased: Leased,
}

/// What a lease is for.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The task's id, for logs.
    pub task: TaskId,
    /// Attempts at the task that came to no outcome before.
    pub attempt: u32,
    /// Its kind.
    pub kind: Kind,
    /// Parameters and payload. The answer is in the same form.
    pub blob: Blob,
    /// The task is stopped then, on this machine's monotonic clock.
    pub deadline: Option<std::time::Instant>,
}

impl Leased {
    fn new(held: &Held) -> Self {
        Leased {
            // Every task that came from a queue has one.
            task: held.watch.task().unwrap_or(TaskId(0)),
            attempt: held.watch.attempt(),
            kind: held.kind.clone(),
            blob: held.blob.clone(),
            deadline: held.watch.deadline(),
        }
    }
}

/// The answer to a renewal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Renewed {
    /// How long until the lease is over, unless it is renewed again; zero if it is.
    pub expires_in: Duration,
    /// Nobody wants the task any more, for this reason ([`TaskError::Cancelled`] or [`TaskError::DeadlineExceeded`]): the
    /// lease is over, and the worker should stop.
    pub stopped: Option<TaskError>,
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

    /// Puts a request into its worker's session, which is begun if need be.
    fn ask(self: &Arc<Self>, minion: &Minion, kinds: &[Kind]) -> Result<(Waiting<'_>, Woken), LeaseError> {
        let claim = &minion.claim;
        let key = (claim.name.clone(), claim.host.clone(), claim.pid);
        let mut table = self.table();
        let mut begun = false;
        loop {
            match table.ask(&key, kinds, Instant::now())? {
                Asked::Waiting { session, turn, woken } => {
                    return Ok((Waiting { shared: self, session, turn }, woken));
                }
                Asked::Nobody if begun => return Err(LeaseError::Closing),
                Asked::Nobody => self.begin(&mut table, key.clone(), claim, kinds)?,
            }
            begun = true;
        }
    }

    fn begin(self: &Arc<Self>, table: &mut Table, key: Key, claim: &Claim, kinds: &[Kind]) -> Result<(), LeaseError> {
        let full = |_| LeaseError::Full { max: self.sessions_max };
        let room = self.room.clone().try_acquire_owned().map_err(full)?;
        let (stop, changed) = (CancellationToken::new(), Arc::new(Notify::new()));
        let session = table.begin(key, kinds.to_vec(), stop.clone(), changed.clone(), Instant::now());
        let offers = self.offers.iter().map(|offer| &offer.handler).filter(|kind| kinds.contains(&kind.kind()));
        let front = |kind: &Arc<dyn Handler>| Arc::new(Front { kind: kind.clone(), session, shared: self.clone() });
        let options = worker::Options { identity: Some(Identity::outside(claim)), ..self.worker.clone() };
        let worker = (self.start)(offers.map(front).collect(), options, stop);
        self.sessions.spawn(attend(self.clone(), session, changed, worker, room));
        Ok(())
    }
}

type Woken = tokio::sync::oneshot::Receiver<Result<(), LeaseError>>;

/// A session's clock: ends it when its time is over, or when its worker has come to an end by itself.
async fn attend(
    shared: Arc<Shared>,
    session: Number,
    changed: Arc<Notify>,
    mut worker: JoinHandle<Result<Summary, Error>>,
    _room: OwnedSemaphorePermit,
) {
    loop {
        let due = shared.table().due(session, Instant::now());
        let time = async {
            match due {
                Due::At(at) => tokio::time::sleep_until(at).await,
                Due::Changed => std::future::pending().await,
                Due::Over => {}
            }
        };
        tokio::select! {
            biased;
            ended = &mut worker => {
                let error = match ended {
                    Ok(Err(error)) => error,
                    Ok(Ok(_)) => Error::Lost("the worker of the session stopped".into()),
                    Err(panicked) => Error::Lost(panicked.to_string()),
                };
                return shared.table().end(session, Over::Broken(error));
            }
            () = time => {}
            () = changed.notified() => {}
        }
        if due == Due::Over {
            break;
        }
    }
    // It drains: its task has its verdict, and goes back.
    if let Ok(Err(error)) = worker.await {
        tracing::warn!(%error, "the session of an outside worker did not end in good order");
    }
}

/// A request that waits; dropped, it has gone.
struct Waiting<'a> {
    shared: &'a Shared,
    session: Number,
    turn: Number,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Nothing to do for one that has taken its task.
        self.shared.table().leave(self.session, self.turn, Instant::now());
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

/// Whether bytes from outside are an answer that its asker will take.
fn check_answer(
    check: Option<fn(&[u8], Blob) -> Result<(), TaskError>>,
    task: &Blob,
    answer: Blob,
) -> Result<(), TaskError> {
    if answer.format != task.format {
        let (asked, came) = (task.format.content_type(), answer.format.content_type());
        return Err(TaskError::Invalid(format!("the task is {asked}, so its answer must be, and not {came}")));
    }
    if answer.params.len() > MAX_PARAMS {
        let bytes = answer.params.len();
        return Err(TaskError::Invalid(format!("{bytes} bytes of parameters, {MAX_PARAMS} are allowed")));
    }
    match check {
        // A foreign client may have sent a task without parameters: nobody knows what it asked for but itself.
        Some(check) if !(task.params.is_empty() && task.format == crate::task::Format::Json) => {
            check(&task.params, answer)
        }
        _ => Ok(()),
    }
}

/// An error travels in a head, which has little room.
fn short(error: TaskError) -> TaskError {
    let short = |text: String| text.chars().take(1000).collect();
    match error {
        TaskError::Invalid(text) => TaskError::Invalid(short(text)),
        TaskError::Panicked(text) => TaskError::Panicked(short(text)),
        TaskError::Refused(text) => TaskError::Refused(short(text)),
        TaskError::UnknownKind { kind, known } => TaskError::UnknownKind { kind: short(kind), known: short(known) },
        other => other,
    }
}
