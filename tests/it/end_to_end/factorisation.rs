//! Progress of, and cancel in, a real factorisation, through the whole pool.

use std::time::Duration;

use rabbitry::boss::{Boss, Ticket};
use rabbitry::task::TaskError;
use rabbitry::tasks::solve::{Choice, System};
use rabbitry::worker::Options;

use crate::pool::{PATIENCE, Place, backward_error, on_both, one_slot, solve_handler, soon, submit};

on_both!(a_running_factorisation_stops_and_leaves_its_neighbour_alone,);

/// Long enough for a report or two on its way.
const N: usize = 4500;

async fn begun(boss: &Boss, system: System) -> Ticket<System> {
    let ticket = submit(boss, system).await;
    let reported = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while ticket.progress() == 0.0 {
            look.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reported).await.is_ok(), "no report of progress");
    assert!(ticket.progress() < 1.0);
    ticket
}

async fn a_running_factorisation_stops_and_leaves_its_neighbour_alone(on: Place) {
    let boss = on.boss().await;
    let options = Options { slots: 2, threads: 1, prefetch: 3, memory_bytes: 4 << 30, ..one_slot() };
    let worker = on.worker(solve_handler(), options);
    let system = |seed| System::random(N, 1, seed).by(Choice::Lu);
    let other = submit(&boss, system(2)).await;
    let doomed = begun(&boss, system(1)).await;
    assert!(doomed.cancel());
    assert_eq!(soon("the end", doomed.outcome()).await.result.unwrap_err(), TaskError::Cancelled);
    let solution = soon("the solution", other.outcome()).await.result.expect("it is solved");
    assert!(backward_error(&system(2), &solution.x) < 1e-12);
    boss.close().await;
    let summary = worker.stop().await;
    assert_eq!((summary.done, summary.failed), (2, 1), "the cancelled one did not come to its answer");
}
