//! A system solved: which method, and what all have in common. Numbers in, numbers and a certificate out.
//!
//! Must not touch: payloads, parameters, JSON. Invariants: A is read where it lies, in its own order, and never copied
//! in f64 by the mixed methods; every answer's backward error is computed against that A; no NaN goes in or comes out.

use std::time::Instant;

use super::certificate::{Certificate, Method};
use super::kernel::{self, Kernel, Op, Stage};
use super::matrix::Order;
use super::scratch::Pool;
use super::{condition, direct, lstsq, mixed, panel, scan, structure, triangular};
use crate::task::{TaskError, Watch};

/// From this n on [`Choice::Auto`] factors in f32 and refines: below, the refinement costs what the f32 factorisation
/// saves. Measured with `cargo bench --bench kernel` on one AVX-512 core: even at 200, 1.2 times as fast at 300.
pub(super) const MIXED_FROM: usize = 300;

/// Refinement solves and multiplies for every right-hand side several times over, in f64 as well: with more than n / 24 of
/// them [`Choice::Auto`] stays with f64. Measured with `boss solve --random N --rhs M --method lu|mixed`: even at 38 of
/// n = 1000 and 100 of n = 3000.
const MIXED_WIDTH: usize = 24;

/// Elements of A times columns of a panel from which the panel's solves and products get all threads. Below, waking
/// sleeping threads for each short step costs more than they save: 7.5 ms against 1.9 ms at n = 1000, even at 2000.
const PARALLEL_PANEL: usize = 1 << 22;

/// Which method to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// What A looks like decides: substitution if it is triangular, Cholesky if it is symmetric with a positive
    /// diagonal, else LU; in f32 with refinement in f64 from n = 300 on, unless there are many right-hand sides. What breaks down goes on with the next one.
    #[default]
    Auto,
    /// LU in f64.
    Lu,
    /// LU in f32 refined in f64, and LU in f64 if that does not converge.
    Mixed,
    /// Cholesky in f64, and LU in f64 if A is not positive definite. A must be symmetric.
    Cholesky,
    /// Substitution. A must be triangular.
    Triangular,
    /// QR, the only one for an A that is not square: the x of the least ||b - A x||, or the shortest x that solves. A must
    /// have full rank.
    Lstsq,
}

impl Choice {
    const CODES: [(u8, Choice); 6] = [
        (0, Choice::Auto),
        (1, Choice::Lu),
        (2, Choice::Mixed),
        (3, Choice::Cholesky),
        (4, Choice::Triangular),
        (5, Choice::Lstsq),
    ];

    /// On the wire.
    pub(super) fn code(self) -> u8 {
        Self::CODES.iter().find(|(_, choice)| *choice == self).map_or(0, |(code, _)| *code)
    }

    /// From the wire.
    pub(super) fn from_code(code: u8) -> Result<Self, TaskError> {
        let known = Self::CODES.iter().find(|(known, _)| *known == code).map(|(_, choice)| *choice);
        known.ok_or_else(|| TaskError::Invalid(format!("method {code} is not known here; 0 to 5 are")))
    }
}

/// How a system is to be solved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct How {
    /// The method.
    pub method: Choice,
    /// The same bits from every worker on the same CPU family with the same version of the program: one thread, and
    /// nothing decided by a measurement.
    pub reproducible: bool,
}

impl How {
    /// Refuses a shape of A that the method can't take.
    pub(super) fn check_shape(self, rows: usize, cols: usize) -> Result<(), TaskError> {
        if rows == cols || self.method == Choice::Lstsq {
            return Ok(());
        }
        Err(TaskError::Invalid(format!(
            "A is {rows} x {cols}; it must be square, or the method lstsq (--method lstsq, \"method\": \"lstsq\")"
        )))
    }
}

/// A checked system: `rows * cols` numbers of A and `rows * nrhs` of B, each in its order; all of them at least 1.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub rows: usize,
    pub cols: usize,
    pub nrhs: usize,
    pub a: &'a [f64],
    pub a_order: Order,
    pub b: &'a [f64],
    pub b_order: Order,
}

/// What a method works with.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub kernel: &'a Kernel,
    pub pool: &'a Pool,
    pub watch: &'a Watch,
}

/// A square A as the factorisations tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// LU.
    General,
    /// Cholesky, of the lower triangle.
    Symmetric,
}

