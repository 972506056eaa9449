//! Payloads in parts: a run of messages on a boss's results queue, against a model that keeps every byte apart.

use std::collections::HashMap;

use bytes::Bytes;
use rabbitry::broker::Message;
use rabbitry::task::{Format, TaskId, WorkerRef};
use rabbitry::transport::assembly::{Accepted, Assembly, Cut};
use rabbitry::transport::collect::Collector;
use rabbitry::wire::{self, OutcomeHead, Part};

use super::input::Input;
use super::memory::{Bound, within};
use super::says_enough;

/// The longest answer that the tasks 1 and 2 may have; nobody waits for others.
const LIMIT: u64 = 4096;

/// Answers to one task at a time.
const RUNS_MAX: usize = 8;

/// The head that is decoded, the body made one piece, an error in words.
const MESSAGE: Bound = Bound { per_byte: 4, beside: 1024 };

/// And the first part of an answer takes the buffer for all of it, and a flag for each part: the kind has announced it. The
/// table of the answers grows by doubling.
const FIRST: Bound = Bound { per_byte: 4, beside: 4096 + 2 * LIMIT as usize };

fn limit(task: TaskId) -> Option<u64> {
    matches!(task.0, 1 | 2).then_some(LIMIT)
}

/// An answer as it should be in the collector.
struct Expected {
    part_bytes: u32,
    total_bytes: u64,
    bytes: Vec<Option<u8>>,
}

/// Parts of answers, and heads that ask for what has come.
pub fn part(bytes: &[u8]) {
    cut(bytes);
    let (mut input, mut collector, mut model) = (Input(bytes), Collector::default(), HashMap::new());
    while !input.is_empty() {
        match input.byte() {
            0..200 => forged(&mut input, &mut collector, &mut model),
            200..250 => collect(&mut input, &mut collector, &mut model),
            _ => {
                let kept = u128::from(input.byte());
                collector.keep_only(|task| task.0 == kept);
                model.retain(|(task, _): &(TaskId, u64), _| task.0 == kept);
            }
        }
    }
}

/// A part whose fields the input says.
fn forged(input: &mut Input<'_>, collector: &mut Collector, model: &mut HashMap<(TaskId, u64), Expected>) {
    let switches = input.byte();
    let id = TaskId(u128::from(switches & 3));
    let run = u64::from(input.byte() % 12);
    let (part_bytes, total_bytes) = (u32::from(input.u16()), u64::from(input.u16()) % (LIMIT + 16));
    let index = u32::from(input.byte());
    let right = place(part_bytes, total_bytes, index);
    let len = if switches & 4 == 0 { right.as_ref().map_or(3, ExactSizeIterator::len) } else { input.byte().into() };
    let body = input.take(len);
    let sum = wire::checksum(&[body]);
    let checksum = if switches & 8 == 0 { sum } else { sum ^ u32::from(input.byte()) };
    let part = Part { id, run, index, part_bytes, total_bytes, checksum };
    let expected = admit(model, &part, body);
    let message = message(wire::encode(&part), body);
    let bound = if expected == Some(true) { FIRST } else { MESSAGE };
    let accepted = within(bound, message.head.len() + body.len(), || collector.accept(message, limit));
    match accepted {
        Ok(outcomes) => assert!(outcomes.is_empty() && expected.is_some(), "{part:?} was accepted"),
        Err(error) => {
            assert!(expected.is_none(), "{part:?} was refused: {error}");
            says_enough(&error.to_string());
        }
    }
}

/// Where a part belongs, if it can be one.
fn place(part_bytes: u32, total_bytes: u64, index: u32) -> Option<std::ops::Range<usize>> {
    let start = u64::from(index) * u64::from(part_bytes);
    let end = (start + u64::from(part_bytes)).min(total_bytes);
    (start < end).then_some(start as usize..end as usize)
}

