//! Our solver against MKL's own driver, NumPy and Eigen: one run, interleaved rounds, the same systems and threads.
//!
//!     make baselines                  once: sets up NumPy and Eigen
//!     cargo bench --bench versus      about two minutes; -- --help for sizes, threads, rounds, JSON
//!
//! In every round each contestant has its turn, one after another, so that what the machine does meanwhile meets all of
//! them alike; a first round is thrown away. A turn is one call, or as many as take 50 ms, and counts as the median of
//! its calls. Figures of one run may be compared with each other, those of two runs may not.
//!
//! What is in a call: ours checks for NaN, copies, factors, refines, computes the backward error and allocates X.
//! NumPy's and Eigen's copies of A are in their times, because their users pay for them; that of `dgesv` is not, it
//! works in place. `dgesv` runs with the OpenMP setting of our workers: a team sleeps at once after a parallel region.
//! GFLOP/s are those of LU, or for a positive definite A of Cholesky, whatever a contestant really does.

use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rabbitry::task::Watch;
use rabbitry::tasks::solve::{Order, Solution, SolveHandler, System, gesv, posv};
use serde::Serialize;

#[path = "versus/baseline.rs"]
mod baseline;
#[path = "versus/report.rs"]
mod report;

use baseline::Baseline;
use report::Row;

/// Seconds of calls that make a turn, unless one call takes longer.
const TURN: f64 = 0.05;
/// Calls of a turn at most, however short.
const CALLS_MAX: usize = 100_000;
/// Between two turns on several threads: OpenBLAS's and libgomp's idle threads spin for some ten milliseconds, and
/// would do so on the cores of whoever comes next.
const SETTLE: Duration = Duration::from_millis(100);

#[derive(Parser)]
#[command(about = "Our solver against MKL's own driver, NumPy and Eigen")]
struct Options {
    /// Unknowns of the systems
    #[arg(long, value_delimiter = ',', default_value = "100,1000,5000")]
    sizes: Vec<usize>,
    /// Threads; without it 1 and all cores
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Kinds of A
    #[arg(long, value_delimiter = ',', value_enum, default_value = "random,spd")]
    matrix: Vec<Matrix>,
    /// Right-hand sides
    #[arg(long, default_value_t = 1)]
    nrhs: usize,
    /// Of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds that count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Programs to compare with, of those that benches/baselines/run.py knows
    #[arg(long, value_delimiter = ',', default_value = "numpy,eigen")]
    baselines: Vec<String>,
    /// Writes all figures to a file as well
    #[arg(long)]
    json: Option<PathBuf>,
    /// cargo bench says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// What A is like.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// `System::random`
    Random,
    /// Symmetric and positive definite, made from it
    Spd,
}

impl Matrix {
    fn name(self) -> &'static str {
        match self {
            Matrix::Random => "random",
            Matrix::Spd => "spd",
        }
    }

    fn flops(self, n: usize, nrhs: usize) -> f64 {
        let (n, nrhs) = (n as f64, nrhs as f64);
        let factor = if self == Matrix::Random { 2.0 / 3.0 } else { 1.0 / 3.0 };
        n * n * (factor * n + 2.0 * nrhs)
    }
}

/// A system that all contestants solve, and the buffers of those in this process, which are used again so that page
/// faults are not timed.
struct Case {
    matrix: Matrix,
    n: usize,
    nrhs: usize,
    seed: u64,
    threads: usize,
    system: System,
    fingerprint: String,
    a: Vec<f64>,
    b: Vec<f64>,
}

/// What came of one turn.
struct Turn {
    seconds: Vec<f64>,
    backward_error: f64,
    detail: String,
}