impl Form {
    /// The method that factors it in f64, or in f32 if `mixed`.
    pub(super) fn method(self, mixed: bool) -> Method {
        match (self, mixed) {
            (Form::General, false) => Method::Lu,
            (Form::General, true) => Method::Mixed,
            (Form::Symmetric, false) => Method::Cholesky,
            (Form::Symmetric, true) => Method::MixedCholesky,
        }
    }
}

/// What a method that answered has to say; the rest of the certificate is the same for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Solved {
    pub method: Method,
    pub quality: Quality,
    pub rcond: f64,
    /// Of the forward error; `None` without a bound.
    pub bound: Option<f64>,
    /// When A was factored.
    pub factored: Instant,
}

/// How a method ended, if not with an error of the task's.
pub(super) enum End {
    /// X is there.
    Solved(Solved),
    /// X is not, and another method may find it.
    GivenUp {
        /// Refinement steps spent.
        iterations: u32,
    },
}

/// What one panel of right-hand sides came to.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Quality {
    pub backward_error: f64,
    pub iterations: u32,
    /// See [`underflow`].
    pub underflow: f64,
}

impl Quality {
    pub(super) fn worst(self, other: Quality) -> Quality {
        Quality {
            backward_error: self.backward_error.max(other.backward_error),
            iterations: self.iterations.max(other.iterations),
            underflow: self.underflow.max(other.underflow),
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

    /// [`Problem::op`], or that of the transpose of A.
    pub(super) fn op_of(&self, transposed: bool) -> Op {
        if transposed { self.op().transposed() } else { self.op() }
    }

    /// Rows and columns of what is stored, column by column.
    pub(super) fn stored(&self) -> (usize, usize) {
        match self.a_order {
            Order::ColMajor => (self.rows, self.cols),
            Order::RowMajor => (self.cols, self.rows),
        }
    }

    /// The kernel for one panel of right-hand sides, with all threads of `kernel` or one. To be dropped before it.
    pub(super) fn panel_kernel(&self, kernel: &Kernel) -> Kernel {
        let work = (self.rows * self.cols).saturating_mul(panel::columns(self));
        Kernel::with_threads(if work >= PARALLEL_PANEL { kernel.threads() } else { 1 })
    }

    /// Checks the norm of A that a pass over it gave: NaN, infinity, or a row sum beyond f64.
    pub(super) fn check_norm(&self, norm: f64) -> Result<(), TaskError> {
        if norm.is_finite() {
            return Ok(());
        }
        check_finite("A", self.rows, self.cols, self.a_order, self.a)?;
        Err(TaskError::Invalid(
            "the sum of a row of A exceeds the range of f64: scale A and B by the same power of two".to_owned(),
        ))
    }

    /// The factorisation under the watch: as much of the task's progress as it is of the work.
    pub(super) fn stage<'a>(&self, watch: &'a Watch) -> Stage<'a> {
        Stage { watch, whole: self.rows as f64 / (self.rows as f64 + 3.0 * self.nrhs as f64) }
    }

