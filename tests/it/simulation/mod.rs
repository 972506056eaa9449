//! The whole system under a plan of faults that follows from a seed: bosses, workers and the transport between them, in one
//! thread whose time is paused. No task is lost, none has two outcomes, nothing hangs, nothing stays behind.
//!
//! A seed that fails is printed with the command that runs it again. `RABBITRY_SIM_SEED=7` runs that seed alone and prints the
//! last of what happened; `RABBITRY_SIM_SEEDS=100000` runs so many (`make simulate SEEDS=100000`).

mod actors;
mod away;
mod kept;
mod kinds;
mod scenario;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use rabbitry::boss::{Boss, Submit};
use rabbitry::broker::embedded::{EmbeddedBroker, FaultPlan, Trace};
use rabbitry::broker::{Broker, Consume};
use rabbitry::task::ambient::Simulation;
use rabbitry::task::{Kind, TaskError, TaskId};
use rabbitry::transport::names;
use rabbitry::wire::{self, TaskHead};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::actors::{PATIENCE, Told};
use self::kinds::{Deed, Does, KINDS};
use self::scenario::{BossPlan, Scenario, TaskPlan, Then, WorkerPlan};

/// Seeds that every run of the tests has, from 0,
const FIXED: u64 = 1000;
/// and new ones.
const FRESH: u64 = 24;

thread_local! {
    /// The first panic that no task wanted.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
    static SIMULATING: Cell<bool> = const { Cell::new(false) };
}

/// What a seed came to.
struct Ran {
    scenario: Arc<Scenario>,
    result: Result<(), String>,
    /// Outcomes, by their sort.
    outcomes: BTreeMap<&'static str, u64>,
    trace: Trace,
    simulated: Duration,
}

fn run(seed: u64) -> Ran {
    run_as(Scenario::new(seed), play)
}

fn run_as(
    scenario: Scenario,
    play: impl AsyncFn(Arc<Scenario>, &EmbeddedBroker, &mut Vec<Told>) -> Result<(), String>,
) -> Ran {
    let (seed, scenario) = (scenario.seed, Arc::new(scenario));
    watch_panics();
    PANICKED.set(None);
    SIMULATING.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let ran = runtime.block_on(async {
        let _simulation = Simulation::begin(seed);
        let broker = EmbeddedBroker::with_faults(scenario.faults.clone());
        let _watched = watchdog::watch(seed, &broker);
        let start = Instant::now();
        let mut told = Vec::new();
        let result = play(scenario.clone(), &broker, &mut told).await;
        let mut outcomes = BTreeMap::new();
        for Told { result, .. } in told {
            *outcomes.entry(result.as_ref().err().map_or("answer", TaskError::code)).or_default() += 1;
        }
        Ran { scenario, result, outcomes, trace: broker.trace(), simulated: start.elapsed() }
    });
    drop(runtime);
    SIMULATING.set(false);
    let panicked = PANICKED.take();
    Ran { result: ran.result.and(panicked.map_or(Ok(()), |message| Err(format!("a panic: {message}")))), ..ran }
}

/// Panics of the program's own tasks end nothing but themselves.
fn watch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SIMULATING.get() {
                return before(info);
            }
            let text = info.to_string();
            if !text.contains(kinds::PANIC) {
                PANICKED.with_borrow_mut(|first| *first = first.take().or(Some(text)));
            }
        }));
    });
}