enum Contestant {
    Ours(Box<SolveHandler>),
    /// The driver of the library under ours: `dgesv`, `dposv` for a positive definite A.
    Lapack(&'static str),
    Other(String, Result<Baseline, String>),
}

/// The one place that knows how our solver is called.
fn ours(handler: &SolveHandler, system: &System, threads: usize) -> Result<Solution, String> {
    handler.solve(system, threads, &Watch::default()).map_err(|error| error.to_string())
}

/// The library's own driver, in place.
fn lapack(matrix: Matrix, n: usize, a: &mut [f64], b: &mut [f64], threads: usize) -> Result<(), String> {
    match matrix {
        Matrix::Random => gesv(n, a, b, threads).map_err(|error| error.to_string()),
        Matrix::Spd => posv(n, a, b, threads).map_err(|error| error.to_string()),
    }
}

fn main() {
    let options = Options::parse();
    let cores = available_parallelism().map_or(1, |cores| cores.get());
    let threads = match options.threads.as_slice() {
        [] if cores == 1 => vec![1],
        [] => vec![1, cores],
        given => given.to_vec(),
    };
    let given = [&options.sizes[..], &threads, &[options.nrhs, options.rounds]].concat();
    if given.contains(&0) {
        eprintln!("versus: sizes, threads, right-hand sides and rounds are at least 1");
        std::process::exit(2);
    }
    let mut rows = Vec::new();
    for threads in threads {
        let mut contestants = contestants(&options, threads);
        report::print_head();
        for &n in &options.sizes {
            for &matrix in &options.matrix {
                let done = compare(&mut contestants, &mut Case::new(matrix, n, threads, &options), options.rounds);
                done.iter().for_each(Row::print);
                println!();
                rows.extend(done);
            }
        }
    }
    if let Some(path) = &options.json {
        let all = serde_json::json!({ "cores": cores, "nrhs": options.nrhs, "seed": options.seed, "rows": rows });
        if let Err(error) = std::fs::write(path, format!("{all:#}\n")) {
            eprintln!("versus: {}: {error}", path.display());
            std::process::exit(1);
        }
    }
}

/// Those of one number of threads, which a baseline is given at its start; says who they are.
fn contestants(options: &Options, threads: usize) -> Vec<Contestant> {
    let handler = SolveHandler::new(threads);
    let kernel = handler.kernel();
    println!("threads {threads}; kernel of ours and of dgesv, dposv: {kernel}");
    let mut all = vec![Contestant::Ours(Box::new(handler)), Contestant::Lapack(kernel)];
    for name in options.baselines.iter().filter(|name| !name.is_empty()) {
        let started = Baseline::start(name, threads);
        if let Ok(Baseline { identity, .. }) = &started {
            println!("{name} {}: {}", identity.version, identity.blas);
        }
        all.push(Contestant::Other(name.clone(), started));
    }
    println!();
    all
}

impl Case {
    fn new(matrix: Matrix, n: usize, threads: usize, options: &Options) -> Self {
        let (nrhs, seed) = (options.nrhs, options.seed);
        let system = match matrix {
            Matrix::Random => System::random(n, nrhs, seed),
            Matrix::Spd => spd(n, nrhs, seed),
        };
        let bits = |sum: u64, number: &f64| sum.wrapping_add(number.to_bits());
        let sum = system.b.as_slice().iter().fold(system.a.as_slice().iter().fold(0, bits), bits);
        let (a, b) = (vec![0.0; n * n], vec![0.0; n * nrhs]);
        Case { matrix, n, nrhs, seed, threads, system, fingerprint: format!("{sum:016x}"), a, b }
    }

    fn request(&self) -> String {
        let what = if self.matrix == Matrix::Random { "solve" } else { "spd" };
        format!("{what} {} {} {} 1 {TURN}", self.n, self.nrhs, self.seed)
    }
}

/// The strict lower triangle of the random A on both sides, and n added to the diagonal: so run.py has it, too.
fn spd(n: usize, nrhs: usize, seed: u64) -> System {
    let System { a, b, .. } = System::random(n, nrhs, seed);
    let mut numbers = a.into_vec();
    for column in 0..n {
        numbers[column * n + column] += n as f64;
        for row in column + 1..n {
            numbers[row * n + column] = numbers[column * n + row];
        }
    }
    let a = rabbitry::tasks::solve::Matrix::new(n, n, Order::ColMajor, numbers).expect("n x n numbers");
    System::new(a, b)
}

/// All rounds of one case. A contestant that fails is left out from then on, and its row says why.
fn compare(contestants: &mut [Contestant], case: &mut Case, rounds: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = contestants.iter().map(|contestant| contestant.row(case)).collect();
    for round in 0..=rounds {
        for (contestant, row) in contestants.iter_mut().zip(&mut rows) {
            if row.error.is_some() {
                continue;
            }
            if case.threads > 1 {
                std::thread::sleep(SETTLE);
            }
            match contestant.turn(case) {
                Err(error) => row.error = Some(error),
                // Warming up.
                Ok(_) if round == 0 => {}
                Ok(Turn { seconds, backward_error, detail }) => {
                    row.rounds.push(report::at(&seconds, 0.5));
                    row.calls = seconds.len();
                    row.detail = detail;
                    row.backward_error = Some(row.backward_error.map_or(backward_error, |e| e.max(backward_error)));
                }
            }
        }
    }
    let ours = rows[0].rounds.clone();
    rows.iter_mut().for_each(|row| row.finish(&ours));
    rows
}

impl Contestant {
    fn row(&self, case: &Case) -> Row {
        let &Case { matrix, n, nrhs, threads, .. } = case;
        let (contestant, error) = match self {
            Contestant::Ours(_) => ("rabbitry".to_owned(), None),
            Contestant::Lapack(_) if matrix == Matrix::Spd => ("dposv".to_owned(), None),
            Contestant::Lapack(_) => ("dgesv".to_owned(), None),
            Contestant::Other(name, started) => (name.clone(), started.as_ref().err().cloned()),
        };
        let (rounds, ratios, flops) = (Vec::new(), Vec::new(), matrix.flops(n, nrhs));
        let (detail, calls, backward_error, summary) = (String::new(), 0, None, None);
        Row {
            matrix,
            n,
            nrhs,
            threads,
            contestant,
            detail,
            rounds,
            calls,
            ratios,
            backward_error,
            error,
            flops,
            summary,
        }
    }

