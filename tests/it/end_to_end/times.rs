//! When a task passed where, as its outcome says.

use rabbitry::boss::Submit;
use rabbitry::task::{Format, TaskError, Times, monotonic_ns};
use rabbitry::tasks::solve::System;
use rabbitry::worker::Options;

use crate::pool::{Place, on_both, one_slot, solve_handler, soon};

on_both!(
    an_outcome_says_when_its_task_passed_where,
    a_task_that_no_handler_ran_has_no_times,
    the_times_of_a_pulled_payload_have_its_way_in_them,
);

/// In the order of the way. The test, its boss and its workers have one clock.
fn in_order(before_ns: u64, times: Times, after_ns: u64) -> Vec<u64> {
    let worker = times.worker;
    let worker = [worker.received_ns, worker.fetched_ns, worker.started_ns, worker.decoded_ns, worker.computed_ns];
    let all = [&[before_ns, times.submitted_ns], &worker[..], &[times.worker.sent_ns, times.answered_ns, after_ns]];
    let all = all.concat();
    assert!(all.is_sorted(), "{all:?}");
    all
}

async fn an_outcome_says_when_its_task_passed_where(on: Place) {
    let (boss, _worker) = (on.boss().await, on.solver());
    for format in [Format::Binary, Format::Json] {
        let before_ns = monotonic_ns();
        let how = Submit { format, ..Submit::default() };
        let ticket = boss.submit(System::random(200, 1, 1), how).await.expect("a right system");
        let outcome = soon("an answer", ticket.outcome()).await;
        assert!(outcome.result.is_ok());
        let times = outcome.times.expect("a handler ran");
        in_order(before_ns, times, monotonic_ns());
        let worker = times.worker;
        // 700 kB of text are not read in no time.
        let (decoding, computing) = (worker.decoded_ns - worker.started_ns, worker.computed_ns - worker.decoded_ns);
        assert!(decoding > 100_000 || format == Format::Binary, "{decoding} ns");
        assert!(computing > 10_000, "{computing} ns");
        let handler = (outcome.compute_seconds * 1e9) as u64;
        assert!(decoding + computing <= handler && handler <= worker.sent_ns - worker.started_ns, "{handler} ns");
        if let Some(confirmed) = times.confirmed_ns {
            assert!((times.submitted_ns..=times.answered_ns).contains(&confirmed));
        }
    }
}

async fn a_task_that_no_handler_ran_has_no_times(on: Place) {
    let small = Options { memory_bytes: 1 << 10, ..one_slot() };
    let (boss, _worker) = (on.boss().await, on.worker(solve_handler(), small));
    let ticket = boss.submit(System::random(200, 1, 1), Submit::default()).await.expect("a right system");
    let outcome = soon("an outcome", ticket.outcome()).await;
    assert!(matches!(outcome.result, Err(TaskError::TooLarge { .. })), "{:?}", outcome.result.err());
    assert!(outcome.worker.is_some() && outcome.times.is_none());
}

async fn the_times_of_a_pulled_payload_have_its_way_in_them(on: Place) {
    let (boss, _worker) = (on.boss().await, on.solver());
    let before_ns = monotonic_ns();
    let ticket = boss.submit(System::random(1500, 1, 1), Submit::default()).await.expect("a right system");
    let outcome = soon("an answer", ticket.outcome()).await;
    let times = outcome.times.expect("a handler ran");
    in_order(before_ns, times, monotonic_ns());
    if on.embedded.is_none() {
        // 18 MB in parts of 4 MB.
        assert!(times.worker.fetched_ns - times.worker.received_ns > 1_000_000, "{times:?}");
    }
}
