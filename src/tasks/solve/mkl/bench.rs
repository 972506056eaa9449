//! Paired measurements that decide which factorisation runs where, by hand:
//! `cargo test --release --locked --lib mkl::bench -- --ignored --nocapture --test-threads 1`; for sizes of one's own
//! with `SIZES=300,400`.

use std::time::{Duration, Instant};

use super::super::System;
use super::super::kernel::{Op, Stage};
use super::super::scratch::grown;
use super::{Kernel, Pivots, Real};
use crate::task::Watch;

/// Factors the way that is meant, or the other one.
fn factor<T: Real>(by_rows: bool, n: usize, lu: &mut [T], pivots: &mut Pivots) {
    let kernel = Kernel::with_threads(1);
    let stage = Stage { watch: &Watch::default(), whole: 1.0 };
    let done = match by_rows {
        true => kernel.factor_by_rows(n, lu, pivots, stage),
        false => kernel.factor_by_columns(n, lu, pivots, stage),
    };
    done.unwrap();
}

/// The shortest of `rounds` times of each, taking turns: LAPACK's and ours.
fn pair(rounds: usize, mut run: impl FnMut(bool) -> Duration) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..rounds {
        best = [best[0].min(run(false)), best[1].min(run(true))];
    }
    best
}

fn print(what: &str, best: [Duration; 2]) {
    let [lapack, ours] = best.map(|best| best.as_secs_f64() * 1e3);
    println!("{what}: LAPACK {lapack:.3} ms, by rows {ours:.3} ms, {:.3} times as fast", lapack / ours);
}

fn sizes() -> Vec<usize> {
    let sizes = std::env::var("SIZES").unwrap_or_else(|_| "200,300,500,700,1000,1500,2000,3000,5000".to_owned());
    sizes.split(',').map(|n| n.parse().unwrap()).collect()
}

fn factorisations<T: Real>(name: &str, n: usize, a: &[T]) {
    let mut pivots = Pivots::default();
    let mut buffer = Vec::new();
    // Aligned as the solver has it.
    let lu: &mut [T] = &mut bytemuck::cast_slice_mut(grown(&mut buffer, n * n))[..n * n];
    let best = pair((40_000_000_000 / n.pow(3)).clamp(5, 400), |by_rows| {
        lu.copy_from_slice(a);
        let begun = Instant::now();
        factor(by_rows, n, lu, &mut pivots);
        begun.elapsed()
    });
    print(&format!("{name} n = {n}"), best);
}

fn solutions<T: Real>(name: &str, n: usize, a: &[T]) {
    let kernel = Kernel::with_threads(1);
    let (mut factors, mut pivots) = ([a.to_vec(), a.to_vec()], [Pivots::default(), Pivots::default()]);
    for (by_rows, (lu, pivots)) in [false, true].into_iter().zip(factors.iter_mut().zip(&mut pivots)) {
        factor(by_rows, n, lu, pivots);
    }
    for (nrhs, op) in [1, 2, 32].into_iter().flat_map(|nrhs| [Op::Plain, Op::Transposed].map(|op| (nrhs, op))) {
        let best = pair((400_000_000 / n.pow(2)).clamp(5, 400), |by_rows| {
            let mut b = vec![T::one(); n * nrhs];
            let at = usize::from(by_rows);
            let begun = Instant::now();
            kernel.solve(op, (n, n), &factors[at], &mut pivots[at], &mut b);
            begun.elapsed()
        });
        print(&format!("{name} n = {n}, {nrhs} right-hand sides, {op:?}"), best);
    }
}

#[test]
#[ignore = "a measurement"]
fn lu_by_rows_against_getrf() {
    for n in sizes() {
        let double = System::random(n, 1, 1).a.into_vec();
        factorisations::<f32>("f32", n, &double.iter().map(|v| *v as f32).collect::<Vec<_>>());
        factorisations("f64", n, &double);
    }
}

#[test]
#[ignore = "a measurement"]
fn solving_by_rows_against_getrs() {
    for n in sizes() {
        let double = System::random(n, 1, 1).a.into_vec();
        solutions::<f32>("f32", n, &double.iter().map(|v| *v as f32).collect::<Vec<_>>());
        solutions("f64", n, &double);
    }
}
