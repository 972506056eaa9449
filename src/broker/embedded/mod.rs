//! A broker in this process: the semantics of RabbitMQ (prefetch, ack, redelivery, exclusive queues, priorities,
//! expiry of queues and of messages) on plain data, for the pool that needs no broker. A body is never copied: publisher and consumer share it.
//!
//! Must not touch: what the bytes mean, the network. Nothing survives the process. Invariants are those of [`state`];
//! the one lock is held for moves of pointers only, never across an await. Limits: no bound on what is queued (the boss
//! bounds it), only what has expired is dead-lettered (this broker rejects nothing by itself), and nobody looks whether it
//! goes in a circle.
//!
//! For simulations it can be put behind a network with faults ([`EmbeddedBroker::with_faults`]): what may go wrong is in
//! [`faults`], what is on its way in [`network`] and [`ferry`]. Without one nothing of that is there.

mod faults;
mod faulty;
mod ferry;
mod network;
mod state;
mod trace;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::faults::FaultPlan;
use self::faulty::FaultyConnection;
use self::network::Network;
use self::state::{Aging, ConnectionId, ConsumerId, Idle, State};
pub use self::trace::Trace;
use super::life::Life;
use super::{
    Broker, Confirm, Connection, Consume, Consumer, Error, ExchangeKind, Message, Published, Queue, QueueStatus, Route,
    Verdict, limits,
};

/// A broker in this process. Clones are the same broker.
#[derive(Clone)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
    /// Whose connections go over a network with faults, and over which.
    faulty: Option<(Arc<str>, Arc<Network>)>,
}

struct Shared {
    state: Mutex<State>,
    lives: Mutex<BTreeMap<ConnectionId, (Arc<Life>, Handle)>>,
    last_connection: AtomicU64,
    blocked: watch::Sender<Option<String>>,
    /// Dropped with the broker, which ends them.
    timers: Mutex<JoinSet<()>>,
}

/// What expires.
enum Due {
    Queue(Idle),
    Messages(Aging),
}

impl Shared {
    /// A panic in here would be a bug, but the data is in order between any two moves: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, (Arc<Life>, Handle)>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disconnect(self: &Arc<Self>, connection: ConnectionId, runtime: &Handle) {
        let idle = self.change(runtime, |state| state.disconnect(connection));
        idle.into_iter().for_each(|idle| expire_later(runtime, self, idle));
    }

    /// A change that may put messages into queues: sets the timers of those that will expire there.
    fn change<T>(self: &Arc<Self>, runtime: &Handle, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, aging) = {
            let mut state = self.state();
            (change(&mut state), state.take_aging())
        };
        aging.into_iter().for_each(|aging| self.later(runtime, aging.ttl, Due::Messages(aging)));
        result
    }

    /// Does something when its time is over, if the broker is still there.
    fn later(self: &Arc<Self>, runtime: &Handle, after: Duration, due: Due) {
        let (shared, own) = (Arc::downgrade(self), runtime.clone());
        let timer = async move {
            tokio::time::sleep(after).await;
            match (shared.upgrade(), due) {
                (None, _) => {}
                (Some(shared), Due::Queue(idle)) => shared.state().expire(&idle),
                (Some(shared), Due::Messages(aging)) => shared.change(&own, |state| state.overdue(&aging)),
            }
        };
        let mut timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        while timers.try_join_next().is_some() {}
        timers.spawn_on(timer, runtime);
    }
}

impl EmbeddedBroker {
    /// An empty broker.
    pub fn new() -> Self {
        let shared = Shared {
            state: Mutex::default(),
            lives: Mutex::default(),
            last_connection: AtomicU64::new(0),
            blocked: watch::channel(None).0,
            timers: Mutex::default(),
        };
        EmbeddedBroker { shared: Arc::new(shared), faulty: None }
    }

    /// An empty broker over a network where what the plan says goes wrong. It is for tests and simulations, in a runtime of
    /// one thread with its time paused: then the same plan gives the same faults at the same moments.
    pub fn with_faults(plan: FaultPlan) -> Self {
        let broker = Self::new();
        let network = Network::new(broker.shared.clone(), plan);
        EmbeddedBroker { faulty: Some(("program".into(), Arc::new(network))), ..broker }
    }

