//! LU or Cholesky in f32, refined in f64 against the original A: half the memory traffic and twice the flops.
//!
//! Refinement (Wilkinson; LAPACK's dsgesv) contracts the error by about cond(A) * 2^-24 a step, so it works up to a
//! condition of some 10^7. Where it does not, the steps stall, which is seen after one or two of them, and the method
//! gives up: [`super::direct`] answers then. Invariants: what it calls converged has a backward error at LU's own level,
//! and a condition within the reach of f32, so that its estimate from the f32 factors is one of A.

use std::time::Instant;

use super::direct::residual;
use super::kernel::{Broken, Op};
use super::method::{self, End, Form, Means, Problem, Quality, Solved, backward_error, underflow};
use super::scan::{load, load_lower, max_abs, power_of_two_scale};
use super::scratch::Scratch;
use super::{condition, panel};
use crate::task::{TaskError, Watch};

/// A step that leaves more than this share of the residual has stalled. Ten steps at this rate cost more than LU.
const STALL: f64 = 0.25;
/// Steps after which to give up, however steadily the residual shrinks.
const MAX_STEPS: u32 = 12;
/// Norms of A that f32 takes as they are, leaving room for the products; others are scaled by a power of two.
const NORMS: std::ops::Range<f64> = 1e-6..1e12;

/// Fills `x`, in the order of B, if the refinement converges.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite. Singular is for f64 to say: f32 rounding makes zero pivots of its own.
pub(super) fn solve(problem: &Problem<'_>, form: Form, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = means.pool.take((problem.rows * problem.rows).div_ceil(2));
    let result = solve_in(problem, form, means, &mut scratch, x);
    means.pool.put(scratch);
    result
}

fn solve_in(
    problem: &Problem<'_>,
    form: Form,
    means: Means<'_>,
    scratch: &mut Scratch,
    x: &mut [f64],
) -> Result<End, TaskError> {
    let Means { kernel, watch, .. } = means;
    let n = problem.rows;
    // At least two columns, which the estimate of the condition takes.
    let panel_len = n * panel::columns(problem).max(2);
    let half = panel_len.div_ceil(2);
    let (factor, pivots, panels) = scratch.parts((n * n).div_ceil(2), panel_len + half + panel::copies_len(problem));
    let factor: &mut [f32] = &mut bytemuck::cast_slice_mut(factor)[..n * n];
    let (r, panels) = panels.split_at_mut(panel_len);
    let (d, copies) = panels.split_at_mut(half);
    let d: &mut [f32] = bytemuck::cast_slice_mut(d);

    let (norm, scale) = load_scaled(problem, form, factor, kernel.threads())?;
    let broken = match form {
        Form::General => kernel.factor(n, factor, pivots, problem.stage(watch)),
        Form::Symmetric => kernel.cholesky(n, factor, problem.stage(watch)),
    };
    match broken {
        Ok(()) => {}
        Err(Broken::Stopped(reason)) => return Err(reason),
        Err(Broken::At(_)) => return Ok(End::GivenUp { iterations: 0 }),
    }
    let factored = Instant::now();
    let for_panel = problem.panel_kernel(kernel);
    let factor = &*factor;
    let mut inverse = |op: Op, d: &mut [f32]| match form {
        Form::General => for_panel.solve(op, (n, n), factor, pivots, d),
        Form::Symmetric => for_panel.cholesky_solve((n, n), factor, d),
    };
    let mut worst = Quality::default();
    let mut converged = true;
    panel::for_each(problem, watch, x, copies, |b, x| {
        if converged {
            let correct = |d: &mut [f32]| inverse(problem.op(), d);
            let residual = |x: &[f64], r: &mut [f64]| residual(problem, form, &for_panel, x, r);
            let refined = refine(n, norm, scale, watch, Panel { b, x, r, d }, correct, residual)?;
            converged = refined.is_ok();
            worst = worst.worst(refined.unwrap_or_else(|steps| Quality { iterations: steps, ..Quality::default() }));
        }
        Ok(())
    })?;
    if !converged {
        return Ok(End::GivenUp { iterations: worst.iterations });
    }
    let mut solve = |transposed: bool, x: &mut [f64]| {
        let d = &mut d[..x.len()];
        d.iter_mut().zip(&*x).for_each(|(d, x)| *d = *x as f32);
        inverse(problem.op_of(transposed), d);
        x.iter_mut().zip(d).for_each(|(x, d)| *x = f64::from(*d) * scale);
        watch.check()
    };
    let (rcond, row) = condition::reciprocal_and_row(n, norm, &mut solve)?;
    let turned = Problem { a_order: problem.a_order.other(), ..*problem };
    let residual = |x: &[f64], r: &mut [f64]| residual(&turned, form, &for_panel, x, r);
    if !stands(n, row, &mut r[..2 * n], |x| solve(true, x), residual)? {
        return Ok(End::GivenUp { iterations: worst.iterations });
    }
    let bound = method::bound(problem, worst, rcond);
    Ok(End::Solved(Solved { method: form.method(true), quality: worst, rcond, bound, factored }))
}

