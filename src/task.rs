//! The vocabulary every layer shares: task ids, kinds, the two traits a kind implements, outcomes and errors.
//!
//! Must not touch: brokers, byte layouts of messages, threads. A kind (a folder under `tasks/`) implements [`Task`] for
//! the side that asks and [`Handler`] for the side that computes; nothing else of the program knows what a kind is.
//!
//! Matrix payloads are raw little-endian, so the crate refuses to build for a big-endian target.

pub mod ambient;
mod times;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

pub use times::{Times, WorkerTimes, monotonic_ns, unix_ms};

#[cfg(target_endian = "big")]
compile_error!("rabbitry sends matrices as raw little-endian bytes; big-endian targets are not supported");

/// 128 random bits naming one task for its whole life, whatever the number of attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, bincode::Encode, bincode::Decode)]
pub struct TaskId(pub u128);

impl TaskId {
    /// A new random id. 128 random bits: no coordination, and no collision worth planning for.
    pub fn random() -> Self {
        TaskId(ambient::random())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl FromStr for TaskId {
    type Err = TaskError;

    /// Reads the 32 hexadecimal digits that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, TaskError> {
        match u128::from_str_radix(text, 16) {
            // The parser takes a sign, too.
            Ok(id) if text.len() == 32 && !text.starts_with('+') => Ok(TaskId(id)),
            _ => Err(TaskError::Invalid(format!("a task id is 32 hexadecimal digits, not {text:?}"))),
        }
    }
}

/// The name of a kind of task: 1 to 32 of `a-z 0-9 - _`. It names the work queue `rabbitry.work.<kind>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Kind(Cow<'static, str>);

impl Kind {
    /// A kind known when the program is built.
    pub const fn from_static(name: &'static str) -> Self {
        Kind(Cow::Borrowed(name))
    }

    /// Checks a name that came from outside.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if the name is empty, longer than 32 bytes, or has any other character.
    pub fn new(name: &str) -> Result<Self, TaskError> {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
        if (1..=32).contains(&name.len()) && name.bytes().all(legal) {
            Ok(Kind(Cow::Owned(name.to_owned())))
        } else {
            Err(TaskError::Invalid(format!("a kind is 1 to 32 of a-z, 0-9, - and _, not {name:?}")))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the payload of a task and of its answer is written. A worker answers in the form it was asked in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, bincode::Encode, bincode::Decode)]
pub enum Format {
    /// Raw little-endian numbers, `application/x-rabbitry`.
    #[default]
    Binary,
    /// A JSON document, `application/json`.
    Json,
}

impl Format {
    /// The AMQP `content_type` of a payload in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Binary => "application/x-rabbitry",
            Format::Json => "application/json",
        }
    }
}

/// Tasks of higher priority are taken first from the work queue.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize, utoipa::ToSchema, bincode::Encode, bincode::Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After everything else.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before everything else.
    High,
}

/// Bytes in or out of a kind: a small parameter block and the payload.
#[derive(Clone, Debug, Default)]
pub struct Blob {
    /// The form of `payload`.
    pub format: Format,
    /// The kind's own small struct (shapes, layouts, options; for an answer its certificate), at most
    /// [`MAX_PARAMS`] bytes. May be empty for JSON from a foreign client, where the payload says it all.
    pub params: Vec<u8>,
    /// The numbers, in order; several pieces stand for their concatenation (A and B need not be copied together).
    pub payload: Vec<Bytes>,
}

impl Blob {
    /// Bytes of payload.
    pub fn payload_bytes(&self) -> u64 {
        self.payload.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// The longest parameter block a kind may send.
pub const MAX_PARAMS: usize = 1024;

/// The name of a payload that many tasks share: its BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        ContentHash(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// A task ready to travel, with what the pool must know of it to place it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Parameters and payload.
    pub blob: Blob,
    /// Many tasks have this very payload. It travels with none of them: a worker that has not got it yet pulls it once
    /// ([`Plan::shared`]), and the window of the boss does not count it.
    pub shared: bool,
    /// Floating point operations, estimated. Small tasks are sent several to a message by this figure.
    pub flops: u64,
    /// An upper bound of the answer's payload in bytes. The boss refuses longer answers.
    pub answer_bytes: u64,
}

impl Encoded {
    /// What the window of the boss counts, in bytes.
    pub fn window_bytes(&self) -> u64 {
        let payload = if self.shared { 0 } else { self.blob.payload_bytes() };
        payload.saturating_add(self.answer_bytes)
    }
}

/// The asking side of a kind.
pub trait Task: Send + 'static {
    /// The kind's name.
    const KIND: Kind;
    /// What comes back.
    type Answer: Send + 'static;

