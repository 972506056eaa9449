//! The asking side: submit tasks, await outcomes.
//!
//! Must not touch: workers (it meets them only through queues), task kinds (only [`crate::task::Task`]).
//!
//! Invariants: a task is in [`pending`] before it is published and leaves it with its first outcome, so the caller gets
//! exactly one; the bytes of all pending tasks and their announced answers stay below the window; after a lost connection
//! everything unanswered is published again; a task that ends before its time is called off at the workers. The answers of kept
//! tasks ([`Keep`]) outlive the boss.

pub mod dead;
mod keep;
mod link;
mod pending;
mod presence;
mod race;
mod ticket;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::broker::{Broker, Connection, Error, Message, QueueStatus, Route};
use crate::directory::{Directory, Node};
pub use crate::task::Priority;
use crate::task::{
    Blob, Encoded, Format, Kind, Task, TaskError, TaskId, Times, WorkerRef, ambient, monotonic_ns, unix_ms,
};
use crate::transport::names;
use crate::transport::outgoing::Outgoing;
use crate::wire::TaskHead;
pub use keep::{Keep, KeptName, Receipt, Unclaimed};
use pending::Pending;
pub use ticket::{Handle, RawTicket, Ticket};

/// How a boss behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of tasks in flight, their announced answers included. Default: 1 GiB.
    pub window_bytes: u64,
    /// Declare work queues as quorum queues.
    pub quorum: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { window_bytes: 1 << 30, quorum: false }
    }
}

/// How one task is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Submit {
    /// Form of the payload.
    pub format: Format,
    /// After this long the outcome is [`TaskError::DeadlineExceeded`].
    pub deadline: Option<Duration>,
    /// Which tasks go first.
    pub priority: Priority,
}

impl Priority {
    /// As an AMQP priority; quorum queues call 5 and above high.
    fn level(self) -> u8 {
        match self {
            Priority::Low => 1,
            Priority::Normal => 3,
            Priority::High => crate::transport::PRIORITY_MAX,
        }
    }
}

/// Connected to a pool. Dropping it abandons what is unanswered; [`Boss::close`] also cleans up at the broker.
pub struct Boss {
    shared: Arc<Shared>,
    /// For connections beside its own.
    broker: Arc<dyn Broker>,
    closing: CancellationToken,
    /// `None` once it is closed.
    supervisor: Mutex<Option<AbortOnDropHandle<()>>>,
    _reaper: AbortOnDropHandle<()>,
}

/// What an outcome carries before its kind has read it.
struct Answered {
    result: Result<Blob, TaskError>,
    worker: Option<WorkerRef>,
    compute_seconds: f64,
    times: Option<Times>,
    receipt: Receipt,
}

impl Answered {
    /// Without an answer, and not by a worker.
    fn failed(error: TaskError) -> Self {
        Answered { result: Err(error), worker: None, compute_seconds: 0.0, times: None, receipt: Receipt::default() }
    }
}

/// The caller's end of a pending task.
struct Caller {
    reply: oneshot::Sender<Answered>,
    submitted_ns: u64,
    confirmed_ns: Option<u64>,
    _room: OwnedSemaphorePermit,
}

impl Caller {
    fn answer(self, answered: Answered) {
        // A dropped ticket wants no answer.
        if let Err(unwanted) = self.reply.send(answered) {
            unwanted.receipt.not_written();
        }
    }
}

struct Shared {
    id: String,
    options: Options,
    keep: Option<Keep>,
    /// Nobody will come for the answers of kept tasks.
    lets_go: AtomicBool,
    window: Arc<Semaphore>,
    pending: Mutex<Pending<Caller>>,
    directory: Mutex<Directory>,
    /// Ids to publish, in order.
    submitted: mpsc::UnboundedSender<TaskId>,
    /// What the workers, or another boss, should hear.
    words: mpsc::UnboundedSender<Word>,
    /// Tasks that the workers were told to drop, the newest of them. One that comes later has not heard it.
    called_off: Mutex<VecDeque<TaskId>>,
    /// Tasks of other bosses that these say to have cancelled.
    cancelled: broadcast::Sender<TaskId>,
    /// A deadline came in that may be earlier than all others.
    deadline_added: Notify,
    /// When this boss came to a work queue, on the present link.
    seen: Mutex<HashMap<String, Instant>>,
    connection: watch::Sender<Option<Arc<dyn Connection>>>,
    /// The broker was given up for good.
    ended: CancellationToken,
    /// Why. Set before.
    refusal: OnceLock<String>,
}

