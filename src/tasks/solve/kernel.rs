//! The linear algebra library behind the solver, chosen here and nowhere else: MKL, or faer without it.
//!
//! Both offer the same calls on a [`Kernel`], which also holds the number of threads for as long as it lives: `factor` and
//! `solve` (LU with partial pivoting), `cholesky` and `cholesky_solve`, `qr` and `qr_solve` (least squares), `triangular_solve`, and
//! the residuals `residual` (r -= op(A) x) and `symmetric_residual`. All take any number of right-hand sides at once.
//! Matrices are column-major here; a row-major A is handed over as it lies and used with [`Op::Transposed`].
//!
//! The factorisations run as a [`Stage`] of a watched task. MKL tells the watch how far it is and stops within one block
//! when it says so, and so does the LU of our own on top of it; faer has no such hook, so there it is asked before and
//! after, and within QR, whose blocks are ours.

#[cfg(all(feature = "faer", not(feature = "mkl")))]
pub(super) use super::faer::{Kernel, NAME, Pivots, setting, version};
#[cfg(feature = "mkl")]
pub(super) use super::mkl::{Kernel, NAME, Pivots, setting, version};

#[cfg(not(any(feature = "mkl", feature = "faer")))]
compile_error!(
    "rabbitry needs a kernel: build with the default feature `mkl` (x86-64; `make setup` fetches MKL) or with \
     `--no-default-features --features faer` (any platform)"
);

use std::sync::LazyLock;

use crate::task::{TaskError, Watch};

/// Which matrix a factorisation or a product means, given the stored column-major one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// The stored matrix.
    Plain,
    /// Its transpose: what is stored column by column are A's rows.
    Transposed,
}

impl Op {
    /// The other one.
    pub(super) fn transposed(self) -> Op {
        match self {
            Op::Plain => Op::Transposed,
            Op::Transposed => Op::Plain,
        }
    }
}

/// Why a factorisation ended early; what it left is no factor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// At this column of the stored matrix, from 1: no non-zero pivot, a leading minor that is not positive, or a zero on
    /// the diagonal of R. 0 where that is not known.
    At(u64),
    /// The watch said so.
    Stopped(TaskError),
}

/// A triangle of a column-major matrix: what lies on the other side of its diagonal is not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Triangle {
    /// Upper or lower.
    pub upper: bool,
    /// Rows and columns.
    pub n: usize,
    /// From one column to the next, at least `n`.
    pub stride: usize,
}

/// A factorisation's part of the progress of a task.
#[derive(Clone, Copy)]
pub(super) struct Stage<'a> {
    /// The task's.
    pub watch: &'a Watch,
    /// How far the task is when the factorisation is done, 0 to 1.
    pub whole: f64,
}

impl Stage<'static> {
    /// For a factorisation that nobody watches.
    pub(super) fn unwatched() -> Self {
        static NOBODY: LazyLock<Watch> = LazyLock::new(Watch::default);
        Stage { watch: &NOBODY, whole: 1.0 }
    }
}

/// The factorisations under a watch, by how their work is spread over the columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "mkl"), expect(dead_code, reason = "faer tells how far it is of QR only"))]
pub(super) enum Factorisation {
    Lu,
    Cholesky,
    Qr,
}

