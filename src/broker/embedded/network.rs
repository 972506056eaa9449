//! The network between programs and a broker with faults: lines, what is on its way on them, and what befalls them.
//!
//! Must not touch: what is likely ([`super::faults`] throws the dice), what a queue is ([`super::state`]). Invariants: what is
//! on its way on a line arrives in the order it was sent; after the cut of a line nothing passes; of what was on its way then,
//! the first messages and the first acks may have arrived; its end of the broker goes once, and so does its program's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::{Dice, Fault, FaultPlan};
use super::state::{ConnectionId, ConsumerId};
use super::trace::Trace;
use super::{Error, Life, Message, Published, Route, Shared, Verdict};

/// All lines to one broker.
pub(super) struct Network {
    pub(super) broker: Arc<Shared>,
    start: Instant,
    inside: Mutex<Inside>,
}

struct Inside {
    dice: Dice,
    trace: Trace,
    /// Until both ends know of their end.
    lines: BTreeMap<ConnectionId, Arc<Line>>,
    /// Programs that are no more.
    crashed: BTreeSet<String>,
    /// The broker is away until then,
    down_until: Instant,
    /// or takes no messages.
    blocked_until: Instant,
}

/// What is on its way, in order, and when it arrives.
pub(super) type Underway<T> = VecDeque<(Instant, T)>;

/// A message that has left its program.
pub(super) struct Sent {
    pub(super) route: Route,
    pub(super) message: Message,
    /// What became of it, and when its program hears of that.
    pub(super) answer: oneshot::Sender<(Result<Published, Error>, Instant)>,
}

/// A connection of a program: its end, the broker's end, and what is between them.
pub(super) struct Line {
    pub(super) network: Arc<Network>,
    pub(super) id: ConnectionId,
    program: Arc<str>,
    /// What the program knows of it.
    pub(super) life: Life,
    /// Nothing passes from then on.
    pub(super) cut: CancellationToken,
    cut_at: OnceLock<Instant>,
    /// The program says goodbye.
    pub(super) closing: CancellationToken,
    pub(super) ferries: TaskTracker,
    /// The broker has seen its end.
    pub(super) gone: CancellationToken,
    /// A line may end outside of any runtime.
    pub(super) runtime: Handle,
    outbox: Mutex<Underway<Sent>>,
    sent: Notify,
    acks: Mutex<BTreeMap<ConsumerId, Underway<(u64, Verdict)>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is in order between any two moves: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When what is put behind these arrives: not before them.
pub(super) fn due<T>(queue: &Underway<T>, way: Duration) -> Instant {
    let at = Instant::now() + way;
    queue.back().map_or(at, |(before, _)| at.max(*before))
}

impl Network {
    pub(super) fn new(broker: Arc<Shared>, plan: FaultPlan) -> Self {
        let now = Instant::now();
        let inside = Inside {
            dice: Dice::new(plan),
            trace: Trace::default(),
            lines: BTreeMap::new(),
            crashed: BTreeSet::new(),
            down_until: now,
            blocked_until: now,
        };
        Network { broker, start: now, inside: Mutex::new(inside) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }

    pub(super) fn dice<T>(&self, throw: impl FnOnce(&mut Dice) -> T) -> T {
        throw(&mut self.inside().dice)
    }

    pub(super) fn trace(&self) -> Trace {
        self.inside().trace.clone()
    }

    pub(super) fn note(&self, event: fmt::Arguments<'_>) {
        let mut inside = self.inside();
        inside.trace.note(self.start.elapsed(), event);
    }

    pub(super) fn count(&self, fault: &'static str) {
        self.inside().trace.count(fault);
    }

    pub(super) fn lines(&self) -> Vec<Arc<Line>> {
        self.inside().lines.values().cloned().collect()
    }

    /// A new line for a program, if it comes about.
    pub(super) async fn connect(self: &Arc<Self>, program: &Arc<str>, id: ConnectionId) -> Result<Arc<Line>, Error> {
        let (way, refused) = self.dice(Dice::connect);
        sleep(way).await;
        let refused = refused || self.inside().crashed.contains(&**program);
        if refused || Instant::now() < self.inside().down_until {
            self.count("connect failed");
            self.note(format_args!("{program}#{id} is not connected"));
            let reason = "a fault of the plan".to_owned();
            return Err(Error::Unreachable { address: "embedded".to_owned(), reason });
        }
        let line = Arc::new(Line {
            network: self.clone(),
            id,
            program: program.clone(),
            life: Life::default(),
            cut: CancellationToken::new(),
            cut_at: OnceLock::new(),
            closing: CancellationToken::new(),
            ferries: TaskTracker::new(),
            gone: CancellationToken::new(),
            runtime: Handle::current(),
            outbox: Mutex::default(),
            sent: Notify::new(),
            acks: Mutex::default(),
        });
        self.note(format_args!("{line} is connected"));
        self.inside().lines.insert(id, line.clone());
        tokio::spawn(line.clone().carry());
        Ok(line)
    }

    /// The death of a program: whatever it does from now on reaches nobody.
    pub(super) fn crash(&self, program: &str) {
        self.count("program crashed");
        self.note(format_args!("{program} crashes"));
        self.inside().crashed.insert(program.to_owned());
        for line in self.lines().into_iter().filter(|line| *line.program == *program) {
            let noticed = self.dice(Dice::crash_noticed);
            line.cut("its program crashed", Duration::ZERO, noticed);
        }
    }

    fn restart(&self, away: Duration) {
        self.count("broker restarted");
        self.note(format_args!("the broker restarts, and is away for {away:?}"));
        for line in self.lines() {
            line.cut("the broker was restarted", Duration::ZERO, Duration::ZERO);
            line.far_end();
        }
        self.broker.state().restart();
        self.inside().down_until = Instant::now() + away;
    }

    fn alarm(self: &Arc<Self>, runtime: &Handle, lasting: Duration) {
        self.count("alarm");
        self.note(format_args!("the broker has an alarm for {lasting:?}"));
        let until = Instant::now() + lasting;
        let network = self.clone();
        self.inside().blocked_until = until;
        self.broker.blocked.send_replace(Some("a fault of the plan".to_owned()));
        runtime.spawn(async move {
            sleep_until(until).await;
            if network.inside().blocked_until == until {
                network.broker.blocked.send_replace(None);
            }
        });
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.program, self.id)
    }
}

impl Line {
    /// Something begins its way: how long that is. What befalls it befalls the line as a whole, but for a channel's death,
    /// which is the consumer's to die.
    pub(super) fn movement(&self, consumed: bool) -> (Duration, bool) {
        let (way, fault) = self.network.dice(|dice| (dice.way(), dice.fault(consumed)));
        match fault {
            None => {}
            Some(Fault::ChannelDeath) => return (way, true),
            Some(Fault::Cut { near, far }) => {
                self.network.count(match (near.is_zero(), far.is_zero()) {
                    (true, true) => "connection cut",
                    (false, _) => "connection cut, seen late by its program",
                    (true, false) => "connection cut, seen late by the broker",
                });
                self.cut("a fault of the plan", near, far);
            }
            Some(Fault::Restart(away)) => self.network.restart(away),
            Some(Fault::Alarm(lasting)) => self.network.alarm(&self.runtime, lasting),
        }
        (way, false)
    }