    /// The place in A of a stored (row, column).
    fn place(&self, (row, column): (usize, usize)) -> (usize, usize) {
        if self.op() == Op::Plain { (row, column) } else { (column, row) }
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
/// [`TaskError::Invalid`] for NaN or infinity in A or B, a structure of A that the method can't take, and results
/// beyond f64; [`TaskError::Singular`]; what the watch says.
pub(super) fn solve(
    problem: &Problem<'_>,
    how: How,
    threads: usize,
    watch: &Watch,
    pool: &Pool,
) -> Result<(Vec<f64>, Certificate), TaskError> {
    watch.check()?;
    check_finite("B", problem.rows, problem.nrhs, problem.b_order, problem.b)?;
    let kernel = Kernel::with_threads(if how.reproducible { 1 } else { threads });
    let mut x = vec![0.0; problem.cols * problem.nrhs];
    let start = Instant::now();
    let means = Means { kernel: &kernel, pool, watch };
    let mut tried = Vec::new();
    let mut spent = 0;
    let mut solved = None;
    for method in methods(problem, how.method)? {
        match run(method, problem, means, &mut x)? {
            End::Solved(end) => {
                solved = Some(end);
                break;
            }
            End::GivenUp { iterations } => {
                tried.push(method);
                spent += iterations;
            }
        }
    }
    // The last of them never gives up.
    let Some(Solved { method, quality, rcond, bound, factored }) = solved else {
        return Err(TaskError::Invalid("no method solves this system".to_owned()));
    };
    watch.advance(1.0);
    let setting = || format!("{}, {} thread", kernel::setting(), kernel.threads());
    let certificate = Certificate {
        method,
        tried,
        backward_error: quality.backward_error,
        rcond,
        forward_error_bound: bound,
        iterations: spent + quality.iterations,
        threads: u32::try_from(kernel.threads()).unwrap_or(u32::MAX),
        factor_seconds: (factored - start).as_secs_f64(),
        solve_seconds: factored.elapsed().as_secs_f64(),
        reproducible: how.reproducible.then(setting),
    };
    Ok((x, certificate))
}

/// The methods to try, in order; the last one never gives up.
fn methods(problem: &Problem<'_>, choice: Choice) -> Result<Vec<Method>, TaskError> {
    let (n, a) = (problem.rows, problem.a);
    let large = n >= MIXED_FROM && problem.nrhs.saturating_mul(MIXED_WIDTH) <= n;
    let place = |at: (usize, usize)| {
        let (row, column) = problem.place(at);
        format!("A[{row}, {column}] is {}", a[at.1 * n + at.0])
    };
    Ok(match choice {
        Choice::Lu => vec![Method::Lu],
        Choice::Mixed => vec![Method::Mixed, Method::Lu],
        Choice::Lstsq => vec![Method::Lstsq],
        Choice::Triangular => match structure::triangle_counter_example(n, a, true) {
            None => vec![Method::Triangular],
            Some(above) => match structure::triangle_counter_example(n, a, false) {
                None => vec![Method::Triangular],
                Some(below) => {
                    let (above, below) = (place(above), place(below));
                    let reason = format!("A is not triangular: {above} and {below} (rows and columns from 0)");
                    return Err(TaskError::Invalid(reason));
                }
            },
        },
        Choice::Cholesky => match structure::symmetry_counter_example(n, a) {
            None => vec![Method::Cholesky, Method::Lu],
            Some((row, column)) => {
                check_finite("A", n, n, problem.a_order, a)?;
                let (one, other) = (place((row, column)), place((column, row)));
                let reason = format!("A is not symmetric: {one} and {other} (rows and columns from 0)");
                return Err(TaskError::Invalid(reason));
            }
        },
        Choice::Auto if structure::triangular(n, a).is_some() => vec![Method::Triangular],
        Choice::Auto => match (structure::may_be_positive_definite(problem), large) {
            (true, true) => vec![Method::MixedCholesky, Method::Cholesky, Method::Mixed, Method::Lu],
            (true, false) => vec![Method::Cholesky, Method::Lu],
            (false, true) => vec![Method::Mixed, Method::Lu],
            (false, false) => vec![Method::Lu],
        },
    })
}

fn run(method: Method, problem: &Problem<'_>, means: Means<'_>, x: &mut [f64]) -> Result<End, TaskError> {
    match method {
        Method::Lu => direct::solve(problem, Form::General, means, x),
        Method::Cholesky => direct::solve(problem, Form::Symmetric, means, x),
        Method::Mixed => mixed::solve(problem, Form::General, means, x),
        Method::MixedCholesky => mixed::solve(problem, Form::Symmetric, means, x),
        Method::Triangular => triangular::solve(problem, means, x),
        Method::Lstsq => lstsq::solve(problem, means, x),
    }
}

/// `||r|| / (||A|| ||x|| + ||b||)`, divided through by `||A||` so that the product can't overflow. 0 for b = 0, x = 0.
pub(super) fn backward_error(norm: f64, r: f64, x: f64, b: f64) -> f64 {
    if r == 0.0 { 0.0 } else { (r / norm) / (x + b / norm) }
}

/// What x and the `terms` products of the residual may have lost below the smallest number there is, relatively: nothing to
/// speak of, unless they are nearly that small.
pub(super) fn underflow(terms: usize, norm: f64, x: f64, b: f64) -> f64 {
    let least = f64::from_bits(1);
    if x == 0.0 && b == 0.0 { 0.0 } else { least / x + terms as f64 * least / (norm * x + b) }
}

/// The bound for a square A.
pub(super) fn bound(problem: &Problem<'_>, quality: Quality, rcond: f64) -> Option<f64> {
    condition::forward_error_bound(problem.rows, quality.backward_error + quality.underflow, rcond)
}
