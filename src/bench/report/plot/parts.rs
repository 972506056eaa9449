//! Which figures of a report go into which plot.

use super::axis::Axis;
use super::bars::{self, Bar};
use super::lines::{self, Look, Marker, Point, Series};
use super::palette::{GREY, LINES, STAGES};
use super::{svg, swatch};
use crate::bench::model::{BreakEven, ComputeRow, PayloadRow, PoolRow, Report, Spread, Stages, Sweep};
use crate::bench::report::format::{count, number, plain, seconds, seconds_scale};
use crate::bench::report::summary::{OURS, published, sizes};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 400;

/// Some panels with one legend.
#[derive(Debug)]
pub struct Figure {
    /// What they show.
    pub caption: String,
    /// A heading and an SVG element each.
    pub panels: Vec<(String, String)>,
    /// SVG elements and names.
    pub legend: Vec<(String, String)>,
}

const MARKERS: [Marker; 4] = [Marker::Disc, Marker::Square, Marker::Triangle, Marker::Cross];

/// The look of the series with this number.
fn look(index: usize) -> Look {
    let (colour, marker) = (LINES[index % LINES.len()], MARKERS[index % MARKERS.len()]);
    // From the seventh on the colours come again, and the lines are broken.
    Look { colour, marker, dashed: index >= LINES.len() }
}

fn panel(heading: String, name: &str, x: &Axis, y: &Axis, series: &[Series]) -> Result<(String, String), String> {
    let name = format!("{name}, {heading}");
    let drawing = svg((WIDTH, HEIGHT), Some(&name), |area| lines::draw(area, x, y, series))?;
    Ok((heading, drawing))
}

fn legend(names: Vec<(String, Look)>) -> Result<Vec<(String, String)>, String> {
    let key = |(name, look): (String, Look)| Ok((svg((36, 14), None, |area| lines::draw_key(area, look))?, name));
    names.into_iter().map(key).collect()
}

fn point(x: usize, spread: &Spread) -> Point {
    Point { x: x as f64, y: spread.median, lower: spread.lower, upper: spread.upper }
}

fn ys(series: &[Series]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|line| &line.points).flatten().flat_map(|point| [point.y, point.lower, point.upper])
}

/// Where the time of a round trip goes, a panel for each size; none if no row says.
///
/// # Errors
/// In words, if it can't be drawn.
pub fn stages(report: &Report) -> Result<Option<Figure>, String> {
    let told = |row: &&PayloadRow| row.stages_seconds.is_some_and(|stages| total(&stages.named()) > 0.0);
    let rows: Vec<_> = report.payload.iter().filter(told).collect();
    let mut panels = Vec::new();
    for n in sizes(rows.iter().map(|row| row.n)) {
        let rows: Vec<_> = rows.iter().copied().filter(|row| row.n == n).collect();
        panels.push(stage_panel(n, &rows)?);
    }
    let names = Stages::default().named().into_iter().zip(STAGES);
    let legend = names.map(|((name, _), colour)| Ok((swatch(colour)?, name.to_owned())));
    let legend = legend.collect::<Result<_, String>>()?;
    let caption = "Where the time of a round trip goes, by size and payload".to_owned();
    Ok((!panels.is_empty()).then_some(Figure { caption, panels, legend }))
}

fn total(stages: &[(&str, f64)]) -> f64 {
    let sum: f64 = stages.iter().map(|(_, seconds)| seconds.max(0.0)).sum();
    if sum.is_finite() { sum } else { 0.0 }
}

fn stage_panel(n: usize, rows: &[&PayloadRow]) -> Result<(String, String), String> {
    let stages: Vec<_> = rows.iter().flat_map(|row| &row.stages_seconds).map(Stages::named).collect();
    let longest = stages.iter().map(|stages| total(stages)).fold(0.0, f64::max);
    let (factor, unit) = seconds_scale(longest);
    let bar = |row: &PayloadRow, stages: &[(&str, f64)]| Bar {
        name: row.payload.name().to_owned(),
        total: seconds(total(stages)),
        pieces: stages.iter().zip(STAGES).map(|((_, seconds), colour)| (colour, seconds * factor)).collect(),
    };
    let bars: Vec<_> = rows.iter().zip(&stages).map(|(row, stages)| bar(row, stages)).collect();
    let axis = Axis::linear(&format!("time,{unit}"), std::iter::once(longest * factor), short);
    let heading = format!("n = {n}");
    let name = format!("Stages of a round trip, {heading}");
    let drawing = svg((WIDTH, bars::height(bars.len())), Some(&name), |area| bars::draw(area, &axis, &bars))?;
    Ok((heading, drawing))
}

/// A tick: no zeros behind the point.
fn short(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some(_) if !text.contains('e') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => text,
    }
}

/// A tick of a logarithmic axis of times.
fn short_seconds(value: f64) -> String {
    let (factor, unit) = seconds_scale(value);
    format!("{}{unit}", short(value * factor))
}

