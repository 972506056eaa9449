//! Substitution with a triangular A, read where it lies: no copy, no factorisation.

use std::time::Instant;

use super::certificate::Method;
use super::direct::{quality, residual};
use super::kernel::{Op, Triangle};
use super::method::{self, End, Form, Means, Problem, Quality, Solved};
use super::scratch::Scratch;
use super::{condition, panel, scan, structure};
use crate::task::TaskError;

/// Fills `x`, in the order of B. Never gives up.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite or the answer is not; [`TaskError::Singular`] with the first zero of the
/// diagonal.
pub(super) fn solve(problem: &Problem<'_>, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = means.pool.take(0);
    let result = solve_in(problem, means, &mut scratch, x);
    means.pool.put(scratch);
    result
}

fn solve_in(problem: &Problem<'_>, means: Means<'_>, scratch: &mut Scratch, x: &mut [f64]) -> Result<End, TaskError> {
    let Means { kernel, watch, .. } = means;
    let (n, a) = (problem.rows, problem.a);
    // The caller has looked: one of the two it is.
    let upper = structure::triangular(n, a).unwrap_or(true);
    let triangle = Triangle { upper, n, stride: n };
    let residual_len = n * panel::columns(problem);
    let (_, _, panels) = scratch.parts(0, residual_len + panel::copies_len(problem));
    let (r, copies) = panels.split_at_mut(residual_len);
    let norm = scan::norm(n, n, problem.a_order, a);
    problem.check_norm(norm)?;
    if let Some(zero) = (0..n).find(|i| a[i * (n + 1)] == 0.0) {
        return Err(TaskError::Singular { pivot: zero as u64 + 1 });
    }
    let factored = Instant::now();
    let for_panel = problem.panel_kernel(kernel);
    let inverse = |op: Op, x: &mut [f64]| for_panel.triangular_solve(triangle, op, a, x);
    let mut worst = Quality::default();
    panel::for_each(problem, watch, x, copies, |b, x| {
        x.copy_from_slice(b);
        inverse(problem.op(), x);
        let r = &mut r[..b.len()];
        r.copy_from_slice(b);
        residual(problem, Form::General, &for_panel, x, r);
        worst = worst.worst(quality(n, norm, b, x, r)?);
        Ok(())
    })?;
    let rcond = condition::reciprocal(n, norm, |transposed, x| {
        inverse(problem.op_of(transposed), x);
        watch.check()
    })?;
    let bound = method::bound(problem, worst, rcond);
    Ok(End::Solved(Solved { method: Method::Triangular, quality: worst, rcond, bound, factored }))
}
