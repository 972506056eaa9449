//! Two reports of the same benchmarks, figure by figure: what became slower, what faster.
//!
//! A figure counts as slower or faster only if the interquartile ranges lie apart *and* the medians differ by more than
//! 5 %: on a busy machine either alone happens by chance.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::columns::{lay_out, wrap};
use super::figures::{self, Better, Figure, Key, Value};
use super::format::{self, NONE, Unit, plain};
use super::sheets::{Column, Row, Sheet};
use super::summary::published;
use crate::bench::model::{Payload, Report, Spread};

/// Medians nearer to each other than this count as the same.
const TOLERANCE: f64 = 1.05;

/// The width for which [`Comparison`] is displayed.
const WIDTH: usize = 110;

/// At most so many figures that only one report has are listed for people.
const LISTED: usize = 10;

/// What came of a comparison.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// When the old run began, and its version.
    pub old: String,
    /// The same of the new one.
    pub new: String,
    /// What else differs than the program: figures of two machines or settings say little about it.
    pub warnings: Vec<String>,
    /// The figures that both have.
    pub changes: Vec<Change>,
    /// Measured figures that only the old report has.
    pub only_old: Vec<String>,
    /// Measured figures that only the new report has.
    pub only_new: Vec<String>,
}

/// One figure of both.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Change {
    /// What it is of.
    #[serde(flatten)]
    pub key: Key,
    /// In what.
    pub unit: &'static str,
    /// Median of the old report.
    pub old: f64,
    /// Median of the new one.
    pub new: f64,
    /// The new one is so many times as fast: above 1 is better, whatever is measured. `null` where it says nothing: a
    /// size, an error, a median of 0.
    pub times_as_fast: Option<f64>,
    /// What to make of it.
    pub mark: Mark,
}

/// What to make of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// More than 5 %, and the interquartile ranges lie apart.
    Slower,
    /// The same the other way.
    Faster,
    /// Neither.
    Same,
    /// There is nothing to judge it by: no quartiles on one side, or no matter of speed.
    Unjudged,
}

impl Mark {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Mark::Slower => "slower",
            Mark::Faster => "faster",
            Mark::Same => "same",
            Mark::Unjudged => "unjudged",
        }
    }
}

/// Compares a new report with an old one.
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let (old_figures, new_figures) = (found(old), found(new));
    let before: HashMap<_, _> = old_figures.iter().map(|figure| (&figure.key, figure)).collect();
    let after: HashSet<_> = new_figures.iter().map(|figure| &figure.key).collect();
    let changes = new_figures.iter().filter_map(|figure| change(before.get(&figure.key)?, figure));
    // Sizes and stages come and go with the figure of their row, which stands for them.
    let measured = |figure: &&Figure| matches!(figure.value, Value::Spread(_));
    let only_old = old_figures.iter().filter(measured).filter(|figure| !after.contains(&figure.key));
    let only_new = new_figures.iter().filter(measured).filter(|figure| !before.contains_key(&figure.key));
    Comparison {
        old: title(old),
        new: title(new),
        warnings: warnings(old, new),
        changes: changes.collect(),
        only_old: only_old.map(|figure| name(&figure.key)).collect(),
        only_new: only_new.map(|figure| name(&figure.key)).collect(),
    }
}

/// The figures that there are. Published ones are the same in every report.
fn found(report: &Report) -> Vec<Figure> {
    let mut figures = figures::all(report);
    figures.retain(|figure| {
        let fixed = figure.key.contestant.as_deref().is_some_and(published);
        !fixed && !matches!(figure.value, Value::Missing(_))
    });
    figures
}

fn title(report: &Report) -> String {
    plain(&format!("{}, rabbitry {}", report.started, report.machine.rabbitry))
}

fn change(old: &Figure, new: &Figure) -> Option<Change> {
    let (before, after) = (median(&old.value)?, median(&new.value)?);
    let times_as_fast = match new.better {
        Better::Less => format::ratio(before, after),
        Better::More => format::ratio(after, before),
        Better::Neither => None,
    };
    let mark = match (&old.value, &new.value, times_as_fast) {
        (Value::Spread(old), Value::Spread(new), Some(times)) => mark(old, new, times),
        _ => Mark::Unjudged,
    };
    Some(Change { key: new.key.clone(), unit: new.unit, old: before, new: after, times_as_fast, mark })
}

