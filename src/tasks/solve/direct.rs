//! LU with partial pivoting, or Cholesky, in f64 on a copy of A: LU answers whenever A is not exactly singular.

use std::time::Instant;

use super::kernel::{Broken, Kernel, Op};
use super::method::{self, End, Form, Means, Problem, Quality, Solved, backward_error};
use super::scan::{load, load_lower, max_abs};
use super::scratch::Scratch;
use super::{condition, panel};
use crate::task::TaskError;

/// Fills `x`, in the order of B. LU never gives up.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite or the answer is not; [`TaskError::Singular`] with the pivot of the stored
/// matrix: a column of A if it is column-major, a row if it is row-major; what the watch says.
pub(super) fn solve(problem: &Problem<'_>, form: Form, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = means.pool.take(problem.rows * problem.rows);
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
    let residual_len = n * panel::columns(problem);
    let (factor, pivots, panels) = scratch.parts(n * n, residual_len + panel::copies_len(problem));
    let (r, copies) = panels.split_at_mut(residual_len);
    let (norm, broken) = match form {
        Form::General => {
            let norm = load(n, problem.a_order, problem.a, 1.0, factor, kernel.threads());
            problem.check_norm(norm)?;
            (norm, kernel.factor(n, factor, pivots, problem.stage(watch)))
        }
        Form::Symmetric => {
            let norm = load_lower(n, problem.a, 1.0, factor, kernel.threads());
            problem.check_norm(norm)?;
            (norm, kernel.cholesky(n, factor, problem.stage(watch)))
        }
    };
    match (broken, form) {
        (Ok(()), _) => {}
        (Err(Broken::Stopped(reason)), _) => return Err(reason),
        (Err(Broken::At(pivot)), Form::General) => return Err(TaskError::Singular { pivot }),
        (Err(Broken::At(_)), Form::Symmetric) => return Ok(End::GivenUp { iterations: 0 }),
    }
    let factored = Instant::now();
    let for_panel = problem.panel_kernel(kernel);
    let factor = &*factor;
    let mut inverse = |op: Op, x: &mut [f64]| match form {
        Form::General => for_panel.solve(op, n, factor, pivots, x),
        Form::Symmetric => for_panel.cholesky_solve(n, factor, x),
    };
    let mut worst = Quality::default();
    panel::for_each(problem, watch, x, copies, |b, x| {
        x.copy_from_slice(b);
        inverse(problem.op(), x);
        let r = &mut r[..b.len()];
        r.copy_from_slice(b);
        residual(problem, form, &for_panel, x, r);
        worst = worst.worst(quality(n, norm, b, x, r)?);
        Ok(())
    })?;
    let rcond = condition::reciprocal(n, norm, |transposed, x| {
        inverse(if transposed { problem.op().transposed() } else { problem.op() }, x);
        watch.check()
    })?;
    let bound = method::bound(problem, worst, rcond);
    Ok(End::Solved(Solved { method: form.method(false), quality: worst, rcond, bound, factored }))
}

/// r -= A x.
pub(super) fn residual(problem: &Problem<'_>, form: Form, kernel: &Kernel, x: &[f64], r: &mut [f64]) {
    match form {
        Form::General => kernel.residual(problem.op(), problem.stored(), problem.a, x, r),
        Form::Symmetric => kernel.symmetric_residual(problem.rows, problem.a, x, r),
    }
}

/// The quality of a panel of n numbers a column that is not refined.
///
/// # Errors
/// [`TaskError::Invalid`] if a number of x or r is beyond f64.
pub(super) fn quality(n: usize, norm: f64, b: &[f64], x: &[f64], r: &[f64]) -> Result<Quality, TaskError> {
    let mut worst = Quality::default();
    for ((b, x), r) in b.chunks_exact(n).zip(x.chunks_exact(n)).zip(r.chunks_exact(n)) {
        let error = backward_error(norm, max_abs(r), max_abs(x), max_abs(b));
        if !error.is_finite() || !max_abs(x).is_finite() {
            return Err(beyond_range());
        }
        worst = worst.worst(Quality { backward_error: error, iterations: 0 });
    }
    Ok(worst)
}

pub(super) fn beyond_range() -> TaskError {
    TaskError::Invalid(
        "the solution exceeds the range of f64: A is nearly singular, or A and B differ too much in scale".to_owned(),
    )
}
