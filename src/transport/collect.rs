//! The boss's half of receiving: outcomes and the parts of large answers, from the results queue.
//!
//! Bytes from outside: a payload is only taken for a task that is waited for, and only up to the length that its kind
//! announced when it was submitted.

use std::collections::HashMap;

use bytes::Bytes;

use super::assembly::{Assembly, Cut};
use crate::broker::{Message, concat};
use crate::task::TaskId;
use crate::wire::{self, Error, OutcomeHead, Part};

/// Answers to one task that may come in parts at a time: more than a task has attempts. It bounds what forged parts cost.
const RUNS_MAX: usize = 8;

/// The shortest part of an answer that is longer than this.
const PART_BYTES_MIN: u32 = 64 << 10;

/// An outcome and its payload, or what is wrong with that.
pub type Collected = (OutcomeHead, Result<Bytes, Error>);

/// Parts of answers that are not whole yet.
#[derive(Debug, Default)]
pub struct Collector {
    assemblies: HashMap<(TaskId, u64), Assembly<Vec<u8>>>,
}

impl Collector {
    /// Takes a message from the results queue and gives the outcomes that are whole with it.
    ///
    /// `limit(task)` is the longest answer it may have, or `None` if nobody waits for it.
    ///
    /// # Errors
    /// Any [`Error`]: the message is none that a worker sends. Drop it. A payload that is damaged is an error of its own,
    /// so that the others of its message are not lost with it.
    pub fn accept(&mut self, message: Message, limit: impl Fn(TaskId) -> Option<u64>) -> Result<Vec<Collected>, Error> {
        let body = concat(message.body);
        if wire::is::<Part>(&message.head) {
            self.accept_part(&wire::decode(&message.head)?, &body, limit)?;
            return Ok(Vec::new());
        }
        let heads = wire::decode_all::<OutcomeHead>(&message.head)?;
        let mut rest = body;
        let mut outcomes = Vec::with_capacity(heads.len());
        for head in heads {
            let payload = if head.in_parts {
                let whole = self.assemblies.remove(&(head.id, head.run)).and_then(Assembly::finish);
                match whole {
                    Some(payload) => Ok(Bytes::from(payload)),
                    // Nobody waits for it, or the parts were lost with a broker: then the boss asks for the task again.
                    None => continue,
                }
            } else {
                let length = usize::try_from(head.payload_bytes).ok().filter(|&length| length <= rest.len());
                let short = || Error::Malformed {
                    record: "outcome message",
                    reason: format!("{} bytes announced, {} there", head.payload_bytes, rest.len()),
                };
                let length = length.ok_or_else(short);
                let payload = length.map(|length| rest.split_to(length));
                payload.and_then(|payload| wire::verify(head.checksum, &payload).map(|()| payload))
            };
            outcomes.push((head, payload));
        }
        Ok(outcomes)
    }

    /// Whether parts of this run of a task wait for the rest.
    pub fn holds(&self, run: (TaskId, u64)) -> bool {
        self.assemblies.contains_key(&run)
    }

    /// Drops the parts of tasks that nobody waits for any more.
    pub fn keep_only(&mut self, is_waited_for: impl Fn(TaskId) -> bool) {
        self.assemblies.retain(|(id, _), _| is_waited_for(*id));
    }

    fn accept_part(&mut self, part: &Part, body: &[u8], limit: impl Fn(TaskId) -> Option<u64>) -> Result<(), Error> {
        let Some(limit) = limit(part.id) else { return Ok(()) };
        if part.total_bytes > limit {
            let reason =
                format!("an answer of {} bytes to task {}, which has at most {limit}", part.total_bytes, part.id);
            return Err(Error::Malformed { record: "part", reason });
        }
        let key = (part.id, part.run);
        let others = self.assemblies.keys().filter(|other| other.0 == key.0 && **other != key).count();
        if others >= RUNS_MAX || (part.part_bytes < PART_BYTES_MIN && part.total_bytes > u64::from(PART_BYTES_MIN)) {
            let reason = format!("too small, or of the {}th run of task {}", others + 1, part.id);
            return Err(Error::Malformed { record: "part", reason });
        }
        let cut = Cut::new(part.total_bytes, part.part_bytes)?;
        if let Some(begun) = self.assemblies.get_mut(&key) {
            return begun.accept(part, body).map(drop);
        }
        cut.check(part, body)?;
        let mut fresh = Assembly::new(part.id, part.run, cut, vec![0; cut.range(u32::MAX).end]);
        fresh.accept(part, body)?;
        self.assemblies.insert(key, fresh);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Format, WorkerRef};

