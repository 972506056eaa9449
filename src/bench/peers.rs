//! Part 5: the same job by what people would use instead, and by this pool.
//!
//! A job is so many systems, made before the clock starts, of which so many are on their way at a time; it ends when all
//! answers are here. A peer has a worker process of one thread for each core; this pool has one worker with as many slots,
//! or those that run on the broker already.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::expected_seconds;
use super::job;
use super::model::{Payload, PeerRow, Spread};
use super::payload::in_flight;
use super::program::Program;
use super::rounds::Contestant;
use super::stand::Ground;
use crate::tasks::solve::System;

/// Setting one up takes a download.
const START_LIMIT: Duration = Duration::from_secs(900);
/// The longest a job may take; the peer itself gives up a little earlier.
const JOB_LIMIT: Duration = Duration::from_secs(330);
const JOB_SECONDS: u64 = 300;

/// Systems of a job: about a second of two cores, but not so many small ones.
pub(super) fn count(n: usize) -> u64 {
    let by_work = 4e10 / (n as f64).powi(3);
    (by_work as u64).clamp(4, 4000)
}

/// What a peer says of itself.
#[derive(Clone, Deserialize)]
pub(super) struct Identity {
    version: String,
    detail: String,
}

#[derive(Deserialize)]
struct Answer {
    tasks_per_second: f64,
    backward_error: f64,
    fingerprint: String,
}

/// A peer that runs, or why there is none. It does all sizes.
pub(super) type Peer = Result<(Arc<Mutex<Program>>, Identity), String>;

/// Starts one with so many workers, set up first if it is not.
pub(super) async fn start(
    name: &str,
    script: &Path,
    workers: usize,
    broker: Option<&str>,
) -> Result<(Program, Identity), String> {
    let workers = workers.to_string();
    let mut arguments = ["serve", "--workers", &workers].map(str::to_owned).to_vec();
    arguments.push(name.to_owned());
    Program::start(name, script, &arguments, broker, START_LIMIT).await
}

enum By {
    /// This pool; opened anew for each job, which is not timed.
    Ours(Arc<Ground>),
    Peer(Peer),
}

/// One of them at one size.
pub(super) struct Entrant {
    by: By,
    name: String,
    detail: String,
    n: usize,
    workers: usize,
    systems: Arc<[System]>,
    seed: u64,
    rates: Vec<f64>,
    backward_error: Option<f64>,
    missing: Option<String>,
}

impl Entrant {
    pub(super) fn ours(name: &str, ground: &Arc<Ground>, systems: &Arc<[System]>, n: usize, workers: usize) -> Self {
        let slots = if ground.manned { ground.slots } else { ground.pool.slots };
        let who = if ground.manned { "the workers that run" } else { "one worker" };
        let detail = format!("{}, {}, {slots} slots of {who}", env!("CARGO_PKG_VERSION"), ground.broker.address());
        let workers = if ground.manned { slots } else { workers };
        let (name, systems) = (name.to_owned(), systems.clone());
        let (rates, backward_error, missing) = (Vec::new(), None, None);
        let by = By::Ours(ground.clone());
        Entrant { by, name, detail, n, workers, systems, seed: 0, rates, backward_error, missing }
    }

    pub(super) fn peer(
        name: &str,
        peer: &Peer,
        systems: &Arc<[System]>,
        (n, seed): (usize, u64),
        workers: usize,
    ) -> Self {
        let detail = peer.as_ref().map_or_else(|_| String::new(), |(_, it)| format!("{}, {}", it.version, it.detail));
        let (name, systems, missing) = (name.to_owned(), systems.clone(), peer.as_ref().err().cloned());
        let (rates, backward_error, by) = (Vec::new(), None, By::Peer(peer.clone()));
        Entrant { by, name, detail, n, workers, systems, seed, rates, backward_error, missing }
    }

    async fn job(&mut self) -> Result<(f64, f64), String> {
        let (count, flight) = (count(self.n), in_flight(self.n, self.workers));
        match &self.by {
            By::Ours(ground) => {
                let stand = ground.open(ground.usual()).await.map_err(|error| error.to_string())?;
                let boss = &stand.boss;
                // As the peers have done a small job by the time they say that they are ready.
                let warm = job::stream(boss, &self.systems, (2, 2), Payload::Binary, |_| {}).await;
                let done = match warm {
                    Ok(_) => job::stream(boss, &self.systems, (count, flight), Payload::Binary, |_| {}).await,
                    failed => failed,
                };
                stand.close().await;
                let done = done.map_err(|error| error.to_string())?;
                Ok((done.tasks_per_second(), done.backward_error))
            }
            By::Peer(Ok((program, _))) => {
                let request = format!("job {} {count} {} {flight} {JOB_SECONDS}", self.n, self.seed);
                let answer: Answer = program.lock().await.ask(&request, JOB_LIMIT).await?;
                if self.systems.first().is_some_and(|system| job::fingerprint(system) != answer.fingerprint) {
                    return Err("it solved other systems than ours".to_owned());
                }
                Ok((answer.tasks_per_second, answer.backward_error))
            }
            By::Peer(Err(why)) => Err(why.clone()),
        }
    }

    pub(super) fn row(&self) -> PeerRow {
        let not_begun = || self.rates.is_empty().then(|| "interrupted before its first round".to_owned());
        PeerRow {
            peer: self.name.clone(),
            detail: self.detail.clone(),
            n: self.n,
            count: usize::try_from(count(self.n)).unwrap_or(usize::MAX),
            workers: self.workers,
            tasks_per_second: Spread::of(&self.rates),
            backward_error: self.backward_error,
            missing: self.missing.clone().or_else(not_begun),
        }
    }
}

#[async_trait]
impl Contestant for Entrant {
    fn name(&self) -> String {
        format!("peers: N={} {}", self.n, self.name)
    }

    fn turn_seconds(&self) -> f64 {
        let work = count(self.n) as f64 * expected_seconds(self.n);
        match &self.by {
            _ if self.missing.is_some() => 0.0,
            By::Ours(_) => work,
            By::Peer(_) => 3.0 * work + 1.0,
        }
    }

    async fn turn(&mut self, counts: bool) {
        if self.missing.is_some() {
            return;
        }
        match self.job().await {
            Ok((rate, backward_error)) => {
                self.rates.extend(counts.then_some(rate));
                self.backward_error = Some(self.backward_error.unwrap_or(0.0).max(backward_error));
            }
            Err(why) => self.missing = Some(why),
        }
    }

    fn is_settled(&self) -> bool {
        self.missing.is_some() || Spread::of(&self.rates).is_some_and(|spread| spread.is_narrow())
    }
}
