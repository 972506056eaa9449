//! Tasks whose answers outlive who submitted them, under the faults of a seed. A keeper has a disk, as a bridge has, and is
//! killed or stopped again and again: every task comes to one right outcome on that disk, and nothing stays with the broker.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rabbitry::boss::{self, Boss, Keep, KeptName, Receipt, Submit, Unclaimed};
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::task::{Blob, Outcome, Task, TaskError, TaskId};
use rabbitry::transport::names;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::actors::{self, PATIENCE, Told};
use super::kinds::{Common, Own};
use super::scenario::{Go, Scenario, TaskPlan, Then};

/// Seeds that every run of the tests has.
const SEEDS: u64 = 200;
/// And those that found something: a task published again that was taken for a copy of what had been answered, parts of an
/// answer that came back behind its head, copies that went on killing the only worker when their task was over.
const FOUND: [u64; 5] = [20213, 22935, 20974, 21542, 107075];
/// A keeper sends nothing before it has read what waited, for this long: as a bridge.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Among the outcomes: of how many tasks the outcome waited for a later life.
const CLAIMED: &str = "(waited)";

/// When a life of the keeper ends, how, and how long nobody is there then. There is one more, to the end.
#[derive(Debug)]
struct Life {
    lasts: Duration,
    goes: Go,
    away: Duration,
}

/// A seed with one boss, whose tasks are all waited for, and the lives of that boss.
fn scenario(seed: u64) -> (Scenario, Vec<Life>) {
    let mut scenario = Scenario::new(seed);
    scenario.bosses.truncate(1);
    scenario.bosses[0].crash_at = None;
    for task in &mut scenario.bosses[0].tasks {
        *task = TaskPlan { how: Submit { deadline: None, ..task.how }, then: Then::Await, ..*task };
    }
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x6b65_7074);
    let mut millis = |max| Duration::from_millis(rng.random_range(0..=max));
    let many = 1 + millis(3).as_millis();
    let lives = (0..many)
        .map(|_| Life {
            lasts: millis(20_000),
            goes: if millis(2).is_zero() { Go::Stop } else { Go::Crash },
            away: millis(30_000),
        })
        .collect();
    (scenario, lives)
}

/// What became of a task, as far as the disk says.
enum Record {
    Waits,
    Written(Result<(), TaskError>),
}

/// It outlives the keeper.
struct Disk {
    name: KeptName,
    scenario: Arc<Scenario>,
    /// By number; those that were submitted.
    records: Mutex<BTreeMap<usize, Record>>,
    written: Notify,
    /// Outcomes that another life wrote than the one that had submitted the task.
    claimed: AtomicU64,
    began: Instant,
    dice: Mutex<SmallRng>,
}

fn id(number: usize) -> TaskId {
    TaskId(number as u128 + 1)
}

impl Disk {
    fn records(&self) -> MutexGuard<'_, BTreeMap<usize, Record>> {
        self.records.lock().expect("no panic in here")
    }

    fn plans(&self) -> &[TaskPlan] {
        &self.scenario.bosses[0].tasks
    }

    fn number(&self, task: TaskId) -> Option<usize> {
        (0..self.plans().len()).find(|number| id(*number) == task)
    }

    /// How long the answer may be that a task waits for.
    fn awaits(&self, task: TaskId) -> Option<u64> {
        let number = self.number(task)?;
        let waits = matches!(self.records().get(&number), Some(Record::Waits));
        waits.then(|| self.plans()[number].deed.answer_bytes as u64)
    }

    /// The numbers of the tasks that have no outcome.
    fn waiting(&self) -> Vec<usize> {
        let records = self.records();
        (0..self.plans().len()).filter(|number| !matches!(records.get(number), Some(Record::Written(_)))).collect()
    }

    /// Something that takes its time, in which the keeper may die.
    async fn pause(&self) {
        let millis = self.dice.lock().expect("no panic in here").random_range(0..500);
        sleep(Duration::from_millis(millis)).await;
    }

    async fn write(&self, number: usize, outcome: Outcome<Blob>, receipt: Receipt) -> Result<(), String> {
        self.pause().await;
        let outcome = decoded(outcome);
        let result = outcome.result.as_ref().map(drop).map_err(Clone::clone);
        actors::right(&self.plans()[number], &self.scenario, false, None, outcome)
            .map_err(|wrong| format!("task {number}: {wrong}"))?;
        let before = self.records().insert(number, Record::Written(result));
        if !matches!(before, Some(Record::Waits)) {
            return Err(format!("task {number} has a second outcome"));
        }
        self.pause().await;
        receipt.written();
        self.written.notify_one();
        Ok(())
    }
}

fn decoded(outcome: Outcome<Blob>) -> Outcome<super::kinds::Answer> {
    let Outcome { task, result, worker, times, compute_seconds } = outcome;
    let result = result.and_then(|blob| Own::decode_answer(&[], blob));
    Outcome { task, result, worker, times, compute_seconds }
}