fn median(value: &Value) -> Option<f64> {
    match value {
        Value::Spread(spread) => Some(spread.median),
        Value::Single(number) => Some(*number),
        Value::Missing(_) => None,
    }
    .filter(|median| median.is_finite())
}

fn mark(old: &Spread, new: &Spread, times_as_fast: f64) -> Mark {
    if old.count < 2 || new.count < 2 {
        return Mark::Unjudged;
    }
    let apart = new.lower > old.upper || new.upper < old.lower;
    match times_as_fast {
        times if apart && times * TOLERANCE < 1.0 => Mark::Slower,
        times if apart && times > TOLERANCE => Mark::Faster,
        _ => Mark::Same,
    }
}

/// What of machine and settings differs, in words.
fn warnings(old: &Report, new: &Report) -> Vec<String> {
    let (before, after) = (&old.machine, &new.machine);
    let (asked, asks) = (&old.settings, &new.settings);
    let list = |names: &[String]| if names.is_empty() { NONE.to_owned() } else { names.join(", ") };
    let numbers = |sizes: &[usize]| list(&sizes.iter().map(usize::to_string).collect::<Vec<_>>());
    let forms = |payloads: &[Payload]| list(&payloads.iter().map(|form| form.name().to_owned()).collect::<Vec<_>>());
    let optional = |name: &Option<String>| name.clone().unwrap_or_else(|| NONE.to_owned());
    let pairs = [
        ("host", before.host.clone(), after.host.clone()),
        ("processor", before.cpu.clone(), after.cpu.clone()),
        ("cores", before.cores.to_string(), after.cores.to_string()),
        ("governor", optional(&before.governor), optional(&after.governor)),
        ("kernel of the solver", before.kernel.clone(), after.kernel.clone()),
        ("broker's version", optional(&before.broker), optional(&after.broker)),
        ("workers that ran already", before.workers.len().to_string(), after.workers.len().to_string()),
        ("broker", asked.broker.clone(), asks.broker.clone()),
        ("sizes", numbers(&asked.sizes), numbers(&asks.sizes)),
        ("payloads", forms(&asked.payloads), forms(&asks.payloads)),
        ("baselines", list(&asked.baselines), list(&asks.baselines)),
        ("peers", list(&asked.peers), list(&asks.peers)),
        ("rounds", asked.rounds.to_string(), asks.rounds.to_string()),
        ("seed", asked.seed.to_string(), asks.seed.to_string()),
    ];
    let differing = pairs.into_iter().filter(|(_, old, new)| old != new);
    let mut warnings: Vec<_> = differing
        .map(|(what, old, new)| plain(&format!("not the same {what}: {old} in the old report, {new} in the new one")))
        .collect();
    for (name, report) in [("old", old), ("new", new)] {
        if !report.complete {
            warnings.push(format!("the {name} report is incomplete: its figures are of fewer rounds"));
        }
    }
    warnings
}

/// `payload n=1000 json: round_trip`.
fn name(key: &Key) -> String {
    let mut words = vec![key.part.to_owned()];
    let mut number = |name: &str, number: Option<usize>| words.extend(number.map(|number| format!("{name}={number}")));
    number("n", key.n);
    number("threads", key.threads);
    number("workers", key.workers);
    // One slot for each worker is what is usual.
    number("slots", key.slots.filter(|slots| Some(*slots) != key.workers));
    number("in-flight", key.in_flight);
    number("prefetch", key.prefetch.map(usize::from));
    words.extend(key.contestant.clone());
    words.extend(key.payload.map(ToOwned::to_owned));
    plain(&format!("{}: {}", words.join(" "), key.figure))
}

impl Comparison {
    /// How many figures became slower.
    pub fn slower(&self) -> usize {
        self.marked(Mark::Slower)
    }

    /// How many became faster.
    pub fn faster(&self) -> usize {
        self.marked(Mark::Faster)
    }

