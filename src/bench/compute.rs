//! Part 2: the solver alone, by each of its methods, beside NumPy and Eigen.
//!
//! Ours is the compute stage of tasks that go through an embedded pool: a copy, the factorisation, refinement, the
//! certificate. NumPy's and Eigen's copies of A are in their times, because their users pay for them. A turn is as many
//! calls as take 50 ms, and counts as the median of its calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::expected_seconds;
use super::job::{self, Done};
use super::model::{ComputeRow, Payload, Spread};
use super::program::Program;
use super::rounds::Contestant;
use super::stand::Stand;
use crate::task::numbers_into_bytes;
use crate::tasks::solve::{Choice, Matrix, Order, System};

/// Calls of a turn take so long in all.
const TURN_SECONDS: f64 = 0.05;
/// The longest a turn of another program may take.
const LIMIT: Duration = Duration::from_secs(300);
/// Between two turns on several threads: idle threads of OpenBLAS and libgomp spin for some ten milliseconds.
const SETTLE: Duration = Duration::from_millis(100);
/// What is computed at once in one message must not be more than this, or it waits for its answers.
const TOGETHER: u64 = 64;

/// The original project's figures, from its README: another machine, threads not said.
const PUBLISHED: [(&str, [(usize, f64); 3]); 2] = [
    ("numpy (published)", [(100, 0.0008), (1000, 0.0150), (5000, 0.53)]),
    ("eigen (published)", [(100, 0.0001), (1000, 0.0200), (5000, 1.40)]),
];

/// Rows of the published figures for these sizes.
pub(super) fn published(sizes: &[usize]) -> Vec<ComputeRow> {
    let row = |contestant: &str, n: usize, seconds: f64| ComputeRow {
        contestant: contestant.to_owned(),
        detail: "the original project's figure, from its own machine; threads not said".to_owned(),
        n,
        threads: 0,
        seconds: Spread::of(&[seconds]),
        backward_error: None,
        missing: None,
    };
    PUBLISHED
        .iter()
        .flat_map(|(name, figures)| figures.iter().map(move |(n, seconds)| row(name, *n, *seconds)))
        .filter(|row| sizes.contains(&row.n))
        .collect()
}

/// The methods, and which of them solves what.
pub(super) const METHODS: [(&str, Choice, bool); 5] = [
    ("rabbitry", Choice::Auto, false),
    ("rabbitry lu", Choice::Lu, false),
    ("rabbitry mixed", Choice::Mixed, false),
    ("rabbitry lstsq", Choice::Lstsq, false),
    ("rabbitry cholesky", Choice::Cholesky, true),
];

/// Symmetric and positive definite: the strict lower triangle of a random A on both sides, and n on the diagonal beside
/// what is there, which is more than the others of its row come to.
pub(super) fn positive_definite(system: &System) -> Result<System, crate::task::TaskError> {
    let n = system.a.rows();
    let from = system.a.as_slice();
    let mut a = vec![0.0; n * n];
    for column in 0..n {
        for row in 0..n {
            let (low, high) = (row.max(column), row.min(column));
            a[column * n + row] = from[high * n + low] + if row == column { n as f64 } else { 0.0 };
        }
    }
    // As bytes, of which each task that is sent has a share and no copy.
    let a = Matrix::from_bytes(n, n, Order::ColMajor, numbers_into_bytes(a))?;
    Ok(System::new(a, system.b.clone()))
}

/// What a contestant has found.
struct Found {
    contestant: String,
    detail: String,
    n: usize,
    threads: usize,
    seconds: Vec<f64>,
    backward_error: Option<f64>,
    missing: Option<String>,
}

impl Found {
    fn new(contestant: &str, detail: String, n: usize, threads: usize) -> Self {
        let (seconds, backward_error, missing) = (Vec::new(), None, None);
        Found { contestant: contestant.to_owned(), detail, n, threads, seconds, backward_error, missing }
    }

    /// A turn, as the median of its calls.
    fn take(&mut self, calls: &[f64], backward_error: f64, counts: bool) {
        self.backward_error = Some(backward_error);
        self.seconds.extend(Spread::of(calls).filter(|_| counts).map(|turn| turn.median));
    }

    fn is_settled(&self) -> bool {
        self.missing.is_some() || Spread::of(&self.seconds).is_some_and(|spread| spread.is_narrow())
    }

    fn row(&self) -> ComputeRow {
        let not_begun = || self.seconds.is_empty().then(|| "interrupted before its first round".to_owned());
        ComputeRow {
            contestant: self.contestant.clone(),
            detail: self.detail.clone(),
            n: self.n,
            threads: self.threads,
            seconds: Spread::of(&self.seconds),
            backward_error: self.backward_error,
            missing: self.missing.clone().or_else(not_begun),
        }
    }
}

/// Ours, by one method.
pub(super) struct Ours {
    stand: Arc<Stand>,
    systems: Vec<System>,
    found: Found,
}

impl Ours {
    pub(super) fn new(contestant: &str, stand: Arc<Stand>, systems: Vec<System>, n: usize, threads: usize) -> Self {
        Ours { stand, systems, found: Found::new(contestant, String::new(), n, threads) }
    }