async fn play(scenario: Arc<Scenario>, broker: &EmbeddedBroker, told: &mut Vec<Told>) -> Result<(), String> {
    let over = CancellationToken::new();
    let mut places = JoinSet::new();
    for index in 0..scenario.workers.len() {
        places.spawn(actors::worker_place(broker.clone(), scenario.clone(), index, over.clone()));
    }
    let (mut bosses, mut callers, mut crashed) = (Vec::new(), JoinSet::new(), JoinSet::new());
    for (number, plan) in scenario.bosses.iter().enumerate() {
        let program = broker.named(&format!("boss-{number}"));
        let boss = Arc::new(actors::connect(&program, plan).await);
        let mut own = JoinSet::new();
        for index in 0..plan.tasks.len() {
            let calls = if plan.crash_at.is_some() { &mut own } else { &mut callers };
            calls.spawn(actors::caller(boss.clone(), number, scenario.clone(), index));
        }
        match plan.crash_at {
            None => bosses.push((boss, plan.window_bytes)),
            Some(at) => drop(crashed.spawn(async move {
                sleep(at).await;
                program.crash();
                own.shutdown().await;
                drop(boss);
            })),
        }
    }
    tokio::select! {
        biased;
        wrong = fails(&mut places) => return Err(wrong),
        all = all_told(&mut callers, told) => all?,
    }
    while crashed.join_next().await.is_some() {}
    // What is lost from now on would have nothing to do with the tasks.
    broker.calm();
    tokio::select! {
        biased;
        wrong = fails(&mut places) => return Err(wrong),
        idle = timeout(PATIENCE, idle(broker, &bosses)) => idle.map_err(|_| format!("still busy: {}", left(broker)))?,
    }
    over.cancel();
    while let Some(place) = places.join_next().await {
        place.map_err(|error| error.to_string())??;
    }
    for (boss, _) in bosses {
        timeout(PATIENCE, boss.close()).await.map_err(|_| "a boss does not close".to_owned())?;
    }
    // The broker may still have to notice the end of a connection.
    sleep(Duration::from_secs(60)).await;
    letters(broker, &scenario, told).await?;
    let rest = left(broker);
    if rest.is_empty() { Ok(()) } else { Err(format!("left behind: {rest}")) }
}

/// The first thing that goes wrong with a worker; forever if nothing does.
async fn fails(places: &mut JoinSet<Result<(), String>>) -> String {
    match places.join_next().await {
        Some(Ok(Err(wrong))) => wrong,
        ended => format!("a worker's place ended before all was over: {ended:?}"),
    }
}

async fn all_told(callers: &mut JoinSet<Result<Option<Told>, String>>, all: &mut Vec<Told>) -> Result<(), String> {
    while let Some(told) = callers.join_next().await {
        all.extend(told.map_err(|error| error.to_string())??);
    }
    Ok(())
}

/// Whether it is one of the queues that all share for the tasks of this kind.
fn is_of(name: &str, kind: &Kind) -> bool {
    name == names::work_queue(kind.as_str()) || name == names::later_queue(kind.as_str())
}

/// Waits until nobody has anything to do: no message in a work queue or in hand, no task pending, no slot taken.
async fn idle(broker: &EmbeddedBroker, bosses: &[(Arc<Boss>, u64)]) {
    let is_work = |name: &str| KINDS.iter().any(|kind| is_of(name, kind));
    let mut since = Instant::now();
    // As long as something may still be on its way to the broker, or the broker blocked.
    while since.elapsed() < Duration::from_secs(90) {
        sleep(Duration::from_secs(1)).await;
        let queued = broker.contents().iter().any(|(name, ready, unacked)| is_work(name) && ready + unacked > 0);
        let pending = bosses.iter().any(|(boss, window_bytes)| {
            // The whole window is there again when nothing is pending.
            let mut room = std::pin::pin!(boss.reserve(*window_bytes, 0));
            futures_util::FutureExt::now_or_never(room.as_mut()).is_none()
        });
        let busy = bosses.iter().any(|(boss, _)| boss.nodes().iter().any(|node| node.busy > 0));
        if queued || pending || busy {
            since = Instant::now();
        }
    }
}

/// What is in any queue but that of the dead letters; a queue that only a connection can have, too.
fn left(broker: &EmbeddedBroker) -> String {
    let shared = |name: &str| name == names::DEAD || KINDS.iter().any(|kind| is_of(name, kind));
    let left = broker
        .contents()
        .into_iter()
        .filter(|(name, ready, unacked)| !shared(name) || (name != names::DEAD && ready + unacked > 0));
    left.map(|(name, ready, unacked)| format!("{name}: {ready} ready, {unacked} unacked; ")).collect()
}