/// Something to say on an exchange when there is a connection.
enum Word {
    /// To all workers: nobody wants this task any more.
    Cancel(TaskId),
    /// To whoever asked: this task of mine was cancelled.
    Cancelled(TaskId),
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending<Caller>> {
        // Its methods leave it whole: a panic elsewhere does not spoil it.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called_off(&self) -> MutexGuard<'_, VecDeque<TaskId>> {
        self.called_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a task to be told of to workers that come later.
    fn keep_called_off(&self, task: TaskId) {
        let mut all = self.called_off();
        if !all.contains(&task) {
            all.truncate(CALLED_OFF_KEPT - 1);
            all.push_front(task);
        }
    }

    /// The first task of a link is about to go to this work queue.
    fn sees(&self, queue: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(queue.to_owned(), ambient::now());
    }

    /// Whether a queue that others found missing is one that this boss has only just come to, and so a new one.
    fn has_just_seen(&self, queue: &str) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(queue).is_some_and(|at| ambient::now().duration_since(*at) < JUST)
    }

    /// Who waits for a task, to be given its one outcome; `None` if it has one.
    fn take(&self, task: TaskId) -> Option<Caller> {
        self.pending().take(task)
    }

    fn fail(&self, task: TaskId, error: TaskError) -> bool {
        let Some(caller) = self.take(task) else { return false };
        caller.answer(Answered::failed(error));
        true
    }

    /// Ends a task before its time and tells the workers, if one may have it; false if it has its outcome.
    fn call_off(&self, task: TaskId, error: TaskError) -> bool {
        let (published, caller) = {
            let mut pending = self.pending();
            (pending.is_published(task), pending.take(task))
        };
        let Some(caller) = caller else { return false };
        caller.answer(Answered::failed(error));
        if published {
            self.say(Word::Cancel(task));
        }
        true
    }

    /// Says something as soon as there is a connection. A lost connection may take it along, which costs work and nothing
    /// else.
    fn say(&self, word: Word) {
        // Nobody is left to say it: the broker was given up.
        let _ = self.words.send(word);
    }
}

/// Words about a new queue come this late, at most, from workers that found it missing in the same moment.
const JUST: Duration = Duration::from_millis(500);

/// The window is counted in KiB: a semaphore takes 2^32 of them at a time.
const UNIT: u64 = 1024;

/// Workers that come later are told of so many tasks: one message of 6 kB for each of them.
const CALLED_OFF_KEPT: usize = 256;

/// Words of other bosses that wait to be heard by a caller of [`Boss::cancel`], at most.
const CANCELLED_KEPT: usize = 256;

/// What a pending task costs the boss beside its bytes: measured with 100,000 systems of N=10.
const OVERHEAD_BYTES: u64 = 2048;

impl Boss {
    /// Connects, and keeps connected from then on.
    ///
    /// # Errors
    /// The first connection's error.
    pub async fn connect(broker: Arc<dyn Broker>, options: Options) -> Result<Self, Error> {
        Self::open(broker, options, None).await
    }

    /// As [`Boss::connect`], for one that keeps tasks. There must be one at a time of a name.
    ///
    /// # Errors
    /// The first connection's error.
    pub async fn connect_keeping(broker: Arc<dyn Broker>, options: Options, keep: Keep) -> Result<Self, Error> {
        Self::open(broker, options, Some(keep)).await
    }