/// Time of one solution against n, a panel for each number of threads; none without figures.
///
/// # Errors
/// In words, if it can't be drawn.
pub fn compute(report: &Report) -> Result<Option<Figure>, String> {
    let rows: Vec<_> = report.compute.iter().filter(|row| row.seconds.is_some()).collect();
    let mut names: Vec<&str> = Vec::new();
    for row in &rows {
        if !names.contains(&row.contestant.as_str()) {
            names.push(&row.contestant);
        }
    }
    names.sort_by_key(|name| (*name != OURS, published(name)));
    let looks: Vec<_> = names.iter().enumerate().map(|(index, name)| (*name, contestant_look(name, index))).collect();
    let measured = rows.iter().filter(|row| !published(&row.contestant));
    let mut threads = sizes(measured.map(|row| row.threads));
    if threads.is_empty() {
        threads = sizes(rows.iter().map(|row| row.threads));
    }
    let mut panels = Vec::new();
    let ns: Vec<_> = sizes(rows.iter().map(|row| row.n)).into_iter().map(|n| n as f64).collect();
    let x = Axis::log_at("unknowns n", &ns, 10.0);
    for &of in &threads {
        // Published figures of a number of threads that nobody here has stand beside the most threads.
        let shown =
            |row: &ComputeRow| row.threads == of || (!threads.contains(&row.threads) && threads.last() == Some(&of));
        let line = |(name, look): &(&str, Look)| {
            let mut own: Vec<_> = rows.iter().filter(|row| row.contestant == *name && shown(row)).collect();
            own.sort_by_key(|row| row.n);
            let points = own.iter().map(|row| row.seconds.as_ref().map(|spread| point(row.n, spread)));
            Series { name: plain(name), look: *look, points: points.collect() }
        };
        let series: Vec<_> = looks.iter().map(line).collect();
        let y = Axis::log("time of one solution", ys(&series), short_seconds);
        panels.push(panel(count(of, "thread"), "Time of one solution against n", &x, &y, &series)?);
    }
    let legend = legend(looks.into_iter().map(|(name, look)| (plain(name), look)).collect())?;
    let caption = "Time of one solution against n, by threads; bars from quartile to quartile".to_owned();
    Ok((!panels.is_empty()).then_some(Figure { caption, panels, legend }))
}

fn contestant_look(name: &str, index: usize) -> Look {
    let look = look(index);
    if published(name) { Look { colour: GREY, dashed: true, ..look } } else { look }
}

/// Throughput and efficiency against what is varied, two panels for each; none without figures.
///
/// # Errors
/// In words, if it can't be drawn.
pub fn pool(report: &Report) -> Result<Option<Figure>, String> {
    let ns = sizes(report.pool.iter().map(|row| row.n));
    let looks: Vec<_> = ns.iter().enumerate().map(|(index, n)| (*n, look(index))).collect();
    let mut panels = Vec::new();
    panels.extend(sweep(report, &looks, Sweep::Workers, "workers", |row| Some(row.workers))?);
    panels.extend(sweep(report, &looks, Sweep::InFlight, "tasks in flight", |row| Some(row.in_flight))?);
    panels.extend(sweep(report, &looks, Sweep::Prefetch, "messages taken ahead", |row| row.prefetch.map(usize::from))?);
    let legend = legend(looks.into_iter().map(|(n, look)| (format!("n = {n}"), look)).collect())?;
    let caption =
        "Throughput, and the share of the slots' time that is computing; bars from quartile to quartile".to_owned();
    Ok((!panels.is_empty()).then_some(Figure { caption, panels, legend }))
}

/// The two panels of one sweep; none if there is but one value, which shows nothing of how the pool depends on it.
fn sweep(
    report: &Report,
    looks: &[(usize, Look)],
    sweep: Sweep,
    name: &str,
    value: fn(&PoolRow) -> Option<usize>,
) -> Result<Vec<(String, String)>, String> {
    let rows: Vec<_> = report.pool.iter().filter(|row| row.sweep == sweep).collect();
    let xs: Vec<_> = sizes(rows.iter().filter_map(|row| value(row))).into_iter().map(|x| x as f64).collect();
    if xs.len() < 2 {
        return Ok(Vec::new());
    }
    let series = |of: fn(&PoolRow) -> &Spread| -> Vec<Series> {
        let line = |(n, look): &(usize, Look)| {
            let mut own: Vec<_> = rows.iter().filter(|row| row.n == *n).collect();
            own.sort_by_key(|row| value(row));
            let points = own.iter().filter_map(|row| Some(Some(point(value(row)?, of(row)))));
            Series { name: format!("n = {n}"), look: *look, points: points.collect() }
        };
        looks.iter().map(line).collect()
    };
    let x = Axis::places(name, &xs);
    let rates = series(|row| &row.tasks_per_second);
    let shares = series(|row| &row.efficiency);
    let rate = Axis::log("tasks/s", ys(&rates), short);
    let share = Axis::linear("efficiency", ys(&shares).chain([1.0]), |value| format!("{:.0} %", 100.0 * value));
    Ok(vec![
        panel(format!("throughput against {name}"), "Pool", &x, &rate, &rates)?,
        panel(format!("efficiency against {name}"), "Pool", &x, &share, &shares)?,
    ])
}

