//! Every figure of a report in one flat list, for the CSV and for comparing two reports.
//!
//! Names here are columns and keys that scripts rely on. How a figure is shown to people is not said here.

use serde::Serialize;

use crate::bench::model::{ComputeRow, Cost, PayloadRow, PeerRow, Point, PoolRow, Report, Spread, Stages, Sweep};

/// What a figure is of. Two reports have the same figure if their keys are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub struct Key {
    /// `payload`, `compute`, `pool/workers`, `pool/in_flight`, `pool/prefetch`, `break_even` or `peers`.
    pub part: &'static str,
    /// Unknowns.
    pub n: Option<usize>,
    /// Solver or system.
    pub contestant: Option<String>,
    /// Form of the payload.
    pub payload: Option<&'static str>,
    /// Threads of a solver.
    pub threads: Option<usize>,
    /// Workers of a pool.
    pub workers: Option<usize>,
    /// Slots of all of them.
    pub slots: Option<usize>,
    /// Tasks in flight.
    pub in_flight: Option<usize>,
    /// Messages that a worker takes ahead.
    pub prefetch: Option<u16>,
    /// Systems of one job. Not a column: it is the same for all rows of a size.
    pub job: Option<usize>,
    /// Which figure of the row.
    pub figure: &'static str,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Better {
    /// Times.
    Less,
    /// Rates, shares.
    More,
    /// Sizes, errors: not a matter of speed.
    Neither,
}

/// A figure, or why there is none.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What it is of.
    pub key: Key,
    /// In what.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// What was found.
    pub value: Value,
}

/// What was found.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// By measuring again and again.
    Spread(Spread),
    /// A single number.
    Single(f64),
    /// Nothing, and why.
    Missing(String),
}

const UNKNOWN: &str = "not measured";

/// All of them, in the order of the report.
pub fn all(report: &Report) -> Vec<Figure> {
    let mut figures: Vec<Figure> = report.payload.iter().flat_map(payload).collect();
    figures.extend(report.compute.iter().flat_map(compute));
    figures.extend(report.pool.iter().flat_map(pool));
    let break_even = report.break_even.iter();
    figures.extend(break_even.clone().flat_map(|part| part.measured.iter().flat_map(cost)));
    figures.extend(break_even.flat_map(|part| part.points.iter().flat_map(point)));
    figures.extend(report.peers.iter().flat_map(peer));
    figures
}

/// The figures of a row share its key; `of` makes one.
struct Maker {
    key: Key,
    missing: Option<String>,
}

impl Maker {
    fn of(&self, figure: &'static str, unit: &'static str, better: Better, value: Option<Value>) -> Figure {
        let missing = || Value::Missing(self.missing.clone().unwrap_or_else(|| UNKNOWN.to_owned()));
        Figure { key: Key { figure, ..self.key.clone() }, unit, better, value: value.unwrap_or_else(missing) }
    }

    fn spread(&self, figure: &'static str, unit: &'static str, better: Better, spread: Option<&Spread>) -> Figure {
        self.of(figure, unit, better, spread.cloned().map(Value::Spread))
    }

    fn single(&self, figure: &'static str, unit: &'static str, better: Better, number: f64) -> Figure {
        self.of(figure, unit, better, Some(Value::Single(number)))
    }
}

fn payload(row: &PayloadRow) -> Vec<Figure> {
    let key = Key { part: "payload", n: Some(row.n), payload: Some(row.payload.name()), ..Key::default() };
    let maker = Maker { key, missing: row.missing.clone() };
    let mut figures = vec![
        maker.single("task_bytes", "B", Better::Neither, row.task_bytes as f64),
        maker.single("answer_bytes", "B", Better::Neither, row.answer_bytes as f64),
        maker.spread("round_trip", "s", Better::Less, row.round_trip_seconds.as_ref()),
    ];
    for (name, seconds) in row.stages_seconds.iter().flat_map(Stages::named) {
        figures.push(maker.single(stage_figure(name), "s", Better::Less, seconds));
    }
    figures.push(maker.spread("throughput", "1/s", Better::More, row.tasks_per_second.as_ref()));
    for (name, bytes) in [("boss_peak", row.boss_peak_bytes), ("worker_peak", row.worker_peak_bytes)] {
        figures.extend(bytes.map(|bytes| maker.single(name, "B", Better::Neither, bytes as f64)));
    }
    figures
}