    /// The same broker for a program of this name: for [`EmbeddedBroker::crash`], and to be told apart in the trace.
    pub fn named(&self, program: &str) -> Self {
        let faulty = self.faulty.as_ref().map(|(_, network)| (program.into(), network.clone()));
        EmbeddedBroker { shared: self.shared.clone(), faulty }
    }

    /// The same broker, past its network and its faults.
    pub fn without_faults(&self) -> Self {
        EmbeddedBroker { shared: self.shared.clone(), faulty: None }
    }

    /// The death of the program that has this broker, and all its clones, by its name: what it does from now on reaches nobody.
    pub fn crash(&self) {
        if let Some((program, network)) = &self.faulty {
            network.crash(program);
        }
    }

    /// From now on nothing goes wrong.
    pub fn calm(&self) {
        if let Some((_, network)) = &self.faulty {
            network.dice(faults::Dice::calm);
        }
    }

    /// What happened on the network; nothing is noted without one.
    pub fn trace(&self) -> Trace {
        self.faulty.as_ref().map(|(_, network)| network.trace()).unwrap_or_default()
    }

    /// What each queue has, by name: messages ready, and messages delivered but not settled.
    pub fn contents(&self) -> Vec<(String, usize, usize)> {
        self.shared.state().contents()
    }

    /// Ends every connection, as a restart of a broker would; queues that are not exclusive keep their messages.
    pub fn sever(&self) {
        if let Some((_, network)) = &self.faulty {
            network.lines().into_iter().for_each(|line| line.cut("it was severed", Duration::ZERO, Duration::ZERO));
        }
        let lives = std::mem::take(&mut *self.shared.lives());
        for (id, (life, runtime)) in lives {
            life.end("the embedded broker severed it");
            self.shared.disconnect(id, &runtime);
        }
    }

    /// Blocks publishing with a reason, as an alarm of a broker would, or with `None` lets it go on.
    pub fn block(&self, reason: Option<&str>) {
        self.shared.blocked.send_replace(reason.map(str::to_owned));
    }
}

impl Default for EmbeddedBroker {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn connect(&self) -> Result<Arc<dyn Connection>, Error> {
        let id = self.shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some((program, network)) = &self.faulty {
            return Ok(Arc::new(FaultyConnection { line: network.connect(program, id).await? }));
        }
        let life = Arc::new(Life::default());
        // Queues wait for their expiry there: a connection may be dropped outside of any runtime.
        let runtime = Handle::current();
        self.shared.lives().insert(id, (Arc::clone(&life), runtime.clone()));
        let shared = Arc::clone(&self.shared);
        let (consumers, closing) = (Mutex::default(), CancellationToken::new());
        Ok(Arc::new(EmbeddedConnection { id, shared, life, runtime, consumers, closing }))
    }

    fn address(&self) -> String {
        "embedded".to_owned()
    }

    fn local_address(&self) -> String {
        "embedded".to_owned()
    }
}

struct EmbeddedConnection {
    id: ConnectionId,
    shared: Arc<Shared>,
    life: Arc<Life>,
    runtime: Handle,
    /// Dropped with the connection, which ends them.
    consumers: Mutex<JoinSet<()>>,
    closing: CancellationToken,
}

impl EmbeddedConnection {
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        self.life.check()?;
        Ok(self.shared.state())
    }

    fn consumers(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: &str) {
        self.life.end(reason);
        self.shared.lives().remove(&self.id);
        self.shared.disconnect(self.id, &self.runtime);
    }
}

impl Drop for EmbeddedConnection {
    fn drop(&mut self) {
        self.end("its last handle was dropped");
    }
}