/// From which n on a pool pays, against its workers; none if it never does.
///
/// # Errors
/// In words, if it can't be drawn.
pub fn break_even(part: &BreakEven) -> Result<Option<Figure>, String> {
    let mut points = part.points.clone();
    points.sort_by_key(|point| point.workers);
    let workers: Vec<_> = points.iter().map(|point| point.workers as f64).collect();
    let line = |name: &str, index: usize, of: fn(&crate::bench::model::Point) -> Option<f64>| {
        let at = |from: &crate::bench::model::Point| {
            let n = of(from)?;
            Some(Point { x: from.workers as f64, y: n, lower: n, upper: n })
        };
        Series { name: name.to_owned(), look: look(index), points: points.iter().map(at).collect() }
    };
    let series = [line("one by one", 1, |point| point.alone_n), line("in a stream", 0, |point| point.stream_n)];
    if ys(&series).next().is_none() {
        return Ok(None);
    }
    let x = Axis::log_at("workers like this machine", &workers, 2.0);
    let y = Axis::log("unknowns n", ys(&series), short);
    let heading = "above a line the pool is faster".to_owned();
    let panels = vec![panel(heading, "Break-even n against workers", &x, &y, &series)?];
    let legend = legend(series.into_iter().map(|line| (line.name, line.look)).collect())?;
    let caption = "From which n on a pool is faster than this machine; where a line is missing it never is".to_owned();
    Ok(Some(Figure { caption, panels, legend }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::sample;

    fn panels(figure: Result<Option<Figure>, String>) -> Vec<(String, String)> {
        figure.unwrap().unwrap().panels
    }

    #[test]
    fn stages_have_a_panel_for_each_size() {
        let figure = stages(&sample::report()).unwrap().unwrap();
        let headings: Vec<_> = figure.panels.iter().map(|(heading, _)| heading.as_str()).collect();
        assert_eq!(headings, ["n = 10", "n = 100", "n = 1000", "n = 5000"]);
        assert_eq!(figure.legend.len(), 7);
    }

    #[test]
    fn compute_has_a_panel_for_each_number_of_threads() {
        let figure = compute(&sample::report()).unwrap().unwrap();
        assert_eq!(figure.panels.len(), 2);
        assert_eq!(figure.legend[0].1, "rabbitry");
        assert_eq!(figure.legend.len(), 5);
    }

    #[test]
    fn published_figures_are_shown_though_nobody_has_as_many_threads() {
        let mut report = sample::report();
        for row in report.compute.iter_mut().filter(|row| published(&row.contestant)) {
            row.threads = 3;
        }
        let shown = panels(compute(&report));
        assert_eq!(shown.len(), 2);
        assert!(shown[1].1.len() > shown[0].1.len());
    }

    #[test]
    fn a_curve_that_is_never_above_is_not_drawn() {
        let mut part = sample::report().break_even.unwrap();
        assert!(break_even(&part).unwrap().is_some());
        for point in &mut part.points {
            (point.alone_n, point.stream_n) = (None, None);
        }
        assert!(break_even(&part).unwrap().is_none());
    }

    #[test]
    fn a_report_without_parts_has_no_plots() {
        let report = sample::empty();
        assert!(stages(&report).unwrap().is_none());
        assert!(compute(&report).unwrap().is_none());
        assert!(pool(&report).unwrap().is_none());
    }

    #[test]
    fn figures_of_zero_and_one_sample_are_drawn_without_nan() {
        let mut report = sample::report();
        for row in &mut report.compute {
            row.seconds = Some(sample::once(0.0));
        }
        for row in &mut report.pool {
            (row.tasks_per_second, row.efficiency) = (sample::once(0.0), sample::once(0.0));
        }
        report.pool[0].efficiency = sample::spread(f64::NAN);
        for row in &mut report.payload {
            row.stages_seconds = Some(Default::default());
        }
        assert!(stages(&report).unwrap().is_none());
        for (_, drawing) in panels(compute(&report)).into_iter().chain(panels(pool(&report))) {
            assert!(!drawing.contains("NaN") && !drawing.contains("inf") && !drawing.contains("-2147483648"));
        }
    }

    #[test]
    fn every_panel_has_a_name_for_those_who_cannot_see_it() {
        for (heading, drawing) in panels(pool(&sample::report())) {
            assert!(drawing.starts_with(&format!("<svg role=\"img\" aria-label=\"Pool, {heading}\" ")), "{drawing}");
            assert!(drawing.contains(&format!("<title>Pool, {heading}</title>")));
        }
    }
}
