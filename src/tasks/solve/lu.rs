//! LU with partial pivoting in f64, on a copy of A: the method that answers whenever A is not exactly singular.

use std::time::Instant;

use super::kernel::{Kernel, ZeroPivot};
use super::method::{Problem, Quality, backward_error, certificate};
use super::panel;
use super::params::{Certificate, Method};
use super::scan::{load, max_abs};
use super::scratch::{Pool, Scratch};
use crate::task::TaskError;

/// Fills `x`, in the order of B.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not finite or the answer is not; [`TaskError::Singular`] with the pivot of the stored
/// matrix: a column of A if it is column-major, a row if it is row-major.
pub(super) fn solve(
    problem: &Problem<'_>,
    kernel: &Kernel,
    pool: &Pool,
    x: &mut [f64],
) -> Result<Certificate, TaskError> {
    let mut scratch = pool.take(problem.n * problem.n);
    let result = solve_in(problem, kernel, &mut scratch, x);
    pool.put(scratch);
    result
}

fn solve_in(
    problem: &Problem<'_>,
    kernel: &Kernel,
    scratch: &mut Scratch,
    x: &mut [f64],
) -> Result<Certificate, TaskError> {
    let start = Instant::now();
    let n = problem.n;
    let residual_len = n * panel::columns(problem);
    let (factor, pivots, panels) = scratch.parts(n * n, residual_len + panel::copies_len(problem));
    let (r, copies) = panels.split_at_mut(residual_len);
    let norm = load(n, problem.a_order, problem.a, 1.0, factor, kernel.threads());
    problem.check_norm(norm)?;
    kernel.factor(n, factor, pivots).map_err(|ZeroPivot(pivot)| TaskError::Singular { pivot })?;
    let factored = Instant::now();
    let mut worst = Quality::default();
    let for_panel = problem.panel_kernel(kernel);
    panel::for_each(problem, x, copies, |b, x| {
        x.copy_from_slice(b);
        for_panel.solve(problem.op(), n, factor, pivots, x);
        let r = &mut r[..b.len()];
        r.copy_from_slice(b);
        for_panel.residual(problem.op(), n, problem.a, x, r);
        for ((b, x), r) in b.chunks_exact(n).zip(x.chunks_exact(n)).zip(r.chunks_exact(n)) {
            let error = backward_error(norm, max_abs(r), max_abs(x), max_abs(b));
            if !error.is_finite() || !max_abs(x).is_finite() {
                return Err(TaskError::Invalid(
                    "the solution exceeds the range of f64: A is nearly singular, or A and B differ too much in scale"
                        .to_owned(),
                ));
            }
            worst = worst.worst(Quality { backward_error: error, iterations: 0 });
        }
        Ok(())
    })?;
    Ok(certificate(Method::Lu, worst, kernel, start, factored))
}