fn stage_figure(stage: &str) -> &'static str {
    match stage {
        "encode" => "stage_encode",
        "publish" => "stage_publish",
        "queue" => "stage_queue",
        "receive" => "stage_receive",
        "decode" => "stage_decode",
        "compute" => "stage_compute",
        _ => "stage_reply",
    }
}

fn compute(row: &ComputeRow) -> Vec<Figure> {
    let contestant = Some(row.contestant.clone());
    let key = Key { part: "compute", n: Some(row.n), contestant, threads: Some(row.threads), ..Key::default() };
    let maker = Maker { key, missing: row.missing.clone() };
    let mut figures = vec![maker.spread("solve", "s", Better::Less, row.seconds.as_ref())];
    figures.extend(row.backward_error.map(|error| maker.single("backward_error", "1", Better::Neither, error)));
    figures
}

/// The part of a key that tells what a row of the pool is for.
pub fn sweep_name(sweep: Sweep) -> &'static str {
    match sweep {
        Sweep::Workers => "pool/workers",
        Sweep::InFlight => "pool/in_flight",
        Sweep::Prefetch => "pool/prefetch",
    }
}

fn pool(row: &PoolRow) -> Vec<Figure> {
    let PoolRow { n, workers, slots, in_flight, prefetch, .. } = *row;
    let key = Key {
        part: sweep_name(row.sweep),
        n: Some(n),
        workers: Some(workers),
        slots: Some(slots),
        in_flight: Some(in_flight),
        prefetch,
        ..Key::default()
    };
    let maker = Maker { key, missing: None };
    vec![
        maker.spread("throughput", "1/s", Better::More, Some(&row.tasks_per_second)),
        maker.spread("efficiency", "1", Better::More, Some(&row.efficiency)),
    ]
}

fn cost(cost: &Cost) -> Vec<Figure> {
    let key = Key { part: "break_even", n: Some(cost.n), ..Key::default() };
    let maker = Maker { key, missing: None };
    vec![
        maker.single("local", "s", Better::Less, cost.local_seconds),
        maker.single("alone", "s", Better::Less, cost.alone_seconds),
        maker.single("stream", "s", Better::Less, cost.stream_seconds),
    ]
}

fn point(point: &Point) -> Vec<Figure> {
    let key = Key { part: "break_even", workers: Some(point.workers), ..Key::default() };
    let maker = Maker { key, missing: Some("never within what was measured".to_owned()) };
    vec![
        maker.of("alone_n", "unknowns", Better::Less, point.alone_n.map(Value::Single)),
        maker.of("stream_n", "unknowns", Better::Less, point.stream_n.map(Value::Single)),
    ]
}

fn peer(row: &PeerRow) -> Vec<Figure> {
    let (contestant, workers, job) = (Some(row.peer.clone()), Some(row.workers), Some(row.count));
    let key = Key { part: "peers", n: Some(row.n), contestant, workers, job, ..Key::default() };
    let maker = Maker { key, missing: row.missing.clone() };
    let mut figures = vec![maker.spread("throughput", "1/s", Better::More, row.tasks_per_second.as_ref())];
    figures.extend(row.backward_error.map(|error| maker.single("backward_error", "1", Better::Neither, error)));
    figures
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::sample;
    use super::*;

    #[test]
    fn no_two_figures_have_the_same_key() {
        let figures = all(&sample::report());
        let keys: HashSet<_> = figures.iter().map(|figure| &figure.key).collect();
        assert_eq!(keys.len(), figures.len());
    }

    #[test]
    fn every_stage_is_a_figure_of_its_own() {
        let figures = all(&sample::report());
        let first: Vec<_> = figures.iter().map(|figure| figure.key.figure).take(11).collect();
        assert_eq!(
            first[3..10].join(" "),
            Stages::default().named().map(|(name, _)| format!("stage_{name}")).join(" ")
        );
    }

    #[test]
    fn a_report_without_parts_has_no_figures() {
        assert_eq!(all(&sample::empty()), Vec::new());
    }
}
