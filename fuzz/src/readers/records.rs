//! Records of the protocol: what is read is written again as the same bytes, or refused with the record's name.

use std::time::Instant;

use bytes::Bytes;
use rabbitry::broker::Message;
use rabbitry::directory::Directory;
use rabbitry::transport::incoming;
use rabbitry::wire::{
    self, Cancelled, Control, Gone, Heartbeat, OutcomeHead, Part, Progress, PullRequest, RECORD_MAX_BYTES, Record,
    TaskHead,
};

use super::input::Input;
use super::memory::{Bound, within};
use super::says_enough;

/// A string or a list is taken when it is announced, up to the length of the longest record; records that follow one
/// another are larger in memory than on the wire, and their vector grows by doubling.
const RECORDS: Bound = Bound { per_byte: 12, beside: RECORD_MAX_BYTES + 1024 };

/// A task head with its body, as a worker takes a message apart.
pub fn head(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (switches, len) = (input.byte(), input.u16());
    let (head, body) = (input.take(len.into()), input.0);
    let heads = several::<TaskHead>(head);
    if switches & 1 == 0 {
        take_apart(head.to_vec(), body, switches);
    } else if let Some(mut heads) = heads {
        fit(&mut heads, body);
        let mut again = Vec::new();
        heads.iter().for_each(|head| wire::encode_into(head, &mut again));
        let jobs = take_apart(again, body, switches).expect("heads that fit their body are jobs");
        assert_eq!(jobs, heads.len());
    }
}

/// Makes the heads' lengths and checksums those of the body; the last has what is left.
fn fit(heads: &mut [TaskHead], body: &[u8]) {
    let mut rest = body;
    let last = heads.iter().rposition(|head| head.pull_from.is_none());
    for (place, head) in heads.iter_mut().enumerate().filter(|(_, head)| head.pull_from.is_none()) {
        let len = if Some(place) == last { rest.len() } else { head.payload_bytes as usize % (rest.len() + 1) };
        let (payload, behind) = rest.split_at(len);
        (head.payload_bytes, head.checksum) = (len as u64, head.checksum.map(|_| wire::checksum(&[payload])));
        rest = behind;
    }
    if let (None, Some(first)) = (last, heads.first_mut()) {
        (first.pull_from, first.payload_bytes) = (None, body.len() as u64);
        first.checksum = None;
    }
}

/// The number of jobs in a message whose body comes in pieces.
fn take_apart(head: Vec<u8>, body: &[u8], switches: u8) -> Option<usize> {
    let cut = usize::from(switches >> 2) * body.len() / 63;
    let message = Message {
        body: vec![Bytes::copy_from_slice(&body[..cut]), Bytes::copy_from_slice(&body[cut..])],
        content_type: (switches & 2 != 0).then(|| "application/json".to_owned()),
        head: head.into(),
        ..Message::default()
    };
    let len = message.head.len() + body.len();
    match within(RECORDS, len, || incoming::unpack(&message, "rabbitry.work.solve")) {
        Ok(jobs) => {
            let payloads: Vec<u8> = jobs.iter().filter_map(|job| job.payload.as_deref()).flatten().copied().collect();
            assert_eq!(payloads, body, "the payloads are the body");
            for job in &jobs {
                let again = incoming::repack(job, 7, &message);
                let again = incoming::unpack(&again, "solve").expect("a job that is put back is a job");
                assert_eq!((again[0].head.attempt, &again[0].payload), (7, &job.payload));
            }
            Some(jobs.len())
        }
        Err(error) => {
            says_enough(&error.to_string());
            None
        }
    }
}

/// Heads of outcomes.
pub fn outcome(bytes: &[u8]) {
    several::<OutcomeHead>(bytes);
}

/// Words to all, and what is answered to them.
pub fn control(bytes: &[u8]) {
    several::<Control>(bytes);
    one::<Cancelled>(bytes);
    one::<PullRequest>(bytes);
    one::<Gone>(bytes);
    one::<Part>(bytes);
}

/// Signs of life, and how far tasks are.
pub fn heartbeat(bytes: &[u8]) {
    one::<Progress>(bytes);
    let Some(heartbeat) = one::<Heartbeat>(bytes) else { return };
    let (mut directory, now) = (Directory::default(), Instant::now());
    let is_there = usize::from(!heartbeat.leaving);
    directory.heard(heartbeat, now);
    assert_eq!(directory.nodes(now).len(), is_there);
}

fn one<T: Record>(bytes: &[u8]) -> Option<T> {
    let read = within(RECORDS, bytes.len(), || wire::decode::<T>(bytes));
    checked(read, bytes, |record| wire::encode(record))
}

fn several<T: Record>(bytes: &[u8]) -> Option<Vec<T>> {
    let read = within(RECORDS, bytes.len(), || wire::decode_all::<T>(bytes));
    checked(read, bytes, |records| {
        let mut again = Vec::new();
        records.iter().for_each(|record| wire::encode_into(record, &mut again));
        again
    })
}

fn checked<T>(read: Result<T, wire::Error>, bytes: &[u8], encode: impl Fn(&T) -> Vec<u8>) -> Option<T> {
    match read {
        Ok(read) => {
            assert_eq!(encode(&read), bytes, "what was read is written as it was");
            Some(read)
        }
        Err(error) => {
            says_enough(&error.to_string());
            None
        }
    }
}
