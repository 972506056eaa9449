//! Which ack calls settle what is finished, in as few as possible. Pure.
//!
//! RabbitMQ numbers the deliveries of a channel 1, 2, 3, ..., and a channel here has one consumer, so everything from 1
//! to some tag is settled and only above it are there gaps. Invariants: a tag is settled with the broker exactly once;
//! a bulk ack covers no tag that is not finished or was to be requeued (requeues go out before it).

use std::collections::BTreeSet;

use crate::broker::Verdict;

/// What is settled on one channel.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// All tags up to here are settled.
    floor: u64,
    /// Tags above `floor` that are settled; never `floor + 1`.
    above: BTreeSet<u64>,
}

/// The calls to make: `requeue` and `single` in any order, and only then `up_to`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    /// To be requeued, one call each.
    pub(super) requeue: Vec<u64>,
    /// To be acked, one call each.
    pub(super) single: Vec<u64>,
    /// To be acked with all before it.
    pub(super) up_to: Option<u64>,
}

impl Acks {
    /// Takes verdicts, in any order. A tag settled before is ignored.
    pub(super) fn settle(&mut self, verdicts: impl IntoIterator<Item = (u64, Verdict)>) -> Calls {
        let mut calls = Calls::default();
        for (tag, verdict) in verdicts {
            if tag <= self.floor || !self.above.insert(tag) {
                continue;
            }
            match verdict {
                Verdict::Ack => calls.single.push(tag),
                Verdict::Requeue => calls.requeue.push(tag),
            }
        }
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        let floor = self.floor;
        // A bulk ack of one is a single ack; of more, it takes the place of all those up to the highest of them.
        let covered = calls.single.iter().filter(|&&tag| tag <= floor);
        if covered.clone().count() > 1 {
            calls.up_to = covered.max().copied();
            calls.single.retain(|&tag| tag > floor);
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acks(tags: &[u64]) -> Vec<(u64, Verdict)> {
        tags.iter().map(|&tag| (tag, Verdict::Ack)).collect()
    }

    #[test]
    fn a_run_from_the_start_is_one_call() {
        let calls = Acks::default().settle(acks(&[3, 1, 2]));
        assert_eq!(calls, Calls { up_to: Some(3), ..Calls::default() });
    }

    #[test]
    fn a_tag_above_a_gap_is_acked_alone_and_the_gap_closes_later() {
        let mut tracker = Acks::default();
        assert_eq!(tracker.settle(acks(&[1, 3])), Calls { single: vec![1, 3], ..Calls::default() });
        assert_eq!(tracker.settle(acks(&[5, 2, 4])), Calls { up_to: Some(5), ..Calls::default() });
        assert_eq!(tracker.settle(acks(&[5])), Calls::default());
    }

    #[test]
    fn a_requeue_inside_a_run_does_not_break_it() {
        let calls = Acks::default().settle([(1, Verdict::Ack), (2, Verdict::Requeue), (3, Verdict::Ack)]);
        assert_eq!(calls, Calls { requeue: vec![2], single: vec![], up_to: Some(3) });
    }

    proptest! {
        /// Against the simplest model of a broker: the set of what is unacked.
        #[test]
        fn every_tag_is_settled_once_and_as_asked(
            verdicts in proptest::collection::vec(any::<bool>(), 1..60),
            order in any::<u64>(),
            batch in 1usize..9,
        ) {
            let total = verdicts.len() as u64;
            let verdict = |tag: u64| if verdicts[tag as usize - 1] { Verdict::Ack } else { Verdict::Requeue };
            let mut tags: Vec<u64> = (1..=total).collect();
            tags.sort_by_key(|tag| tag.wrapping_mul(order | 1).rotate_left(17));
            let mut unacked: BTreeSet<u64> = (1..=total).collect();
            let mut acks = Acks::default();
            let mut done = BTreeSet::new();
            for batch in tags.chunks(batch) {
                done.extend(batch.iter().copied());
                let calls = acks.settle(batch.iter().map(|&tag| (tag, verdict(tag))));
                for tag in calls.requeue {
                    prop_assert_eq!(verdict(tag), Verdict::Requeue);
                    prop_assert!(unacked.remove(&tag));
                }
                for tag in calls.single {
                    prop_assert_eq!(verdict(tag), Verdict::Ack);
                    prop_assert!(unacked.remove(&tag));
                }
                if let Some(up_to) = calls.up_to {
                    let covered: Vec<u64> = unacked.range(..=up_to).copied().collect();
                    prop_assert!(covered.len() > 1);
                    for tag in covered {
                        prop_assert_eq!(verdict(tag), Verdict::Ack);
                        prop_assert!(unacked.remove(&tag));
                    }
                }
                prop_assert!(done.iter().all(|tag| !unacked.contains(tag)));
                prop_assert_eq!(unacked.len() + done.len(), verdicts.len());
            }
            prop_assert!(acks.above.is_empty());
        }
    }
}
