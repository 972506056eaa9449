//! When sending systems to a pool beats solving them here: the costs measured at a few sizes n made into the
//! smallest n from which it pays, and into sentences.
//!
//! Pure: no clock, no I/O, no randomness; the same figures give the same document.
//!
//! The model. W workers are W idle machines like this one. With `local`, `alone` and `stream` for the seconds of a
//! [`Cost`] at n, answers per second are
//!
//! | | rate |
//! |---|---|
//! | solved here | 1 / local |
//! | a stream sent away | min(1 / stream, W / local) |
//! | sent one by one | min(1 / alone, W / (local + alone)) |
//!
//! and sending pays where its rate is the greater one. One worker never wins a stream: it computes as fast as this
//! machine and no faster. From two on it is the sending machine that decides, so that the n is the same for all of
//! them; how much is won there is W's affair.
//!
//! What that assumes:
//! - One by one is each system in a message of its own and every worker kept busy, by as many callers that wait as
//!   it computes tasks at a time. All that a lone round trip costs beside computing is taken for work of this
//!   machine that nothing overlaps. Some of it is the broker's and the worker's, so that one by one may pay
//!   earlier.
//! - `local` stands in for the compute time of one task. Of a large one that is right, it gets all cores. A small
//!   one runs on one core and takes up to as many times longer as there are cores; the others solve its neighbours
//!   meanwhile, so the rates hold with all cores busy. For a single system and nothing else neither side would be
//!   right.
//! - The broker and the network carry what this machine sends; workers share neither memory nor cores with it.
//! - The machine that sends does not compute beside it.
//!
//! Limits. Between measured sizes costs are piecewise linear in log n and log seconds. Outside of them the first or
//! last slope goes on, for a factor of 2 at most, and from a single size not at all; beyond that nothing is known,
//! and `None` says so. What the largest size measured shows counts for more than what its slope would foretell: a
//! win there stands.

use super::model::{BreakEven, Cost, Point};

/// Workers that are looked at; those asked for beyond are left out.
const WORKERS: std::ops::RangeInclusive<usize> = 1..=64;
/// n may be so many times larger or smaller than any that was measured.
const BEYOND: f64 = 2.0;
/// A bisection halves what is less than 45 wide in log n; after this many it is below the resolution of an f64.
const HALVINGS: usize = 60;

/// The smallest n, for each of `workers` from 1 to 64, from which sending away wins for all larger n as far as is
/// known, and the same in words.
///
/// `measured` of the result has the `costs` with positive, finite seconds and n > 0, by n, the first where there are
/// several at one n; the others are named in a sentence.
pub fn break_even(costs: Vec<Cost>, workers: &[usize]) -> BreakEven {
    let (measured, left_out) = usable(costs);
    let mut workers: Vec<usize> = workers.iter().copied().filter(|count| WORKERS.contains(count)).collect();
    workers.sort_unstable();
    workers.dedup();
    let curve = Curve::new(&measured);
    let point = |&workers: &usize| {
        let count = workers as f64;
        let alone_n = curve.pays_from(|costs| costs.alone_rate(count) > costs.local_rate());
        let stream_n = curve.pays_from(|costs| costs.stream_rate(count) > costs.local_rate());
        Point { workers, alone_n, stream_n }
    };
    let points: Vec<Point> = workers.iter().map(point).collect();
    let mut sentences = if measured.is_empty() {
        vec!["No size has figures to work a break-even out from.".to_owned()]
    } else {
        sentences(&measured, &points)
    };
    if !left_out.is_empty() {
        let sizes: Vec<String> = left_out.iter().map(usize::to_string).collect();
        sentences.push(format!("Left out, for want of positive times of their own: N = {}.", sizes.join(", ")));
    }
    BreakEven { measured, points, sentences }
}

/// Two significant digits, as a person would write them: `310`, `0.18`; with an exponent beyond a million of
/// millions.
pub(crate) fn two_digits(x: f64) -> String {
    let text = format!("{x:.1e}");
    match text.parse::<f64>() {
        Ok(0.0) => "0".to_owned(),
        Ok(rounded) if (1e-4..1e12).contains(&rounded.abs()) => rounded.to_string(),
        _ => text,
    }
}

