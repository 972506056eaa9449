//! A load with answers that can be checked: systems whose solution is one number, and a log of what became of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rabbitry::boss::{Boss, Submit};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::{Broker, Connection, Consume, Queue};
use rabbitry::task::TaskId;
use rabbitry::tasks::solve::{Matrix, Order, System};
use rabbitry::transport::{self, names};
use rabbitry::wire::{self, TaskHead};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::within;
use crate::pool::soon;

/// Unknowns of a small system: several travel in one message.
pub const SMALL: usize = 60;
/// and of one whose payload (9.7 MB) is pulled in parts.
pub const PULLED: usize = 1100;

/// Systems with one matrix; the right-hand side makes the solution.
pub struct Known {
    n: usize,
    a: Vec<f64>,
    sums: Vec<f64>,
}

impl Known {
    pub fn new(n: usize) -> Known {
        let mut a = System::random(n, 1, n as u64).a.into_vec();
        // Well conditioned, so that an answer is right to the last digits or wrong.
        (0..n).for_each(|i| a[i * n + i] += n as f64);
        let sums = a.chunks(n).map(|row| row.iter().sum()).collect();
        Known { n, a, sums }
    }

    /// Its solution has `x` in every place.
    pub fn system(&self, x: f64) -> System {
        let a = Matrix::new(self.n, self.n, Order::RowMajor, self.a.clone()).expect("square");
        System::new(a, Matrix::vector(self.sums.iter().map(|sum| sum * x).collect()))
    }
}

/// That is the solution of [`Known::system`].
#[track_caller]
pub fn is_solution(solution: &[f64], n: usize, x: f64) {
    assert_eq!(solution.len(), n);
    let off = solution.iter().map(|value| (value - x).abs()).fold(0.0, f64::max);
    assert!(off <= 1e-9 * x.abs(), "a solution of {x} is off by {off}");
}

/// An outcome came.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub at: Instant,
    pub task: TaskId,
    /// Of the worker.
    pub pid: u32,
}

/// A worker has put a task of a lost one back, with this many attempts.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    pub at: Instant,
    pub task: TaskId,
    pub attempt: u32,
}

/// What happened so far.
#[derive(Default)]
pub struct Log {
    pub answers: Vec<Answer>,
    pub backs: Vec<Back>,
    /// Attempts of what was put back and has no outcome yet.
    pub attempts: HashMap<TaskId, u32>,
    answered: std::collections::HashSet<TaskId>,
    /// Put back when their outcome was there: their worker was lost between outcome and ack.
    pub answered_and_back: u64,
}

impl Log {
    fn answer(&mut self, answer: Answer) {
        self.attempts.remove(&answer.task);
        assert!(self.answered.insert(answer.task), "{} has two outcomes", answer.task);
        self.answers.push(answer);
    }

    fn back(&mut self, back: Back) {
        if self.answered.contains(&back.task) {
            self.answered_and_back += 1;
        } else {
            self.attempts.insert(back.task, back.attempt);
        }
        self.backs.push(back);
    }

    pub fn answers_since(&self, moment: Instant) -> impl Iterator<Item = &Answer> {
        self.answers.iter().rev().take_while(move |answer| answer.at > moment)
    }
}

