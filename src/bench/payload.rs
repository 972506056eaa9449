//! Part 1: what the form of the payload costs, a task alone and a stream of them.

use std::sync::Arc;

use async_trait::async_trait;

use super::clock::{self, Offsets, Trip};
use super::job::{self, Done};
use super::memory::Watched;
use super::model::{Payload, PayloadRow, Spread, Stages};
use super::rounds::Contestant;
use super::stand::Stand;
use super::{SLICE_SECONDS, expected_seconds};
use crate::task::TaskError;
use crate::tasks::solve::System;

/// Lone tasks of a turn, at most.
const ALONE_MAX: u64 = 20;

/// One size and form.
pub(super) struct Form {
    stand: Arc<Stand>,
    systems: Arc<[System]>,
    n: usize,
    payload: Payload,
    trips: Vec<Trip>,
    rates: Vec<f64>,
    bytes: (u64, u64),
    peaks: (Option<u64>, Option<u64>),
    /// Of a stream, as far as it is known.
    rate: f64,
    failed: Option<TaskError>,
}

impl Form {
    pub(super) fn new(stand: Arc<Stand>, systems: Arc<[System]>, n: usize, payload: Payload) -> Self {
        let (trips, rates, peaks) = (Vec::new(), Vec::new(), (None, None));
        Form { stand, systems, n, payload, trips, rates, bytes: (0, 0), peaks, rate: 0.0, failed: None }
    }

    /// Some tasks one by one, then a stream.
    async fn measure(&mut self, counts: bool) -> Result<(), TaskError> {
        let mut alone = 0;
        let mut seconds = 0.0;
        while alone < ALONE_MAX && (alone == 0 || seconds < SLICE_SECONDS) {
            let system = self.systems[alone as usize % self.systems.len()].clone();
            let Done { trip, task_bytes, answer_bytes, .. } = job::send(&self.stand.boss, system, self.payload).await?;
            alone += 1;
            seconds += trip.wall_seconds;
            self.bytes = (self.bytes.0.max(task_bytes), self.bytes.1.max(answer_bytes));
            if counts {
                self.trips.push(trip);
            }
        }
        if self.rate == 0.0 {
            self.rate = alone as f64 / seconds;
        }
        let watched = Watched::start(&self.stand.boss.nodes());
        let in_flight = in_flight(self.n, self.stand.slots);
        let count = job::count_for(SLICE_SECONDS, self.rate, in_flight);
        let streamed = job::stream(&self.stand.boss, &self.systems, (count, in_flight), self.payload, |_| {}).await?;
        self.rate = streamed.tasks_per_second();
        let (boss, worker) = watched.peaks();
        if counts {
            self.peaks = (self.peaks.0.max(boss), self.peaks.1.max(worker));
            self.rates.push(self.rate);
        }
        Ok(())
    }

    /// Its tasks on their way.
    pub(super) fn trips(&self) -> &[Trip] {
        &self.trips
    }

    /// What it found.
    pub(super) fn row(&self, offsets: &Offsets) -> PayloadRow {
        let timed: Vec<(f64, Stages)> = self
            .trips
            .iter()
            .filter_map(|trip| Some((trip.wall_seconds, clock::stages(trip, *offsets.get(&trip.host)?))))
            .collect();
        let walls: Vec<f64> = timed.iter().map(|(wall, _)| *wall).collect();
        let not_begun = || (walls.is_empty()).then(|| "interrupted before its first round".to_owned());
        PayloadRow {
            n: self.n,
            payload: self.payload,
            task_bytes: self.bytes.0,
            answer_bytes: self.bytes.1,
            round_trip_seconds: Spread::of(&walls),
            stages_seconds: Stages::typical(&timed),
            tasks_per_second: Spread::of(&self.rates),
            boss_peak_bytes: self.peaks.0,
            worker_peak_bytes: self.peaks.1,
            missing: self.failed.as_ref().map(TaskError::to_string).or_else(not_begun),
        }
    }
}

/// Tasks that keep so many slots busy, within reason of memory.
pub(super) fn in_flight(n: usize, slots: usize) -> usize {
    const BYTES: u64 = 64 << 20;
    let for_bytes = usize::try_from(BYTES / job::payload_bytes(n).max(1)).unwrap_or(usize::MAX).min(512);
    for_bytes.max(2 * slots)
}

#[async_trait]
impl Contestant for Form {
    fn name(&self) -> String {
        format!("payload: N={} {}", self.n, self.payload.name())
    }

    fn turn_seconds(&self) -> f64 {
        let once = expected_seconds(self.n) + self.payload.text_seconds(self.n);
        SLICE_SECONDS.max(once) + SLICE_SECONDS.max(2.0 * once * self.stand.slots as f64)
    }

    async fn turn(&mut self, counts: bool) {
        if self.failed.is_none()
            && let Err(error) = self.measure(counts).await
        {
            self.failed = Some(error);
        }
    }

    fn is_settled(&self) -> bool {
        let narrow = |measured: &[f64]| Spread::of(measured).is_some_and(|spread| spread.is_narrow());
        let walls: Vec<f64> = self.trips.iter().map(|trip| trip.wall_seconds).collect();
        self.failed.is_some() || (narrow(&walls) && narrow(&self.rates))
    }
}

impl Payload {
    /// What writing and reading takes, roughly: 20 bytes of text a number at 300 MB/s, base64 at 1 GB/s.
    pub(super) fn text_seconds(self, n: usize) -> f64 {
        let numbers = job::payload_bytes(n) as f64 / 8.0;
        match self {
            Payload::Binary => 0.0,
            Payload::Json => numbers * 20.0 / 3e8,
            Payload::Base64 => numbers * 11.0 / 1e9,
        }
    }
}