    /// Writes the task in the form asked for. No copy of the numbers where the form allows it.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if the task can't be right (shapes, empty, NaN), before anything is sent.
    fn encode(self, format: Format) -> Result<Encoded, TaskError>;

    /// Reads an answer that came from a worker: bytes from outside, to be checked. `task` are the parameters that
    /// [`Task::encode`] gave, so that an answer to something else is told apart.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] if they are not an answer to this kind of task.
    fn decode_answer(task: &[u8], answer: Blob) -> Result<Self::Answer, TaskError>;
}

/// What a task will take on a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Resident bytes while it runs, its payload included.
    pub memory_bytes: u64,
    /// Threads worth giving to it if it has the machine to itself, at least 1.
    pub threads: usize,
    /// Set if its payload is one that other tasks have, too: [`Handler::prepare`] is called with it, once for all of them,
    /// and [`Handler::run_on`] in place of [`Handler::run`].
    pub shared: Option<Shared>,
}

/// A payload that many tasks have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shared {
    /// Its name. The worker checks that the payload has it.
    pub hash: ContentHash,
    /// Resident bytes of the payload and of what [`Handler::prepare`] makes of it, beside [`Plan::memory_bytes`].
    pub memory_bytes: u64,
}

/// What a handler has made of a shared payload. A worker keeps a few of them, those used last, for tasks to come.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The handler's own.
    pub made: Arc<dyn Any + Send + Sync>,
    /// What it takes.
    pub bytes: u64,
}

/// The computing side of a kind. One per worker, shared by its compute threads.
pub trait Handler: Send + Sync + 'static {
    /// The kind's name.
    fn kind(&self) -> Kind;

    /// Speed of one core of this machine at this kind's work, for the directory. Measured once, at start-up.
    fn gflops(&self) -> f64;

    /// Checks the parameters against the size of the payload and says what the task will take. Called before the
    /// payload is fetched, with bytes from outside. `threads` is the most there can be.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] for parameters that are malformed or do not fit `payload_bytes`.
    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, threads: usize) -> Result<Plan, TaskError>;

    /// Computes, on the calling thread and on `threads` threads in all. The payload is one piece. Work that takes longer
    /// than a blink says how far it is ([`Watch::advance`]) and asks whether to go on ([`Watch::check`]).
    ///
    /// # Errors
    /// Any [`TaskError`]; it goes to the caller as the task's outcome.
    fn run(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError>;

    /// Makes of a shared payload what its tasks need: read, checked and indexed, once for all of them. On one thread.
    ///
    /// # Errors
    /// Any [`TaskError`]; it goes to the callers of the tasks that wait for it.
    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        drop(payload);
        Err(TaskError::Invalid(format!("tasks of kind {} share no payload", self.kind())))
    }

    /// As [`Handler::run`], for a task whose payload is shared: `task` has none.
    ///
    /// # Errors
    /// Any [`TaskError`]; it goes to the caller as the task's outcome.
    fn run_on(&self, shared: &Prepared, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let _ = (shared, task, threads, watch);
        Err(TaskError::Invalid(format!("tasks of kind {} share no payload", self.kind())))
    }
}

/// The line between a running task and whoever watches it: which task it is, how far, and whether to stop. Clones are
/// the same line.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    shared: Arc<Watched>,
}

/// How a task goes back to its queue, when its handler comes to no outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandBack {
    /// As from a worker that leaves in good order: no attempt is counted.
    Uncounted,
    /// As from a worker that died of it: an attempt is counted, and after the last one the task is dead-lettered.
    Counted,
}