/// Whoever was told of too many attempts finds a letter, and there are letters of tasks only that had too many.
async fn letters(broker: &EmbeddedBroker, scenario: &Scenario, told: &[Told]) -> Result<(), String> {
    let connection = broker.without_faults().connect().await.map_err(|error| error.to_string())?;
    let status = connection.queue_status(names::DEAD).await.map_err(|error| error.to_string())?;
    let mut letters =
        connection.consume(names::DEAD, Consume { prefetch: 0, no_ack: true }).await.map_err(|e| e.to_string())?;
    let mut dead = BTreeSet::new();
    for _ in 0..status.map_or(0, |status| status.ready) {
        let letter = letters.next().await.ok_or("a letter is missing")?;
        let head: TaskHead = wire::decode(&letter.message.head).map_err(|error| error.to_string())?;
        if scenario.attempts_max.is_none_or(|max| head.attempt < max) {
            return Err(format!("a letter of task {} after {} attempts", head.id, head.attempt));
        }
        dead.insert(head.id);
    }
    let too_many = told.iter().filter(|told| matches!(told.result, Err(TaskError::TooManyAttempts { .. })));
    let missing: Vec<TaskId> = too_many.map(|told| told.id).filter(|id| !dead.contains(id)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no letter of {missing:?}")) }
}

mod watchdog {
    //! A seed that spins without its clock getting on would never end, and never say which it is.

    use super::*;

    type Watched = BTreeMap<u64, (std::time::Instant, EmbeddedBroker)>;
    static WATCHED: Mutex<Watched> = Mutex::new(BTreeMap::new());

    pub struct Guard(u64);

    impl Drop for Guard {
        fn drop(&mut self) {
            WATCHED.lock().expect("no panic in here").remove(&self.0);
        }
    }

    pub fn watch(seed: u64, broker: &EmbeddedBroker) -> Guard {
        static THREAD: Once = Once::new();
        THREAD.call_once(|| drop(std::thread::spawn(look)));
        WATCHED.lock().expect("no panic in here").insert(seed, (std::time::Instant::now(), broker.clone()));
        Guard(seed)
    }

    fn look() {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            for (seed, (since, broker)) in WATCHED.lock().expect("no panic in here").iter() {
                if since.elapsed() > Duration::from_secs(300) {
                    broker.trace().last().for_each(|line| eprintln!("{line}"));
                    eprintln!("seed {seed} spins: {}", again(*seed));
                    std::process::abort();
                }
            }
        }
    }
}

fn again(seed: u64) -> String {
    format!("RABBITRY_SIM_SEED={seed} cargo test --locked --test it simulation -- --nocapture")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

fn report(ran: &Ran, wrong: &str) {
    let (seed, scenario) = (ran.scenario.seed, &ran.scenario);
    println!("---- seed {seed} fails after {:.3?} of its clock, {} events", ran.simulated, ran.trace.events());
    println!("{:?}\nattempts: {:?}\n{:#?}", scenario.faults, scenario.attempts_max, scenario.workers);
    ran.trace.last().for_each(|line| println!("{line}"));
    println!("---- seed {seed}: {wrong}\nagain: {}", again(seed));
}

/// What many seeds came to.
#[derive(Default)]
struct Sum {
    failed: Vec<u64>,
    seeds: u64,
    events: u64,
    simulated: Duration,
    faults: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, ran: &Ran) {
        self.seeds += 1;
        self.events += ran.trace.events();
        self.simulated += ran.simulated;
        for (sum, counts) in [(&mut self.faults, ran.trace.faults()), (&mut self.outcomes, &ran.outcomes)] {
            counts.iter().for_each(|(what, count)| *sum.entry(what).or_default() += count);
        }
        if let Err(wrong) = &ran.result {
            let seed = ran.scenario.seed;
            match self.failed.len() {
                0 => report(ran, wrong),
                _ => println!("seed {seed}: {wrong}"),
            }
            self.failed.push(seed);
        }
    }
}