    fn turn(&mut self, case: &mut Case) -> Result<Turn, String> {
        match self {
            Contestant::Ours(handler) => {
                let mut last = None;
                let seconds = timed(|| {
                    let start = Instant::now();
                    let solution = ours(handler, &case.system, case.threads)?;
                    let taken = start.elapsed();
                    last = Some(solution);
                    Ok(taken)
                })?;
                let Solution { x, certificate } = last.expect("at least one call");
                let backward_error = backward_error(case, x.as_slice());
                let detail = format!("{:?}, {} steps", certificate.method, certificate.iterations);
                Ok(Turn { seconds, backward_error, detail })
            }
            Contestant::Lapack(kernel) => {
                let seconds = timed(|| {
                    case.a.copy_from_slice(case.system.a.as_slice());
                    case.b.copy_from_slice(case.system.b.as_slice());
                    let start = Instant::now();
                    lapack(case.matrix, case.n, &mut case.a, &mut case.b, case.threads)?;
                    Ok(start.elapsed())
                })?;
                Ok(Turn { seconds, backward_error: backward_error(case, &case.b), detail: (*kernel).to_owned() })
            }
            Contestant::Other(_, started) => {
                let other = started.as_mut().map_err(|error| error.clone())?;
                let answer = other.ask(&case.request())?;
                if answer.fingerprint != case.fingerprint {
                    return Err("it has solved another system than ours".to_owned());
                }
                let detail = other.identity.version.clone();
                Ok(Turn { seconds: answer.seconds, backward_error: answer.backward_error, detail })
            }
        }
    }
}

/// The seconds of the calls of one turn.
fn timed(mut call: impl FnMut() -> Result<Duration, String>) -> Result<Vec<f64>, String> {
    let (mut seconds, mut total) = (Vec::new(), 0.0);
    while total < TURN && seconds.len() < CALLS_MAX {
        let taken = call()?.as_secs_f64();
        total += taken;
        seconds.push(taken);
    }
    Ok(seconds)
}

/// max over the columns of `||b - A x|| / (||A|| ||x|| + ||b||)` in the infinity norm, by plain loops: the same for all
/// in this process, and nothing of what it judges.
fn backward_error(case: &Case, x: &[f64]) -> f64 {
    let (n, a) = (case.n, case.system.a.as_slice());
    let largest = |numbers: &[f64]| numbers.iter().fold(0.0, |most: f64, number| most.max(number.abs()));
    let mut sums = vec![0.0; n];
    for column in a.chunks_exact(n) {
        sums.iter_mut().zip(column).for_each(|(sum, number)| *sum += number.abs());
    }
    let norm = largest(&sums);
    let mut worst: f64 = 0.0;
    for (x, b) in x.chunks_exact(n).zip(case.system.b.as_slice().chunks_exact(n)) {
        let mut r = b.to_vec();
        for (column, x) in a.chunks_exact(n).zip(x) {
            r.iter_mut().zip(column).for_each(|(r, number)| *r -= number * x);
        }
        worst = worst.max(largest(&r) / (norm * largest(x) + largest(b)));
    }
    worst
}