fn is_usable(cost: &Cost) -> bool {
    let seconds = [cost.local_seconds, cost.alone_seconds, cost.stream_seconds];
    // Noise can make a cost that is a difference zero or less: it was not measured then, and has no logarithm.
    cost.n > 0 && seconds.iter().all(|seconds| seconds.is_finite() && *seconds > 0.0)
}

/// Those that can be worked with, by n, and the n of the others.
fn usable(costs: Vec<Cost>) -> (Vec<Cost>, Vec<usize>) {
    let (mut good, bad): (Vec<Cost>, Vec<Cost>) = costs.into_iter().partition(is_usable);
    good.sort_by_key(|cost| cost.n);
    // As f64, in which the work is done: a slope between two of the same n would be infinite.
    good.dedup_by_key(|cost| (cost.n as f64).ln());
    (good, bad.iter().map(|cost| cost.n).collect())
}

/// Logarithms of n and of the seconds of a [`Cost`]. No product of them overflows.
#[derive(Clone, Copy)]
struct LogCost {
    n: f64,
    local: f64,
    alone: f64,
    stream: f64,
}

/// Logarithms of the rates in the table of this module's documentation.
impl LogCost {
    fn new(cost: &Cost) -> Self {
        LogCost {
            n: (cost.n as f64).ln(),
            local: cost.local_seconds.ln(),
            alone: cost.alone_seconds.ln(),
            stream: cost.stream_seconds.ln(),
        }
    }

    fn local_rate(&self) -> f64 {
        -self.local
    }

    fn stream_rate(&self, workers: f64) -> f64 {
        (-self.stream).min(workers.ln() - self.local)
    }

    fn alone_rate(&self, workers: f64) -> f64 {
        let (large, small) = (self.local.max(self.alone), self.local.min(self.alone));
        let sum = large + (small - large).exp().ln_1p();
        (-self.alone).min(workers.ln() - sum)
    }
}

/// Costs over n, by rising n.
struct Curve(Vec<LogCost>);

impl Curve {
    fn new(measured: &[Cost]) -> Self {
        Curve(measured.iter().map(LogCost::new).collect())
    }

    /// The smallest and largest log n of which something may be said.
    fn range(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.0.first()?.n, self.0.last()?.n);
        let beyond = if self.0.len() > 1 { BEYOND.ln() } else { 0.0 };
        // There is no system of less than one unknown.
        Some(((first - beyond).max(0.0), last + beyond))
    }

    /// The costs at log n; those of the nearest segment's line outside of what was measured.
    fn at(&self, n: f64) -> Option<LogCost> {
        let right = self.0.partition_point(|cost| cost.n < n).clamp(1, self.0.len().max(2) - 1);
        let Some(b) = self.0.get(right) else { return self.0.first().copied() };
        let a = self.0.get(right - 1)?;
        let part = (n - a.n) / (b.n - a.n);
        let between = |a: f64, b: f64| a + part * (b - a);
        Some(LogCost {
            n,
            local: between(a.local, b.local),
            alone: between(a.alone, b.alone),
            stream: between(a.stream, b.stream),
        })
    }

    /// The smallest n from which on `wins` holds up to the largest measured, or up to the end of the range if it
    /// does not hold there.
    fn pays_from(&self, wins: impl Fn(&LogCost) -> bool) -> Option<f64> {
        let (first, last) = self.range()?;
        let wins_at = |n: f64| self.at(n).is_some_and(|cost| wins(&cost));
        let largest = self.0.last()?.n;
        let mut won = if wins_at(largest) { largest } else { last };
        if !wins_at(won) {
            return None;
        }
        // What wins hangs on the ratio of a cost to `local`, whose logarithm is a line in a segment: no segment
        // holds more than one crossing.
        let corners = self.0.iter().rev().map(|cost| cost.n).chain([first]);
        for corner in corners.filter(|&corner| corner < last) {
            if !wins_at(corner) {
                return Some(bisect(corner, won, wins_at).exp());
            }
            won = corner;
        }
        Some(first.exp())
    }
}