    async fn open(broker: Arc<dyn Broker>, options: Options, keep: Option<Keep>) -> Result<Self, Error> {
        let (submitted, queue) = mpsc::unbounded_channel();
        let (words, unsaid) = mpsc::unbounded_channel();
        let units = usize::try_from(options.window_bytes / UNIT).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            id: names::process_id(),
            options,
            keep,
            lets_go: AtomicBool::new(false),
            window: Arc::new(Semaphore::new(units.clamp(1, u32::MAX as usize))),
            pending: Mutex::default(),
            directory: Mutex::default(),
            submitted,
            words,
            called_off: Mutex::default(),
            cancelled: broadcast::Sender::new(CANCELLED_KEPT),
            deadline_added: Notify::new(),
            seen: Mutex::default(),
            connection: watch::Sender::new(None),
            ended: CancellationToken::new(),
            refusal: OnceLock::new(),
        });
        let first = link::Link::open(&*broker, &shared, 1).await?;
        let closing = CancellationToken::new();
        let work = link::Inputs { queue, words: unsaid };
        let supervisor = tokio::spawn(link::supervise(broker.clone(), shared.clone(), first, work, closing.clone()));
        let reaper = tokio::spawn(reap(shared.clone()));
        let (supervisor, reaper) = (Some(AbortOnDropHandle::new(supervisor)), AbortOnDropHandle::new(reaper));
        Ok(Boss { shared, broker, closing, supervisor: Mutex::new(supervisor), _reaper: reaper })
    }

    /// The name in its queues, `rabbitry.results.<id>`; after the nth connection `rabbitry.results.<id>.<n>`.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Waits until the window has room for a task of `payload_bytes` with an answer of `answer_bytes`. Ask before you make the
    /// numbers, and memory stays within the window. One larger than the whole window gets it to itself.
    pub async fn reserve(&self, payload_bytes: u64, answer_bytes: u64) -> Room<'_> {
        let units = room_units(&self.shared.options, payload_bytes.saturating_add(answer_bytes));
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = self.shared.window.clone().acquire_many_owned(units).await.ok();
        Room { boss: self, permit, units }
    }

    /// Submits a task when the window has room for it.
    ///
    /// # Errors
    /// What [`Task::encode`] says of a task that can't be right.
    pub async fn submit<T: Task>(&self, task: T, how: Submit) -> Result<Ticket<T>, TaskError> {
        let encoded = task.encode(how.format)?;
        let room = self.reserve(encoded.window_bytes(), 0).await;
        Ok(room.enter(encoded, how))
    }

    /// Cancels a task of any boss on the broker. Its caller gets [`TaskError::Cancelled`], and a worker that computes it
    /// stops when its kind next looks. False if no boss waits for it: it has ended, or its boss is gone.
    ///
    /// # Errors
    /// The broker's.
    pub async fn cancel(&self, task: TaskId) -> Result<bool, Error> {
        if self.shared.call_off(task, TaskError::Cancelled) {
            return Ok(true);
        }
        presence::cancel(&self.shared, &*self.connection().await?, task).await
    }

    /// How many tasks are done of those that have no outcome yet: the sum of what their workers say, 0 to 1 each. Small
    /// tasks say nothing.
    pub fn progress(&self) -> f64 {
        self.shared.pending().shares()
    }

    /// Who is there: asks all workers and listens for `patience`; a live one answers in milliseconds.
    ///
    /// # Errors
    /// The broker's.
    pub async fn workers(&self, patience: Duration) -> Result<Vec<Node>, Error> {
        presence::ask(&*self.connection().await?).await?;
        tokio::time::sleep(patience).await;
        Ok(self.shared.directory().nodes(ambient::now()))
    }

    /// The workers heard of within their time, without asking them.
    pub fn nodes(&self) -> Vec<Node> {
        self.shared.directory().nodes(ambient::now())
    }

    /// Why the broker was given up, if it was: it refuses this boss, and to connect again would not help. Whatever was
    /// unanswered has ended with [`TaskError::Refused`].
    pub fn refusal(&self) -> Option<&str> {
        self.shared.refusal.get().map(String::as_str)
    }

    /// Resolves when there is a [`Boss::refusal`].
    pub async fn refused(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Whether there is a connection to the broker now.
    pub fn is_connected(&self) -> bool {
        self.shared.connection.borrow().is_some()
    }

    /// Slots of all the workers heard of: how many small tasks the pool computes at a time. 0 until the first is heard.
    pub fn slots(&self) -> u64 {
        self.shared.directory().nodes(ambient::now()).iter().map(|node| u64::from(node.slots)).sum()
    }

    /// Consumers of a kind's work queue, without asking the workers.
    ///
    /// # Errors
    /// The broker's.
    pub async fn consumers(&self, kind: &str) -> Result<u64, Error> {
        Ok(self.work_queue(kind).await?.1.map_or(0, |status| status.consumers))
    }

    /// The name of a kind's work queue, and its state if it is there.
    ///
    /// # Errors
    /// The broker's.
    pub async fn work_queue(&self, kind: &str) -> Result<(String, Option<QueueStatus>), Error> {
        let name = names::work_queue(kind);
        let status = self.connection().await?.queue_status(&name).await?;
        Ok((name, status))
    }

    /// Messages in the queue of those that nobody could compute.
    ///
    /// # Errors
    /// The broker's.
    pub async fn dead_letters(&self) -> Result<u64, Error> {
        let status = self.connection().await?.queue_status(names::DEAD).await?;
        Ok(status.map_or(0, |status| status.ready))
    }

    /// Why the broker does not take messages at the moment (a memory or disk alarm), if so.
    pub fn blocked(&self) -> Option<String> {
        let connection = self.shared.connection.borrow().clone()?;
        connection.blocked().borrow().clone()
    }

    /// As [`Boss::blocked`], but asks, for at most `patience`: RabbitMQ tells of an alarm only who publishes.
    pub async fn ask_blocked(&self, patience: Duration) -> Option<String> {
        let connection = self.shared.connection.borrow().clone()?;
        let mut blocked = connection.blocked();
        let asked = async {
            // The message that meets an alarm is still taken, and the next one is not.
            for _ in 0..2 {
                // No queue is bound with an empty key: it reaches nobody.
                let confirm = connection.publish(&Route::exchange(names::WORK, ""), Message::default()).await?;
                confirm.0.await?;
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            biased;
            _ = blocked.wait_for(Option::is_some) => {}
            _ = tokio::time::timeout(patience, asked) => {}
        }
        self.blocked()
    }

    /// Nobody will come for the answers of kept tasks: [`Boss::close`] deletes their queues, too.
    pub fn let_go_of_kept(&self) {
        self.shared.lets_go.store(true, Ordering::Relaxed);
    }

    /// Ends everything unanswered with [`TaskError::Shutdown`], tells the workers, deletes this boss's queues. What is
    /// submitted from now on ends so, too. Kept tasks go on at the workers, and their answers wait for the next boss.
    pub async fn close(&self) {
        self.closing.cancel();
        self.abandon_all();
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervisor) = supervisor {
            // Bounded: the link's goodbye has a time limit of its own.
            let _ = supervisor.await;
        }
        // Submitted meanwhile; from now on nobody takes them.
        self.abandon_all();
    }

    fn abandon_all(&self) {
        let abandoned = self.shared.pending().ids();
        for task in abandoned {
            self.shared.fail(task, TaskError::Shutdown);
        }
    }

    async fn connection(&self) -> Result<Arc<dyn Connection>, Error> {
        let mut connection = self.shared.connection.subscribe();
        let given_up = || Error::Lost("it was given up".into());
        let live = self.shared.ended.run_until_cancelled(connection.wait_for(Option::is_some)).await;
        live.and_then(Result::ok).and_then(|live| live.clone()).ok_or_else(given_up)
    }
}

