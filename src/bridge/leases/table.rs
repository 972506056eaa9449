//! Who is there, who asks, and who has which task: the leases as plain data. The clock is passed in.
//!
//! Invariants: a session has at most one task, and at most one request that waits; a task that was offered gets exactly one
//! [`Verdict`]; an id is either in `leases`, and its session has it, or the lease is over.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lease::Key;
use super::{Ended, Lease, LeaseError, LeaseId, Leased, Renewed};
use crate::broker;
use crate::task::{Blob, HandBack, Kind, TaskError, Watch};

/// What is done of a task that has just been leased: the least that can be said.
const BEGUN: f64 = 0.001;

/// A session, by number. Requests have numbers of the same series.
pub(super) type Number = u64;

/// What comes of a task that was offered.
#[derive(Debug)]
pub(super) enum Verdict {
    Outcome(Result<Blob, TaskError>),
    /// It goes back to its queue.
    Back(HandBack),
}

/// A task that waits for somebody to compute it, or for what comes of that.
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) blob: Blob,
    pub(super) watch: Watch,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

impl Held {
    /// Settles it. One that nobody wants any more has that for an outcome, whatever else came of it.
    fn settle(self, verdict: Verdict) {
        let verdict = self.watch.check().map_or_else(|stopped| Verdict::Outcome(Err(stopped)), |()| verdict);
        // Its handler waits for it.
        let _ = self.verdict.send(verdict);
    }
}

struct Open {
    id: LeaseId,
    held: Held,
    expires: Instant,
    /// An answer is being checked, which takes the time it takes.
    answering: bool,
}

enum Hand {
    Empty,
    Offered(Held),
    Leased(Open),
}

struct Asking {
    turn: Number,
    /// Gone once it was told to come and take.
    wake: Option<oneshot::Sender<Result<(), LeaseError>>>,
}

/// One outside worker, and the worker of this process that is its front.
pub(super) struct Session {
    key: Key,
    kinds: Vec<Kind>,
    /// Cancelled when it ends.
    stop: CancellationToken,
    /// What is due has changed.
    changed: Arc<Notify>,
    asking: Option<Asking>,
    hand: Hand,
    /// Since when it has neither a lease nor a request, if so.
    quiet_since: Instant,
}

/// Why a session ends.
pub(super) enum Over {
    /// Nobody has asked for a while.
    Quiet,
    /// Its lease was not renewed.
    Expired,
    /// Another takes its place.
    Replaced,
    Closed,
    Broken(broker::Error),
}

/// When to look at a session again.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    At(Instant),
    /// When it has changed.
    Changed,
    /// It is over.
    Over,
}

/// What became of a request.
pub(super) enum Asked {
    /// It waits in this session, until it is told to [`Table::take`].
    Waiting { session: Number, turn: Number, woken: oneshot::Receiver<Result<(), LeaseError>> },
    /// There is no session for it: [`Table::begin`] one.
    Nobody,
}

/// The leases that ended last.
#[derive(Default)]
struct EndedLeases {
    how: HashMap<LeaseId, Ended>,
    order: VecDeque<LeaseId>,
}

impl EndedLeases {
    const KEEP: usize = 4096;

    fn add(&mut self, lease: LeaseId, how: Ended) {
        self.how.insert(lease, how);
        self.order.push_back(lease);
        if self.order.len() > Self::KEEP
            && let Some(oldest) = self.order.pop_front()
        {
            self.how.remove(&oldest);
        }
    }
}

/// Everything there is.
pub(super) struct Table {
    lease: Duration,
    grace: Duration,
    sessions: HashMap<Number, Session>,
    by_key: HashMap<Key, Number>,
    leases: HashMap<LeaseId, Number>,
    ended: EndedLeases,
    last: Number,
    closed: bool,
}

impl Table {
    /// Leases are for `lease` until they are renewed; a session lives for `grace` without one and without a request.
    pub(super) fn new(lease: Duration, grace: Duration) -> Self {
        Table {
            lease,
            grace,
            sessions: HashMap::new(),
            by_key: HashMap::new(),
            leases: HashMap::new(),
            ended: EndedLeases::default(),
            last: 0,
            closed: false,
        }
    }