#[derive(Debug, Default)]
struct Watched {
    task: Option<TaskId>,
    attempt: u32,
    /// The bits of an f32 in 0..=1, whose order is that of the numbers.
    share: AtomicU32,
    cancelled: AtomicBool,
    deadline: Option<Instant>,
    handed_back: OnceLock<HandBack>,
    /// 0 for never.
    decoded_ns: AtomicU64,
    computed_ns: AtomicU64,
}

impl Watch {
    /// A watch over a task on its `attempt`th attempt, from 0, that stops it at its deadline.
    pub fn over(task: TaskId, attempt: u32, deadline: Option<Instant>) -> Self {
        Watch { shared: Arc::new(Watched { task: Some(task), attempt, deadline, ..Watched::default() }) }
    }

    /// A watch that stops the task at `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Watch { shared: Arc::new(Watched { deadline: Some(deadline), ..Watched::default() }) }
    }

    /// The task, or `None` for a handler that is called by hand.
    pub fn task(&self) -> Option<TaskId> {
        self.shared.task
    }

    /// Attempts at the task that came to no outcome before this one.
    pub fn attempt(&self) -> u32 {
        self.shared.attempt
    }

    /// When the task is stopped at the latest, on this machine's monotonic clock.
    pub fn deadline(&self) -> Option<Instant> {
        self.shared.deadline
    }

    /// The handler says that it will come to no outcome: the task goes back to its queue, and whatever the handler
    /// returns is dropped. For a handler that is a front for somebody else who has gone. The first word counts.
    pub fn hand_back(&self, how: HandBack) {
        let _ = self.shared.handed_back.set(how);
    }

    /// What the handler said with [`Watch::hand_back`].
    pub fn handed_back(&self) -> Option<HandBack> {
        self.shared.handed_back.get().copied()
    }

    /// The task says how far it is, 0 to 1. It never goes back.
    pub fn advance(&self, share: f64) {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) as f32 };
        self.shared.share.fetch_max(share.to_bits(), Relaxed);
    }

    /// How far the task says it is, 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(f32::from_bits(self.shared.share.load(Relaxed)))
    }

    /// The handler says that the payload has become what it computes with. One that says nothing decodes nothing.
    pub fn decoded(&self) {
        self.shared.decoded_ns.store(monotonic_ns(), Relaxed);
    }

    /// The handler says that it has computed, and only writes its answer.
    pub fn computed(&self) {
        self.shared.computed_ns.store(monotonic_ns(), Relaxed);
    }

    /// What the handler said with [`Watch::decoded`] and [`Watch::computed`], 0 for what it has not.
    pub fn marks_ns(&self) -> (u64, u64) {
        (self.shared.decoded_ns.load(Relaxed), self.shared.computed_ns.load(Relaxed))
    }

    /// Asks the task to stop; it does so when it next looks.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Relaxed);
    }

    /// Whether the task may go on.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] or [`TaskError::DeadlineExceeded`], which the task passes on.
    pub fn check(&self) -> Result<(), TaskError> {
        // First the deadline: a boss calls off what is late, too.
        if self.shared.deadline.is_some_and(|at| ambient::now() >= at) {
            Err(TaskError::DeadlineExceeded)
        } else if self.shared.cancelled.load(Relaxed) {
            Err(TaskError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Why a task has no answer. It travels to the caller as data, in the form of [`crate::wire`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, bincode::Encode, bincode::Decode)]
pub enum TaskError {
    /// The task is wrong in form: shapes, NaN, malformed parameters or payload.
    #[error("{0}")]
    Invalid(String),
    /// A is exactly singular.
    #[error("A is singular: pivot {pivot} of its factorisation is exactly zero, so the rows or columns are dependent")]
    Singular {
        /// 1-based index of the first zero pivot, as LAPACK's `info`.
        pivot: u64,
    },
    /// The worker has no handler for the kind.
    #[error("unknown kind {kind:?}: this worker computes {known}")]
    UnknownKind {
        /// What was asked for.
        kind: String,
        /// What this worker knows, comma separated.
        known: String,
    },
    /// The task can never fit into the worker's memory.
    #[error(
        "the task needs {needed_bytes} bytes and this worker may use {limit_bytes}; raise --memory or use a larger machine"
    )]
    TooLarge {
        /// What it would take.
        needed_bytes: u64,
        /// What there is in all.
        limit_bytes: u64,
    },
    /// The deadline passed before the answer came.
    #[error("the deadline passed before the answer came")]
    DeadlineExceeded,
    /// None of the allowed attempts came to an outcome.
    #[error(
        "{attempts} attempts ended without an outcome (a worker or its connection was lost, or the payload did not come); \
         the task is in the queue rabbitry.dead"
    )]
    TooManyAttempts {
        /// How many there were.
        attempts: u32,
    },
    /// The handler panicked; the worker lives on.
    #[error("the handler panicked: {0}")]
    Panicked(String),
    /// The pool shut down, or its connection was closed for good, before the answer came.
    #[error("the pool was shut down before the answer came")]
    Shutdown,
    /// The broker does not take the task.
    #[error("{0}")]
    Refused(String),
    /// Somebody cancelled it.
    #[error("the task was cancelled")]
    Cancelled,
}

