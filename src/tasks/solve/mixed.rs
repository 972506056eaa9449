//! LU in f32, refined in f64 against the original A: half the memory traffic and twice the flops of LU in f64.
//!
//! Refinement (Wilkinson; LAPACK's dsgesv) contracts the error by about cond(A) * 2^-24 a step, so it works up to a
//! condition of some 10^7. Where it does not, the steps stall, which is seen after one or two of them, and the method
//! gives up: [`super::lu`] answers then. Invariant: what it calls converged has a backward error at LU's own level.

use std::time::Instant;

use super::kernel::Kernel;
use super::method::{Problem, Quality, backward_error, certificate};
use super::panel;
use super::params::{Certificate, Method};
use super::scan::{load, max_abs, power_of_two_scale};
use super::scratch::{Pool, Scratch};
use crate::task::TaskError;

/// A step that leaves more than this share of the residual has stalled. Ten steps at this rate cost more than LU.
const STALL: f64 = 0.25;
/// Steps after which to give up, however steadily the residual shrinks.
const MAX_STEPS: u32 = 12;
/// Norms of A that f32 takes as they are, leaving room for the products; others are scaled by a power of two.
const NORMS: std::ops::Range<f64> = 1e-6..1e12;

/// How it ended.
pub(super) enum End {
    /// X is there.
    Converged(Certificate),
    /// X is not: f32 does not carry this A.
    GivenUp { iterations: u32 },
}

/// Fills `x`, in the order of B, if the refinement converges.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite. Singular is for f64 to say: f32 rounding makes zero pivots of its own.
pub(super) fn solve(problem: &Problem<'_>, kernel: &Kernel, pool: &Pool, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = pool.take((problem.n * problem.n).div_ceil(2));
    let result = solve_in(problem, kernel, &mut scratch, x);
    pool.put(scratch);
    result
}

fn solve_in(problem: &Problem<'_>, kernel: &Kernel, scratch: &mut Scratch, x: &mut [f64]) -> Result<End, TaskError> {
    let start = Instant::now();
    let n = problem.n;
    let panel_len = n * panel::columns(problem);
    let half = panel_len.div_ceil(2);
    let (factor, pivots, panels) = scratch.parts((n * n).div_ceil(2), panel_len + half + panel::copies_len(problem));
    let factor: &mut [f32] = &mut bytemuck::cast_slice_mut(factor)[..n * n];
    let (r, panels) = panels.split_at_mut(panel_len);
    let (d, copies) = panels.split_at_mut(half);
    let d: &mut [f32] = bytemuck::cast_slice_mut(d);

    let threads = kernel.threads();
    let norm = load(n, problem.a_order, problem.a, 1.0, factor, threads);
    problem.check_norm(norm)?;
    let mut scale = 1.0;
    if !NORMS.contains(&norm) {
        scale = power_of_two_scale(norm);
        load(n, problem.a_order, problem.a, scale, factor, threads);
    }
    if kernel.factor(n, factor, pivots).is_err() {
        return Ok(End::GivenUp { iterations: 0 });
    }
    let factored = Instant::now();
    let mut worst = Quality::default();
    let mut converged = true;
    let for_panel = problem.panel_kernel(kernel);
    panel::for_each(problem, x, copies, |b, x| {
        if converged {
            let correct = |d: &mut [f32]| for_panel.solve(problem.op(), n, factor, pivots, d);
            let refined = refine(problem, &for_panel, norm, scale, correct, Panel { b, x, r, d });
            converged = refined.is_ok();
            worst = worst.worst(refined.unwrap_or_else(|steps| Quality { backward_error: 0.0, iterations: steps }));
        }
        Ok(())
    })?;
    if converged {
        Ok(End::Converged(certificate(Method::Mixed, worst, kernel, start, factored)))
    } else {
        Ok(End::GivenUp { iterations: worst.iterations })
    }
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
/// `correct` solves with the f32 factors of A times `scale`. A column that is done keeps its x.
fn refine(
    problem: &Problem<'_>,
    kernel: &Kernel,
    norm: f64,
    scale: f64,
    mut correct: impl FnMut(&mut [f32]),
    panel: Panel<'_>,
) -> Result<Quality, u32> {
    let n = problem.n;
    let Panel { b, x, r, d } = panel;
    let (r, d) = (&mut r[..b.len()], &mut d[..b.len()]);
    // dsgesv's rule: what LU in f64 would leave.
    let tolerance = f64::EPSILON / 2.0 * (n as f64).sqrt();
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
        correct(d);
        for ((x, d), column) in x.chunks_exact_mut(n).zip(d.chunks_exact(n)).zip(&columns) {
            if !column.done {
                let down = 1.0 / power_of_two_scale(column.residual);
                x.iter_mut().zip(d).for_each(|(x, d)| *x += f64::from(*d) * scale * down);
            }
        }
        r.copy_from_slice(b);
        kernel.residual(problem.op(), n, problem.a, x, r);
        quality.iterations = step;
        for ((x, r), column) in x.chunks_exact(n).zip(r.chunks_exact(n)).zip(&mut columns) {
            let (x, r) = (max_abs(x), max_abs(r));
            if column.done {
                continue;
            }
            if !(x.is_finite() && r.is_finite()) {
                return Err(step);
            } else if r / norm <= x * tolerance {
                column.done = true;
                let error = backward_error(norm, r, x, column.b);
                quality.backward_error = quality.backward_error.max(error);
            } else if r <= column.residual * STALL {
                column.residual = r;
            } else {
                return Err(step);
            }
        }
        if columns.iter().all(|column| column.done) {
            return Ok(quality);
        }
    }
    Err(MAX_STEPS)
}
