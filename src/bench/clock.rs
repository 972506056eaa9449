//! The stages of a round trip, from times of two hosts. Pure.
//!
//! Monotonic clocks of two hosts count from different moments. A worker cannot receive a task before it was submitted,
//! nor can its answer be here before it was sent: each task bounds the offset from both sides, and many tasks narrowly.

use std::collections::BTreeMap;

use super::model::Stages;
use crate::task::Times;

/// One task on its way and back, on this host's clock but for what `times` has of the worker's.
#[derive(Clone, Debug)]
pub(super) struct Trip {
    /// The worker's host.
    pub host: String,
    /// Before the task was encoded.
    pub began_ns: u64,
    /// It was encoded.
    pub encoded_ns: u64,
    pub times: Times,
    /// Its answer was read.
    pub ended_ns: u64,
    /// The same way by a stopwatch of its own.
    pub wall_seconds: f64,
}

/// By how much the clock of a worker's host is ahead of ours.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Offset {
    pub ns: i128,
    /// It may be off by so much.
    pub within_ns: i128,
}

/// Of all hosts.
pub(super) type Offsets = BTreeMap<String, Offset>;

/// The offsets of all hosts. One that may be zero is taken for zero: processes of one machine have one clock.
pub(super) fn offsets<'a>(trips: impl IntoIterator<Item = &'a Trip>) -> Offsets {
    let mut bounds: BTreeMap<String, (i128, i128)> = BTreeMap::new();
    for Trip { host, times, .. } in trips {
        let least = i128::from(times.worker.sent_ns) - i128::from(times.answered_ns);
        let most = i128::from(times.worker.received_ns) - i128::from(times.submitted_ns);
        let bound = bounds.entry(host.clone()).or_insert((least, most));
        *bound = (bound.0.max(least), bound.1.min(most));
    }
    let offset = |(least, most): (i128, i128)| {
        if least <= 0 && most >= 0 {
            Offset { ns: 0, within_ns: 0 }
        } else {
            Offset { ns: (least + most) / 2, within_ns: (most - least).abs() / 2 }
        }
    };
    bounds.into_iter().map(|(host, bound)| (host, offset(bound))).collect()
}

/// What a reader should know of them.
pub(super) fn in_words(offsets: &Offsets) -> Vec<String> {
    let said = offsets.iter().map(|(host, offset)| {
        if offset.ns == 0 {
            return format!("the clock of {host} agrees with this host's, as far as its tasks tell: nothing was corrected");
        }
        format!(
            "the clock of {host} is taken to be {:.4} s ahead of this host's, within {:.4} s: the stages publish, queue and \
             reply of its tasks are as exact as that",
            offset.ns as f64 / 1e9,
            offset.within_ns as f64 / 1e9
        )
    });
    said.collect()
}

/// Where the time of a trip went. The sum is what lies between its first and its last time.
pub(super) fn stages(trip: &Trip, offset: Offset) -> Stages {
    let Trip { began_ns, encoded_ns, times, ended_ns, .. } = trip;
    let here = |ns: u64| i128::from(ns);
    let there = |ns: u64| i128::from(ns) - offset.ns;
    let worker = times.worker;
    let received = there(worker.received_ns).max(here(times.submitted_ns));
    // A worker may have it before the confirm is read.
    let published = times.confirmed_ns.map_or(received, here).min(received).max(here(*encoded_ns));
    let seconds = |from: i128, to: i128| (to - from) as f64 / 1e9;
    let on_worker = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
    let waiting = on_worker(worker.fetched_ns, worker.started_ns);
    Stages {
        encode: seconds(here(*began_ns), here(*encoded_ns)),
        publish: seconds(here(*encoded_ns), published),
        queue: seconds(published, received) + waiting,
        receive: on_worker(worker.received_ns, worker.fetched_ns),
        decode: on_worker(worker.started_ns, worker.decoded_ns),
        compute: on_worker(worker.decoded_ns, worker.computed_ns),
        reply: seconds(there(worker.computed_ns), here(*ended_ns)),
    }
}

