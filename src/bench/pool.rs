//! Part 3: throughput and efficiency of a pool, against its workers, what is in flight and what is taken ahead.

use std::sync::Arc;

use async_trait::async_trait;

use super::job::{self, Streamed};
use super::model::{Payload, PoolRow, Spread, Sweep};
use super::payload::in_flight;
use super::rounds::Contestant;
use super::stand::{Crew, Ground};
use super::{SLICE_SECONDS, expected_seconds};
use crate::tasks::solve::System;

/// A stream before the one that counts, as a share of it: threads and connections are warm then.
const WARM: f64 = 0.2;

/// A pool of one setting, opened anew for each turn.
pub(super) struct Setting {
    pub sweep: Sweep,
    pub n: usize,
    pub crew: Crew,
    pub in_flight: usize,
    ground: Arc<Ground>,
    systems: Arc<[System]>,
    /// Of the stand, once it is known.
    slots: usize,
    /// With the slots there were.
    found: Vec<(Streamed, usize)>,
    rate: f64,
    failed: Option<String>,
}

impl Setting {
    /// Those worth a look: one after another is varied. Of workers that run already only what is in flight can be.
    pub(super) fn all(ground: &Arc<Ground>, systems: &Arc<[System]>, n: usize) -> Vec<Setting> {
        let usual = ground.usual();
        let cores = usual.slots;
        let one = |sweep, crew: Crew, in_flight| Setting {
            sweep,
            n,
            crew,
            in_flight,
            ground: ground.clone(),
            systems: systems.clone(),
            slots: crew.cores(),
            found: Vec::new(),
            rate: 0.0,
            failed: None,
        };
        let busy = in_flight(n, ground.slots.max(cores));
        let mut all = Vec::new();
        if !ground.manned {
            let workers = steps(cores).map(|workers| Crew { workers, slots: 1, threads: 1, prefetch: None });
            all.extend(workers.map(|crew| one(Sweep::Workers, crew, busy)));
        }
        let flights = [1, 2, 4, 16, 64, 256].into_iter().filter(|&tasks| tasks == 1 || tasks < busy);
        all.extend(flights.chain([busy]).map(|tasks| one(Sweep::InFlight, usual, tasks)));
        if !ground.manned {
            let ahead = [1, 2, 8, 32].map(|prefetch| Crew { prefetch: Some(prefetch), ..usual });
            all.extend(ahead.map(|crew| one(Sweep::Prefetch, crew, busy)));
        }
        all
    }

    async fn measure(&mut self) -> Result<Streamed, String> {
        let stand = self.ground.open(self.crew).await.map_err(|error| error.to_string())?;
        self.slots = stand.slots;
        let stream = async |seconds: f64, rate: f64| {
            let count = job::count_for(seconds, rate, self.in_flight);
            job::stream(&stand.boss, &self.systems, (count, self.in_flight), Payload::Binary, |_| {}).await
        };
        let warm = stream(WARM * SLICE_SECONDS, self.rate).await;
        let measured = match warm {
            Ok(warm) => stream(SLICE_SECONDS, warm.tasks_per_second()).await,
            failed => failed,
        };
        stand.close().await;
        measured.map_err(|error| error.to_string())
    }

    fn rates(&self) -> Vec<f64> {
        self.found.iter().map(|(one, _)| one.tasks_per_second()).collect()
    }

    /// What it found; `None` of nothing.
    pub(super) fn row(&self) -> Option<PoolRow> {
        let rates = self.rates();
        let busy = |(one, slots): &(Streamed, usize)| one.busy_seconds / (one.seconds * *slots as f64);
        let efficiency: Vec<f64> = self.found.iter().map(busy).collect();
        let manned = self.ground.manned;
        Some(PoolRow {
            sweep: self.sweep,
            n: self.n,
            workers: if manned { 0 } else { self.crew.workers },
            slots: self.slots,
            in_flight: self.in_flight,
            prefetch: (!manned).then(|| self.crew.prefetch()),
            tasks_per_second: Spread::of(&rates)?,
            efficiency: Spread::of(&efficiency)?,
        })
    }

    /// Why it found nothing.
    pub(super) fn failure(&self) -> Option<String> {
        self.failed.as_ref().map(|why| format!("{}: {why}", self.name()))
    }
}

/// 1, 2, 4 and so on, and the last.
fn steps(last: usize) -> impl Iterator<Item = usize> {
    (0..).map(|power| 1 << power).take_while(move |&step| step < last).chain([last])
}

#[async_trait]
impl Contestant for Setting {
    fn name(&self) -> String {
        let Setting { n, crew, in_flight, .. } = self;
        match self.sweep {
            Sweep::Workers => format!("pool: N={n}, {} workers of one slot", crew.workers),
            Sweep::InFlight => format!("pool: N={n}, {in_flight} in flight"),
            Sweep::Prefetch => format!("pool: N={n}, prefetch {}", crew.prefetch()),
        }
    }

    fn turn_seconds(&self) -> f64 {
        0.1 + (1.0 + WARM) * SLICE_SECONDS.max(2.0 * expected_seconds(self.n) * self.slots as f64)
    }

    async fn turn(&mut self, counts: bool) {
        if self.failed.is_some() {
            return;
        }
        match self.measure().await {
            Ok(streamed) => {
                self.rate = streamed.tasks_per_second();
                self.found.extend(counts.then_some((streamed, self.slots)));
            }
            Err(why) => self.failed = Some(why),
        }
    }

    fn is_settled(&self) -> bool {
        self.failed.is_some() || Spread::of(&self.rates()).is_some_and(|spread| spread.is_narrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_and_end_at_the_last() {
        for (last, expected) in [(1, vec![1]), (2, vec![1, 2]), (6, vec![1, 2, 4, 6]), (8, vec![1, 2, 4, 8])] {
            assert_eq!(steps(last).collect::<Vec<_>>(), expected);
        }
    }
}