impl TaskError {
    /// A stable, short name of the variant, for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            TaskError::Invalid(_) => "invalid",
            TaskError::Singular { .. } => "singular",
            TaskError::UnknownKind { .. } => "unknown_kind",
            TaskError::TooLarge { .. } => "too_large",
            TaskError::DeadlineExceeded => "deadline_exceeded",
            TaskError::TooManyAttempts { .. } => "too_many_attempts",
            TaskError::Panicked(_) => "panicked",
            TaskError::Shutdown => "shutdown",
            TaskError::Refused(_) => "refused",
            TaskError::Cancelled => "cancelled",
        }
    }
}

/// What came of a task, and who made it.
#[derive(Clone, Debug)]
pub struct Outcome<A> {
    /// The task.
    pub task: TaskId,
    /// The answer, or why there is none.
    pub result: Result<A, TaskError>,
    /// The worker that made it, or `None` if no worker did (a deadline passed, the pool was shut down).
    pub worker: Option<WorkerRef>,
    /// Seconds the handler ran, on the worker's clock.
    pub compute_seconds: f64,
    /// When it passed where, if a handler ran.
    pub times: Option<Times>,
}

/// Who computed an answer.
#[derive(Clone, PartialEq, Eq, Hash, Debug, bincode::Encode, bincode::Decode)]
pub struct WorkerRef {
    /// The worker's id: `host-pid-xxxxxxxx`.
    pub id: String,
    /// Its host name.
    pub host: String,
}

/// Owned numbers as bytes, without a copy.
pub fn numbers_into_bytes<T: bytemuck::NoUninit + Send>(numbers: Vec<T>) -> Bytes {
    struct Owner<T>(Vec<T>);
    impl<T: bytemuck::NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    Bytes::from_owner(Owner(numbers))
}

/// Bytes as numbers: borrowed where they lie aligned, copied where not.
///
/// # Errors
/// [`TaskError::Invalid`] if the length is not a multiple of that of a number.
pub fn numbers_from_bytes<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
    bytes: &[u8],
) -> Result<Cow<'_, [T]>, TaskError> {
    let size = size_of::<T>();
    if !bytes.len().is_multiple_of(size) {
        return Err(TaskError::Invalid(format!("{} bytes are not a whole number of {size}-byte floats", bytes.len())));
    }
    Ok(match bytemuck::try_cast_slice(bytes) {
        Ok(numbers) => Cow::Borrowed(numbers),
        Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_watch_advances_only_and_stops_when_asked_or_late() {
        let watch = Watch::default();
        for (said, share) in [(0.25, 0.25), (0.125, 0.25), (f64::NAN, 0.25), (-1.0, 0.25), (7.0, 1.0)] {
            watch.advance(said);
            assert_eq!(watch.share(), share);
        }
        assert_eq!(watch.check(), Ok(()));
        watch.clone().cancel();
        assert_eq!(watch.check(), Err(TaskError::Cancelled));
        let now = Instant::now();
        assert_eq!(Watch::until(now).check(), Err(TaskError::DeadlineExceeded));
        assert_eq!(Watch::until(now + Duration::from_secs(3600)).check(), Ok(()));
    }
}