    /// Goes from one end to the other.
    pub(super) async fn travel(&self) -> Result<(), Error> {
        let (way, _) = self.movement(false);
        self.pause(way).await;
        if self.cut.is_cancelled() { Err(self.life.ended().await) } else { self.life.check() }
    }

    async fn pause(&self, way: Duration) {
        if !way.is_zero() {
            tokio::select! { biased; _ = self.life.ended() => {}, () = sleep(way) => {} }
        }
    }

    /// Waits while the broker has an alarm.
    pub(super) async fn unblocked(&self) -> Result<(), Error> {
        loop {
            self.life.check()?;
            let until = self.network.inside().blocked_until;
            if until <= Instant::now() {
                return Ok(());
            }
            tokio::select! { biased; _ = self.life.ended() => {}, () = sleep_until(until) => {} }
        }
    }

    /// Sends a message on its way.
    pub(super) fn send(&self, sent: Sent) {
        if self.cut.is_cancelled() {
            return;
        }
        let way = self.network.dice(Dice::way);
        {
            let mut outbox = lock(&self.outbox);
            let due = due(&outbox, way);
            outbox.push_back((due, sent));
        }
        self.sent.notify_one();
        self.movement(false);
    }

    /// Brings messages to the broker until the cut.
    async fn carry(self: Arc<Self>) {
        loop {
            let next = lock(&self.outbox).front().map(|(due, _)| *due);
            let waited = async {
                match next {
                    None => self.sent.notified().await,
                    Some(due) if due <= Instant::now() => {}
                    Some(due) => sleep_until(due).await,
                }
            };
            tokio::select! { biased; () = self.cut.cancelled() => return, _ = self.life.ended() => return, () = waited => {} }
            let arrived = {
                let mut outbox = lock(&self.outbox);
                if outbox.front().is_some_and(|(due, _)| *due <= Instant::now()) { outbox.pop_front() } else { None }
            };
            if let Some((_, sent)) = arrived {
                self.arrive(sent);
                // The confirm begins its way.
                self.movement(false);
            }
        }
    }

    fn arrive(&self, sent: Sent) {
        let Sent { route, message, answer } = sent;
        let twice = !route.exchange.is_empty() && self.network.dice(Dice::duplicates);
        let id = message.correlation_id.clone().unwrap_or_default();
        let (key, bytes) = (format!("{}/{}", route.exchange, route.key), message.body_bytes());
        let copy = twice.then(|| (route.clone(), message.clone()));
        let publish = |route, message| self.network.broker.change(&self.runtime, |state| state.publish(route, message));
        let routed = publish(route, message);
        if let Some((route, message)) = copy {
            drop(publish(route, message));
        }
        if twice {
            self.network.count("message doubled");
        }
        let times = if twice { "twice " } else { "" };
        self.network.note(format_args!("{self} publishes {times}to {key}: {bytes} bytes {id}"));
        let published = routed.map(|routed| if routed { Published::Routed } else { Published::Unroutable });
        let heard = Instant::now() + self.network.dice(Dice::way);
        // Nobody may want to know.
        let _ = answer.send((published, heard));
    }

