//! Systems out, solutions back, checked by their residual here.

use std::collections::HashSet;

use futures_util::future::join_all;
use rabbitry::boss::Submit;
use rabbitry::task::Format;
use rabbitry::tasks::solve::{Matrix, Order, System};

use crate::pool::{Place, backward_error, on_both, soon, submit};

on_both!(systems_of_every_size_shape_and_form_come_back_solved, many_small_tasks_are_each_answered_once);

/// The same numbers in the other order.
fn row_major(matrix: Matrix) -> Matrix {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let numbers = matrix.view().iter().copied().collect();
    Matrix::new(rows, cols, Order::RowMajor, numbers).expect("the same shape")
}

async fn systems_of_every_size_shape_and_form_come_back_solved(on: Place) {
    let (boss, _worker) = (on.boss().await, on.solver());
    let mut tickets = Vec::new();
    for n in (1..=300).filter(|n| n % 37 == 1 || [2, 3, 63, 64, 65, 100, 127, 128, 129, 255, 256, 300].contains(n)) {
        for (nrhs, order, format) in [
            (1, Order::ColMajor, Format::Binary),
            (1, Order::RowMajor, Format::Json),
            (5, Order::RowMajor, Format::Binary),
            (3, Order::ColMajor, Format::Json),
        ] {
            let mut system = System::random(n, nrhs, (n * 10 + nrhs) as u64);
            if order == Order::RowMajor {
                let b = if nrhs == 1 { system.b } else { row_major(system.b) };
                system = System { a: row_major(system.a), b, ..system };
            }
            let how = Submit { format, ..Submit::default() };
            let ticket = soon("room", boss.submit(system.clone(), how)).await.expect("a right system");
            tickets.push((system, format, ticket));
        }
    }
    for (system, format, ticket) in tickets {
        let what = format!("n = {}, nrhs = {}, {format:?}", system.a.rows(), system.b.cols());
        let solution = soon(&what, ticket.outcome()).await.result.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(solution.x.is_vector(), system.b.is_vector(), "{what}");
        let error = backward_error(&system, &solution.x);
        assert!(error < 1e-13, "{what}: {error:e}");
    }
    boss.close().await;
}

async fn many_small_tasks_are_each_answered_once(on: Place) {
    let (boss, worker) = (on.boss().await, on.solver());
    let mut tickets = Vec::new();
    for seed in 0..2000 {
        tickets.push((seed, submit(&boss, System::random(10, 1, seed)).await));
    }
    let ids: HashSet<_> = tickets.iter().map(|(_, ticket)| ticket.id()).collect();
    assert_eq!(ids.len(), 2000);
    let outcomes = join_all(tickets.into_iter().map(|(seed, ticket)| async move { (seed, ticket.outcome().await) }));
    for (seed, outcome) in soon("2000 outcomes", outcomes).await {
        let solution = outcome.result.unwrap_or_else(|error| panic!("{seed}: {error}"));
        assert!(backward_error(&System::random(10, 1, seed), &solution.x) < 1e-13, "the answer to another system");
    }
    boss.close().await;
    let summary = worker.stop().await;
    assert_eq!((summary.done, summary.failed), (2000, 0), "each was computed once");
}
