//! Rounds into figures: medians, quartiles, ratios to ours; the table and the JSON.

use serde::Serialize;

use super::Matrix;

/// What one contestant did in all rounds of one case.
#[derive(Serialize)]
pub struct Row {
    pub matrix: Matrix,
    pub n: usize,
    pub nrhs: usize,
    pub threads: usize,
    pub contestant: String,
    /// Method or library, version, BLAS.
    pub detail: String,
    /// Seconds of a call, one figure a round: the median of the calls in it.
    pub rounds: Vec<f64>,
    /// Calls in the last round.
    pub calls: usize,
    /// This time by ours, of each round.
    pub ratios: Vec<f64>,
    /// The worst of all rounds.
    pub backward_error: Option<f64>,
    /// Why there are no figures.
    pub error: Option<String>,
    /// Floating point operations of the usual method: LU, or Cholesky for a positive definite A.
    pub flops: f64,
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

/// The figures of a row that has any.
#[derive(Clone, Copy, Serialize)]
pub struct Summary {
    pub median_seconds: f64,
    pub lower_seconds: f64,
    pub upper_seconds: f64,
    pub gflops: f64,
    /// Median of the ratios, the least and the largest; `None` if ours has no figures.
    pub ratio: Option<[f64; 3]>,
}

/// The number a share of the way up the sorted ones, between two of them if need be; NaN of none.
pub fn at(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last as f64 * share;
    let [below, above] = [place.floor(), place.ceil()].map(|place| sorted[place as usize]);
    below + (above - below) * place.fract()
}

impl Row {
    /// Works out the figures, once all rounds are in; `ours` are the rounds of our own solver.
    pub fn finish(&mut self, ours: &[f64]) {
        if self.error.is_some() || self.rounds.is_empty() {
            // A contestant that failed on the way has figures of other rounds than the rest.
            self.rounds.clear();
            return;
        }
        if ours.len() == self.rounds.len() {
            self.ratios = self.rounds.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
        }
        let median_seconds = at(&self.rounds, 0.5);
        let ratio = |share| at(&self.ratios, share);
        self.summary = Some(Summary {
            median_seconds,
            lower_seconds: at(&self.rounds, 0.25),
            upper_seconds: at(&self.rounds, 0.75),
            gflops: self.flops / median_seconds / 1e9,
            ratio: (!self.ratios.is_empty()).then(|| [ratio(0.5), ratio(0.0), ratio(1.0)]),
        });
    }

    /// The line of the table.
    pub fn print(&self) {
        print!("{:<6} {:>6} {:>3}  {:<10}", self.matrix.name(), self.n, self.threads, self.contestant);
        let Some(Summary { median_seconds, lower_seconds, upper_seconds, gflops, ratio }) = self.summary else {
            println!("  -  {}", self.error.as_deref().unwrap_or("no rounds"));
            return;
        };
        let [median, lower, upper] =
            [median_seconds, lower_seconds, upper_seconds].map(|seconds| digits(seconds * 1e3));
        let ratio = ratio.map_or("-".to_owned(), |[ratio, least, most]| format!("{ratio:.2} ({least:.2} - {most:.2})"));
        let error = self.backward_error.unwrap_or(f64::NAN);
        println!("{median:>9} {lower:>9} {upper:>9} {gflops:>9.2} {ratio:>20} {error:>9.1e}  {}", self.detail);
    }
}

/// The head of the table.
pub fn print_head() {
    print!("{:<6} {:>6} {:>3}  {:<10}", "A", "n", "thr", "");
    println!("{:>9} {:>9} {:>9} {:>9} {:>20} {:>9}", "ms", "lower", "upper", "GFLOP/s", "time / ours (range)", "error");
}

/// Four digits that say something.
fn digits(number: f64) -> String {
    let whole = number.abs().max(1e-9).log10().floor() as i32 + 1;
    format!("{number:.*}", usize::try_from(4 - whole).unwrap_or(0).min(4))
}
