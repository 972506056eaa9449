//! Those who act in a simulation: workers that come and go, callers that submit and wait.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rabbitry::boss::{self, Boss, Ticket};
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::task::{Outcome, Task, TaskError, TaskId};
use rabbitry::worker::{self, Compute, Memory, Options};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::kinds::{Answer, Common, Does, Hand, Own};
use super::scenario::{BossPlan, Go, Scenario, TaskPlan, Then, WorkerPlan};

/// In which everything must come to its end, by the clock of the simulation.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// What a task was told.
pub struct Told {
    pub id: TaskId,
    pub result: Result<(), TaskError>,
}

/// A place of a worker: one after another takes it until `over`. What the last one had must be free in the end.
pub async fn worker_place(
    broker: EmbeddedBroker,
    scenario: Arc<Scenario>,
    index: usize,
    over: CancellationToken,
) -> Result<(), String> {
    let plan = &scenario.workers[index];
    let dice = Arc::new(Mutex::new(SmallRng::seed_from_u64(scenario.seed ^ (index as u64 + 1) << 32)));
    let mut goes = plan.goes.iter();
    let _ = timeout(plan.starts_at, over.cancelled()).await;
    for life in 1.. {
        if over.is_cancelled() {
            break;
        }
        let name = format!("worker-{index}.{life}");
        one_life(&broker.named(&name), &scenario, plan, &dice, goes.next(), &over)
            .await
            .map_err(|wrong| format!("{name}: {wrong}"))?;
        let _ = timeout(Duration::from_secs(1), over.cancelled()).await;
    }
    Ok(())
}

