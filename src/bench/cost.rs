//! What part 4 is worked out from: a stream of each size solved here, and what sending costs this machine.

use std::sync::Arc;

use async_trait::async_trait;

use super::SLICE_SECONDS;
use super::expected_seconds;
use super::job::{self, Streamed};
use super::model::{Cost, Payload, Spread};
use super::payload::in_flight;
use super::rounds::Contestant;
use super::stand::Stand;
use crate::directory::Node;
use crate::task::TaskError;
use crate::tasks::solve::System;

/// Workers that compute less than this share of their time are not what limits a stream.
const IDLE: f64 = 0.8;

/// Where the workers are that tasks are sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Workers {
    /// In this process.
    Own,
    /// In processes of their own, which share the cores with this one.
    OnThisHost,
    /// Some are on other machines.
    Elsewhere,
}

impl Workers {
    /// Those that run already; of none, that there will be our own.
    pub(super) fn of(nodes: &[Node]) -> Self {
        let host = gethostname::gethostname();
        match nodes {
            [] => Workers::Own,
            nodes if nodes.iter().all(|node| *node.host == *host.to_string_lossy()) => Workers::OnThisHost,
            _ => Workers::Elsewhere,
        }
    }
}

/// One size, here and sent away.
pub(super) struct Sending {
    n: usize,
    systems: Arc<[System]>,
    /// The embedded pool, with all cores.
    here: Arc<Stand>,
    /// Through the broker.
    away: Arc<Stand>,
    workers: Workers,
    local: Vec<f64>,
    alone: Vec<f64>,
    sending: Vec<f64>,
    rates: (f64, f64),
    pub failed: Option<TaskError>,
}

impl Sending {
    pub(super) fn new(n: usize, systems: Arc<[System]>, here: Arc<Stand>, away: Arc<Stand>, workers: Workers) -> Self {
        let (local, alone, sending, failed) = (Vec::new(), Vec::new(), Vec::new(), None);
        Sending { n, systems, here, away, workers, local, alone, sending, rates: (0.0, 0.0), failed }
    }

    async fn stream(&self, stand: &Stand, rate: f64) -> Result<Streamed, TaskError> {
        let flight = in_flight(self.n, stand.slots);
        let count = job::count_for(SLICE_SECONDS, rate, flight);
        job::stream(&stand.boss, &self.systems, (count, flight), Payload::Binary, |_| {}).await
    }

    async fn measure(&mut self, counts: bool) -> Result<(), TaskError> {
        let here = self.stream(&self.here, self.rates.0).await?;
        let away = self.stream(&self.away, self.rates.1).await?;
        self.rates = (here.tasks_per_second(), away.tasks_per_second());
        let system = self.systems.first().cloned().unwrap_or_else(|| System::random(self.n, 1, 0));
        let lone = job::send(&self.away.boss, system, Payload::Binary).await?;
        if counts {
            let worker = lone.trip.times.worker;
            let computing = worker.computed_ns.saturating_sub(worker.decoded_ns) as f64 / 1e9;
            let cpu = |done: &Streamed| done.cpu_seconds / done.count as f64;
            self.local.push(1.0 / here.tasks_per_second());
            self.alone.push(lone.trip.wall_seconds - computing);
            let waited = away.busy_seconds < IDLE * away.seconds * self.away.slots as f64;
            self.sending.push(match self.workers {
                // They compute as those here do: what they take more is the way. Half of it is their own and not the
                // sender's, so that this is an upper bound.
                Workers::Own => cpu(&away) - cpu(&here),
                // For this machine, for the broker, or for the network.
                Workers::Elsewhere if waited => cpu(&away).max(away.seconds / away.count as f64),
                _ => cpu(&away),
            });
        }
        Ok(())
    }

    /// Closes the stands; the cost that was found.
    pub(super) async fn close(self) -> Result<Option<Cost>, TaskError> {
        let cost = self.cost();
        let Sending { here, away, failed, .. } = self;
        for stand in [away, here] {
            // The two may be the same: the last one closes it.
            if let Some(stand) = Arc::into_inner(stand) {
                stand.close().await;
            }
        }
        failed.map_or(Ok(cost), Err)
    }

    /// The medians; `None` of nothing.
    pub(super) fn cost(&self) -> Option<Cost> {
        let median = |found: &[f64]| Spread::of(found).map(|spread| spread.median);
        Some(Cost {
            n: self.n,
            local_seconds: median(&self.local)?,
            alone_seconds: median(&self.alone)?,
            stream_seconds: median(&self.sending)?,
        })
    }
}

/// The cost at an n larger than the measured one: computing grows as the operations do, the way as the bytes.
pub(super) fn scaled(cost: &Cost, n: usize) -> Cost {
    if n <= cost.n {
        return *cost;
    }
    let work = expected_seconds(n) / expected_seconds(cost.n);
    let way = job::payload_bytes(n) as f64 / job::payload_bytes(cost.n) as f64;
    Cost {
        n,
        local_seconds: cost.local_seconds * work,
        alone_seconds: cost.alone_seconds * way,
        stream_seconds: cost.stream_seconds * way,
    }
}

#[async_trait]
impl Contestant for Sending {
    fn name(&self) -> String {
        format!("break-even: N={}", self.n)
    }

    fn turn_seconds(&self) -> f64 {
        let once = expected_seconds(self.n);
        2.0 * SLICE_SECONDS.max(2.0 * once * self.here.slots as f64) + once
    }

    async fn turn(&mut self, counts: bool) {
        if self.failed.is_none()
            && let Err(error) = self.measure(counts).await
        {
            self.failed = Some(error);
        }
    }

    fn is_settled(&self) -> bool {
        let narrow = |found: &[f64]| Spread::of(found).is_some_and(|spread| spread.is_narrow());
        self.failed.is_some() || (narrow(&self.local) && narrow(&self.sending))
    }
}
