//! The computing side of `solve`: what a task will take, and its run from payload to payload.
//!
//! Parameters and payload come from outside: everything is checked here, before LAPACK sees a pointer.

use super::calibrate::{self, Calibration};
use super::certificate::Certificate;
use super::kernel::{self, Broken, Kernel, NAME, Op, Pivots, Stage};
use super::method::{self, Problem};
use super::panel::PANEL_COLUMNS;
use super::params::{AnswerParams, TaskParams};
use super::scratch::Pool;
use super::{Matrix, Solution, System, flops, json, one_piece};
use crate::task::{Blob, Format, Handler, Kind, Plan, Task, TaskError, Watch, numbers_from_bytes, numbers_into_bytes};

/// Solves systems. Keeps at most 256 MiB of working memory between tasks.
pub struct SolveHandler {
    calibration: Calibration,
    pool: Pool,
}

impl SolveHandler {
    /// A handler that may use up to `max_threads` threads for one task. Times the machine first, for up to 0.3 s.
    pub fn new(max_threads: usize) -> Self {
        let pool = Pool::default();
        SolveHandler { calibration: calibrate::run(max_threads.max(1), &pool), pool }
    }

    /// A handler that has not timed the machine: all threads from `parallel_from` on, and no GFLOP/s to report.
    pub fn uncalibrated(parallel_from: usize) -> Self {
        SolveHandler { calibration: Calibration { gflops: 0.0, parallel_from }, pool: Pool::default() }
    }

    /// The n of a system with one right-hand side from which a task gets all threads.
    pub fn parallel_from(&self) -> usize {
        self.calibration.parallel_from
    }

    /// The kernel this was built with: `mkl` or `faer`.
    pub fn kernel(&self) -> &'static str {
        NAME
    }

    /// That kernel as it names itself, with its version.
    pub fn kernel_version(&self) -> String {
        kernel::version()
    }

    /// Solves a system right here, on `threads` threads, under a watch.
    ///
    /// # Errors
    /// As [`System::check`], [`TaskError::Singular`], and what the watch says.
    pub fn solve(&self, system: &System, threads: usize, watch: &Watch) -> Result<Solution, TaskError> {
        system.check_shapes()?;
        let params = system.params();
        let (x, certificate) = self.compute(params, system.a.as_slice(), system.b.as_slice(), threads, watch)?;
        let x = Matrix::new(params.n, params.nrhs, system.b.order(), x)?;
        let x = if system.b.is_vector() { x.into_vector()? } else { x };
        Ok(Solution { x, certificate })
    }

    fn compute(
        &self,
        params: TaskParams,
        a: &[f64],
        b: &[f64],
        threads: usize,
        watch: &Watch,
    ) -> Result<(Vec<f64>, Certificate), TaskError> {
        let TaskParams { m: rows, n: cols, nrhs, a_order, b_order, how, .. } = params;
        method::solve(&Problem { rows, cols, nrhs, a, a_order, b, b_order }, how, threads, watch, &self.pool)
    }

    fn run_binary(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let params = TaskParams::from_bytes(&task.params)?;
        params.check_payload(task.payload_bytes())?;
        let payload = one_piece(task.payload);
        let numbers = numbers_from_bytes(&payload)?;
        watch.decoded();
        let (a, b) = numbers.split_at(params.m * params.n);
        let (x, certificate) = self.compute(params, a, b, threads, watch)?;
        watch.computed();
        let answer = answer_params(params, certificate);
        Ok(Blob { format: Format::Binary, params: answer.to_bytes(), payload: vec![numbers_into_bytes(x)] })
    }

    fn run_json(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let system = System::from_blob(task)?;
        system.check_shapes()?;
        let params = system.params();
        watch.decoded();
        let solution = self.solve(&system, threads, watch)?;
        watch.computed();
        let payload = vec![json::write_answer(&solution)?.into()];
        let answer = answer_params(params, solution.certificate);
        Ok(Blob { format: Format::Json, params: answer.to_bytes(), payload })
    }
}

fn answer_params(params: TaskParams, certificate: Certificate) -> AnswerParams {
    let TaskParams { n, nrhs, b_order: order, b_is_vector: is_vector, .. } = params;
    AnswerParams { n, nrhs, order, is_vector, certificate }
}

impl Handler for SolveHandler {
    fn kind(&self) -> Kind {
        System::KIND
    }