/// Where `wins` begins to hold, between where it does not and where it does.
fn bisect(mut lost: f64, mut won: f64, wins: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..HALVINGS {
        let middle = lost + (won - lost) / 2.0;
        if wins(middle) {
            won = middle;
        } else {
            lost = middle;
        }
    }
    won
}

fn sentences(measured: &[Cost], points: &[Point]) -> Vec<String> {
    let mut sentences = Vec::new();
    // Numbers of workers with the same answer, as it is written, share a sentence.
    let written = |point: &Point| (point.stream_n.map(two_digits), point.alone_n.map(two_digits));
    let same = |a: &Point, b: &Point| written(a) == written(b);
    for group in points.chunk_by(same) {
        if let [first, .., last] = group {
            sentences.push(pays(measured, &format!("{} to {} workers", first.workers, last.workers), first));
        } else if let [only] = group {
            let plural = if only.workers == 1 { "" } else { "s" };
            sentences.push(pays(measured, &format!("{} worker{plural}", only.workers), only));
        }
    }
    let mut saturated: Vec<String> = measured.iter().filter_map(saturation).collect();
    if saturated.len() > 2 {
        // The smallest and the largest say enough.
        saturated.drain(1..saturated.len() - 1);
    }
    sentences.append(&mut saturated);
    sentences.push("A worker is taken to be an idle machine like this one.".to_owned());
    sentences
}

fn pays(measured: &[Cost], who: &str, point: &Point) -> String {
    let sizes = match measured {
        [first, .., last] => format!("N = {} to {}", first.n, last.n),
        only => only.iter().map(|cost| format!("N = {}", cost.n)).collect(),
    };
    let at_lower_end = |n: f64| {
        let lower = Curve::new(measured).range().map_or(0.0, |(first, _)| first.exp());
        n <= lower * (1.0 + 1e-9)
    };
    let from = |n: f64| {
        let inside = measured.first().is_some_and(|cost| cost.n as f64 <= n * (1.0 + 1e-9))
            && measured.last().is_some_and(|cost| cost.n as f64 >= n * (1.0 - 1e-9));
        let remark = if inside { String::new() } else { format!(" (extrapolated; measured were {sizes})") };
        format!("N = {}{remark}", two_digits(n))
    };
    let stream = match (point.stream_n, point.alone_n) {
        (Some(n), _) if at_lower_end(n) => {
            format!("a stream of systems pays at every N looked at, from {} on.", from(n))
        }
        (Some(n), _) => format!("a stream of systems pays from {}; below that keep it local.", from(n)),
        (None, None) => {
            return format!("With {who} sending never pays within what was measured ({sizes}): keep it local.");
        }
        (None, Some(_)) => format!("a stream of systems never pays within what was measured ({sizes})."),
    };
    let alone = match (point.alone_n, point.stream_n) {
        (None, Some(n)) => format!(
            "Sent one by one it never does within what was measured; many in flight, small ones together in a message, \
             make it pay from N = {}.",
            two_digits(n)
        ),
        (Some(alone), Some(n)) if two_digits(alone) == two_digits(n) => {
            "Sent one by one it pays from there, too.".into()
        }
        (Some(alone), Some(n)) if alone > n => format!(
            "Sent one by one it pays from {}; many in flight, small ones together in a message, move that to N = {}.",
            from(alone),
            two_digits(n)
        ),
        (Some(alone), _) => format!("Sent one by one it pays from {}.", from(alone)),
        (None, None) => String::new(),
    };
    format!("With {who} {stream} {alone}")
}

