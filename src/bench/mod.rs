//! Benchmark mode: what the form of a payload costs, what the solver does, how a pool grows, and when sending tasks away
//! pays, on the user's own machine.
//!
//! Drives the public [`Boss`](crate::boss::Boss), and [`crate::worker::Launcher`] where no worker runs: what it measures is
//! what users get. Must not touch queues, layouts, handlers' internals. All parts go in interleaved rounds
//! ([`rounds`]); matrices are made before the clock starts and are the same bytes for all that are compared.

mod break_even;
mod clock;
mod compute;
mod cost;
mod estimate;
mod job;
mod machine;
mod memory;
pub mod model;
mod parts;
mod payload;
mod peers;
mod pool;
mod program;
pub mod report;
mod rounds;
mod spread;
mod stand;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::boss::{self, Boss};
use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{Broker, Error};
use crate::tasks::solve::{SolveHandler, System};
use crate::worker;
pub use estimate::Estimate;
pub use model::Part;
use model::{Report, SCHEMA, Settings};
use rounds::Progress;
use stand::Ground;

/// What a measurement takes, unless one task takes longer.
const SLICE_SECONDS: f64 = 0.25;

/// Seconds that a core takes for a system, roughly: for the time left, and for how many make a measurement.
fn expected_seconds(n: usize) -> f64 {
    let n = n as f64;
    5e-5 + n * n * (n * 2.0 / 3.0 + 2.0) / 4e10
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the report says was asked for; `broker` is filled in.
    pub settings: Settings,
    /// Which parts.
    pub parts: Vec<Part>,
    /// The folder that has `baselines/run.py` and `peers/run.py`; found by itself in a checkout.
    pub programs: Option<PathBuf>,
    /// Fetch and build baselines that are not set up.
    pub set_up: bool,
    /// The broker's address, for peers that use one.
    pub broker_url: Option<String>,
}

/// Where to measure.
pub struct Place {
    /// `None`: in this process only.
    pub broker: Option<Arc<dyn Broker>>,
    /// How the bosses behave.
    pub options: boss::Options,
    /// What workers of the bench's own may take of this machine.
    pub pool: worker::Options,
}

/// Grounds, and what is common to all parts.
struct Bench {
    plan: Plan,
    /// The n from which a worker gives a task all threads.
    parallel_from: usize,
    here: Arc<Ground>,
    /// Through the broker, if there is one.
    away: Option<Arc<Ground>>,
    progress: Progress,
    stop: CancellationToken,
    report: Report,
}

impl Place {
    fn ground(&self, broker: Arc<dyn Broker>, handler: &Arc<SolveHandler>, manned: bool) -> Ground {
        Ground {
            broker,
            options: self.options,
            handler: handler.clone(),
            manned,
            workers: cost::Workers::Own,
            slots: 0,
            pool: self.pool.clone(),
        }
    }
}

/// Measures until all is done or `stop`; what is there by then is in the report. False if a part could not be measured,
/// which a note of the report tells.
///
/// # Errors
/// The broker's, at the first connection.
pub async fn run(mut plan: Plan, place: Place, stop: &CancellationToken) -> Result<(Report, bool), Error> {
    let began = Instant::now();
    let started = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let handler = Arc::new(SolveHandler::new(place.pool.threads));
    let here = Arc::new(place.ground(Arc::new(EmbeddedBroker::new()), &handler, false));
    let mut nodes = Vec::new();
    let mut product = None;
    let mut away = None;
    if let Some(broker) = &place.broker {
        // Whoever runs there is used: workers of our own would share the machine with them, and the tasks.
        let mut ground = place.ground(broker.clone(), &handler, true);
        let boss = stop.run_until_cancelled(Boss::connect(broker.clone(), place.options)).await;
        let boss = boss.ok_or_else(|| Error::Lost("interrupted".into()))??;
        nodes = ground.look(&boss).await?;
        boss.close().await;
        ground.manned = !nodes.is_empty();
        ground.workers = cost::Workers::of(&nodes);
        ground.slots = nodes.iter().map(|node| node.slots as usize).sum();
        product = broker.product().await;
        away = Some(Arc::new(ground));
    }
    plan.settings.broker = place.broker.as_ref().map_or_else(|| "embedded".to_owned(), |broker| broker.address());
    let machine = machine::look(handler.kernel_version(), product, &nodes);
    let report = Report {
        schema: SCHEMA,
        started,
        seconds: 0.0,
        complete: true,
        settings: plan.settings.clone(),
        machine,
        notes: Vec::new(),
        payload: Vec::new(),
        compute: Vec::new(),
        pool: Vec::new(),
        break_even: None,
        peers: Vec::new(),
    };
    let progress = Progress::new(plan.settings.rounds, parts::expected_seconds(&plan, &here, away.as_deref()));
    let mut bench =
        Bench { plan, parallel_from: handler.parallel_from(), here, away, progress, stop: stop.clone(), report };
    bench.note_the_place();
    let is_whole = bench.all_parts().await;
    bench.progress.finish();
    let Bench { mut report, .. } = bench;
    report.seconds = began.elapsed().as_secs_f64();
    report.complete = !stop.is_cancelled();
    Ok((report, is_whole))
}

/// How many of what to estimate.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// Systems.
    pub count: u64,
}

/// Measurements of an estimate take no longer than this each, unless one task does.
const GLANCE: Duration = Duration::from_millis(400);

/// Above this n a smaller system is measured, and its figures are scaled: the estimate must not take as long as the job.
const GLANCE_N: usize = 1500;

/// Says how long so many systems take here and in the pool, having measured one of them for a moment.
///
/// # Errors
/// The broker's, and in words what a task that failed says.
pub async fn estimate(question: Question, place: Place) -> Result<Estimate, Error> {
    let n = question.n.clamp(1, GLANCE_N);
    let (cores, handler) = (place.pool.slots, Arc::new(SolveHandler::new(place.pool.threads)));
    let failed = |error: crate::task::TaskError| Error::Lost(format!("the measurement failed: {error}"));
    let systems: Arc<[System]> = job::systems(n, 1).map_err(failed)?.into();
    let here = place.ground(Arc::new(EmbeddedBroker::new()), &handler, false);
    let here = Arc::new(here.open(here.usual()).await?);
    let mut workers = Vec::new();
    let mut away = here.clone();
    if let Some(broker) = &place.broker {
        let ground = place.ground(broker.clone(), &handler, true);
        let stand = ground.open(ground.usual()).await?;
        workers = ground.look(&stand.boss).await?;
        away = if workers.is_empty() { here.clone() } else { Arc::new(stand) };
    }
    let mut sending = cost::Sending::new(n, systems, here, away, cost::Workers::of(&workers));
    let began = Instant::now();
    for round in 0..6 {
        if round < 2 || began.elapsed() < 2 * GLANCE {
            rounds::Contestant::turn(&mut sending, round > 0).await;
        }
    }
    let cost = sending.close().await.map_err(failed)?;
    let cost = cost.ok_or_else(|| Error::Lost("nothing was measured".into()))?;
    let efficiency = estimate::efficiency(&cost, crate::task::Handler::gflops(&*handler), cores);
    let cost = cost::scaled(&cost, question.n);
    let power = |node: &crate::directory::Node| estimate::Power { slots: node.slots, gflops: node.gflops };
    let workers = workers.iter().map(power).collect();
    let ask = estimate::Ask { cost, count: question.count, workers, efficiency, memory_bytes: None };
    Ok(estimate::estimate(&ask))
}
