//! Least squares by QR, for an A of full rank and any shape: with more rows than columns the x of the least ||b - A x||,
//! with fewer the shortest x that solves A x = b.
//!
//! A of full rank is the caller's word; rank lost to rounding shows in the reciprocal condition.

use std::time::Instant;

use super::certificate::Method;
use super::direct::beyond_range;
use super::kernel::{Broken, Kernel, Op, Triangle};
use super::matrix::Order;
use super::method::{End, Means, Problem, Quality, Solved, backward_error, underflow};
use super::scan::{max_abs, norm, power_of_two_scale};
use super::scratch::Scratch;
use super::{condition, panel};
use crate::task::TaskError;

/// Fills `x`, in the order of B. Never gives up.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite or the answer is not; [`TaskError::Singular`] with the first zero on the
/// diagonal of the triangular factor; what the watch says.
pub(super) fn solve(problem: &Problem<'_>, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = means.pool.take(problem.rows * problem.cols);
    let result = solve_in(problem, means, &mut scratch, x);
    means.pool.put(scratch);
    result
}

fn solve_in(problem: &Problem<'_>, means: Means<'_>, scratch: &mut Scratch, x: &mut [f64]) -> Result<End, TaskError> {
    let Means { kernel, watch, .. } = means;
    let Problem { rows, cols, nrhs, a, a_order, .. } = *problem;
    let (height, rank) = (rows.max(cols), rows.min(cols));
    let norm_a = norm(rows, cols, a_order, a);
    problem.check_norm(norm_a)?;
    let width = nrhs.min(panel::PANEL_COLUMNS);
    let (factor, _, work) = scratch.parts(rows * cols, height * width);
    factor.copy_from_slice(a);
    let reflectors = match kernel.qr(problem.stored(), factor, problem.stage(watch)) {
        Ok(reflectors) => reflectors,
        Err(Broken::Stopped(reason)) => return Err(reason),
        Err(Broken::At(pivot)) => return Err(TaskError::Singular { pivot }),
    };
    let factored = Instant::now();
    let factor = &*factor;
    let (stored_rows, stored_cols) = problem.stored();
    let triangle = Triangle { upper: stored_rows >= stored_cols, n: rank, stride: stored_rows };
    let norm_r = triangle_norm(triangle, factor);
    let rcond = condition::reciprocal(rank, norm_r, |transposed, x| {
        kernel.triangular_solve(triangle, if transposed { Op::Transposed } else { Op::Plain }, factor, x);
        watch.check()
    })?;
    // With A = Q R: (A' A)^-1 of what is left of A' r. With L Q in the place of R', the same.
    let correct = |t: &mut [f64]| {
        kernel.triangular_solve(triangle, problem.op().transposed(), factor, t);
        kernel.triangular_solve(triangle, problem.op(), factor, t);
    };
    let mut certifier = Certifier::new(problem, norm_a)?;
    let whole = problem.stage(watch).whole;
    for first in (0..nrhs).step_by(width) {
        watch.advance(whole + (1.0 - whole) * first as f64 / nrhs as f64);
        watch.check()?;
        let work = &mut work[..height * width.min(nrhs - first)];
        for (column, work) in (first..).zip(work.chunks_exact_mut(height)) {
            let (b, rest) = work.split_at_mut(rows);
            b.iter_mut().enumerate().for_each(|(row, b)| *b = problem.b[at(problem.b_order, rows, nrhs, row, column)]);
            rest.fill(0.0);
        }
        kernel.qr_solve(problem.op(), problem.stored(), factor, &reflectors, work);
        for (column, work) in (first..).zip(work.chunks_exact(height)) {
            let out = |row| at(problem.b_order, cols, nrhs, row, column);
            work[..cols].iter().enumerate().for_each(|(row, from)| x[out(row)] = *from);
        }
        certifier.add(kernel, first, work, correct)?;
    }
    let Certifier { quality, share, step, .. } = certifier;
    // The backward error is relative to ||A||, which may be larger than that of its factor.
    let bound =
        bound(problem, quality.backward_error + quality.underflow, rcond * (norm_r / norm_a).min(1.0), share, step);
    Ok(End::Solved(Solved { method: Method::Lstsq, quality, rcond, bound, factored }))
}

/// Index of an element of a rows x cols matrix.
fn at(order: Order, rows: usize, cols: usize, row: usize, column: usize) -> usize {
    match order {
        Order::RowMajor => row * cols + column,
        Order::ColMajor => column * rows + row,
    }
}

/// The infinity norm of a triangle.
fn triangle_norm(Triangle { upper, n, stride }: Triangle, a: &[f64]) -> f64 {
    let mut sums = vec![0.0; n];
    for column in 0..n {
        let rows = if upper { 0..column + 1 } else { column..n };
        let numbers = &a[column * stride..][rows.clone()];
        sums[rows].iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number.abs());
    }
    max_abs(&sums)
}