    fn marked(&self, mark: Mark) -> usize {
        self.changes.iter().filter(|change| change.mark == mark).count()
    }

    /// The figures that are judged, and the stages of those round trips that changed.
    fn sheet(&self) -> Sheet {
        let shown = self.changes.iter().filter(|change| change.mark != Mark::Unjudged || self.explains(change));
        let row = |change: &Change| {
            let figure = |value: f64| match change.unit {
                "s" => format::seconds(value),
                "1/s" => format::figure(value, Unit::Rate) + "/s",
                _ => format::number(value),
            };
            let mark = if change.mark == Mark::Unjudged { NONE } else { change.mark.name() };
            let (old, new) = (figure(change.old), figure(change.new));
            let cells = vec![name(&change.key), old, new, format::times(change.times_as_fast), mark.to_owned()];
            Row { cells, note: None }
        };
        let column = |head: &'static str, right: bool| Column { head, right };
        Sheet {
            caption: "Medians; above 1x the new one is faster".to_owned(),
            columns: vec![
                column("figure", false),
                column("old", true),
                column("new", true),
                column("times as fast", true),
                column("mark", false),
            ],
            rows: shown.map(row).collect(),
        }
    }

    /// Whether this is a stage of a round trip that changed: it shows where.
    fn explains(&self, stage: &Change) -> bool {
        let changed = |mark: Mark| matches!(mark, Mark::Slower | Mark::Faster);
        let whole = Key { figure: "round_trip", ..stage.key.clone() };
        stage.key.figure.starts_with("stage_")
            && self.changes.iter().any(|change| change.key == whole && changed(change.mark))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            for line in wrap(&format!("warning: {warning}"), WIDTH) {
                writeln!(f, "{line}")?;
            }
        }
        if !self.warnings.is_empty() {
            writeln!(f, "warning: a change below may come from that and not from the program\n")?;
        }
        writeln!(f, "old             {}", self.old)?;
        writeln!(f, "new             {}", self.new)?;
        let sheet = self.sheet();
        if sheet.rows.is_empty() {
            writeln!(
                f,
                "\nThe reports have no figure with quartiles in common; run both with the same parts and sizes."
            )?;
        } else {
            write!(f, "\n{}", lay_out(&sheet, WIDTH))?;
        }
        for (which, names) in [("old", &self.only_old), ("new", &self.only_new)] {
            if !names.is_empty() {
                writeln!(f, "\nOnly in the {which} report: {}", format::count(names.len(), "figure"))?;
            }
            for name in names.iter().take(LISTED) {
                wrap(name, WIDTH - 2).iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            }
            if names.len() > LISTED {
                writeln!(f, "  ... and {} more", names.len() - LISTED)?;
            }
        }
        let (slower, faster, same) = (self.slower(), self.faster(), self.marked(Mark::Same));
        writeln!(f, "\n{slower} slower, {faster} faster, {same} the same")
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// The change of one round trip whose spread is edited.
    fn edited(edit: impl FnOnce(&mut Spread)) -> (Comparison, Change) {
        let (old, mut new) = (sample::report(), sample::report());
        edit(new.payload[3].round_trip_seconds.as_mut().unwrap());
        let comparison = compare(&old, &new);
        let of = |change: &&Change| change.key.figure == "round_trip" && change.key.n == Some(100);
        let change = comparison.changes.iter().find(of).unwrap().clone();
        (comparison, change)
    }

    fn scale(spread: &mut Spread, by: f64) {
        *spread = sample::spread(spread.median * by);
    }

    #[test]
    fn a_report_is_the_same_as_itself() {
        let comparison = compare(&sample::report(), &sample::report());
        assert_eq!((comparison.slower(), comparison.faster()), (0, 0));
        assert!(comparison.warnings.is_empty() && comparison.only_old.is_empty() && comparison.only_new.is_empty());
        assert!(comparison.changes.len() > 100);
        assert!(comparison.to_string().contains("0 slower, 0 faster"));
    }

