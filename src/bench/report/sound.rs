//! Takes figures that are not finite numbers out of a report before it is written.
//!
//! JSON has no infinity and no NaN; serde_json would write `null`, which nobody could read back. One broken figure should
//! not cost the measurements of an hour either, so it goes, and a note says so.

use crate::bench::model::{Cost, PeerRow, Report, Spread, Stages};

use super::figures::sweep_name;

/// The same report with finite numbers only.
pub fn sound(report: &Report) -> Report {
    let mut report = report.clone();
    let mut broken = Vec::new();
    for (name, number) in [("seconds", &mut report.seconds), ("machine.load", &mut report.machine.load)] {
        if !number.is_finite() {
            *number = 0.0;
            broken.push(name.to_owned());
        }
    }
    payload(&mut report, &mut broken);
    compute(&mut report, &mut broken);
    pool(&mut report, &mut broken);
    break_even(&mut report, &mut broken);
    for row in &mut report.peers {
        let PeerRow { peer, n, .. } = row;
        let name = format!("peers {peer} n={n}");
        drop_spread(&mut row.tasks_per_second, &mut row.missing, &name, &mut broken);
        drop_number(&mut row.backward_error, &name, &mut broken);
    }
    if !broken.is_empty() {
        let count = broken.len();
        broken.truncate(10);
        let more = if count > broken.len() { ", ..." } else { "" };
        report.notes.push(format!(
            "Figures that were not finite numbers are left out or 0 ({count}): {}{more}. That is a fault of the benchmark, \
             please report it.",
            broken.join(", ")
        ));
    }
    report
}

fn payload(report: &mut Report, broken: &mut Vec<String>) {
    for row in &mut report.payload {
        let name = format!("payload {} n={}", row.payload.name(), row.n);
        drop_spread(&mut row.round_trip_seconds, &mut row.missing, &name, broken);
        drop_spread(&mut row.tasks_per_second, &mut row.missing, &name, broken);
        if row.stages_seconds.as_ref().is_some_and(|stages| !finite_stages(stages)) {
            row.stages_seconds = None;
            broken.push(format!("{name} stages"));
        }
    }
}

fn compute(report: &mut Report, broken: &mut Vec<String>) {
    for row in &mut report.compute {
        let name = format!("compute {} n={}", row.contestant, row.n);
        drop_spread(&mut row.seconds, &mut row.missing, &name, broken);
        drop_number(&mut row.backward_error, &name, broken);
    }
}

fn pool(report: &mut Report, broken: &mut Vec<String>) {
    report.pool.retain(|row| {
        let whole = finite(&row.tasks_per_second) && finite(&row.efficiency);
        if !whole {
            broken.push(format!("{} n={} workers={}", sweep_name(row.sweep), row.n, row.workers));
        }
        whole
    });
    for row in &mut report.pool {
        row.tasks_per_second.outliers.retain(|outlier| outlier.is_finite());
        row.efficiency.outliers.retain(|outlier| outlier.is_finite());
    }
}

fn break_even(report: &mut Report, broken: &mut Vec<String>) {
    if let Some(part) = &mut report.break_even {
        part.measured.retain(|cost| {
            let Cost { n, local_seconds, alone_seconds, stream_seconds } = *cost;
            let whole = [local_seconds, alone_seconds, stream_seconds].iter().all(|seconds| seconds.is_finite());
            if !whole {
                broken.push(format!("break-even n={n}"));
            }
            whole
        });
        for point in &mut part.points {
            let name = format!("break-even workers={}", point.workers);
            drop_number(&mut point.alone_n, &name, broken);
            drop_number(&mut point.stream_n, &name, broken);
        }
    }
}

fn finite(spread: &Spread) -> bool {
    [spread.median, spread.lower, spread.upper, spread.min, spread.max].iter().all(|figure| figure.is_finite())
}

fn finite_stages(stages: &Stages) -> bool {
    stages.named().iter().all(|(_, seconds)| seconds.is_finite())
}

fn drop_number(number: &mut Option<f64>, name: &str, broken: &mut Vec<String>) {
    if number.is_some_and(|number| !number.is_finite()) {
        *number = None;
        broken.push(name.to_owned());
    }
}

fn drop_spread(spread: &mut Option<Spread>, missing: &mut Option<String>, name: &str, broken: &mut Vec<String>) {
    if let Some(spread) = spread {
        spread.outliers.retain(|outlier| outlier.is_finite());
    }
    if spread.as_ref().is_some_and(|spread| !finite(spread)) {
        *spread = None;
        missing.get_or_insert_with(|| "the figure was not a finite number".to_owned());
        broken.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_sound_report_stays_as_it_is() {
        let report = sample::report();
        assert_eq!(sound(&report), report);
    }

    #[test]
    fn what_is_not_finite_never_reaches_json() {
        let mut report = sample::report();
        report.seconds = f64::NAN;
        report.machine.load = f64::INFINITY;
        report.payload[0].round_trip_seconds = Some(sample::spread(f64::NAN));
        report.payload[1].stages_seconds = Some(Stages { queue: f64::INFINITY, ..Stages::default() });
        report.compute[0].seconds = Some(sample::spread(f64::INFINITY));
        report.compute[1].backward_error = Some(f64::NAN);
        report.pool[0].efficiency.median = f64::NAN;
        report.pool[1].efficiency.outliers = vec![f64::NAN];
        report.peers[0].tasks_per_second = Some(sample::spread(f64::NEG_INFINITY));
        let part = report.break_even.as_mut().unwrap();
        part.measured[0].alone_seconds = f64::NAN;
        part.points[2].alone_n = Some(f64::INFINITY);
        let sound = sound(&report);
        let text = serde_json::to_string(&sound).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), sound);
        assert_eq!(sound.pool.len(), report.pool.len() - 1);
        assert!(sound.payload[0].missing.as_deref().unwrap().contains("not a finite number"));
        assert!(sound.notes.last().unwrap().contains("(10): seconds, machine.load, payload binary n=10"));
    }
}
