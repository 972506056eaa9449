//! A system solved: which method, and what both have in common. Numbers in, numbers and a certificate out.
//!
//! Must not touch: payloads, parameters, JSON. Invariants: A is read where it lies, in its own order, and never copied
//! in f64 by the mixed method; every answer's backward error is computed against that A; no NaN goes in or comes out.

use std::time::Instant;

use super::kernel::{Kernel, Op};
use super::matrix::Order;
use super::params::{Certificate, Method};
use super::scratch::Pool;
use super::{lu, mixed, panel, scan};
use crate::task::TaskError;

/// From this n on [`Choice::Auto`] factors in f32 and refines: below, the refinement costs what the f32 factorisation
/// saves. Measured with `cargo bench --bench kernel` on one AVX-512 core: even at 200, 1.2 times as fast at 300.
pub(super) const MIXED_FROM: usize = 300;

/// Elements of A times columns of a panel from which the panel's solves and products get all threads. Below, waking
/// sleeping threads for each short step costs more than they save: 7.5 ms against 1.9 ms at n = 1000, even at 2000.
const PARALLEL_PANEL: usize = 1 << 22;

/// Which method to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// The faster one for the size: mixed from n = 300 on.
    #[default]
    Auto,
    /// LU in f64.
    Lu,
    /// LU in f32 refined in f64, and LU in f64 if that does not converge.
    Mixed,
}

/// A checked system: `n * n` numbers of A and `n * nrhs` of B, each in its order; n and nrhs at least 1.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub n: usize,
    pub nrhs: usize,
    pub a: &'a [f64],
    pub a_order: Order,
    pub b: &'a [f64],
    pub b_order: Order,
}

/// What one panel of right-hand sides came to.
#[derive(Clone, Copy, Default)]
pub(super) struct Quality {
    pub backward_error: f64,
    pub iterations: u32,
}

impl Quality {
    pub(super) fn worst(self, other: Quality) -> Quality {
        Quality {
            backward_error: self.backward_error.max(other.backward_error),
            iterations: self.iterations.max(other.iterations),
        }
    }
}

impl Problem<'_> {
    /// A as LAPACK sees it: what is stored, column by column, is A or its transpose.
    pub(super) fn op(&self) -> Op {
        match self.a_order {
            Order::ColMajor => Op::Plain,
            Order::RowMajor => Op::Transposed,
        }
    }

    /// The kernel for one panel of right-hand sides, with all threads of `kernel` or one. To be dropped before it.
    pub(super) fn panel_kernel(&self, kernel: &Kernel) -> Kernel {
        let work = (self.n * self.n).saturating_mul(panel::columns(self));
        Kernel::with_threads(if work >= PARALLEL_PANEL { kernel.threads() } else { 1 })
    }

    /// Checks the norm of A that a pass over it gave: NaN, infinity, or a row sum beyond f64.
    pub(super) fn check_norm(&self, norm: f64) -> Result<(), TaskError> {
        if norm.is_finite() {
            return Ok(());
        }
        check_finite("A", self.n, self.n, self.a_order, self.a)?;
        Err(TaskError::Invalid(
            "the sum of a row of A exceeds the range of f64: scale A and B by the same power of two".to_owned(),
        ))
    }
}

/// Refuses NaN and infinities and says where the first one is.
pub(super) fn check_finite(
    name: &str,
    rows: usize,
    cols: usize,
    order: Order,
    numbers: &[f64],
) -> Result<(), TaskError> {
    if scan::all_finite(numbers) {
        return Ok(());
    }
    let at = scan::first_non_finite(numbers).unwrap_or(0);
    let (row, column) = order.locate(rows, cols, at);
    let value = numbers[at];
    Err(TaskError::Invalid(format!(
        "{name}[{row}, {column}] is {value} (rows and columns from 0): remove or replace it"
    )))
}

/// Solves A X = B: X in the order of B, and its certificate.
///
/// # Errors
/// [`TaskError::Invalid`] for NaN or infinity in A or B and for results beyond f64; [`TaskError::Singular`].
pub(super) fn solve(
    problem: &Problem<'_>,
    choice: Choice,
    threads: usize,
    pool: &Pool,
) -> Result<(Vec<f64>, Certificate), TaskError> {
    check_finite("B", problem.n, problem.nrhs, problem.b_order, problem.b)?;
    let kernel = Kernel::with_threads(threads);
    let mut x = vec![0.0; problem.b.len()];
    let start = Instant::now();
    let mut tried = 0;
    if choice == Choice::Mixed || choice == Choice::Auto && problem.n >= MIXED_FROM {
        match mixed::solve(problem, &kernel, pool, &mut x)? {
            mixed::End::Converged(certificate) => return Ok((x, certificate)),
            mixed::End::GivenUp { iterations } => tried = iterations,
        }
    }
    let lost = start.elapsed().as_secs_f64();
    let mut certificate = lu::solve(problem, &kernel, pool, &mut x)?;
    certificate.factor_seconds += lost;
    certificate.iterations = tried;
    Ok((x, certificate))
}

/// The certificate of a method that ended, from its clock.
pub(super) fn certificate(
    method: Method,
    quality: Quality,
    kernel: &Kernel,
    start: Instant,
    factored: Instant,
) -> Certificate {
    Certificate {
        method,
        backward_error: quality.backward_error,
        factor_seconds: (factored - start).as_secs_f64(),
        solve_seconds: factored.elapsed().as_secs_f64(),
        iterations: quality.iterations,
        threads: u32::try_from(kernel.threads()).unwrap_or(u32::MAX),
    }
}

/// `||r|| / (||A|| ||x|| + ||b||)`, divided through by `||A||` so that the product can't overflow. 0 for b = 0, x = 0.
pub(super) fn backward_error(norm: f64, r: f64, x: f64, b: f64) -> f64 {
    if r == 0.0 { 0.0 } else { (r / norm) / (x + b / norm) }
}