    /// What became of a message, once its program has heard of it.
    pub(super) async fn confirmed(
        self: Arc<Self>,
        answered: oneshot::Receiver<(Result<Published, Error>, Instant)>,
    ) -> Result<Published, Error> {
        let Ok((published, heard)) = answered.await else { return Err(self.life.ended().await) };
        if heard > Instant::now() {
            tokio::select! { biased; () = sleep_until(heard) => {}, _ = self.life.ended() => {} }
        }
        if self.cut_at.get().is_some_and(|cut_at| *cut_at < heard) {
            self.network.count("confirm lost");
            return Err(self.life.ended().await);
        }
        published
    }

    /// An ack begins its way.
    pub(super) fn ack(&self, consumer: ConsumerId, verdict: (u64, Verdict)) {
        let way = self.network.dice(Dice::way);
        let mut acks = lock(&self.acks);
        let queue = acks.entry(consumer).or_default();
        let due = due(queue, way);
        queue.push_back((due, verdict));
    }

    /// When the next of a consumer's acks arrives.
    pub(super) fn next_ack(&self, consumer: ConsumerId) -> Option<Instant> {
        lock(&self.acks).get(&consumer).and_then(|queue| queue.front()).map(|(due, _)| *due)
    }

    /// Those of a consumer's acks that have arrived by now, or else the first `count`, are settled.
    pub(super) fn settle(&self, consumer: ConsumerId, count: Option<usize>) {
        let now = Instant::now();
        let arrived: Vec<(u64, Verdict)> = {
            let mut acks = lock(&self.acks);
            let Some(queue) = acks.get_mut(&consumer) else { return };
            let due = count.unwrap_or_else(|| queue.iter().take_while(|(due, _)| *due <= now).count());
            queue.drain(..due.min(queue.len())).map(|(_, verdict)| verdict).collect()
        };
        if !arrived.is_empty() {
            self.network.note(format_args!("{self} consumer {consumer} settles {arrived:?}"));
            self.network.broker.change(&self.runtime, |state| state.settle(consumer, &arrived));
        }
    }

    /// Some of a consumer's acks that are on their way are settled, the first ones, and the rest is lost.
    pub(super) fn settle_some(&self, consumer: ConsumerId) {
        let on_the_way = lock(&self.acks).get(&consumer).map_or(0, VecDeque::len) as u64;
        let count = self.network.dice(|dice| dice.below(on_the_way + 1));
        self.settle(consumer, Some(count as usize));
        (count..on_the_way).for_each(|_| self.network.count("ack lost"));
        lock(&self.acks).remove(&consumer);
    }

    /// Ends the line: at once, but so much later for its program and for the broker.
    pub(super) fn cut(&self, reason: &str, near: Duration, far: Duration) {
        if self.cut.is_cancelled() {
            return;
        }
        // No confirm of what arrives now is heard.
        let _ = self.cut_at.set(Instant::now());
        self.cut.cancel();
        self.network
            .note(format_args!("{self} is cut ({reason}): its program sees it in {near:?}, the broker in {far:?}"));
        let sent = std::mem::take(&mut *lock(&self.outbox));
        let arrive = self.network.dice(|dice| dice.below(sent.len() as u64 + 1));
        (arrive..sent.len() as u64).for_each(|_| self.network.count("message lost"));
        sent.into_iter().take(arrive as usize).for_each(|(_, sent)| self.arrive(sent));
        let consumers: Vec<ConsumerId> = lock(&self.acks).keys().copied().collect();
        consumers.into_iter().for_each(|consumer| self.settle_some(consumer));
        self.later(near, {
            let reason = reason.to_owned();
            move |line| line.life.end(reason)
        });
        self.later(far, |line| line.far_end());
    }

    fn later(&self, after: Duration, end: impl FnOnce(&Line) + Send + 'static) {
        if after.is_zero() {
            return end(self);
        }
        let Some(line) = self.network.inside().lines.get(&self.id).cloned() else { return end(self) };
        self.runtime.spawn(async move {
            sleep(after).await;
            end(&line);
        });
    }

    /// The broker sees the end: exclusive queues go, what is unacked goes back.
    pub(super) fn far_end(&self) {
        if self.network.inside().lines.remove(&self.id).is_some() {
            self.network.note(format_args!("{self} ends for the broker"));
            self.network.broker.disconnect(self.id, &self.runtime);
            self.gone.cancel();
        }
    }

    /// Says goodbye: all that is on its way arrives first.
    pub(super) async fn close(&self) {
        if self.cut.is_cancelled() {
            // It has to find out.
            self.life.ended().await;
            return;
        }
        if self.travel().await.is_err() {
            return;
        }
        self.closing.cancel();
        self.ferries.close();
        self.ferries.wait().await;
        let sent = std::mem::take(&mut *lock(&self.outbox));
        sent.into_iter().for_each(|(_, sent)| self.arrive(sent));
        self.life.end("it was closed");
        self.cut.cancel();
        self.far_end();
    }
}