#[async_trait]
impl Connection for EmbeddedConnection {
    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        limits::check_name("declare an exchange", name)?;
        self.state()?.declare_exchange(name, kind)
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), Error> {
        limits::check_queue(queue)?;
        let idle = {
            let mut state = self.state()?;
            state.declare_queue(self.id, queue)?;
            state.idle(&queue.name)
        };
        if let Some(idle) = idle {
            expire_later(&self.runtime, &self.shared, idle);
        }
        Ok(())
    }

    async fn bind_queue(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error> {
        limits::check_name("bind a queue", routing_key)?;
        self.state()?.bind(self.id, queue, exchange, routing_key)
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), Error> {
        self.state()?.delete_queue(self.id, queue)
    }

    async fn queue_status(&self, queue: &str) -> Result<Option<QueueStatus>, Error> {
        self.state()?.status(self.id, queue)
    }

    async fn publish(&self, route: &Route, message: Message) -> Result<Confirm, Error> {
        limits::check_message(route, &message)?;
        if self.shared.blocked.borrow().is_some() {
            let mut blocked = self.shared.blocked.subscribe();
            tokio::select! {
                // The sender lives as long as `self`, so this is the end of the blocking.
                _ = blocked.wait_for(Option::is_none) => {}
                lost = self.life.ended() => return Err(lost),
            }
        }
        self.life.check()?;
        let routed = self.shared.change(&self.runtime, |state| state.publish(route.clone(), message));
        let published = routed.map(|routed| if routed { Published::Routed } else { Published::Unroutable });
        Ok(Confirm(Box::pin(std::future::ready(published))))
    }

    async fn consume(&self, queue: &str, options: Consume) -> Result<Consumer, Error> {
        let (deliveries_in, deliveries) = mpsc::unbounded_channel();
        let (verdicts_in, verdicts) = mpsc::unbounded_channel();
        let (cancel, cancelled) = oneshot::channel();
        let id = self.state()?.consume(self.id, queue, options, deliveries_in, verdicts_in)?;
        let work = settle(Arc::downgrade(&self.shared), id, verdicts, cancelled, self.closing.clone());
        let mut consumers = self.consumers();
        while consumers.try_join_next().is_some() {}
        consumers.spawn(work);
        Ok(Consumer { deliveries, ended: Arc::default(), _cancel: cancel })
    }

    fn inline_max_bytes(&self) -> usize {
        usize::MAX
    }

    fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.shared.blocked.subscribe()
    }

    async fn closed(&self) -> Error {
        self.life.ended().await
    }

    async fn close(&self) {
        self.closing.cancel();
        let mut consumers = std::mem::take(&mut *self.consumers());
        while consumers.join_next().await.is_some() {}
        self.end("it was closed");
    }
}

/// The broker's side of one consumer: takes its verdicts until there can be no more, and its cancel.
async fn settle(
    shared: Weak<Shared>,
    id: ConsumerId,
    mut verdicts: mpsc::UnboundedReceiver<(u64, Verdict)>,
    mut cancelled: oneshot::Receiver<()>,
    closing: CancellationToken,
) {
    let mut batch = Vec::new();
    let mut consuming = true;
    loop {
        tokio::select! {
            // In this order, so that a verdict given before the close counts.
            biased;
            // Without end: the state keeps a sender until the consumer is cancelled.
            taken = verdicts.recv_many(&mut batch, 1024) => {
                let Some(shared) = shared.upgrade() else { return };
                if taken == 0 {
                    let idle = shared.change(&Handle::current(), |state| state.remove_consumer(id));
                    idle.into_iter().for_each(|idle| expire_later(&Handle::current(), &shared, idle));
                    return;
                }
                shared.change(&Handle::current(), |state| state.settle(id, &batch));
                batch.clear();
            }
            _ = &mut cancelled, if consuming => {
                consuming = false;
                let Some(shared) = shared.upgrade() else { return };
                let idle = shared.state().cancel(id);
                idle.into_iter().for_each(|idle| expire_later(&Handle::current(), &shared, idle));
            }
            () = closing.cancelled() => return,
        }
    }
}

fn expire_later(runtime: &Handle, shared: &Arc<Shared>, idle: Idle) {
    shared.later(runtime, idle.expires, Due::Queue(idle));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_dropped_leaves_no_timer_behind() {
        let alive = || Handle::current().metrics().num_alive_tasks();
        let broker = EmbeddedBroker::new();
        let connection = broker.connect().await.unwrap();
        let day = Some(Duration::from_secs(86_400));
        let queue = Queue { name: "q".into(), expires: day, message_ttl: day, ..Queue::default() };
        connection.declare_queue(&queue).await.unwrap();
        connection.publish(&Route::queue("q"), Message::default()).await.unwrap();
        assert_eq!(alive(), 2, "one for the queue, one for the message");
        drop((broker, connection));
        while alive() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