/// Runs seeds on all cores, and fails if one of them does; or the one that is to be run again, and reports it.
fn all(seeds: impl Iterator<Item = u64> + Send, run: impl Fn(u64) -> Ran + Sync) -> Sum {
    if let Some(seed) = number("RABBITRY_SIM_SEED") {
        let ran = run(seed);
        report(&ran, ran.result.as_ref().err().map_or("nothing wrong", String::as_str));
        assert_eq!(ran.result, Ok(()));
        return Sum::default();
    }
    let (seeds, sum) = (Mutex::new(seeds.fuse()), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let next = seeds.lock().expect("no panic in here").next();
            let Some(seed) = next else { return };
            let ran = run(seed);
            sum.lock().expect("no panic in here").add(&ran);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let sum = sum.into_inner().expect("no panic in here");
    let hours = sum.simulated.as_secs_f64() / 3600.0;
    println!("{} seeds, {} events, {hours:.1} simulated hours", sum.seeds, sum.events);
    println!("{:?}\n{:?}", sum.faults, sum.outcomes);
    assert!(sum.failed.is_empty(), "{} seeds fail: {:?}", sum.failed.len(), sum.failed);
    sum
}

/// Without these a run has shown nothing.
const FAULTS: [&str; 13] = [
    "ack lost",
    "alarm",
    "broker restarted",
    "channel closed",
    "confirm lost",
    "connect failed",
    "connection cut",
    "connection cut, seen late by its program",
    "connection cut, seen late by the broker",
    "message doubled",
    "message lost",
    "message redelivered",
    "program crashed",
];
const OUTCOMES: [&str; 6] = ["answer", "cancelled", "deadline_exceeded", "invalid", "panicked", "too_many_attempts"];

#[test]
fn nothing_is_lost_doubled_or_hung_whatever_goes_wrong() {
    let base = number("RABBITRY_SIM_BASE").unwrap_or(0);
    let (fixed, fresh) = match number("RABBITRY_SIM_SEEDS") {
        Some(many) => (many, 0),
        None => (FIXED, FRESH),
    };
    let fresh: Vec<u64> = (0..fresh).map(|_| u64::from(rand::random::<u32>()) << 16).collect();
    println!("fresh seeds: {fresh:?}");
    let sum = all((base..base + fixed).chain(fresh), run);
    if sum.seeds >= FIXED {
        let missing = FAULTS.iter().filter(|fault| !sum.faults.contains_key(*fault));
        let missing: Vec<&str> =
            missing.chain(OUTCOMES.iter().filter(|it| !sum.outcomes.contains_key(*it))).copied().collect();
        assert!(missing.is_empty(), "in none of the seeds: {missing:?}");
    }
}

/// The broker keeps the queues of a connection until it has noticed its end; a boss that comes back declares its own anew.
#[test]
fn a_boss_comes_back_as_often_as_it_takes_though_the_broker_still_has_its_old_names() {
    all(0..100, |seed| {
        let faults = FaultPlan { cuts: 200, unnoticed_percent: 100, faults_max: 40, ..FaultPlan::calm(seed) };
        run_as(Scenario { faults, ..Scenario::new(seed) }, play)
    });
}

#[test]
fn pulled_payloads_that_fit_only_one_by_one_may_share_a_message() {
    let task = |nonce| TaskPlan {
        deed: Deed { nonce, does: Does::Answer, payload_bytes: 70_000, answer_bytes: 9, shared: None, flops: 1 },
        at: Duration::ZERO,
        how: Submit::default(),
        then: Then::Await,
    };
    let worker = WorkerPlan {
        slots: 1,
        prefetch: 2,
        memory_bytes: 100 << 10,
        one_by_one: false,
        pause_max: Duration::from_millis(10),
        starts_at: Duration::ZERO,
        goes: Vec::new(),
    };
    let sum = all(0..1, |seed| {
        let boss = BossPlan { window_bytes: 1 << 30, crash_at: None, tasks: (0..20).map(task).collect() };
        let (bosses, workers) = (vec![boss], vec![worker.clone()]);
        run_as(Scenario { seed, faults: FaultPlan::calm(seed), attempts_max: None, bosses, workers }, play)
    });
    assert!(sum.outcomes.iter().eq([(&"answer", &20)]), "{:?}", sum.outcomes);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.trace.events(), second.trace.events(), "seed {seed}");
        let differ = first.trace.last().zip(second.trace.last()).find(|(first, second)| first != second);
        assert_eq!((first.trace.hash(), differ), (second.trace.hash(), None), "seed {seed}");
    }
}