/// Whether row `row` of the inverse, the largest one, is A's or made by the rounding to f32: a step of refinement, which
/// moves it by its own error, has to leave most of it. The right-hand sides alone don't tell: those that A can reach
/// although it is singular, as of a consistent system, are refined without ever meeting what f32 made up, and the
/// condition of the f32 factors is never much beyond 1e8. `work` is 2 n long, `solve` takes A' and so does `residual`.
fn stands(
    n: usize,
    row: usize,
    work: &mut [f64],
    mut solve: impl FnMut(&mut [f64]) -> Result<(), TaskError>,
    residual: impl Fn(&[f64], &mut [f64]),
) -> Result<bool, TaskError> {
    let (x, r) = work.split_at_mut(n);
    x.fill(0.0);
    x[row] = 1.0;
    r.copy_from_slice(x);
    solve(x)?;
    residual(x, r);
    solve(r)?;
    // A NaN does not stand.
    Ok(condition::sum_abs(r) <= STALL * condition::sum_abs(x))
}

/// Rounds A, times a power of two that brings it into the range of f32, to `factor`; its norm, and that power.
fn load_scaled(problem: &Problem<'_>, form: Form, factor: &mut [f32], threads: usize) -> Result<(f64, f64), TaskError> {
    let n = problem.rows;
    let mut load_times = |scale: f64| match form {
        Form::General => load(n, problem.a_order, problem.a, scale, factor, threads),
        Form::Symmetric => load_lower(n, problem.a, scale, factor, threads),
    };
    let norm = load_times(1.0);
    problem.check_norm(norm)?;
    if NORMS.contains(&norm) {
        return Ok((norm, 1.0));
    }
    let scale = power_of_two_scale(norm);
    load_times(scale);
    Ok((norm, scale))
}

/// A panel of columns and its working memory: b and x of the same length, r and d at least as long.
struct Panel<'a> {
    b: &'a [f64],
    x: &'a mut [f64],
    r: &'a mut [f64],
    d: &'a mut [f32],
}

/// One column's way.
#[derive(Clone, Copy)]
struct Column {
    b: f64,
    residual: f64,
    done: bool,
}

/// Refines x from zero until each column's residual is at rounding level, or says after how many steps it stalled.
/// `correct` solves with the f32 factors of A times `scale`, `residual` subtracts A x. A column that is done keeps its x.
fn refine(
    n: usize,
    norm: f64,
    scale: f64,
    watch: &Watch,
    panel: Panel<'_>,
    mut correct: impl FnMut(&mut [f32]),
    residual: impl Fn(&[f64], &mut [f64]),
) -> Result<Result<Quality, u32>, TaskError> {
    let Panel { b, x, r, d } = panel;
    let (r, d) = (&mut r[..b.len()], &mut d[..b.len()]);
    // What LU in f64 leaves, a fifth of sqrt(n) units as measured; dsgesv stops at sqrt(n), which is as low as few rows get.
    let tolerance = (condition::rounding(n) / 5.0).max(condition::rounding(n.min(30)));
    let norms = b.chunks_exact(n).map(max_abs);
    let mut columns: Vec<_> = norms.map(|norm| Column { b: norm, residual: norm, done: false }).collect();
    let mut quality = Quality::default();
    x.fill(0.0);
    r.copy_from_slice(b);
    for step in 0..=MAX_STEPS {
        for ((r, d), column) in r.chunks_exact(n).zip(d.chunks_exact_mut(n)).zip(&columns) {
            let up = power_of_two_scale(column.residual);
            d.iter_mut().zip(r).for_each(|(d, r)| *d = (r * up) as f32);
        }
        watch.check()?;
        correct(d);
        for ((x, d), column) in x.chunks_exact_mut(n).zip(d.chunks_exact(n)).zip(&columns) {
            if !column.done {
                // One power of two: each by itself may take d out of range.
                let back = scale / power_of_two_scale(column.residual);
                x.iter_mut().zip(d).for_each(|(x, d)| *x += f64::from(*d) * back);
            }
        }
        r.copy_from_slice(b);
        residual(x, r);
        quality.iterations = step;
        for ((x, r), column) in x.chunks_exact(n).zip(r.chunks_exact(n)).zip(&mut columns) {
            let (x, r) = (max_abs(x), max_abs(r));
            if column.done {
                continue;
            }
            if !(x.is_finite() && r.is_finite()) {
                return Ok(Err(step));
            } else if r / norm <= x * tolerance {
                column.done = true;
                let error = backward_error(norm, r, x, column.b);
                quality.backward_error = quality.backward_error.max(error);
                quality.underflow = quality.underflow.max(underflow(n, norm, x, column.b));
            } else if r <= column.residual * STALL {
                column.residual = r;
            } else {
                return Ok(Err(step));
            }
        }
        if columns.iter().all(|column| column.done) {
            return Ok(Ok(quality));
        }
    }
    Ok(Err(MAX_STEPS))
}
