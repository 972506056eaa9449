//! The worker's first look at a message from a work queue: bytes from outside, turned into jobs or refused. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{dead, names};
use crate::broker::{Message, concat};
use crate::task::{Format, TaskId};
use crate::wire::{self, Error, TaskHead};

/// A task as a worker gets it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its head.
    pub head: TaskHead,
    /// The payload, checked against its checksum; `None` if it is to be pulled.
    pub payload: Option<Bytes>,
}

/// Takes a message apart.
///
/// A message without a head is read as JSON from a client that knows nothing of heads, if its content type says so:
/// `correlation_id` is the task's id (a random one if it is none), the routing key tells the kind.
///
/// # Errors
/// Any [`Error`]: the message can't be computed by anybody and belongs into the dead-letter queue.
pub fn unpack(message: &Message, routing_key: &str) -> Result<Vec<Job>, Error> {
    if message.head.is_empty() {
        return foreign_json(message, routing_key, concat(message.body.clone())).map(|job| vec![job]);
    }
    let heads = wire::decode_all::<TaskHead>(&message.head)?;
    let inline = |head: &TaskHead| if head.pull_from.is_none() { head.payload_bytes } else { 0 };
    let claimed = heads.iter().try_fold(0u64, |sum, head| sum.checked_add(inline(head)));
    let there = message.body_bytes();
    if claimed != Some(there as u64) {
        let claimed = claimed.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
        let reason = format!("its {} heads announce {claimed} bytes, the body has {there}", heads.len());
        return Err(Error::Malformed { record: "task message", reason });
    }
    let mut rest = VecDeque::from(message.body.clone());
    let mut jobs = Vec::with_capacity(heads.len());
    for head in heads {
        let payload = if head.pull_from.is_none() {
            // Fits: the sum of all has been compared with the body.
            let payload = take(&mut rest, head.payload_bytes as usize);
            wire::verify(head.checksum, &payload)?;
            Some(payload)
        } else {
            None
        };
        jobs.push(Job { head, payload });
    }
    Ok(jobs)
}

/// The next `len` bytes of the pieces; copied only if they lie in more than one. There are as many.
fn take(pieces: &mut VecDeque<Bytes>, len: usize) -> Bytes {
    while pieces.front().is_some_and(Bytes::is_empty) {
        pieces.pop_front();
    }
    match pieces.front_mut() {
        Some(front) if front.len() >= len => front.split_to(len),
        _ => {
            let mut whole = BytesMut::with_capacity(len);
            while let Some(front) = pieces.front_mut().filter(|_| whole.len() < len) {
                whole.extend_from_slice(&front.split_to(front.len().min(len - whole.len())));
                if front.is_empty() {
                    pieces.pop_front();
                }
            }
            whole.freeze()
        }
    }
}

fn foreign_json(message: &Message, routing_key: &str, body: Bytes) -> Result<Job, Error> {
    if message.content_type.as_deref() != Some(Format::Json.content_type()) {
        let reason = format!(
            "it has no {:?} header and its content type is {:?}; binary tasks need the header, JSON tasks the content type {}",
            crate::broker::HEAD_HEADER,
            message.content_type.as_deref().unwrap_or(""),
            Format::Json.content_type()
        );
        return Err(Error::Malformed { record: "task message", reason });
    }
    let id = message.correlation_id.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(TaskId::random);
    let kind = kind_of(routing_key);
    let head = TaskHead {
        id,
        kind: kind.to_owned(),
        attempt: 0,
        format: Format::Json,
        deadline_unix_ms: 0,
        sent_unix_ms: 0,
        flops: 0,
        payload_bytes: body.len() as u64,
        checksum: None,
        pull_from: None,
        progress_to: None,
        params: Vec::new(),
    };
    Ok(Job { head, payload: Some(body) })
}

/// The kind that a message was published for: the routing key, or what follows `rabbitry.work.` of a queue's name.
pub fn kind_of(routing_key: &str) -> &str {
    routing_key.strip_prefix(names::WORK).and_then(|key| key.strip_prefix('.')).unwrap_or(routing_key)
}

/// The head of a message's task if that has failed before: it is alone in its message then.
pub fn failed_before(message: &Message) -> Option<TaskHead> {
    // The head of a message that was never put back need not be read twice.
    let failed = dead::has_failed(&message.headers);
    failed.then(|| wire::decode(&message.head).ok()).flatten()
}