/// One life of the keeper: what it knows besides what is on the disk.
struct Keeper {
    disk: Arc<Disk>,
    boss: Boss,
    /// Whether this life has them in hand: claimed, or sent.
    taken: Mutex<Vec<bool>>,
    caught_up: CancellationToken,
}

impl Keeper {
    async fn start(broker: &EmbeddedBroker, disk: Arc<Disk>) -> (Arc<Self>, mpsc::Receiver<Unclaimed>) {
        let options = boss::Options { window_bytes: disk.scenario.bosses[0].window_bytes, ..boss::Options::default() };
        loop {
            let awaited = disk.clone();
            let (keep, unclaimed) = Keep::new(disk.name.clone(), move |task| awaited.awaits(task));
            match Boss::connect_keeping(Arc::new(broker.clone()), options, keep).await {
                Ok(boss) => {
                    let taken = Mutex::new(vec![false; disk.plans().len()]);
                    return (Arc::new(Keeper { disk, boss, taken, caught_up: CancellationToken::new() }), unclaimed);
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether nobody has it in hand, and its outcome is not written: then it is in hand from now on.
    fn take(&self, number: usize) -> bool {
        let waits = matches!(self.disk.records().get(&number), Some(Record::Waits));
        let taken = &mut self.taken.lock().expect("no panic in here")[number];
        waits && !std::mem::replace(taken, true)
    }

    async fn claim_all(self: Arc<Self>, mut unclaimed: mpsc::Receiver<Unclaimed>) -> Result<(), String> {
        while let Some(unclaimed) = unclaimed.recv().await {
            match unclaimed {
                Unclaimed::CaughtUp => self.caught_up.cancel(),
                Unclaimed::Outcome(outcome, receipt) => match self.disk.number(outcome.task) {
                    Some(number) if self.take(number) => {
                        self.disk.write(number, *outcome, receipt).await?;
                        self.disk.claimed.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => receipt.not_written(),
                },
            }
        }
        Ok(())
    }

    /// Submits a task when its time has come, unless it was answered before.
    async fn call(self: Arc<Self>, number: usize) -> Result<(), String> {
        let plan = &self.disk.plans()[number];
        sleep_until(self.disk.began + plan.at).await;
        let came_before = self.disk.records().contains_key(&number);
        if !came_before {
            self.disk.records().insert(number, Record::Waits);
        }
        let _ = timeout(CATCH_UP, self.caught_up.cancelled()).await;
        let (kind, encoded) = match plan.deed.shared {
            None => (Own::KIND, Own(plan.deed).encode(plan.how.format)),
            Some(_) => (Common::KIND, Common(plan.deed).encode(plan.how.format)),
        };
        let encoded = encoded.map_err(|error| error.to_string())?;
        let room = timeout(PATIENCE, self.boss.reserve(encoded.window_bytes(), 0)).await;
        let room = room.map_err(|_| format!("task {number} finds no room in the window"))?;
        if !self.take(number) {
            return Ok(());
        }
        let ticket = room.submit_kept(id(number), &kind, encoded, plan.how, came_before);
        match ticket.received().await {
            // It goes on, and its answer waits for the next life.
            (Outcome { result: Err(TaskError::Shutdown), .. }, _) => Ok(()),
            (outcome, receipt) => self.disk.write(number, outcome, receipt).await,
        }
    }
}

/// Ends with the keeper as it goes; the last one's is handed out when all is written.
async fn live(broker: &EmbeddedBroker, disk: &Arc<Disk>, life: Option<&Life>) -> Result<Option<Arc<Keeper>>, String> {
    let end = async {
        match life {
            Some(life) => sleep(life.lasts).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let (keeper, unclaimed) = tokio::select! {
        biased;
        () = &mut end => {
            broker.crash();
            return Ok(None);
        }
        keeper = Keeper::start(broker, disk.clone()) => keeper,
    };
    let (mut claims, mut calls) = (JoinSet::new(), JoinSet::new());
    claims.spawn(keeper.clone().claim_all(unclaimed));
    (0..disk.plans().len()).for_each(|number| drop(calls.spawn(keeper.clone().call(number))));
    let complete = async {
        while !disk.waiting().is_empty() {
            disk.written.notified().await;
        }
    };
    tokio::select! {
        biased;
        () = &mut end => {}
        wrong = wrong_in(&mut claims) => return Err(wrong),
        wrong = wrong_in(&mut calls) => return Err(wrong),
        () = complete, if life.is_none() => {
            // What it still gets is of tasks that have their outcome.
            claims.detach_all();
            return Ok(Some(keeper));
        }
    }
    if life.is_some_and(|life| life.goes == Go::Crash) {
        broker.crash();
        calls.shutdown().await;
        claims.shutdown().await;
    } else {
        claims.shutdown().await;
        timeout(PATIENCE, keeper.boss.close()).await.map_err(|_| "a keeper does not close".to_owned())?;
        // Those that wait for their time, or for what waited to be read.
        let waiting = async { while calls.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(5), waiting).await;
        calls.shutdown().await;
    }
    Ok(None)
}

/// The first thing that goes wrong; forever if nothing does.
async fn wrong_in(all: &mut JoinSet<Result<(), String>>) -> String {
    while let Some(ended) = all.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return wrong,
            Err(error) => return error.to_string(),
        }
    }
    std::future::pending().await
}

async fn play(
    scenario: Arc<Scenario>,
    lives: &[Life],
    broker: &EmbeddedBroker,
    told: &mut Vec<Told>,
    claimed: &Cell<u64>,
) -> Result<(), String> {
    let over = CancellationToken::new();
    let mut places = JoinSet::new();
    for index in 0..scenario.workers.len() {
        places.spawn(actors::worker_place(broker.clone(), scenario.clone(), index, over.clone()));
    }
    let disk = Arc::new(Disk {
        name: KeptName::read("simulated").expect("a legal name"),
        scenario: scenario.clone(),
        records: Mutex::default(),
        written: Notify::new(),
        claimed: AtomicU64::new(0),
        began: Instant::now(),
        dice: Mutex::new(SmallRng::seed_from_u64(scenario.seed)),
    });
    let keeps = async {
        for (number, life) in (1..).zip(lives) {
            live(&broker.named(&format!("keeper.{number}")), &disk, Some(life)).await?;
            sleep(life.away).await;
        }
        let program = broker.named("keeper.last");
        let last = timeout(PATIENCE, live(&program, &disk, None)).await;
        let last = last.map_err(|_| format!("tasks without an outcome: {:?}", disk.waiting()))?;
        last?.ok_or_else(|| "the last keeper went".to_owned())
    };
    let keeper = tokio::select! {
        biased;
        wrong = super::fails(&mut places) => return Err(wrong),
        keeper = keeps => keeper?,
    };
    claimed.set(disk.claimed.load(Ordering::Relaxed));
    for (number, record) in disk.records().iter() {
        if let Record::Written(result) = record {
            told.push(Told { id: id(*number), result: result.clone() });
        }
    }
    // What is lost from now on would have nothing to do with the tasks.
    broker.calm();
    tokio::select! {
        biased;
        wrong = super::fails(&mut places) => return Err(wrong),
        idle = timeout(PATIENCE, super::idle(broker, &[])) => {
            idle.map_err(|_| format!("still busy: {}", super::left(broker)))?;
        }
    }
    let read = timeout(PATIENCE, read_to_the_end(broker, &disk.name)).await;
    read.map_err(|_| format!("outcomes stay with the broker: {}", super::left(broker)))?;
    over.cancel();
    while let Some(place) = places.join_next().await {
        place.map_err(|error| error.to_string())??;
    }
    keeper.boss.let_go_of_kept();
    timeout(PATIENCE, keeper.boss.close()).await.map_err(|_| "the last keeper does not close".to_owned())?;
    sleep(Duration::from_secs(60)).await;
    super::letters(broker, &scenario, told).await?;
    let rest = super::left(broker);
    if rest.is_empty() { Ok(()) } else { Err(format!("left behind: {rest}")) }
}

/// Whatever came for a task that has its outcome is acked, parts without a head as well.
async fn read_to_the_end(broker: &EmbeddedBroker, name: &KeptName) {
    let queue = names::results_queue(name.as_str());
    while broker.contents().iter().any(|(name, ready, unacked)| *name == queue && ready + unacked > 0) {
        sleep(Duration::from_secs(1)).await;
    }
}

fn run(seed: u64) -> super::Ran {
    let (scenario, lives) = scenario(seed);
    let claimed = Cell::new(0);
    let mut ran = super::run_as(scenario, async |scenario, broker, told| {
        let played = play(scenario, &lives, broker, told, &claimed).await;
        played.map_err(|wrong| format!("{wrong}, in {lives:#?}"))
    });
    ran.outcomes.insert(CLAIMED, claimed.get());
    ran
}

#[test]
fn every_kept_task_has_one_outcome_however_often_its_keeper_goes() {
    let base = super::number("RABBITRY_SIM_BASE").unwrap_or(0);
    let many = super::number("RABBITRY_SIM_SEEDS").unwrap_or(SEEDS);
    let sum = super::all((base..base + many).chain(FOUND), run);
    if sum.seeds >= SEEDS {
        let wanted = [CLAIMED, "answer", "invalid", "panicked", "too_many_attempts"];
        let missing: Vec<_> = wanted.into_iter().filter(|it| sum.outcomes.get(it).is_none_or(|n| *n == 0)).collect();
        assert!(missing.is_empty(), "in none of the seeds: {missing:?}");
    }
}

#[test]
fn the_same_seed_of_kept_tasks_is_the_same_run() {
    for seed in 0..5 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!((first.trace.hash(), first.result), (second.trace.hash(), second.result), "seed {seed}");
    }
}