impl Stages {
    /// The mean over the trips whose wall time lies between its quartiles. Medians of stages would not add up.
    pub(super) fn typical(trips: &[(f64, Stages)]) -> Option<Stages> {
        let mut sorted: Vec<&(f64, Stages)> = trips.iter().collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let quarter = sorted.len() / 4;
        let middle = sorted.get(quarter..sorted.len() - quarter).filter(|middle| !middle.is_empty())?;
        let mean = |stage: fn(&Stages) -> f64| {
            middle.iter().map(|(_, stages)| stage(stages)).sum::<f64>() / middle.len() as f64
        };
        Some(Stages {
            encode: mean(|stages| stages.encode),
            publish: mean(|stages| stages.publish),
            queue: mean(|stages| stages.queue),
            receive: mean(|stages| stages.receive),
            decode: mean(|stages| stages.decode),
            compute: mean(|stages| stages.compute),
            reply: mean(|stages| stages.reply),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::WorkerTimes;

    /// A task whose every stage takes as many milliseconds as its place, seen by a worker whose clock is `ahead`.
    fn trip(ahead_ns: u64) -> Trip {
        let ms = |ms: u64| ms * 1_000_000;
        let worker = WorkerTimes {
            received_ns: ms(6) + ahead_ns,
            fetched_ns: ms(10) + ahead_ns,
            started_ns: ms(10) + ahead_ns,
            decoded_ns: ms(15) + ahead_ns,
            computed_ns: ms(21) + ahead_ns,
            sent_ns: ms(22) + ahead_ns,
        };
        let times = Times { submitted_ns: ms(1), confirmed_ns: Some(ms(3)), worker, answered_ns: ms(27) };
        let host = "there".to_owned();
        Trip { host, began_ns: 0, encoded_ns: ms(1), times, ended_ns: ms(28), wall_seconds: 0.028 }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn on_one_clock_each_stage_is_what_it_was_and_they_add_up() {
        let trip = trip(0);
        let offset = offsets(std::slice::from_ref(&trip))["there"];
        assert_eq!(offset, Offset { ns: 0, within_ns: 0 });
        let stages = stages(&trip, offset);
        for ((name, seconds), expected) in stages.named().into_iter().zip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) {
            assert!(close(seconds, expected / 1e3), "{name}: {seconds}");
        }
        assert!(close(stages.sum(), 0.028));
    }

    #[test]
    fn another_clock_is_found_from_both_sides_and_the_sum_stays() {
        let hour = 3_600_000_000_000;
        let slow = trip(hour);
        // Another task that came back faster, and one that came there faster.
        let mut back = slow.clone();
        back.times.answered_ns = 23_000_000;
        let mut there = slow.clone();
        there.times.submitted_ns = 4_000_000;
        let offset = offsets(&[slow.clone(), back, there])["there"];
        // At least sent - answered = an hour - 1 ms, at most received - submitted = an hour + 2 ms.
        assert_eq!(offset, Offset { ns: i128::from(hour) + 500_000, within_ns: 1_500_000 });
        assert!(close(stages(&slow, offset).sum(), 0.028));
    }

    #[test]
    fn a_confirm_that_came_late_or_never_is_not_counted_twice() {
        for confirmed_ns in [None, Some(9_000_000)] {
            let mut trip = trip(0);
            trip.times.confirmed_ns = confirmed_ns;
            let stages = stages(&trip, Offset { ns: 0, within_ns: 0 });
            assert!(close(stages.publish, 0.005) && close(stages.queue, 0.0) && close(stages.sum(), 0.028));
        }
    }

    #[test]
    fn the_typical_trip_is_none_of_the_extremes() {
        let with = |seconds| (seconds, Stages { compute: seconds, ..Stages::default() });
        let typical = Stages::typical(&[with(9.0), with(2.0), with(0.1), with(3.0)]).unwrap();
        assert!(close(typical.compute, 2.5));
        assert_eq!(Stages::typical(&[]), None);
        assert!(close(Stages::typical(&[with(4.0)]).unwrap().compute, 4.0));
    }
}