async fn one_life(
    broker: &EmbeddedBroker,
    scenario: &Scenario,
    plan: &WorkerPlan,
    dice: &Arc<Mutex<SmallRng>>,
    go: Option<&(Duration, Go)>,
    over: &CancellationToken,
) -> Result<(), String> {
    let (dead, stop) = (CancellationToken::new(), CancellationToken::new());
    let memory = Memory::new(plan.memory_bytes);
    let (chance, max) = (dice.clone(), plan.pause_max);
    let pause = move || {
        let mut chance = chance.lock().expect("no panic in here");
        let max = if chance.random_bool(0.5) { max } else { max / 20 };
        Duration::from_millis(chance.random_range(0..=max.as_millis() as u64))
    };
    let options = Options {
        memory: Some(memory.clone()),
        compute: Compute::Inline(Arc::new(pause)),
        ..plan.options(scenario.attempts_max)
    };
    let handlers = Hand::both(broker, &dead);
    let mut running = tokio::spawn(worker::run(Arc::new(broker.clone()), handlers, options, stop.clone()));
    let goes = async {
        match go {
            Some((after, go)) => {
                sleep(*after).await;
                *go
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = &mut running => return match ended {
            Ok(Err(error)) if error.is_transient() => Ok(()),
            ended => Err(format!("ended by itself: {ended:?}")),
        },
        () = dead.cancelled() => {
            running.abort();
            return Ok(());
        }
        () = over.cancelled() => {}
        go = goes => if go == Go::Crash {
            broker.crash();
            running.abort();
            return Ok(());
        }
    }
    stop.cancel();
    let ended = tokio::select! {
        biased;
        ended = timeout(PATIENCE, &mut running) => ended.map_err(|_| "does not stop when told to".to_owned())?,
        () = dead.cancelled() => {
            running.abort();
            return Ok(());
        }
    };
    match ended {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.is_transient() => {}
        ended => return Err(format!("did not stop in order: {ended:?}")),
    }
    // What was lost with a connection computes to its end.
    let freed = async {
        while memory.available_bytes() < plan.memory_bytes {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(PATIENCE, freed).await.map_err(|_| {
        format!("has stopped, and {} bytes are still reserved", plan.memory_bytes - memory.available_bytes())
    })
}

pub async fn connect(broker: &EmbeddedBroker, plan: &BossPlan) -> Boss {
    let options = boss::Options { window_bytes: plan.window_bytes, ..boss::Options::default() };
    loop {
        match Boss::connect(Arc::new(broker.clone()), options).await {
            Ok(boss) => return boss,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Submits a task, does with it what is planned, and holds its outcome to what it must be.
pub async fn caller(
    boss: Arc<Boss>,
    number: usize,
    scenario: Arc<Scenario>,
    index: usize,
) -> Result<Option<Told>, String> {
    let plan = &scenario.bosses[number].tasks[index];
    sleep(plan.at).await;
    let told = match plan.deed.shared {
        None => submitted(&boss, Own(plan.deed), plan, &scenario).await,
        Some(_) => submitted(&boss, Common(plan.deed), plan, &scenario).await,
    };
    let (id, result) = match told {
        Ok(Some(told)) => told,
        Ok(None) => return Ok(None),
        Err(wrong) => return Err(format!("task {plan:?} of boss {number}: {wrong}")),
    };
    Ok(Some(Told { id, result }))
}

async fn submitted<T: Task<Answer = Answer>>(
    boss: &Boss,
    task: T,
    plan: &TaskPlan,
    scenario: &Scenario,
) -> Result<Option<(TaskId, Result<(), TaskError>)>, String> {
    let submitted =
        timeout(PATIENCE, boss.submit(task, plan.how)).await.map_err(|_| "no room in the window".to_owned())?;
    let ticket = submitted.map_err(|error| format!("is refused: {error}"))?;
    let (submitted, id) = (Instant::now(), ticket.id());
    let cancelled = match plan.then {
        Then::Leave => return Ok(None),
        Then::Await => false,
        Then::CancelAfter(after) => {
            let handle = ticket.handle();
            sleep(after).await;
            handle.cancel()
        }
    };
    let outcome = outcome(ticket, boss).await.map_err(|wrong| format!("{id}: {wrong}"))?;
    let result = outcome.result.as_ref().map(drop).map_err(Clone::clone);
    // If it is answered before it is cancelled, its ticket has been there for longer.
    let took = if matches!(plan.then, Then::CancelAfter(_)) && !cancelled { None } else { Some(submitted.elapsed()) };
    right(plan, scenario, cancelled, took, outcome).map_err(|wrong| format!("{id}: {wrong}"))?;
    Ok(Some((id, result)))
}

async fn outcome<T: Task>(ticket: Ticket<T>, boss: &Boss) -> Result<Outcome<T::Answer>, String> {
    let connected = || if boss.is_connected() { "connected" } else { "not connected" };
    let outcome = timeout(PATIENCE, ticket.outcome()).await;
    outcome.map_err(|_| format!("no outcome in {PATIENCE:?}; its boss is {}", connected()))
}

/// Whether a task may have this outcome.
pub fn right(
    plan: &TaskPlan,
    scenario: &Scenario,
    cancelled: bool,
    took: Option<Duration>,
    outcome: Outcome<Answer>,
) -> Result<(), String> {
    let tick = Duration::from_millis(2);
    if let (Some(deadline), Some(took)) = (plan.how.deadline, took)
        && took > deadline + tick
        && !cancelled
    {
        return Err(format!("its outcome came after {took:?}, later than its deadline"));
    }
    match outcome.result {
        Err(TaskError::Cancelled) if cancelled => Ok(()),
        _ if cancelled => Err("it was cancelled, and has another outcome".to_owned()),
        Err(TaskError::DeadlineExceeded) => match plan.how.deadline {
            Some(deadline) if took.is_none_or(|took| took + tick >= deadline) => Ok(()),
            deadline => Err(format!("late after {took:?} with a deadline of {deadline:?}")),
        },
        Err(TaskError::TooManyAttempts { attempts }) if scenario.attempts_max == Some(attempts) => Ok(()),
        Ok(Answer { deed, run, bytes }) => match plan.deed.answer(run) {
            Ok(right) if deed == plan.deed && bytes == right => Ok(()),
            _ => Err(format!("a wrong answer: to {deed:?}, {} bytes", bytes.len())),
        },
        Err(error) if plan.deed.does != Does::Kill && plan.deed.answer(0) == Err(error.clone()) => Ok(()),
        Err(error) => Err(format!("a wrong outcome: {error}")),
    }
}
