//! What happened on a network, to be compared with what happened another time, and the last of it to be read. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// What happened at a broker with faults.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: DefaultHasher,
    events: u64,
    last: VecDeque<String>,
    faults: BTreeMap<&'static str, u64>,
}

impl Trace {
    /// Lines kept.
    const KEEP: usize = 400;

    /// Notes an event, so long after the start.
    pub(super) fn note(&mut self, at: Duration, event: fmt::Arguments<'_>) {
        let oldest = if self.last.len() < Self::KEEP { None } else { self.last.pop_front() };
        let mut line = oldest.unwrap_or_default();
        line.clear();
        // Into memory, which has no way to fail.
        let _ = write!(line, "{:>9.3} {event}", at.as_secs_f64());
        self.hash.write(line.as_bytes());
        self.events += 1;
        self.last.push_back(line);
    }

    /// Counts a fault.
    pub(super) fn count(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// How many faults there were of each sort.
    pub fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Of all events: equal for two runs that were the same.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last of them, a line each: seconds since the start, the connection, what happened.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_events_count_and_the_last_are_kept() {
        let trace = |from: u32| {
            let mut trace = Trace::default();
            (from..1000).for_each(|number| trace.note(Duration::from_millis(5), format_args!("{number}")));
            trace
        };
        let (all, later) = (trace(0), trace(1));
        assert_eq!((all.events(), all.hash()), (1000, trace(0).hash()));
        assert_ne!(all.hash(), later.hash(), "the first one counts");
        assert!(all.last().eq(later.last()) && all.last().count() == Trace::KEEP);
        assert_eq!(all.last().last(), Some("    0.005 999"));
    }
}