impl Factorisation {
    /// The share of the time after `columns`, as a share of all columns, are done: most of LU's and QR's work lies in the
    /// first of them. Fits MKL's timing at n = 4000 within 0.1.
    pub(super) fn share(self, columns: f64) -> f64 {
        match self {
            Factorisation::Lu | Factorisation::Qr => 1.0 - (1.0 - columns).powi(3),
            Factorisation::Cholesky => columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::System;
    #[cfg(all(feature = "faer", not(feature = "mkl")))]
    use super::super::faer::Real;
    #[cfg(feature = "mkl")]
    use super::super::mkl::Real;
    use super::*;

    #[test]
    fn the_suite_runs_on_the_kernel_the_features_ask_for() {
        assert_eq!(NAME, if cfg!(feature = "mkl") { "mkl" } else { "faer" });
    }

    fn least_squares(op: Op, shape: (usize, usize), a: &mut [f64], b: &mut [f64]) -> Result<(), Broken> {
        let kernel = Kernel::with_threads(1);
        let reflectors = kernel.qr(shape, a, Stage::unwatched())?;
        kernel.qr_solve(op, shape, a, &reflectors, b);
        Ok(())
    }

    fn close(x: &[f64], expected: &[f64]) {
        let near = x.iter().zip(expected).all(|(x, expected)| (x - expected).abs() < 1e-13);
        assert!(x.len() == expected.len() && near, "{x:?}, not {expected:?}");
    }

    #[test]
    fn both_precisions_solve_with_the_matrix_and_its_transpose() {
        // Column-major [[1, 3], [2, 4]] stored as 1 2 3 4.
        let kernel = Kernel::with_threads(1);
        let a = [1.0_f64, 2.0, 3.0, 4.0];
        let mut pivots = Pivots::default();
        let mut lu = a;
        kernel.factor(2, &mut lu, &mut pivots, Stage::unwatched()).unwrap();
        for (op, b) in [(Op::Plain, [7.0, 10.0, 4.0, 6.0]), (Op::Transposed, [5.0, 11.0, 3.0, 7.0])] {
            let mut x: [f64; 4] = b;
            kernel.solve(op, (2, 2), &lu, &mut pivots, &mut x);
            close(&x, &[1.0, 2.0, 1.0, 1.0]);
            let mut r = b;
            kernel.residual(op, (2, 2), &a, &[1.0, 2.0, 1.0, 1.0], &mut r);
            assert_eq!(r, [0.0; 4]);
        }
        let mut lu = a.map(|v| v as f32);
        kernel.factor(2, &mut lu, &mut pivots, Stage::unwatched()).unwrap();
        let mut x = [7.0_f32, 10.0];
        kernel.solve(Op::Plain, (2, 2), &lu, &mut pivots, &mut x);
        assert!((x[0] - 1.0).abs() < 1e-5 && (x[1] - 2.0).abs() < 1e-5);
    }

    /// |B - op(S) X| <= 4 n units of |S| |X| + |B|, by plain loops.
    fn check_solution<T: Real + Into<f64>>(op: Op, n: usize, s: &[T], x: &[T], b: &[T], unit: f64) {
        for (x, b) in x.chunks_exact(n).zip(b.chunks_exact(n)) {
            let x: Vec<f64> = x.iter().map(|x| (*x).into()).collect();
            for i in 0..n {
                let at = |j: usize| -> f64 { s[if op == Op::Plain { j * n + i } else { i * n + j }].into() };
                let b: f64 = b[i].into();
                let (mut r, mut size) = (b, b.abs());
                for (j, x) in x.iter().enumerate() {
                    r -= at(j) * x;
                    size += (at(j) * x).abs();
                }
                assert!(r.abs() <= 4.0 * n as f64 * unit * size, "{n} {op:?} row {i}: {r:e}, {size:e}");
            }
        }
    }

    fn check_lu<T: Real + Into<f64>>(n: usize, narrow: impl Fn(f64) -> T, unit: f64, pivots: &mut Pivots) {
        let kernel = Kernel::with_threads(1);
        let numbers = |count: usize, seed| -> Vec<T> {
            System::random(n, count, seed).b.as_slice().iter().map(|v| narrow(*v)).collect()
        };
        let s = numbers(n, n as u64);
        for by_columns in [false, true] {
            let mut lu = s.clone();
            match by_columns {
                true => kernel.factor_by_columns(n, &mut lu, pivots, Stage::unwatched()).unwrap(),
                false => kernel.factor(n, &mut lu, pivots, Stage::unwatched()).unwrap(),
            }
            for (op, nrhs) in [Op::Plain, Op::Transposed].into_iter().flat_map(|op| [1, 2, 19].map(|m| (op, m))) {
                let b = numbers(nrhs, 5);
                let mut x = b.clone();
                kernel.solve(op, (n, n), &lu, pivots, &mut x);
                check_solution(op, n, &s, &x, &b, unit);
            }
        }
    }

    #[test]
    fn any_size_is_solved_both_ways_round_with_any_right_hand_sides() {
        // One for all: it is left from larger ones to smaller ones, from one sort of factors to another.
        let mut pivots = Pivots::default();
        for n in [300, 1, 2, 7, 31, 33, 127, 129, 159, 160, 193, 257, 321, 384, 519, 520, 700] {
            check_lu::<f64>(n, |v| v, f64::EPSILON, &mut pivots);
            check_lu::<f32>(n, |v| v as f32, f64::from(f32::EPSILON), &mut pivots);
        }
    }

    #[test]
    fn the_first_zero_pivot_is_named() {
        let kernel = Kernel::with_threads(1);
        let mut rank_two = [1.0_f64, 2.0, 4.0, 2.0, 1.0, 1.0, 1.0, 2.0, 4.0];
        let mut zero = [0.0_f64; 9];
        let factor = |a: &mut [f64]| kernel.factor_by_columns(3, a, &mut Pivots::default(), Stage::unwatched());
        assert_eq!(factor(&mut rank_two), Err(Broken::At(3)));
        assert_eq!(factor(&mut zero), Err(Broken::At(1)));
        for (n, at) in [(3, 1), (200, 70), (400, 399), (1100, 500)] {
            let mut a = System::random(n, 1, 2).a.into_vec();
            a[at * n..][..n].fill(0.0);
            let (mut single, mut again): (Vec<f32>, _) = (a.iter().map(|v| *v as f32).collect(), a.clone());
            let here = Err(Broken::At(at as u64 + 1));
            // By rows it is seen, and not named.
            let seen = |found| assert!(found == here || found == Err(Broken::At(0)), "{n}: {found:?}");
            seen(kernel.factor(n, &mut single, &mut Pivots::default(), Stage::unwatched()));
            seen(kernel.factor(n, &mut a, &mut Pivots::default(), Stage::unwatched()));
            assert_eq!(kernel.factor_by_columns(n, &mut again, &mut Pivots::default(), Stage::unwatched()), here);
        }
    }

    #[test]
    fn cholesky_reads_the_lower_triangle_and_breaks_down_where_it_must() {
        let kernel = Kernel::with_threads(1);
        // [[4, 2], [2, 10]], with nonsense above the diagonal.
        let a = [4.0, 2.0, 99.0, 10.0];
        let mut l = a;
        kernel.cholesky(2, &mut l, Stage::unwatched()).unwrap();
        let mut x = [8.0, 22.0, 4.0, 2.0];
        kernel.cholesky_solve((2, 2), &l, &mut x);
        close(&x, &[1.0, 2.0, 1.0, 0.0]);
        let mut r = [8.0, 22.0];
        kernel.symmetric_residual(2, &[4.0, 2.0, 2.0, 10.0], &[1.0, 2.0], &mut r);
        assert_eq!(r, [0.0; 2]);
        let mut l = a.map(|v| v as f32);
        kernel.cholesky(2, &mut l, Stage::unwatched()).unwrap();
        let mut x = [8.0_f32, 22.0];
        kernel.cholesky_solve((2, 2), &l, &mut x);
        assert!((x[0] - 1.0).abs() < 1e-5 && (x[1] - 2.0).abs() < 1e-5);
        for mut indefinite in [[1.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 1.0]] {
            assert!(
                matches!(kernel.cholesky(2, &mut indefinite, Stage::unwatched()), Err(Broken::At(_))),
                "{indefinite:?}"
            );
        }
    }

    #[test]
    fn substitution_reads_one_triangle_of_a_part_of_a_matrix() {
        let kernel = Kernel::with_threads(1);
        // Three rows are stored, two are meant: upper [[2, 1], [., 4]], lower [[2, .], [3, 4]].
        let a = [2.0, 3.0, 99.0, 1.0, 4.0, 99.0];
        for (upper, op, b) in [
            (true, Op::Plain, [4.0, 8.0]),
            (true, Op::Transposed, [2.0, 9.0]),
            (false, Op::Plain, [2.0, 11.0]),
            (false, Op::Transposed, [8.0, 8.0]),
        ] {
            let triangle = Triangle { upper, n: 2, stride: 3 };
            let mut one = b;
            kernel.triangular_solve(triangle, op, &a, &mut one);
            close(&one, &[1.0, 2.0]);
            let mut two = [b[0], b[1], 2.0 * b[0], 2.0 * b[1]];
            kernel.triangular_solve(triangle, op, &a, &mut two);
            close(&two, &[1.0, 2.0, 2.0, 4.0]);
        }
    }

    #[test]
    fn least_squares_takes_both_shapes_and_both_ways_round() {
        let kernel = Kernel::with_threads(1);
        // The 3 x 2 matrix [[1, 0], [1, 1], [1, 2]]: a straight line through (0, 6), (1, 0), (2, 0) is 5 - 3 t.
        let tall = [1.0, 1.0, 1.0, 0.0, 1.0, 2.0];
        let line = |op, shape| {
            let (mut a, mut b) = (if op == Op::Plain { tall } else { [1.0, 0.0, 1.0, 1.0, 1.0, 2.0] }, [6.0, 0.0, 0.0]);
            least_squares(op, shape, &mut a, &mut b).unwrap();
            close(&b[..2], &[5.0, -3.0]);
            // What remains is the triangle: det(R) squared is det(A' A) = 6.
            let stride = shape.0;
            assert!(((a[0] * a[stride + 1]).powi(2) - 6.0).abs() < 1e-12, "{a:?}");
        };
        line(Op::Plain, (3, 2));
        line(Op::Transposed, (2, 3));
        // Its transpose: the shortest x with x1 + x2 + x3 = 3 and x2 + 2 x3 = 3 is (1, 1, 1).
        let shortest = |op, shape| {
            let (mut a, mut b) = (if op == Op::Plain { [1.0, 0.0, 1.0, 1.0, 1.0, 2.0] } else { tall }, [3.0, 3.0, 0.0]);
            least_squares(op, shape, &mut a, &mut b).unwrap();
            close(&b, &[1.0, 1.0, 1.0]);
        };
        shortest(Op::Plain, (2, 3));
        shortest(Op::Transposed, (3, 2));
        for (mut a, column) in [([0.0; 6], 1), ([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 2)] {
            let broken = least_squares(Op::Plain, (3, 2), &mut a, &mut [1.0; 3]);
            assert_eq!(broken, Err(Broken::At(column)));
        }
        let mut r = [6.0, 1.0, 0.0];
        kernel.residual(Op::Plain, (3, 2), &tall, &[5.0, -3.0], &mut r);
        assert_eq!(r, [1.0, -1.0, 1.0]);
        let mut r = [1.0, 1.0, 2.0, 2.0];
        kernel.residual(Op::Transposed, (3, 2), &tall, &[1.0, 0.0, 0.0, 0.0, 0.0, 1.0], &mut r);
        assert_eq!(r, [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_stopped_factorisation_says_why() {
        let kernel = Kernel::with_threads(1);
        let n = 1200;
        let watch = Watch::default();
        watch.cancel();
        let stage = Stage { watch: &watch, whole: 1.0 };
        let mut a = System::random(n, 1, 1).a.into_vec();
        let stopped = Err(Broken::Stopped(TaskError::Cancelled));
        let mut single: Vec<f32> = a.iter().map(|v| *v as f32).collect();
        assert_eq!(kernel.factor(n, &mut single, &mut Pivots::default(), stage), stopped);
        assert_eq!(kernel.factor(n, &mut a, &mut Pivots::default(), stage), stopped);
        let mut a = System::random(n, 1, 1).a.into_vec();
        (0..n).for_each(|i| a[i * (n + 1)] += n as f64);
        assert_eq!(kernel.cholesky(n, &mut a, stage), stopped);
        assert_eq!(kernel.qr((n, n), &mut a, stage).map(|_| ()), stopped);
    }
}