    pub(super) fn row(&self) -> ComputeRow {
        self.found.row()
    }
}

#[async_trait]
impl Contestant for Ours {
    fn name(&self) -> String {
        format!("compute: N={} {}, {} threads", self.found.n, self.found.contestant, self.found.threads)
    }

    fn turn_seconds(&self) -> f64 {
        TURN_SECONDS.max(expected_seconds(self.found.n))
    }

    async fn turn(&mut self, counts: bool) {
        if self.found.missing.is_some() {
            return;
        }
        let mut calls = Vec::new();
        let (mut worst, mut by) = (0.0_f64, (String::new(), 0));
        let each = |done: &Done| {
            let times = done.trip.times.worker;
            calls.push(times.computed_ns.saturating_sub(times.decoded_ns) as f64 / 1e9);
            let certificate = &done.solution.certificate;
            worst = worst.max(certificate.backward_error);
            by = (certificate.method.to_string(), certificate.threads);
        };
        // Small ones come in one message, as in a stream, and are computed one after another.
        let count = ((TURN_SECONDS / expected_seconds(self.found.n)) as u64).clamp(1, 2000);
        let together = usize::try_from(count.min(TOGETHER)).unwrap_or(1);
        let streamed = job::stream(&self.stand.boss, &self.systems, (count, together), Payload::Binary, each).await;
        match streamed {
            Ok(_) => {
                self.found.detail = format!("by {}, {} thread{}", by.0, by.1, if by.1 == 1 { "" } else { "s" });
                self.found.take(&calls, worst, counts);
            }
            Err(error) => self.found.missing = Some(error.to_string()),
        }
    }

    fn is_settled(&self) -> bool {
        self.found.is_settled()
    }
}

/// What a baseline says of itself.
#[derive(Clone, Deserialize)]
pub(super) struct Identity {
    pub version: String,
    pub blas: String,
    pub threads: usize,
}

#[derive(Deserialize)]
struct Answer {
    seconds: Vec<f64>,
    backward_error: f64,
    fingerprint: String,
}

/// Another solver, or why there is none. One program does all sizes.
pub(super) type Baseline = Result<(Arc<Mutex<Program>>, Identity), String>;

/// Another solver at one size.
pub(super) struct Theirs {
    baseline: Baseline,
    seed: u64,
    fingerprint: String,
    found: Found,
}

impl Theirs {
    /// `system` is the one that it has to make of the seed.
    pub(super) fn new(name: &str, baseline: &Baseline, system: &System, seed: u64, threads: usize) -> Self {
        let detail = match baseline {
            Ok((_, identity)) => format!("{}, {}", identity.version, identity.blas),
            Err(_) => String::new(),
        };
        let mut found = Found::new(name, detail, system.a.rows(), threads);
        found.missing = baseline.as_ref().err().cloned();
        Theirs { baseline: baseline.clone(), seed, fingerprint: job::fingerprint(system), found }
    }

    pub(super) fn row(&self) -> ComputeRow {
        self.found.row()
    }
}

#[async_trait]
impl Contestant for Theirs {
    fn name(&self) -> String {
        format!("compute: N={} {}, {} threads", self.found.n, self.found.contestant, self.found.threads)
    }

    fn turn_seconds(&self) -> f64 {
        if self.found.missing.is_some() { 0.0 } else { TURN_SECONDS.max(3.0 * expected_seconds(self.found.n)) }
    }

    async fn turn(&mut self, counts: bool) {
        let Ok((program, _)) = &self.baseline else { return };
        if self.found.missing.is_some() {
            return;
        }
        let request = format!("solve {} 1 {} 1 {TURN_SECONDS}", self.found.n, self.seed);
        let limit = LIMIT + Duration::from_secs_f64(20.0 * expected_seconds(self.found.n));
        let answer = program.lock().await.ask::<Answer>(&request, limit).await;
        match answer {
            Ok(answer) if answer.fingerprint == self.fingerprint => {
                self.found.take(&answer.seconds, answer.backward_error, counts);
            }
            Ok(_) => self.found.missing = Some("it solved another system than ours".to_owned()),
            Err(why) => self.found.missing = Some(why),
        }
        if self.found.threads > 1 {
            tokio::time::sleep(SETTLE).await;
        }
    }

    fn is_settled(&self) -> bool {
        self.found.is_settled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positive_definite_matrix_is_symmetric_and_dominated_by_its_diagonal() {
        let system = positive_definite(&System::random(7, 1, 3)).unwrap();
        let a = system.a.as_slice();
        for row in 0..7 {
            let others: f64 = (0..7).filter(|&column| column != row).map(|column| a[column * 7 + row].abs()).sum();
            assert!(a[row * 7 + row] > others);
            (0..7).for_each(|column| assert_eq!(a[column * 7 + row], a[row * 7 + column]));
        }
    }

    #[test]
    fn published_figures_are_of_the_sizes_that_were_asked_for() {
        let rows = published(&[1000, 17]);
        let figures: Vec<_> = rows.iter().map(|row| (row.contestant.as_str(), row.n)).collect();
        assert_eq!(figures, [("numpy (published)", 1000), ("eigen (published)", 1000)]);
    }
}
