//! Tasks that can't be computed: an outcome that says why, never a retry, and the worker goes on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rabbitry::boss::Submit;
use rabbitry::task::TaskError;
use rabbitry::tasks::solve::{Matrix, Order, System};
use rabbitry::worker::Options;

use crate::pool::{Place, Probe, ProbeHandler, on_both, one_slot, raw, solve_handler, soon, submit};

on_both!(
    a_deadline_passes_without_a_worker,
    a_deadline_that_has_passed_is_not_computed,
    a_singular_matrix_is_named_with_its_pivot,
    a_task_larger_than_the_memory_is_refused,
    an_unknown_kind_is_named,
    a_panic_is_an_outcome_and_the_worker_goes_on,
);

async fn a_deadline_passes_without_a_worker(on: Place) {
    let boss = on.boss().await;
    let how = Submit { deadline: Some(Duration::from_millis(200)), ..Submit::default() };
    let started = Instant::now();
    let ticket = boss.submit(System::random(4, 1, 0), how).await.expect("a right system");
    let outcome = soon("the deadline", ticket.outcome()).await;
    assert_eq!(outcome.result, Err(TaskError::DeadlineExceeded));
    assert_eq!(outcome.worker, None);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(10), "{took:?}");
    // A worker that comes later may compute what is left in the queue: it can't know how long that has been there. Nobody
    // hears of it, and it fails nothing.
    let worker = on.solver();
    assert!(soon("the next", submit(&boss, System::random(4, 1, 1)).await.outcome()).await.result.is_ok());
    boss.close().await;
    assert_eq!(worker.stop().await.done, 2);
}

async fn a_deadline_that_has_passed_is_not_computed(on: Place) {
    let (mut client, _worker) = (on.client().await, on.solver());
    let (mut head, body) = raw(System::random(4, 1, 0));
    head.deadline_unix_ms = 1;
    client.send(&head, &body).await;
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error, outcome.compute_ns), (head.id, Some(TaskError::DeadlineExceeded), 0));
}

async fn a_singular_matrix_is_named_with_its_pivot(on: Place) {
    let (boss, _worker) = (on.boss().await, on.solver());
    let a = Matrix::new(3, 3, Order::RowMajor, vec![1.0, 2.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 1.0]).expect("3 x 3");
    let singular = submit(&boss, System::new(a, Matrix::vector(vec![1.0, 2.0, 3.0]))).await;
    let good = submit(&boss, System::random(3, 1, 7)).await;
    let outcome = soon("the outcome", singular.outcome()).await;
    assert_eq!(outcome.result, Err(TaskError::Singular { pivot: 2 }));
    assert!(outcome.worker.is_some());
    assert!(soon("the good one", good.outcome()).await.result.is_ok(), "a neighbour in its message is not harmed");
}

async fn a_task_larger_than_the_memory_is_refused(on: Place) {
    let boss = on.boss().await;
    let limit_bytes = 1 << 20;
    let _worker = on.worker(solve_handler(), Options { memory_bytes: limit_bytes, ..one_slot() });
    let large = submit(&boss, System::random(500, 1, 0)).await;
    match soon("the refusal", large.outcome()).await.result {
        Err(TaskError::TooLarge { needed_bytes, limit_bytes: limit }) => {
            assert_eq!(limit, limit_bytes);
            assert!(needed_bytes > 500 * 500 * 8, "{needed_bytes}");
        }
        other => panic!("{other:?}"),
    }
    assert!(soon("a small one", submit(&boss, System::random(50, 1, 0)).await.outcome()).await.result.is_ok());
}

async fn an_unknown_kind_is_named(on: Place) {
    let (mut client, _worker) = (on.client().await, on.solver());
    let (mut head, body) = raw(System::random(4, 1, 0));
    head.kind = "nope".into();
    client.send(&head, &body).await;
    let error = client.outcome().await.error;
    assert_eq!(error, Some(TaskError::UnknownKind { kind: "nope".into(), known: "solve".into() }));
}

async fn a_panic_is_an_outcome_and_the_worker_goes_on(on: Place) {
    let boss = on.boss().await;
    let handler = ProbeHandler::new(|bytes| {
        assert!(!bytes.starts_with(b"bad"), "on purpose");
        Ok(bytes)
    });
    let worker = on.worker(handler, one_slot());
    for round in 0..3 {
        let bad = submit(&boss, Probe(Bytes::from_static(b"bad"))).await;
        let good = submit(&boss, Probe(Bytes::from_static(b"good"))).await;
        let outcome = soon("the panic", bad.outcome()).await;
        assert!(
            matches!(&outcome.result, Err(TaskError::Panicked(why)) if why.contains("on purpose")),
            "{round}: {outcome:?}"
        );
        assert_eq!(soon("the next", good.outcome()).await.result.expect("computed"), "good");
    }
    assert!(worker.is_running());
    assert_eq!(worker.stop().await.failed, 3);
}