    fn outcome(payload_bytes: u64, in_parts: bool) -> OutcomeHead {
        OutcomeHead {
            id: TaskId(1),
            run: 2,
            worker: WorkerRef { id: "w".into(), host: "h".into() },
            compute_ns: 0,
            times: None,
            error: None,
            format: Format::Binary,
            payload_bytes,
            checksum: None,
            in_parts,
            params: vec![],
        }
    }

    fn message(head: Vec<u8>, body: &[u8]) -> Message {
        Message { head: head.into(), body: vec![Bytes::copy_from_slice(body)], ..Message::default() }
    }

    fn part(run: u64, index: u32, total_bytes: u64, body: &[u8]) -> Message {
        let checksum = wire::checksum(&[body]);
        message(wire::encode(&Part { id: TaskId(1), run, index, part_bytes: 4, total_bytes, checksum }), body)
    }

    #[test]
    fn parts_and_their_head_make_an_answer() {
        let mut collector = Collector::default();
        for (index, body) in [(1, b"efgh".as_slice()), (0, b"abcd"), (2, b"i")] {
            assert!(collector.accept(part(2, index, 9, body), |_| Some(9)).unwrap().is_empty());
        }
        let outcomes = collector.accept(message(wire::encode(&outcome(9, true)), b""), |_| Some(9)).unwrap();
        assert_eq!(outcomes[0].1.as_deref(), Ok(b"abcdefghi".as_slice()));
        assert!(collector.assemblies.is_empty());
    }

    #[test]
    fn a_head_without_its_parts_answers_nothing() {
        let mut collector = Collector::default();
        collector.accept(part(3, 0, 9, b"abcd"), |_| Some(9)).unwrap();
        assert!(collector.accept(message(wire::encode(&outcome(9, true)), b""), |_| Some(9)).unwrap().is_empty());
    }

    #[test]
    fn an_answer_longer_than_announced_earns_no_memory() {
        let mut collector = Collector::default();
        assert!(collector.accept(part(2, 0, 1 << 50, b"abcd"), |_| Some(9)).is_err());
        assert!(collector.accept(part(2, 0, 9, b"abcd"), |_| None).unwrap().is_empty());
        assert!(collector.assemblies.is_empty());
    }

    #[test]
    fn a_first_part_that_is_damaged_earns_no_memory() {
        let mut collector = Collector::default();
        let right = part(2, 0, 9, b"abcd");
        let damaged = Message { body: vec![Bytes::from_static(b"abxd")], ..right.clone() };
        for wrong in [part(2, 0, 9, b"abc"), part(2, 9, 9, b"abcd"), part(2, 0, 9, b""), damaged] {
            assert!(collector.accept(wrong, |_| Some(9)).is_err());
            assert!(collector.assemblies.is_empty());
        }
        assert!(collector.accept(right, |_| Some(9)).is_ok());
        assert_eq!(collector.assemblies.len(), 1);
    }

    #[test]
    fn a_damaged_answer_takes_no_other_with_it() {
        let mut collector = Collector::default();
        let mut heads = wire::encode(&outcome(3, false));
        wire::encode_into(&OutcomeHead { checksum: Some(1), ..outcome(2, false) }, &mut heads);
        wire::encode_into(&outcome(9, false), &mut heads);
        let outcomes = collector.accept(message(heads, b"abcdef"), |_| Some(9)).unwrap();
        assert_eq!(outcomes[0].1.as_deref(), Ok(b"abc".as_slice()));
        assert!(matches!(outcomes[1].1, Err(Error::Checksum { .. })));
        assert!(matches!(outcomes[2].1, Err(Error::Malformed { .. })));
    }

    #[test]
    fn parts_of_a_task_that_nobody_waits_for_are_dropped() {
        let mut collector = Collector::default();
        collector.accept(part(2, 0, 9, b"abcd"), |_| Some(9)).unwrap();
        collector.keep_only(|task| task == TaskId(1));
        assert_eq!(collector.assemblies.len(), 1);
        collector.keep_only(|_| false);
        assert!(collector.assemblies.is_empty());
    }
}