    fn gflops(&self) -> f64 {
        self.calibration.gflops
    }

    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, threads: usize) -> Result<Plan, TaskError> {
        let Shape { m, n, nrhs, reproducible, memory_bytes } = match format {
            Format::Binary => {
                let params = TaskParams::from_bytes(params)?;
                params.check_payload(payload_bytes)?;
                let TaskParams { m, n, nrhs, how, .. } = params;
                let memory_bytes = payload_bytes.saturating_add(working_bytes(m, n, nrhs));
                Shape { m, n, nrhs, reproducible: how.reproducible, memory_bytes }
            }
            Format::Json => plan_json(params, payload_bytes)?,
        };
        // The n of the square system with one right-hand side that is as much work as this one.
        let equivalent = (1.5 * flops(m, n, nrhs)).cbrt();
        let parallel = threads > 1 && !reproducible && equivalent >= self.calibration.parallel_from as f64;
        Ok(Plan { memory_bytes, threads: if parallel { threads } else { 1 }, shared: None })
    }

    fn run(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        match task.format {
            Format::Binary => self.run_binary(task, threads, watch),
            Format::Json => self.run_json(task, threads, watch),
        }
    }
}

/// What a plan is made from.
struct Shape {
    m: usize,
    n: usize,
    nrhs: usize,
    reproducible: bool,
    memory_bytes: u64,
}

/// Memory of a run beyond A and B: X, the factors in f64 (the mixed methods take half, and all of it only if they give
/// up), pivots, the 32 rows that LU by rows has aside, and the panels. All saturating:
/// a figure no machine has is refused by whoever reserves it.
fn working_bytes(m: usize, n: usize, nrhs: usize) -> u64 {
    let (m, n, nrhs) = (m as u64, n as u64, nrhs as u64);
    let height = m.max(n);
    let columns = nrhs.clamp(2, PANEL_COLUMNS as u64);
    let numbers =
        m.saturating_mul(n).saturating_add(n.saturating_mul(nrhs)).saturating_add(height.saturating_mul(4 * columns));
    numbers.saturating_mul(8).saturating_add(height.saturating_mul(48 + 32 * 8)).saturating_add(64 << 10)
}

/// Shape and memory of a task in JSON: near the truth with parameters; without, for the hungriest system that so few
/// bytes can hold, two for each number. A foreign client with a large task had better send parameters.
fn plan_json(params: &[u8], payload_bytes: u64) -> Result<Shape, TaskError> {
    let most = payload_bytes / 2;
    let (mut shape, numbers, working, answer) = if params.is_empty() {
        let n = (most as f64).sqrt() as usize;
        let shape = Shape { m: n, n, nrhs: 1, reproducible: false, memory_bytes: 0 };
        (shape, most, working_bytes(n, n, PANEL_COLUMNS), json::answer_bytes(n, n))
    } else {
        let params = TaskParams::from_bytes(params)?;
        let TaskParams { m, n, nrhs, how, .. } = params;
        let numbers = params.numbers().filter(|&numbers| numbers <= most).ok_or_else(|| {
            TaskError::Invalid(format!("{payload_bytes} bytes of JSON are too few for {m} x {n} and nrhs = {nrhs}"))
        })?;
        let shape = Shape { m, n, nrhs, reproducible: how.reproducible, memory_bytes: 0 };
        (shape, numbers, working_bytes(m, n, nrhs), json::answer_bytes(n, nrhs))
    };
    // The text; the numbers read and, where base64 is decoded in a text that others hold too, its copy; the rest of the
    // run; the answer.
    shape.memory_bytes =
        payload_bytes.saturating_add(numbers.saturating_mul(16)).saturating_add(working).saturating_add(answer);
    Ok(shape)
}

/// LU with partial pivoting and the solution, both in place, column-major, on `threads` threads, and nothing else: no
/// checks, no certificate, no refinement. LAPACK's `dgesv`, for benches to compare with.
///
/// # Errors
/// [`TaskError::Singular`].
///
/// # Panics
/// If `a` is not n x n or `b` not a multiple of n long.
pub fn gesv(n: usize, a: &mut [f64], b: &mut [f64], threads: usize) -> Result<(), TaskError> {
    let kernel = Kernel::with_threads(threads);
    let mut pivots = Pivots::default();
    kernel.factor_by_columns(n, a, &mut pivots, Stage::unwatched()).map_err(|broken| match broken {
        Broken::At(pivot) => TaskError::Singular { pivot },
        Broken::Stopped(reason) => reason,
    })?;
    kernel.solve(Op::Plain, (n, n), a, &mut pivots, b);
    Ok(())
}

/// Cholesky of the lower triangle and the solution, as [`gesv`]: LAPACK's `dposv`, for benches to compare with.
///
/// # Errors
/// [`TaskError::Invalid`] if A is not positive definite.
///
/// # Panics
/// If `a` is not n x n or `b` not a multiple of n long.
pub fn posv(n: usize, a: &mut [f64], b: &mut [f64], threads: usize) -> Result<(), TaskError> {
    let kernel = Kernel::with_threads(threads);
    kernel
        .cholesky(n, a, Stage::unwatched())
        .map_err(|_| TaskError::Invalid("A is not positive definite".to_owned()))?;
    kernel.cholesky_solve((n, n), a, b);
    Ok(())
}
