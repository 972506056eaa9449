//! How often something happened in the last minute. The clock is passed in.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Seconds that are looked back.
const SECONDS: usize = 60;

/// Counts by second.
#[derive(Debug)]
pub(super) struct Rate {
    start: Instant,
    /// The second that was counted last, and the counts of the seconds up to it, each at its place modulo their number.
    counts: Mutex<(u64, [u64; SECONDS])>,
}

impl Rate {
    pub(super) fn new(start: Instant) -> Self {
        Rate { start, counts: Mutex::new((0, [0; SECONDS])) }
    }

    /// It happens.
    pub(super) fn count(&self, now: Instant) {
        self.at(now, |counts, second| counts[second as usize % SECONDS] += 1);
    }

    /// Times a second, over the last minute or since the start.
    pub(super) fn per_second(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.start).as_secs_f64();
        self.at(now, |counts, _| counts.iter().sum::<u64>() as f64 / age.clamp(1.0, SECONDS as f64))
    }

    fn at<T>(&self, now: Instant, look: impl FnOnce(&mut [u64; SECONDS], u64) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, counts) = &mut *counts;
        let second = now.saturating_duration_since(self.start).as_secs().max(*last);
        for passed in (*last + 1..=second).take(SECONDS) {
            counts[passed as usize % SECONDS] = 0;
        }
        if second - *last > SECONDS as u64 {
            counts.fill(0);
        }
        *last = second;
        look(counts, second)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let rate = Rate::new(start);
        (0..10).for_each(|_| rate.count(at(0.5)));
        assert_eq!(rate.per_second(at(0.5)), 10.0);
        assert_eq!(rate.per_second(at(5.0)), 2.0);
        (0..50).for_each(|second| rate.count(at(10.0 + f64::from(second))));
        assert_eq!(rate.per_second(at(59.9)), 60.0 / 59.9);
        assert_eq!(rate.per_second(at(60.5)), 50.0 / 60.0, "the first ten have passed");
        assert_eq!(rate.per_second(at(600.0)), 0.0);
        assert_eq!(rate.per_second(at(599.0)), 0.0, "a clock that goes back is no panic");
    }
}