/// The number of workers beyond which the sending of a stream is the limit, where sending pays and a pool of the size
/// looked at gets there.
fn saturation(cost: &Cost) -> Option<String> {
    // A quotient that is whole but for rounding is no further worker.
    let enough = (cost.local_seconds / cost.stream_seconds * (1.0 - 1e-9)).ceil();
    if !(enough > 1.0 && enough <= *WORKERS.end() as f64) {
        return None;
    }
    Some(format!(
        "Beyond {enough} workers more of them do not help at N = {}: this machine can send at most {} a second.",
        cost.n,
        two_digits(1.0 / cost.stream_seconds)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(n: usize, local_seconds: f64, alone_seconds: f64, stream_seconds: f64) -> Cost {
        Cost { n, local_seconds, alone_seconds, stream_seconds }
    }

    /// n^3, 200 n^2 and 50 n^2 nanoseconds: straight lines in log space that cross at n = 200 and n = 50.
    fn powers(sizes: &[usize]) -> Vec<Cost> {
        let at = |&n: &usize| {
            let x = n as f64;
            cost(n, 1e-9 * x.powi(3), 200e-9 * x.powi(2), 50e-9 * x.powi(2))
        };
        sizes.iter().map(at).collect()
    }

    fn near(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|n| (n / wanted - 1.0).abs() < 1e-9)
    }

    #[test]
    fn lines_cross_where_they_do_by_hand() {
        let found = break_even(powers(&[10, 100, 1000]), &[2, 4]);
        for point in &found.points {
            assert!(near(point.stream_n, 50.0) && near(point.alone_n, 200.0), "{point:?}");
        }
        let wanted = "With 2 to 4 workers a stream of systems pays from N = 50; below that keep it local. Sent one by \
                      one it pays from N = 200; many in flight, small ones together in a message, move that to N = 50.";
        assert_eq!(found.sentences[0], wanted);
    }

    #[test]
    fn one_worker_never_pays_however_cheap_sending_is() {
        let cheap = |n: usize| cost(n, n as f64, 1e-300, 1e-300);
        let found = break_even(vec![cheap(10), cheap(100), cheap(1000)], &[1]);
        assert_eq!(found.points, [Point { workers: 1, alone_n: None, stream_n: None }]);
        let wanted = "With 1 worker sending never pays within what was measured (N = 10 to 1000): keep it local.";
        assert_eq!(found.sentences[0], wanted);
    }

    #[test]
    fn sending_that_is_always_dearer_never_pays() {
        let found = break_even(vec![cost(10, 1.0, 9.0, 2.0), cost(100, 1.0, 9.0, 2.0)], &[2, 64]);
        assert!(found.points.iter().all(|point| point.alone_n.is_none() && point.stream_n.is_none()));
        assert!(found.sentences[0].starts_with("With 2 to 64 workers sending never pays"));
    }

    #[test]
    fn sending_that_always_wins_pays_from_the_lower_end_of_the_range() {
        let found = break_even(vec![cost(10, 1.0, 0.5, 0.1), cost(100, 1.0, 0.5, 0.1)], &[2]);
        assert!(near(found.points[0].stream_n, 5.0) && near(found.points[0].alone_n, 5.0));
        let sentence = &found.sentences[0];
        assert!(sentence.contains("pays at every N looked at, from N = 5 (extrapolated"), "{sentence}");
        assert!(sentence.ends_with("Sent one by one it pays from there, too."), "{sentence}");
    }

    #[test]
    fn of_several_crossings_the_last_counts() {
        // local / stream: 1/4, 4, 1/4, 4; the last crossing is halfway between 100 and 1000 in log n.
        let stream = |n, seconds| cost(n, 1.0, 9.0, seconds);
        let costs = vec![stream(1, 4.0), stream(10, 0.25), stream(100, 4.0), stream(1000, 0.25)];
        assert!(near(break_even(costs, &[3]).points[0].stream_n, 1e5_f64.sqrt()));
    }

    #[test]
    fn a_crossing_is_extrapolated_by_a_factor_of_two_and_no_further() {
        let above = break_even(powers(&[10, 40, 101]), &[2]);
        assert!(near(above.points[0].alone_n, 200.0));
        assert!(above.sentences[0].contains("from N = 200 (extrapolated; measured were N = 10 to 101)"));
        assert_eq!(break_even(powers(&[10, 40, 99]), &[2]).points[0].alone_n, None);
        let below = break_even(powers(&[399, 900]), &[2]);
        assert!(near(below.points[0].alone_n, 200.0));
        assert!(near(below.points[0].stream_n, 199.5), "it wins in all of the range");
    }

    #[test]
    fn a_win_at_the_largest_size_is_not_undone_by_its_slope() {
        // On from 1000 the last segment's line would lose before 2000.
        let costs = vec![cost(10, 1.0, 9.0, 2.0), cost(500, 1.0, 9.0, 0.5), cost(1000, 1.0, 9.0, 0.9)];
        let found = break_even(costs, &[2]).points[0].stream_n;
        assert!(found.is_some_and(|n| n > 10.0 && n < 500.0), "{found:?}");
    }

    #[test]
    fn one_size_speaks_for_itself_only() {
        let found = break_even(vec![cost(100, 1.0, 2.0, 0.5)], &[2]);
        assert!(near(found.points[0].stream_n, 100.0));
        assert_eq!(found.points[0].alone_n, None);
    }

    #[test]
    fn more_workers_do_not_help_beyond_what_can_be_sent() {
        // 1/180 s for each to send, 4 and 4.5 times that to solve.
        let costs = vec![cost(500, 4.0 / 180.0, 1.0, 1.0 / 180.0), cost(1000, 4.5 / 180.0, 1.0, 1.0 / 180.0)];
        let sentences = break_even(costs, &[2]).sentences;
        let wanted = |k, n| {
            format!(
                "Beyond {k} workers more of them do not help at N = {n}: this machine can send at most 180 a second."
            )
        };
        assert!(sentences.contains(&wanted(4, 500)) && sentences.contains(&wanted(5, 1000)), "{sentences:?}");
    }

    #[test]
    fn numbers_are_rounded_to_two_digits() {
        let texts = [314.0, 9.96, 0.0, 0.1849, 12_345.0, 1e300].map(two_digits);
        assert_eq!(texts, ["310", "10", "0", "0.18", "12000", "1.0e300"]);
    }

    #[test]
    fn figures_that_are_no_times_are_left_out_and_named() {
        let mut costs = powers(&[1000, 10, 100]);
        costs.extend([cost(0, 1.0, 1.0, 1.0), cost(50, f64::NAN, 1.0, 1.0), cost(60, 1.0, -1e-6, 1.0)]);
        let found = break_even(costs, &[2, 2, 0, 65]);
        assert_eq!(found.measured, powers(&[10, 100, 1000]));
        assert_eq!(found.points.len(), 1, "each number of workers once, from 1 to 64");
        let last = found.sentences.last().map(String::as_str);
        assert_eq!(last, Some("Left out, for want of positive times of their own: N = 0, 50, 60."));
        assert_eq!(break_even(vec![], &[2]).points, [Point { workers: 2, alone_n: None, stream_n: None }]);
    }

    #[test]
    fn odd_figures_give_no_odd_results() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MIN_POSITIVE / 8.0, 1e-9, 1.0, f64::MAX];
        let sizes = [0, 1, 2, 1000, usize::MAX - 1, usize::MAX];
        let mut state = 1_u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut any = || cost(sizes[draw(6)], odd[draw(8)], odd[draw(8)], odd[draw(8)]);
            let costs: Vec<Cost> = [any(), any(), any(), any()].into_iter().take(draw(5)).collect();
            let found = break_even(costs.clone(), &[0, 1, 2, 64, usize::MAX]);
            for point in &found.points {
                let fine = |n: Option<f64>| n.is_none_or(|n| n.is_finite() && n >= 1.0);
                assert!(fine(point.alone_n) && fine(point.stream_n), "{costs:?} {point:?}");
                assert!(point.workers > 1 || (point.alone_n, point.stream_n) == (None, None), "{costs:?} {point:?}");
            }
            assert!(found.measured.iter().all(is_usable));
            assert!(found.sentences.iter().all(|s| !s.contains("NaN") && !s.contains("inf")), "{:?}", found.sentences);
        }
    }
}
