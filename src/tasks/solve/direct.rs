//! LU with partial pivoting, or Cholesky, in f64 on a copy of A: LU answers whenever A is not exactly singular.

use std::time::Instant;

use super::condition::rounding;
use super::kernel::{Broken, Kernel, Op};
use super::method::{self, End, Form, Means, Problem, Quality, Solved, backward_error, underflow};
use super::scan::{load, load_lower, max_abs};
use super::scratch::Scratch;
use super::{condition, panel, scan, small, small_cholesky};
use crate::task::TaskError;

/// A backward error of so many terms is never refined.
const TERMS: usize = 100;
/// Steps of refinement, at most.
const REFINEMENTS: u32 = 2;

/// Fills `x`, in the order of B. LU never gives up.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite or the answer is not; [`TaskError::Singular`] with the pivot of the stored
/// matrix: a column of A if it is column-major, a row if it is row-major; what the watch says.
pub(super) fn solve(problem: &Problem<'_>, form: Form, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    let mut scratch = means.pool.take(small::storage(problem.rows));
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
    let small = n <= small_size(form);
    let (stride, factor_len) = if small { (small::leading(n), small::storage(n)) } else { (n, n * n) };
    let (factor, pivots, panels) = scratch.parts(factor_len, residual_len + panel::copies_len(problem));
    let (r, copies) = panels.split_at_mut(residual_len);
    let norm = match form {
        Form::General if small => load_small(problem, factor, stride),
        Form::Symmetric if small => small_cholesky::copy(n, problem.a, factor),
        Form::General => load(n, problem.a_order, problem.a, 1.0, factor, kernel.threads()),
        Form::Symmetric => load_lower(n, problem.a, 1.0, factor, kernel.threads()),
    };
    problem.check_norm(norm)?;
    let broken = match form {
        Form::General if small => small::lu(n, factor, pivots.exchanges(n)).map(|()| pivots.adopt()),
        Form::General => kernel.factor(n, factor, pivots, problem.stage(watch)),
        Form::Symmetric if small => small_cholesky::cholesky(n, factor),
        Form::Symmetric => kernel.cholesky(n, factor, problem.stage(watch)),
    };
    let broken = match (broken, form) {
        // Singular, and only the other factorisation knows where. Should rounding hide it there, those factors will do.
        (Err(Broken::At(0)), Form::General) => {
            load(n, problem.a_order, problem.a, 1.0, factor, kernel.threads());
            kernel.factor_by_columns(n, factor, pivots, problem.stage(watch))
        }
        (broken, _) => broken,
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
        Form::General => for_panel.solve(op, (n, stride), factor, pivots, x),
        Form::Symmetric => for_panel.cholesky_solve((n, stride), factor, x),
    };
    let mut worst = Quality::default();
    panel::for_each(problem, watch, x, copies, |b, x| {
        let r = &mut r[..b.len()];
        r.copy_from_slice(b);
        x.fill(0.0);
        for step in 0.. {
            inverse(problem.op(), r);
            x.iter_mut().zip(&*r).for_each(|(x, d)| *x += d);
            r.copy_from_slice(b);
            residual(problem, form, &for_panel, x, r);
            let quality = Quality { iterations: step, ..quality(n, norm, b, x, r)? };
            // As a rule so the first time. The growth of the elements that partial pivoting allows is made good by a step
            // or two; where it is not, no third one helps.
            if quality.backward_error <= rounding(n.max(TERMS)) || step == REFINEMENTS {
                worst = worst.worst(quality);
                break;
            }
        }
        Ok(())
    })?;
    let rcond = condition::reciprocal(n, norm, |transposed, x| {
        inverse(problem.op_of(transposed), x);
        watch.check()
    })?;
    let bound = method::bound(problem, worst, rcond);
    Ok(End::Solved(Solved { method: form.method(false), quality: worst, rcond, bound, factored }))
}

/// The largest n that our own factorisation is for.
fn small_size(form: Form) -> usize {
    match form {
        Form::General => small::max_size(),
        Form::Symmetric => small_cholesky::max_size(),
    }
}

/// As [`load`], to columns `stride` numbers apart and with zeros around them.
fn load_small(problem: &Problem<'_>, factor: &mut [f64], stride: usize) -> f64 {
    let n = problem.rows;
    let (inside, outside) = factor.split_at_mut(stride * n);
    for (to, from) in inside.chunks_exact_mut(stride).zip(problem.a.chunks_exact(n)) {
        let (column, below) = to.split_at_mut(n);
        column.copy_from_slice(from);
        below.fill(0.0);
    }
    outside.fill(0.0);
    scan::norm(n, n, problem.a_order, problem.a)
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
        worst = worst.worst(Quality {
            backward_error: error,
            iterations: 0,
            underflow: underflow(n, norm, max_abs(x), max_abs(b)),
        });
    }
    Ok(worst)
}

pub(super) fn beyond_range() -> TaskError {
    TaskError::Invalid(
        "the solution exceeds the range of f64: A is nearly singular, or A and B differ too much in scale".to_owned(),
    )
}