    #[test]
    fn a_time_that_grew_beyond_its_quartiles_is_slower() {
        let (comparison, change) = edited(|spread| scale(spread, 2.0));
        assert_eq!((change.mark, comparison.slower()), (Mark::Slower, 1));
        assert_eq!(change.times_as_fast, Some(0.5));
        assert!(comparison.to_string().contains("payload n=100 binary: stage_queue"), "{comparison}");
    }

    #[test]
    fn a_time_that_shrank_is_faster() {
        let (comparison, change) = edited(|spread| scale(spread, 0.5));
        assert_eq!((change.mark, change.times_as_fast, comparison.faster()), (Mark::Faster, Some(2.0), 1));
    }

    #[test]
    fn a_rate_that_shrank_is_slower() {
        let (old, mut new) = (sample::report(), sample::report());
        scale(&mut new.pool[0].tasks_per_second, 0.5);
        let comparison = compare(&old, &new);
        assert_eq!(comparison.slower(), 1);
        let slower = comparison.changes.iter().find(|change| change.mark == Mark::Slower).unwrap();
        assert_eq!(slower.times_as_fast, Some(0.5));
    }

    #[test]
    fn quartiles_that_overlap_are_the_same() {
        let (_, change) = edited(|spread| spread.median *= 1.2);
        assert_eq!(change.mark, Mark::Same);
    }

    #[test]
    fn a_change_of_a_few_percent_is_the_same() {
        let narrow = |spread: &mut Spread, by: f64| {
            let median = spread.median * by;
            *spread = Spread { lower: median * 0.999, upper: median * 1.001, ..sample::spread(median) };
        };
        let (mut old, mut new) = (sample::report(), sample::report());
        narrow(old.payload[0].round_trip_seconds.as_mut().unwrap(), 1.0);
        narrow(new.payload[0].round_trip_seconds.as_mut().unwrap(), 1.04);
        assert_eq!(compare(&old, &new).slower(), 0);
        narrow(new.payload[0].round_trip_seconds.as_mut().unwrap(), 1.02);
        assert_eq!(compare(&old, &new).slower(), 1);
    }

    #[test]
    fn one_sample_is_not_judged() {
        let (_, change) = edited(|spread| *spread = sample::once(spread.median * 10.0));
        assert_eq!(change.mark, Mark::Unjudged);
    }

    #[test]
    fn a_median_of_zero_has_no_ratio() {
        let (comparison, change) = edited(|spread| *spread = sample::spread(0.0));
        assert_eq!((change.times_as_fast, change.mark), (None, Mark::Unjudged));
        let json = serde_json::to_value(&comparison).unwrap();
        assert_eq!(json["changes"][0]["part"], "payload");
    }

    #[test]
    fn another_machine_or_setting_is_warned_of_first() {
        let (old, mut new) = (sample::report(), sample::report());
        new.machine.cores = 2;
        new.settings.rounds = 5;
        new.complete = false;
        let text = compare(&old, &new).to_string();
        assert!(
            text.starts_with(
                "warning: not the same cores: 8 in the old report, 2 in the new one\nwarning: not the same rounds: 30"
            ),
            "{text}"
        );
        assert!(text.contains("the new report is incomplete"), "{text}");
    }

    #[test]
    fn a_figure_that_is_gone_is_named() {
        let (old, mut new) = (sample::report(), sample::report());
        new.payload[3].round_trip_seconds = None;
        new.payload[3].missing = Some("it failed".to_owned());
        let comparison = compare(&old, &new);
        assert_eq!(comparison.only_old, ["payload n=100 binary: round_trip"]);
        assert!(comparison.to_string().contains("Only in the old report: 1 figure\n"), "{comparison}");
    }

    #[test]
    fn reports_without_a_common_figure_say_what_to_do() {
        let text = compare(&sample::report(), &sample::empty()).to_string();
        assert!(text.contains("no figure with quartiles in common"), "{text}");
        assert!(text.contains("  ... and "), "{text}");
    }

    #[test]
    fn published_figures_are_not_compared() {
        let comparison = compare(&sample::report(), &sample::report());
        assert!(!comparison.to_string().contains("published"));
    }
}