fn room_units(options: &Options, bytes: u64) -> u32 {
    let window = (options.window_bytes / UNIT).clamp(1, u64::from(u32::MAX));
    u32::try_from(bytes.saturating_add(OVERHEAD_BYTES).div_ceil(UNIT).min(window)).unwrap_or(u32::MAX)
}

/// A place in the window.
pub struct Room<'a> {
    boss: &'a Boss,
    permit: Option<OwnedSemaphorePermit>,
    units: u32,
}

impl Room<'_> {
    /// Submits a task into the place.
    ///
    /// # Errors
    /// What [`Task::encode`] says of a task that can't be right, or [`TaskError::Invalid`] if it is larger than the place.
    pub fn submit<T: Task>(self, task: T, how: Submit) -> Result<Ticket<T>, TaskError> {
        let encoded = task.encode(how.format)?;
        let bytes = encoded.window_bytes();
        if how.format == Format::Binary && room_units(&self.boss.shared.options, bytes) > self.units {
            return Err(TaskError::Invalid(format!("a task of {bytes} bytes in a room of {} KiB", self.units)));
        }
        Ok(self.enter(encoded, how))
    }

    /// Submits a task that is encoded already, under an id of the caller's, for one that hands on what it does not compute
    /// with. The id names this task and no other; that of a task without an outcome, submitted anew by another boss after
    /// the first is gone, is right.
    pub fn submit_encoded(self, id: TaskId, kind: &Kind, encoded: Encoded, how: Submit) -> RawTicket {
        self.submit_as(id, kind, encoded, how, None)
    }

    /// As [`Room::submit_encoded`], a task whose answer waits for the next boss of the same [`Keep`] if this one ends before it
    /// comes. `again`: an earlier one may have submitted it.
    pub fn submit_kept(self, id: TaskId, kind: &Kind, encoded: Encoded, how: Submit, again: bool) -> RawTicket {
        let keeps = self.boss.shared.keep.is_some();
        self.submit_as(id, kind, encoded, how, keeps.then_some(again))
    }

    fn submit_as(self, id: TaskId, kind: &Kind, encoded: Encoded, how: Submit, kept: Option<bool>) -> RawTicket {
        let shared = &self.boss.shared;
        let wall = how
            .deadline
            .map_or(0, |in_time| unix_ms().saturating_add(u64::try_from(in_time.as_millis()).unwrap_or(u64::MAX)));
        let head = TaskHead {
            id,
            kind: kind.to_string(),
            attempt: 0,
            format: encoded.blob.format,
            deadline_unix_ms: wall,
            // Told when it leaves.
            sent_unix_ms: 0,
            flops: encoded.flops,
            payload_bytes: encoded.blob.payload_bytes(),
            checksum: None,
            pull_from: None,
            progress_to: None,
            params: encoded.blob.params,
        };
        let (payload, priority) = (encoded.blob.payload, how.priority.level());
        let outgoing = Outgoing { head, payload, shared: encoded.shared, priority, kept: kept.is_some() };
        let (reply, answered) = oneshot::channel();
        let deadline = how.deadline.and_then(|in_time| ambient::now().checked_add(in_time));
        if let Some(room) = self.permit {
            let caller = Caller { reply, submitted_ns: monotonic_ns(), confirmed_ns: None, _room: room };
            {
                let mut pending = shared.pending();
                pending.insert(Arc::new(outgoing), encoded.answer_bytes, deadline, caller);
                if kept == Some(true) {
                    pending.came_before(id);
                }
            }
            if deadline.is_some() {
                shared.deadline_added.notify_one();
            }
            // Nobody is left to publish it: the broker was given up.
            if shared.submitted.send(id).is_err() {
                shared.fail(id, TaskError::Shutdown);
            }
        }
        RawTicket::new(Handle::new(id, shared), answered)
    }

    fn enter<T: Task>(self, encoded: Encoded, how: Submit) -> Ticket<T> {
        let params = encoded.blob.params.clone();
        Ticket::new(self.submit_encoded(TaskId::random(), &T::KIND, encoded, how), params)
    }
}

/// Ends tasks whose deadline has passed, on this process's own monotonic clock.
async fn reap(shared: Arc<Shared>) {
    loop {
        let next = shared.pending().next_deadline();
        let passed = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = passed => {
                let late = shared.pending().late(ambient::now());
                late.into_iter().for_each(|task| {
                    shared.call_off(task, TaskError::DeadlineExceeded);
                });
            }
            () = shared.deadline_added.notified() => {}
        }
    }
}