/// A log that can be waited on.
#[derive(Clone, Default)]
pub struct Watched {
    log: Arc<Mutex<Log>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Watched {
    pub fn now(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic")
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.now());
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Waits until the log is so.
    pub async fn until<T>(&self, limit: Duration, what: &str, so: impl Fn(&Log) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        within(limit, what, async {
            loop {
                changes.borrow_and_update();
                let found = so(&self.now());
                if let Some(found) = found {
                    return found;
                }
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await
    }

    /// Waits for so many answers from now on.
    pub async fn until_more(&self, answers: usize) {
        let wanted = self.now().answers.len() + answers;
        self.until(super::PATIENCE, "answers", |log| (log.answers.len() >= wanted).then_some(())).await;
    }
}

/// A stream of tasks from a boss, a certain number in flight, until it is enough. Every answer is checked.
pub struct Stream {
    pub log: Watched,
    enough: Arc<AtomicBool>,
    running: AbortOnDropHandle<Tally>,
}

/// What a stream was.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub small: u64,
    pub pulled: u64,
}

impl Stream {
    /// One of `pulled_every` is pulled; 0 for none.
    pub fn start(boss: Arc<Boss>, in_flight: usize, pulled_every: u64, log: Watched) -> Stream {
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let told = log.clone();
        let running = tokio::spawn(async move {
            let known = [Known::new(SMALL), Known::new(PULLED)];
            let mut waiting = FuturesUnordered::new();
            let mut tally = Tally::default();
            loop {
                while waiting.len() < in_flight && !until.load(Ordering::Relaxed) {
                    let number = tally.small + tally.pulled;
                    let pulled = pulled_every != 0 && number % pulled_every == 0;
                    *(if pulled { &mut tally.pulled } else { &mut tally.small }) += 1;
                    let outcome = one(&boss, &known[usize::from(pulled)], number, told.clone()).await;
                    waiting.push(outcome);
                }
                if waiting.next().await.is_none() {
                    return tally;
                }
            }
        });
        Stream { log, enough, running: AbortOnDropHandle::new(running) }
    }

    /// Submits no more, and waits for what is on its way.
    pub async fn end(self, limit: Duration) -> Tally {
        self.enough.store(true, Ordering::Relaxed);
        let tally = within(limit, "the last answers", self.running).await.expect("every answer is right");
        assert_eq!(self.log.now().answers.len() as u64, tally.small + tally.pulled, "each was answered once");
        tally
    }

    /// Whether an answer was wrong.
    pub fn has_failed(&self) -> bool {
        self.running.is_finished() && !self.enough.load(Ordering::Relaxed)
    }
}

/// Submits a task; the future is its outcome.
async fn one(boss: &Boss, known: &Known, number: u64, log: Watched) -> BoxFuture<'static, ()> {
    let (n, x) = (known.n, number as f64 + 1.0);
    let ticket = within(super::PATIENCE, "room", boss.submit(known.system(x), Submit::default())).await;
    let ticket = ticket.expect("a right task");
    Box::pin(async move {
        let outcome = ticket.outcome().await;
        let solution = outcome.result.unwrap_or_else(|error| panic!("task {number} of {n} unknowns: {error}"));
        is_solution(solution.x.as_slice(), n, x);
        let worker = outcome.worker.expect("a worker's").id;
        let pid = worker.rsplit('-').nth(1).and_then(|pid| pid.parse().ok()).expect("host-pid-xxxx");
        log.change(|log| log.answer(Answer { at: Instant::now(), task: outcome.task, pid }));
    })
}

/// Sees every task that is published to the workers, and writes down those that are put back.
pub struct Spy {
    _connection: Arc<dyn Connection>,
    _listening: AbortOnDropHandle<()>,
}

impl Spy {
    pub async fn on(url: &str, log: Watched) -> Spy {
        let broker = AmqpBroker::new(url).expect("a legal address");
        let connection = soon("a connection", broker.connect()).await.expect("a connection");
        transport::declare_shared(&*connection, &[], false).await.expect("declared");
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("spy-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let queue = Queue { name: name.clone(), exclusive: true, ..Queue::default() };
        connection.declare_queue(&queue).await.expect("declared");
        connection.bind_queue(&name, names::WORK, "solve").await.expect("bound");
        let mut heard = connection.consume(&name, Consume { prefetch: 0, no_ack: true }).await.expect("consuming");
        let listening = tokio::spawn(async move {
            while let Some(delivery) = heard.next().await {
                let heads = wire::decode_all::<TaskHead>(&delivery.message.head).expect("heads");
                let at = Instant::now();
                for head in heads.into_iter().filter(|head| head.attempt > 0) {
                    log.change(|log| log.back(Back { at, task: head.id, attempt: head.attempt }));
                }
            }
        });
        Spy { _connection: connection, _listening: AbortOnDropHandle::new(listening) }
    }
}