/// Whether a part is to be accepted: `Some(true)` if it is the first of its answer, `Some(false)` if not, or if nobody
/// waits for it. Puts it into the model.
fn admit(model: &mut HashMap<(TaskId, u64), Expected>, part: &Part, body: &[u8]) -> Option<bool> {
    let Part { id, run, index, part_bytes, total_bytes, checksum } = *part;
    let Some(limit) = limit(id) else { return Some(false) };
    let others = model.keys().filter(|(task, other)| (*task, *other != run) == (id, true)).count();
    if total_bytes > limit || others >= RUNS_MAX {
        return None;
    }
    let known = model.get(&(id, run));
    if known.is_some_and(|known| (known.part_bytes, known.total_bytes) != (part_bytes, total_bytes)) {
        return None;
    }
    let range = place(part_bytes, total_bytes, index).filter(|range| range.len() == body.len())?;
    if known.is_some_and(|known| known.bytes[range.clone()].iter().all(Option::is_some)) {
        return Some(false);
    }
    if checksum != wire::checksum(&[body]) {
        return None;
    }
    let is_first = known.is_none();
    let fresh = || Expected { part_bytes, total_bytes, bytes: vec![None; total_bytes as usize] };
    let answer = model.entry((id, run)).or_insert_with(fresh);
    answer.bytes[range].iter_mut().zip(body).for_each(|(slot, byte)| *slot = Some(*byte));
    Some(is_first)
}

/// The head of an answer that came in parts, behind it.
fn collect(input: &mut Input<'_>, collector: &mut Collector, model: &mut HashMap<(TaskId, u64), Expected>) {
    let (id, run) = (TaskId(u128::from(input.byte() & 3)), u64::from(input.byte() % 12));
    let head = OutcomeHead {
        id,
        run,
        worker: WorkerRef { id: String::new(), host: String::new() },
        compute_ns: 0,
        times: None,
        error: None,
        format: Format::Binary,
        payload_bytes: 0,
        checksum: None,
        in_parts: true,
        params: Vec::new(),
    };
    let outcomes = collector.accept(message(wire::encode(&head), b""), limit).expect("an outcome's head");
    let expected: Option<Vec<u8>> = model.remove(&(id, run)).and_then(|answer| answer.bytes.into_iter().collect());
    let found = outcomes.into_iter().map(|(_, payload)| payload.expect("a payload without a checksum").to_vec()).next();
    assert_eq!(found, expected, "of task {id}, run {run}");
}

fn message(head: Vec<u8>, body: &[u8]) -> Message {
    Message { head: head.into(), body: vec![Bytes::copy_from_slice(body)], ..Message::default() }
}

/// Any two numbers are a cut or none; a payload that is cut and comes in any order is the same.
fn cut(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (total_bytes, part_bytes) = (input.u64() >> (input.byte() % 64), input.u64() as u32 >> (input.byte() % 32));
    let cut = match within(MESSAGE, bytes.len(), || Cut::new(total_bytes, part_bytes)) {
        Ok(cut) => cut,
        Err(error) => return says_enough(&error.to_string()),
    };
    let last = cut.range(cut.count() - 1);
    assert!(!last.is_empty() && last.len() <= part_bytes as usize && last.end as u64 == total_bytes, "{cut:?}");
    assert!(cut.range(cut.count()).is_empty() && cut.range(u32::MAX).end as u64 <= total_bytes, "{cut:?}");
    let payload = input.0;
    if total_bytes != payload.len() as u64 {
        return;
    }
    let mut assembly = Assembly::new(TaskId(1), 2, cut, vec![0; payload.len()]);
    for index in (0..cut.count()).rev() {
        let body = &payload[cut.range(index)];
        let part = Part { id: TaskId(1), run: 2, index, part_bytes, total_bytes, checksum: wire::checksum(&[body]) };
        assert_eq!(assembly.accept(&part, body), Ok(Accepted::New));
    }
    assert_eq!(assembly.finish().as_deref(), Some(payload));
}
