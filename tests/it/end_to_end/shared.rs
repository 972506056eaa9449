//! Payloads that many tasks share: pulled and prepared once by each worker that meets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use rabbitry::boss::{Boss, Ticket};
use rabbitry::task::{
    Blob, ContentHash, Encoded, Format, Handler, Kind, Plan, Prepared, Shared, Task, TaskError, Watch,
};
use rabbitry::worker::Options;

use crate::pool::{Place, cut_all_connections, on_both, one_slot, soon, submit};

on_both!(
    each_worker_pulls_and_prepares_it_once,
    tasks_of_several_payloads_may_share_a_message,
    a_payload_that_is_not_what_its_hash_says_is_an_outcome_and_stays_nowhere,
    a_connection_cut_in_mid_job_loses_nothing_that_is_shared,
    a_payload_that_can_never_fit_is_refused,
);

/// Asks for one byte of a payload that others ask for, too.
struct ByteOf {
    payload: Bytes,
    hash: ContentHash,
    index: u32,
    flops: u64,
}

/// Too much work to share a message.
const ALONE: u64 = 1 << 40;

fn byte_of(payload: &Bytes, index: u32, flops: u64) -> ByteOf {
    ByteOf { payload: payload.clone(), hash: ContentHash::of(payload), index, flops }
}

impl Task for ByteOf {
    const KIND: Kind = Kind::from_static("byte-of");
    type Answer = u8;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        let params = [&self.hash.0[..], &self.index.to_le_bytes()].concat();
        let blob = Blob { format, params, payload: vec![self.payload] };
        Ok(Encoded { blob, shared: true, flops: self.flops, answer_bytes: 1 })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<u8, TaskError> {
        Ok(answer.payload.concat()[0])
    }
}

#[derive(Default)]
struct ByteOfHandler {
    prepared: AtomicUsize,
}

impl Handler for ByteOfHandler {
    fn kind(&self) -> Kind {
        ByteOf::KIND
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, params: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        let hash = ContentHash(*params.first_chunk().expect("32 bytes of hash"));
        let shared = Some(Shared { hash, memory_bytes: payload_bytes });
        Ok(Plan { memory_bytes: 1024, threads: 1, shared })
    }

    fn run(&self, _: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        panic!("its payload is shared");
    }

    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        self.prepared.fetch_add(1, Ordering::Relaxed);
        Ok(Prepared { bytes: payload.len() as u64, made: Arc::new(payload) })
    }

    fn run_on(&self, shared: &Prepared, task: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        let payload = shared.made.downcast_ref::<Bytes>().expect("what was prepared");
        let index = u32::from_le_bytes(*task.params.last_chunk().expect("an index"));
        assert!(task.payload.is_empty());
        Ok(Blob { payload: vec![payload.slice(index as usize..=index as usize)], ..Blob::default() })
    }
}

async fn right(tickets: Vec<Ticket<ByteOf>>, payload: &Bytes) {
    let outcomes = soon("outcomes", join_all(tickets.into_iter().map(Ticket::outcome))).await;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.result, Ok(payload[index]), "{index}");
    }
}

async fn ask(boss: &Boss, payload: &Bytes, count: u32) -> Vec<Ticket<ByteOf>> {
    let mut tickets = Vec::new();
    for index in 0..count {
        tickets.push(submit(boss, byte_of(payload, index, ALONE)).await);
    }
    tickets
}

async fn each_worker_pulls_and_prepares_it_once(on: Place) {
    let boss = on.boss().await;
    // One that would fit into a message, and one of several parts.
    for bytes in [100, 17_000_000u32] {
        let payload: Bytes = (0..bytes).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into();
        let options = Options { slots: 2, prefetch: 5, ..one_slot() };
        let early = Arc::new(ByteOfHandler::default());
        let first = on.worker(early.clone(), options.clone());
        right(ask(&boss, &payload, 40).await, &payload).await;
        // One that comes later pulls it, too; and its tasks are no worse than those of others.
        let late = Arc::new(ByteOfHandler::default());
        let second = on.worker(late.clone(), options);
        while late.prepared.load(Ordering::Relaxed) == 0 {
            right(ask(&boss, &payload, 40).await, &payload).await;
        }
        assert_eq!(early.prepared.load(Ordering::Relaxed), 1);
        assert_eq!(late.prepared.load(Ordering::Relaxed), 1);
        let failed = first.stop().await.failed + second.stop().await.failed;
        assert_eq!(failed, 0);
    }
}

async fn tasks_of_several_payloads_may_share_a_message(on: Place) {
    let boss = on.boss().await;
    let payloads = [Bytes::from_static(b"first"), Bytes::from_static(b"other")];
    let mut tickets = [Vec::new(), Vec::new()];
    for index in 0..5 {
        for (tickets, payload) in tickets.iter_mut().zip(&payloads) {
            tickets.push(submit(&boss, byte_of(payload, index, 1)).await);
        }
    }
    let handler = Arc::new(ByteOfHandler::default());
    // With one attempt allowed, what was put back as if it had failed would fail.
    let _worker = on.worker(handler.clone(), Options { attempts_max: 1, ..one_slot() });
    let [first, other] = tickets;
    right(first, &payloads[0]).await;
    right(other, &payloads[1]).await;
    assert_eq!(handler.prepared.load(Ordering::Relaxed), 2);
}

async fn a_payload_that_is_not_what_its_hash_says_is_an_outcome_and_stays_nowhere(on: Place) {
    let (boss, other) = (on.boss().await, on.boss().await);
    let handler = Arc::new(ByteOfHandler::default());
    let _worker = on.worker(handler.clone(), one_slot());
    let payload = Bytes::from_static(b"genuine");
    let forged = ByteOf { payload: Bytes::from_static(b"forged!"), ..byte_of(&payload, 0, ALONE) };
    match soon("an outcome", submit(&boss, forged).await.outcome()).await.result {
        Err(TaskError::Invalid(reason)) => assert!(reason.contains(&ContentHash::of(&payload).to_string()), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(handler.prepared.load(Ordering::Relaxed), 0);
    right(ask(&other, &payload, 7).await, &payload).await;
}

async fn a_connection_cut_in_mid_job_loses_nothing_that_is_shared(on: Place) {
    let boss = on.boss().await;
    let handler = Arc::new(ByteOfHandler::default());
    let _workers = [on.worker(handler.clone(), one_slot()), on.worker(handler, one_slot())];
    let payload = Bytes::from(vec![7; 9_000_000]);
    let tickets = ask(&boss, &payload, 60).await;
    if cut_all_connections(&on).await {
        right(tickets, &payload).await;
    }
}

async fn a_payload_that_can_never_fit_is_refused(on: Place) {
    let boss = on.boss().await;
    let _worker = on.worker(Arc::new(ByteOfHandler::default()), Options { memory_bytes: 1 << 20, ..one_slot() });
    let payload = Bytes::from(vec![7; 1 << 20]);
    let [ticket] = <[_; 1]>::try_from(ask(&boss, &payload, 1).await).ok().expect("one");
    let refused = soon("an outcome", ticket.outcome()).await.result;
    assert_eq!(refused, Err(TaskError::TooLarge { needed_bytes: (1 << 20) + 1024, limit_bytes: 1 << 20 }));
}
