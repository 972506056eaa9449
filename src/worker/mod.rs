//! A worker: consumes tasks, computes them on its own threads, answers, and says that it is there.
//!
//! Must not touch: what a kind computes (it only knows [`crate::task::Handler`]), the boss, broker types.
//!
//! Invariants: the outcome is confirmed first, then the task acked, so a dead worker loses nothing; memory is reserved
//! before a payload is fetched, and nothing for a task whose boss is away; at most one task per four slots is fetched
//! ahead; no handler runs on an async thread; a panic in a handler is an outcome; a task that is stopped because its
//! connection is lost has no outcome.

mod alone;
mod clocks;
mod compute;
mod delivery;
mod health;
mod identity;
mod intake;
mod launcher;
mod memory;
mod presence;
mod progress;
mod recent;
mod registry;
mod running;
mod session;
mod shared;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, Error};
use crate::task::Handler;
use crate::transport::backoff::Backoff;
pub use compute::Compute;
use compute::Computing;
pub use health::Health;
pub use identity::{Claim, Identity};
pub use launcher::Launcher;
pub use memory::{Memory, free_bytes as free_memory_bytes};
use registry::Registry;
use running::Running;

/// What a worker may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Small tasks computed at a time. Default: the cores.
    pub slots: usize,
    /// Threads that one large task may use, at most `slots`. Default: as many.
    pub threads: usize,
    /// Messages taken ahead of their ack. Default: `slots + 1`.
    pub prefetch: u16,
    /// Bytes that payloads and work space may take in all. Default: 70 % of what is free.
    pub memory_bytes: u64,
    /// Declare work queues as quorum queues.
    pub quorum: bool,
    /// Attempts before a task that kills its worker is dead-lettered.
    pub attempts_max: u32,
    /// Bytes shared with other workers of this process, in place of `memory_bytes` of its own.
    pub memory: Option<Memory>,
    /// For whom it computes, if not for this process.
    pub identity: Option<Identity>,
    /// Take one task at a time, of whatever kind, and none before the last is answered; several that come in one message
    /// are published anew, each alone. For a worker to whom the next task is nothing to wait for, because it is slow, or may
    /// go. `prefetch` is then 1.
    pub one_by_one: bool,
    /// A large task whose boss is away, so that its payload can't be asked for, waits for so long before somebody looks
    /// again. The same for all workers of a broker.
    pub later: Duration,
    /// Is told how the worker is.
    pub health: watch::Sender<Health>,
    /// Where handlers run. Default: on threads of the worker's own.
    pub compute: Compute,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            slots: cores,
            threads: cores,
            prefetch: u16::try_from(cores + 1).unwrap_or(u16::MAX),
            memory_bytes: memory::default_limit_bytes(),
            quorum: false,
            attempts_max: 5,
            memory: None,
            identity: None,
            one_by_one: false,
            later: Duration::from_secs(10),
            health: watch::Sender::default(),
            compute: Compute::Threads,
        }
    }
}

/// What a worker has done when it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Tasks answered.
    pub done: u64,
    /// Of these, with an error.
    pub failed: u64,
}

/// Everything a worker keeps over reconnects.
struct Worker {
    identity: Identity,
    options: Options,
    registry: Registry,
    compute: Computing,
    slots: Arc<Semaphore>,
    /// Held from the start of a fetch until its task has its slots: one task per four slots is fetched ahead, not the
    /// whole prefetch.
    ahead: Semaphore,
    memory: Memory,
    shared: shared::SharedPayloads,
    /// Results queues that nobody reads any more, and those that somebody did when the broker was asked.
    gone: presence::BossQueues,
    there: presence::BossQueues,
    /// Pull queues that go with the connections of their bosses.
    locked: presence::BossQueues,
    running: Arc<Running>,
    clocks: clocks::Clocks,
    /// Work queues that were not there when this worker looked, and of which it has not told anybody yet; whether each had
    /// been there before.
    lost: Mutex<BTreeMap<String, bool>>,
    /// Connections so far.
    sessions: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// Works until `shutdown` is cancelled, then drains: takes nothing new, finishes what runs, hands back what was only
/// prefetched, leaves the directory. Reconnects by itself once it has been connected.
///
/// # Errors
/// The first connection's error, or a later one that connecting again can't heal (the broker refuses us).
pub async fn run(
    broker: Arc<dyn Broker>,
    handlers: Vec<Arc<dyn Handler>>,
    options: Options,
    shutdown: CancellationToken,
) -> Result<Summary, Error> {
    let worker = Arc::new(Worker::new(handlers, options, broker.local_address()));
    let queues = worker.registry.kinds().len();
    worker.health(|health| *health = Health { queues, reason: Some("connecting".into()), ..Health::default() });
    let mut backoff = Backoff::default();
    let mut was_connected = false;
    while !shutdown.is_cancelled() {
        let ended = match session::Session::open(&*broker, worker.clone()).await {
            Ok(session) => {
                (was_connected, backoff) = (true, Backoff::default());
                session.run(&shutdown).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => break,
            Err(error) if !was_connected || !error.is_transient() => {
                worker.health(|health| (health.consuming, health.reason) = (0, Some(error.to_string())));
                return Err(error);
            }
            Err(error) => {
                worker.health(|health| (health.consuming, health.reason) = (0, Some(error.to_string())));
                let wait = backoff.next();
                tracing::warn!(%error, retry_ms = wait.as_millis() as u64, "not connected");
                tokio::select! { biased; () = shutdown.cancelled() => {}, () = tokio::time::sleep(wait) => {} }
            }
        }
    }
    Ok(worker.summary())
}

impl Worker {
    fn new(handlers: Vec<Arc<dyn Handler>>, options: Options, address: String) -> Self {
        let memory = options.memory.clone().unwrap_or_else(|| Memory::new(options.memory_bytes));
        Worker {
            identity: options.identity.clone().unwrap_or_else(|| Identity::own(address)),
            registry: Registry::new(handlers),
            compute: Computing::start(&options.compute, options.slots, options.threads),
            slots: Arc::new(Semaphore::new(options.slots)),
            ahead: Semaphore::new((options.slots / 4).max(1)),
            // Beside what tasks have reserved, as with the buffers: memory that is idle and worth its keep.
            shared: shared::SharedPayloads::new(memory.limit_bytes() / 8),
            memory,
            gone: presence::BossQueues::default(),
            there: presence::BossQueues::default(),
            locked: presence::BossQueues::default(),
            running: Arc::default(),
            clocks: clocks::Clocks::default(),
            lost: Mutex::default(),
            sessions: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            options,
        }
    }

    fn health(&self, change: impl FnOnce(&mut Health)) {
        self.options.health.send_modify(change);
    }

    fn summary(&self) -> Summary {
        use std::sync::atomic::Ordering::Relaxed;
        Summary { done: self.done.load(Relaxed), failed: self.failed.load(Relaxed) }
    }
}
