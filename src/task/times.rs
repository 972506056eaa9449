//! When a task passed where. Every time is in nanoseconds of the monotonic clock of the host that took it: programs on
//! one host may be compared, those of two hosts only once the offset of their clocks is known.

use super::ambient;

/// Now, on this host's monotonic clock: the same one for all its processes, and never set.
pub fn monotonic_ns() -> u64 {
    if let Some(since) = ambient::simulated_time() {
        return u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// [`ambient::unix_time`] in milliseconds.
pub fn unix_ms() -> u64 {
    u64::try_from(ambient::unix_time().as_millis()).unwrap_or(u64::MAX)
}

/// When a worker did what with a task, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, bincode::Encode, bincode::Decode)]
pub struct WorkerTimes {
    /// It took the message.
    pub received_ns: u64,
    /// The payload was there.
    pub fetched_ns: u64,
    /// The handler began. Tasks of one message begin one after another.
    pub started_ns: u64,
    /// The payload had become what the handler computes with ([`super::Watch::decoded`]).
    pub decoded_ns: u64,
    /// It had computed, and what is left is to write the answer ([`super::Watch::computed`]).
    pub computed_ns: u64,
    /// The answer began its way.
    pub sent_ns: u64,
}

/// When a task passed where. The first two and the last are of the boss's host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// It was entered, encoded, into the boss.
    pub submitted_ns: u64,
    /// The broker confirmed its message; `None` if the answer was faster, or it travelled on a connection that was lost.
    pub confirmed_ns: Option<u64>,
    /// On the worker's host.
    pub worker: WorkerTimes,
    /// The boss had the whole outcome.
    pub answered_ns: u64,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_clock_goes_as_fast_as_that_of_the_standard_library() {
        let around = Instant::now();
        let from = monotonic_ns();
        let within = Instant::now();
        while within.elapsed() < Duration::from_millis(5) {}
        let measured = Duration::from_nanos(monotonic_ns() - from);
        assert!(measured >= Duration::from_millis(5) && measured <= around.elapsed(), "{measured:?}");
    }
}