/// The quality of X, panel after panel.
struct Certifier<'a> {
    problem: &'a Problem<'a>,
    norm_a: f64,
    norm_t: f64,
    quality: Quality,
    /// The largest ||r|| / (||A|| ||x||).
    share: f64,
    /// With more rows than columns the largest ||(A' A)^-1 A' r|| / ||x||: how far x is off but for rounding, which a
    /// small A' r alone does not tell. It is small wherever x is off in a direction that A makes small.
    step: f64,
    r: Vec<f64>,
    x: Vec<f64>,
    t: Vec<f64>,
}

impl<'a> Certifier<'a> {
    fn new(problem: &'a Problem<'a>, norm_a: f64) -> Result<Self, TaskError> {
        let Problem { rows, cols, a, a_order, .. } = *problem;
        let norm_t = if rows > cols { norm(cols, rows, a_order.other(), a) } else { 0.0 };
        problem.check_norm(norm_t)?;
        let quality = Quality::default();
        Ok(Certifier { problem, norm_a, norm_t, quality, share: 0.0, step: 0.0, r: vec![], x: vec![], t: vec![] })
    }

    /// Takes the panel of columns from `first` on, whose X is in the first rows of `work`. `correct` applies (A' A)^-1.
    fn add(
        &mut self,
        kernel: &Kernel,
        first: usize,
        work: &[f64],
        correct: impl Fn(&mut [f64]),
    ) -> Result<(), TaskError> {
        let Problem { rows, cols, nrhs, a, .. } = *self.problem;
        let (problem, norm_a, height) = (self.problem, self.norm_a, rows.max(cols));
        let columns = work.len() / height;
        self.r.resize(rows * columns, 0.0);
        self.x.resize(cols * columns, 0.0);
        self.t.clear();
        self.t.resize(cols * columns, 0.0);
        let (r, x, t) = (&mut self.r[..], &mut self.x[..], &mut self.t[..]);
        let sides = r.chunks_exact_mut(rows).zip(x.chunks_exact_mut(cols)).zip(work.chunks_exact(height));
        for (column, ((r, x), work)) in (first..).zip(sides) {
            r.iter_mut().enumerate().for_each(|(row, r)| *r = problem.b[at(problem.b_order, rows, nrhs, row, column)]);
            x.copy_from_slice(&work[..cols]);
        }
        let norms_b: Vec<f64> = r.chunks_exact(rows).map(max_abs).collect();
        kernel.residual(problem.op(), problem.stored(), a, x, r);
        let norms_r: Vec<f64> = r.chunks_exact(rows).map(max_abs).collect();
        let overdetermined = rows > cols;
        if overdetermined {
            // Brought near 1 first: the product of two numbers in range need not be.
            for (r, norm) in r.chunks_exact_mut(rows).zip(&norms_r) {
                let up = power_of_two_scale(*norm);
                r.iter_mut().for_each(|r| *r *= up);
            }
            kernel.residual(problem.op().transposed(), problem.stored(), a, r, t);
        }
        let norms_t: Vec<f64> = t.chunks_exact(cols).map(max_abs).collect();
        if overdetermined {
            correct(t);
        }
        let columns = x.chunks_exact(cols).zip(t.chunks_exact(cols)).zip(norms_t).zip(norms_r);
        for ((((x, off), t), r), b) in columns.zip(norms_b) {
            let x = max_abs(x);
            let error = match (overdetermined, r == 0.0) {
                (true, false) => t / self.norm_t / power_of_two_scale(r) / norm_a / (x + b / norm_a),
                _ => backward_error(norm_a, r, x, b),
            };
            if !error.is_finite() || !x.is_finite() {
                return Err(beyond_range());
            }
            let underflow = underflow(rows.max(cols), norm_a, x, b);
            self.quality = self.quality.worst(Quality { backward_error: error, iterations: 0, underflow });
            self.share = self.share.max(if r == 0.0 { 0.0 } else { r / norm_a / x });
            let off = max_abs(off) / power_of_two_scale(r);
            self.step = self.step.max(if off == 0.0 { 0.0 } else { off / x });
        }
        Ok(())
    }
}

/// Wedin's bound to first order: with more rows than columns an error is magnified by the square of the condition as far as
/// the residual is not zero; with fewer, by three times the condition (Higham, Accuracy and Stability, 20.1 and 21.1). To
/// that comes `step`, by which x is off for certain.
fn bound(problem: &Problem<'_>, backward_error: f64, rcond: f64, share: f64, step: f64) -> Option<f64> {
    let error = backward_error + condition::rounding(problem.rows.max(problem.cols));
    let magnified = match problem.rows > problem.cols {
        true => 2.0 / rcond + share / rcond / rcond,
        false => 3.0 / rcond,
    };
    condition::unless_singular(rcond, error * magnified + step)
}
