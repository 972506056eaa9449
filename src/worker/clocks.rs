//! Deadlines between clocks that disagree. Must not touch: any clock; times are passed in.
//!
//! A deadline is a time of the boss's clock, which may be hours off this worker's. Each message says when it left, by the
//! same clock: what it seems to have taken is the offset of the clocks and the time on its way, which is never less than
//! nothing. So the least that a message of this boss has seemed to take is the offset, and some way more.
//!
//! Invariant: a task is never late before its boss thinks so; it may be thought in time for longer, by the shortest way
//! that a message had lately. The boss goes by its own clock and calls off what is late.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::TaskHead;

/// Clocks drift apart, by some ms in this time: what is older than twice as long counts no more.
const WINDOW: Duration = Duration::from_secs(600);

/// Bosses remembered.
const KEEP: usize = 256;

/// What messages seemed to take at least, by the results queue of their boss.
#[derive(Default)]
pub(super) struct Clocks {
    bosses: Mutex<HashMap<String, Least>>,
}

/// In ms; below nothing if the boss's clock is ahead.
struct Least {
    now: i128,
    before: Option<i128>,
    since: Instant,
}

impl Clocks {
    /// When this task is late, by the clock of this host, if it ever is. `unix_ms` and `at` are both now.
    pub(super) fn deadline(&self, reply_to: &str, head: &TaskHead, unix_ms: u64, at: Instant) -> Option<Instant> {
        // A client that does not say when it sent it is trusted to have the right time.
        let took = if head.sent_unix_ms == 0 { 0 } else { self.least(reply_to, head.sent_unix_ms, unix_ms, at) };
        if head.deadline_unix_ms == 0 {
            return None;
        }
        let left_ms = i128::from(head.deadline_unix_ms) + took - i128::from(unix_ms);
        at.checked_add(Duration::from_millis(u64::try_from(left_ms.max(0)).unwrap_or(u64::MAX)))
    }

    /// Some boss is new, and its name may be an old one.
    pub(super) fn forget(&self) {
        self.bosses.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn least(&self, reply_to: &str, sent_unix_ms: u64, unix_ms: u64, at: Instant) -> i128 {
        let took = i128::from(unix_ms) - i128::from(sent_unix_ms);
        let mut bosses = self.bosses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(least) = bosses.get_mut(reply_to) {
            return least.note(took, at);
        }
        if bosses.len() >= KEEP
            && let Some(oldest) = bosses.iter().min_by_key(|(_, least)| least.since).map(|(boss, _)| boss.clone())
        {
            bosses.remove(&oldest);
        }
        bosses.insert(reply_to.to_owned(), Least { now: took, before: None, since: at });
        took
    }
}

impl Least {
    fn note(&mut self, took: i128, at: Instant) -> i128 {
        let age = at.saturating_duration_since(self.since);
        if age > WINDOW {
            let before = (age <= 2 * WINDOW).then_some(self.now);
            *self = Least { now: took, before, since: at };
        }
        self.now = self.now.min(took);
        self.before.map_or(self.now, |before| before.min(self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Format, TaskId};

    const HOUR_MS: u64 = 3_600_000;

    fn head(sent_unix_ms: u64, deadline_unix_ms: u64) -> TaskHead {
        TaskHead {
            id: TaskId(1),
            kind: "probe".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms,
            sent_unix_ms,
            flops: 0,
            payload_bytes: 0,
            checksum: None,
            pull_from: None,
            progress_to: None,
            params: vec![],
        }
    }

    #[test]
    fn an_hour_between_the_clocks_is_no_reason_to_be_late_or_early() {
        let at = Instant::now();
        for worker_now in [10 * HOUR_MS, 11 * HOUR_MS, 9 * HOUR_MS] {
            let (clocks, boss_now) = (Clocks::default(), 10 * HOUR_MS);
            let left = clocks.deadline("boss", &head(boss_now, boss_now + 5000), worker_now, at).map(|by| by - at);
            assert_eq!(left, Some(Duration::from_secs(5)), "the first message tells the offset");
            // This one has waited for 4 s.
            let left = clocks.deadline("boss", &head(boss_now, boss_now + 5000), worker_now + 4000, at);
            assert_eq!(left.map(|by| by - at), Some(Duration::from_secs(1)));
            let late = clocks.deadline("boss", &head(boss_now, boss_now + 5000), worker_now + 9000, at);
            assert_eq!(late, Some(at));
        }
    }

    #[test]
    fn a_message_that_waited_makes_nothing_late_too_early() {
        let (clocks, at) = (Clocks::default(), Instant::now());
        let left = |sent, deadline, now| clocks.deadline("boss", &head(sent, deadline), now, at).map(|by| by - at);
        // 60 s on its way: all that is known is that the worker's clock is at most so far ahead.
        assert_eq!(left(1_000_000, 1_005_000, 1_060_000), Some(Duration::from_secs(5)));
        assert_eq!(left(1_060_000, 1_065_000, 1_060_000), Some(Duration::from_secs(5)), "a quick one");
        assert_eq!(left(1_000_000, 1_005_000, 1_060_000), Some(Duration::ZERO), "now it is known to be late");
    }

    #[test]
    fn a_boss_that_comes_back_with_another_clock_is_not_late() {
        let (clocks, at, now) = (Clocks::default(), Instant::now(), 10 * HOUR_MS);
        let left = |sent| clocks.deadline("boss", &head(sent, sent + 5000), now, at).map(|by| by - at);
        assert_eq!(left(now + HOUR_MS), Some(Duration::from_secs(5)), "an hour ahead");
        assert_eq!(left(now), Some(Duration::ZERO), "by that clock");
        clocks.forget();
        assert_eq!(left(now), Some(Duration::from_secs(5)));
    }

    #[test]
    fn what_was_known_is_forgotten_after_a_while_and_not_at_once() {
        let (mut least, start) = (Least { now: 5, before: None, since: Instant::now() }, Instant::now());
        assert_eq!(least.note(90, start + WINDOW / 2), 5);
        assert_eq!(least.note(80, start + WINDOW + WINDOW / 2), 5, "of the window before");
        assert_eq!(least.note(70, start + 3 * WINDOW), 70, "the old one is too old");
    }

    #[test]
    fn numbers_from_outside_overflow_nothing() {
        let (clocks, at) = (Clocks::default(), Instant::now());
        for sent in [0, 1, u64::MAX] {
            for deadline in [0, 1, u64::MAX] {
                for now in [0, 1, u64::MAX] {
                    let _ = clocks.deadline("boss", &head(sent, deadline), now, at);
                }
            }
        }
    }

    #[test]
    fn bosses_are_remembered_up_to_a_number() {
        let (clocks, at) = (Clocks::default(), Instant::now());
        for boss in 0..2 * KEEP {
            clocks.deadline(&boss.to_string(), &head(1, 2), 3, at + Duration::from_millis(boss as u64));
        }
        let bosses = clocks.bosses.lock().unwrap();
        assert!(bosses.len() == KEEP && bosses.contains_key(&(2 * KEEP - 1).to_string()));
    }
}