    /// Sessions and leases.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.sessions.len(), self.leases.len())
    }

    fn number(&mut self) -> Number {
        self.last += 1;
        self.last
    }

    /// A worker asks for a task. The request takes the place of one that it has left waiting.
    pub(super) fn ask(&mut self, key: &Key, kinds: &[Kind], now: Instant) -> Result<Asked, LeaseError> {
        if self.closed {
            return Err(LeaseError::Closing);
        }
        let turn = self.number();
        let Some(&number) = self.by_key.get(key) else { return Ok(Asked::Nobody) };
        let Some(session) = self.sessions.get_mut(&number) else { return Ok(Asked::Nobody) };
        if let Hand::Leased(open) = &session.hand {
            return Err(LeaseError::Busy { expires_in: open.expires.saturating_duration_since(now) });
        }
        if session.kinds != kinds {
            self.end(number, Over::Replaced);
            return Ok(Asked::Nobody);
        }
        let (wake, woken) = oneshot::channel();
        let mut asking = Asking { turn, wake: Some(wake) };
        if matches!(session.hand, Hand::Offered(_)) {
            asking.wake(Ok(()));
        }
        if let Some(mut before) = session.asking.replace(asking) {
            before.wake(Err(LeaseError::Replaced));
        }
        session.changed.notify_one();
        Ok(Asked::Waiting { session: number, turn, woken })
    }

    /// A session of a worker that has none.
    pub(super) fn begin(
        &mut self,
        key: Key,
        kinds: Vec<Kind>,
        stop: CancellationToken,
        changed: Arc<Notify>,
        now: Instant,
    ) -> Number {
        let number = self.number();
        self.by_key.insert(key.clone(), number);
        let session = Session { key, kinds, stop, changed, asking: None, hand: Hand::Empty, quiet_since: now };
        self.sessions.insert(number, session);
        number
    }

    /// A task has come for a session.
    pub(super) fn offer(&mut self, session: Number, held: Held) {
        match self.sessions.get_mut(&session) {
            Some(session) if matches!(session.hand, Hand::Empty) => {
                session.hand = Hand::Offered(held);
                if let Some(asking) = &mut session.asking {
                    asking.wake(Ok(()));
                }
            }
            // It came too late.
            _ => held.settle(Verdict::Back(HandBack::Uncounted)),
        }
    }

    /// A request takes the task that it was told of; `None` if that has gone meanwhile: ask again.
    pub(super) fn take(&mut self, number: Number, turn: Number, now: Instant) -> Result<Option<Lease>, LeaseError> {
        let Some(session) = self.sessions.get_mut(&number) else {
            return if self.closed { Err(LeaseError::Closing) } else { Ok(None) };
        };
        if session.asking.as_ref().is_none_or(|asking| asking.turn != turn) {
            return Err(LeaseError::Replaced);
        }
        let held = match std::mem::replace(&mut session.hand, Hand::Empty) {
            Hand::Offered(held) => held,
            other => {
                session.hand = other;
                return Ok(None);
            }
        };
        if let Err(stopped) = held.watch.check() {
            held.settle(Verdict::Outcome(Err(stopped)));
            return Ok(None);
        }
        // It runs, whether its worker says how far it is or not.
        held.watch.advance(BEGUN);
        let id = LeaseId::random();
        let lease = Lease { id, expires_in: self.lease, leased: Leased::new(&held) };
        session.asking = None;
        session.hand = Hand::Leased(Open { id, held, expires: now + self.lease, answering: false });
        session.changed.notify_one();
        self.leases.insert(id, number);
        Ok(Some(lease))
    }

    /// A request has gone. A task that it was told of stays, for the next.
    pub(super) fn leave(&mut self, session: Number, turn: Number, now: Instant) {
        if let Some(session) = self.sessions.get_mut(&session)
            && session.asking.take_if(|asking| asking.turn == turn).is_some()
        {
            session.quiet_since = now;
            session.changed.notify_one();
        }
    }

    fn open(&mut self, lease: LeaseId) -> Result<&mut Open, LeaseError> {
        let session = self.leases.get(&lease).and_then(|number| self.sessions.get_mut(number));
        match session.map(|session| &mut session.hand) {
            Some(Hand::Leased(open)) if open.id == lease => Ok(open),
            _ => Err(match self.ended.how.get(&lease) {
                Some(how) => LeaseError::Ended { lease, how: how.clone() },
                None => LeaseError::Unknown(lease),
            }),
        }
    }

    /// What was leased.
    pub(super) fn leased(&mut self, lease: LeaseId) -> Result<Leased, LeaseError> {
        self.open(lease).map(|open| Leased::new(&open.held))
    }

    /// A worker says that it is alive, and how far. A task that nobody wants any more ends here.
    pub(super) fn renew(&mut self, lease: LeaseId, progress: Option<f64>, now: Instant) -> Result<Renewed, LeaseError> {
        let expires_in = self.lease;
        let open = self.open(lease)?;
        if let Err(stopped) = open.held.watch.check() {
            self.close_lease(lease, Ended::Stopped(stopped.clone()), Verdict::Outcome(Err(stopped.clone())), now);
            return Ok(Renewed { expires_in: Duration::ZERO, stopped: Some(stopped) });
        }
        if let Some(share) = progress {
            open.held.watch.advance(share);
        }
        open.expires = now + expires_in;
        Ok(Renewed { expires_in, stopped: None })
    }

    /// An answer has come, and is to be checked against this task. The lease does not end meanwhile.
    pub(super) fn begin_answer(&mut self, lease: LeaseId, now: Instant) -> Result<Leased, LeaseError> {
        let open = self.open(lease)?;
        if open.answering {
            return Err(LeaseError::Answering(lease));
        }
        if let Err(stopped) = open.held.watch.check() {
            return Err(self.stopped(lease, stopped, now));
        }
        open.answering = true;
        Ok(Leased::new(&open.held))
    }

    /// The answer was none. Its worker is alive, so the lease is as good as renewed.
    pub(super) fn reopen(&mut self, lease: LeaseId, now: Instant) {
        let expires = now + self.lease;
        let Ok(open) = self.open(lease) else { return };
        (open.answering, open.expires) = (false, expires);
        if let Some(session) = self.leases.get(&lease).and_then(|number| self.sessions.get(number)) {
            session.changed.notify_one();
        }
    }

    /// Ends a lease.
    pub(super) fn finish(
        &mut self,
        lease: LeaseId,
        how: Ended,
        verdict: Verdict,
        now: Instant,
    ) -> Result<(), LeaseError> {
        match self.open(lease)?.held.watch.check() {
            Ok(()) => self.close_lease(lease, how, verdict, now),
            Err(stopped) => return Err(self.stopped(lease, stopped, now)),
        }
        Ok(())
    }

    fn stopped(&mut self, lease: LeaseId, stopped: TaskError, now: Instant) -> LeaseError {
        let how = Ended::Stopped(stopped.clone());
        self.close_lease(lease, how.clone(), Verdict::Outcome(Err(stopped)), now);
        LeaseError::Ended { lease, how }
    }

    fn close_lease(&mut self, lease: LeaseId, how: Ended, verdict: Verdict, now: Instant) {
        let session = self.leases.remove(&lease).and_then(|number| self.sessions.get_mut(&number));
        self.ended.add(lease, how);
        if let Some(session) = session
            && let Hand::Leased(open) = std::mem::replace(&mut session.hand, Hand::Empty)
        {
            session.quiet_since = now;
            session.changed.notify_one();
            open.held.settle(verdict);
        }
    }

    /// When a session is to be looked at again. One whose time is over ends here.
    pub(super) fn due(&mut self, number: Number, now: Instant) -> Due {
        let Some(session) = self.sessions.get(&number) else { return Due::Over };
        let (at, over) = match &session.hand {
            Hand::Leased(open) if open.answering => return Due::Changed,
            Hand::Leased(open) => (open.expires, Over::Expired),
            _ if session.asking.is_some() => return Due::Changed,
            _ => (session.quiet_since + self.grace, Over::Quiet),
        };
        if now < at {
            return Due::At(at);
        }
        self.end(number, over);
        Due::Over
    }

    /// Ends a session with all it has.
    pub(super) fn end(&mut self, number: Number, over: Over) {
        let Some(session) = self.sessions.remove(&number) else { return };
        // First: what goes back is not to come here again.
        session.stop.cancel();
        if self.by_key.get(&session.key) == Some(&number) {
            self.by_key.remove(&session.key);
        }
        match session.hand {
            Hand::Empty => {}
            Hand::Offered(held) => held.settle(Verdict::Back(HandBack::Uncounted)),
            Hand::Leased(open) => {
                self.leases.remove(&open.id);
                let (how, back) = match over {
                    Over::Expired => (Ended::Expired, HandBack::Counted),
                    Over::Broken(_) => (Ended::Broken, HandBack::Uncounted),
                    Over::Quiet | Over::Replaced | Over::Closed => (Ended::Closed, HandBack::Uncounted),
                };
                let stopped = open.held.watch.check().err();
                self.ended.add(open.id, stopped.map_or(how, Ended::Stopped));
                open.held.settle(Verdict::Back(back));
            }
        }
        if let Some(mut asking) = session.asking {
            asking.wake(Err(match over {
                Over::Broken(error) => LeaseError::Broker(error),
                Over::Closed => LeaseError::Closing,
                Over::Quiet | Over::Expired | Over::Replaced => LeaseError::Replaced,
            }));
        }
        session.changed.notify_one();
    }

    /// Ends all there is, for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for number in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(number, Over::Closed);
        }
    }
}

impl Asking {
    fn wake(&mut self, with: Result<(), LeaseError>) {
        if let Some(wake) = self.wake.take() {
            // It has just gone, and says so itself.
            let _ = wake.send(with);
        }
    }
}