/// The same task alone in a message again, with another attempt: a batch that killed its worker comes back one by one, so
/// that only the task at fault goes on dying.
pub fn repack(job: &Job, attempt: u32, original: &Message) -> Message {
    let head = TaskHead { attempt, ..job.head.clone() };
    Message {
        head: wire::encode(&head).into(),
        body: job.payload.iter().cloned().collect(),
        content_type: original.content_type.clone(),
        reply_to: original.reply_to.clone(),
        correlation_id: original.correlation_id.clone(),
        priority: original.priority,
        persistent: original.persistent,
        headers: original.headers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(payload: &[u8], pull_from: Option<String>) -> TaskHead {
        TaskHead {
            id: TaskId(5),
            kind: "solve".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops: 0,
            payload_bytes: payload.len() as u64,
            checksum: Some(wire::checksum(&[payload])),
            pull_from,
            progress_to: None,
            params: vec![],
        }
    }

    fn message(heads: &[TaskHead], body: &[u8]) -> Message {
        let mut head = Vec::new();
        heads.iter().for_each(|h| wire::encode_into(h, &mut head));
        Message { head: head.into(), body: vec![Bytes::copy_from_slice(body)], ..Message::default() }
    }

    #[test]
    fn a_batch_comes_apart_as_it_was_put_together() {
        let heads = [head(b"first", None), head(b"large", Some("q".into())), head(b"second!", None)];
        let jobs = unpack(&message(&heads, b"firstsecond!"), "solve").unwrap();
        let payloads: Vec<_> = jobs.iter().map(|job| job.payload.as_deref()).collect();
        assert_eq!(payloads, [Some(b"first".as_slice()), None, Some(b"second!")]);
    }

    #[test]
    fn pieces_need_not_be_cut_where_payloads_are() {
        let heads = [head(b"first", None), head(b"", None), head(b"second!", None)];
        let whole = message(&heads, b"firstsecond!");
        for cuts in [[0, 0], [5, 5], [2, 7], [4, 12], [5, 12]] {
            let body = &whole.body[0];
            let body = vec![body.slice(..cuts[0]), body.slice(cuts[0]..cuts[1]), body.slice(cuts[1]..)];
            let jobs = unpack(&Message { body, ..whole.clone() }, "solve").unwrap();
            let payloads: Vec<_> = jobs.iter().map(|job| job.payload.as_deref()).collect();
            assert_eq!(payloads, [Some(b"first".as_slice()), Some(b""), Some(b"second!")], "{cuts:?}");
        }
    }

    #[test]
    fn truncated_oversized_and_damaged_bodies_are_refused() {
        for body in [b"firs".as_slice(), b"first+", b"", b"fIrst"] {
            assert!(unpack(&message(&[head(b"first", None)], body), "solve").is_err(), "{body:?}");
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = TaskHead { payload_bytes: u64::MAX, ..head(b"", None) };
        assert!(unpack(&message(&[huge.clone(), huge], b"x"), "solve").is_err());
    }

    #[test]
    fn json_needs_no_head_and_other_content_does() {
        let mut message = Message { body: vec![Bytes::from_static(b"{}")], ..Message::default() };
        assert!(unpack(&message, "solve").is_err());
        message.content_type = Some("application/json".into());
        for key in ["solve", "rabbitry.work.solve"] {
            assert_eq!(unpack(&message, key).unwrap()[0].head.kind, "solve");
        }
    }

    #[test]
    fn a_job_put_back_is_the_same_job() {
        let original = message(&[head(b"first", None), head(b"second!", None)], b"firstsecond!");
        let jobs = unpack(&original, "solve").unwrap();
        let again = unpack(&repack(&jobs[1], 3, &original), "solve").unwrap();
        assert_eq!((again[0].head.attempt, again[0].payload.as_deref()), (3, Some(b"second!".as_slice())));
    }

    proptest! {
        #[test]
        fn any_message_is_an_error_and_not_a_panic(bytes: Vec<u8>, body: Vec<u8>, json: bool, cut: prop::sample::Index) {
            let content_type = json.then(|| "application/json".to_owned());
            let good = wire::encode(&head(b"x", None));
            for head in [bytes, good[..cut.index(good.len())].to_vec()] {
                let body = vec![Bytes::from(body.clone())];
                let content_type = content_type.clone();
                let _ = unpack(&Message { head: head.into(), body, content_type, ..Message::default() }, "solve");
            }
        }
    }
}
