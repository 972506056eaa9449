//! The tables of a report, cell by cell, as the terminal and the page both show them.
//!
//! Says what is in a cell and not how it is laid out.

use super::format::{self, NONE, Unit, plain};
use super::summary::{our_rate, ours, published, sizes};
use crate::bench::model::{BreakEven, ComputeRow, Part, PayloadRow, PeerRow, PoolRow, Report, Stages, Sweep};

/// A table.
#[derive(Debug, Default)]
pub struct Sheet {
    /// What it shows.
    pub caption: String,
    /// From left to right.
    pub columns: Vec<Column>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name, with the unit if all cells have the same.
    pub head: &'static str,
    /// Whether its cells are numbers, which stand at the right.
    pub right: bool,
}

/// A row.
#[derive(Debug, Default)]
pub struct Row {
    /// As many as there are columns; fewer if the others have nothing to show.
    pub cells: Vec<String>,
    /// Why it has no figures, or what else is to be said.
    pub note: Option<String>,
}

/// A part of the report.
#[derive(Debug)]
pub struct Section {
    /// Which.
    pub part: Part,
    /// Its heading.
    pub title: &'static str,
    /// Its tables; empty if it was not measured.
    pub sheets: Vec<Sheet>,
    /// In words: why there are no tables, or what they say.
    pub words: Vec<String>,
    /// What the names in the tables stand for.
    pub details: Vec<String>,
}

const fn left(head: &'static str) -> Column {
    Column { head, right: false }
}

const fn right(head: &'static str) -> Column {
    Column { head, right: true }
}

/// All parts, those without figures too.
pub fn sections(report: &Report) -> Vec<Section> {
    let mut sections = vec![
        section(Part::Payload, "Payload", payload(report)),
        section(Part::Compute, "Compute", compute(report)),
        section(Part::Pool, "Pool", pool(report)),
        section(Part::BreakEven, "Break-even", report.break_even.as_ref().map(break_even).unwrap_or_default()),
        section(Part::Peers, "Peers", peers(report)),
    ];
    for section in &mut sections {
        section.words = words(section, report).into_iter().map(|words| plain(&words)).collect();
        section.details = match section.part {
            Part::Compute => details(report.compute.iter().map(|row| (&*row.contestant, &*row.detail, row.n))),
            Part::Peers => details(report.peers.iter().map(|row| (&*row.peer, &*row.detail, row.n))),
            _ => Vec::new(),
        };
    }
    sections
}

fn section(part: Part, title: &'static str, sheets: Vec<Sheet>) -> Section {
    let sheets = sheets.into_iter().filter(|sheet| !sheet.rows.is_empty()).collect();
    Section { part, title, sheets, words: Vec::new(), details: Vec::new() }
}

fn words(section: &Section, report: &Report) -> Vec<String> {
    if section.part == Part::BreakEven {
        return match &report.break_even {
            Some(part) => part.sentences.clone(),
            None if !report.complete => vec!["Not worked out: the run ended before.".to_owned()],
            None if report.settings.broker == "embedded" => {
                vec!["Not worked out: nothing is sent away without --broker.".to_owned()]
            }
            None => vec!["Not worked out: not asked for, or a note says why.".to_owned()],
        };
    }
    match section.part {
        _ if section.sheets.is_empty() && !report.complete => {
            vec!["Not measured: the run ended before.".to_owned()]
        }
        _ if section.sheets.is_empty() => vec!["Not measured: not asked for, or a note says why.".to_owned()],
        Part::Compute if report.compute.iter().any(|row| published(&row.contestant)) => {
            vec!["Published figures are from another machine, and do not say of how many threads they are.".to_owned()]
        }
        _ => Vec::new(),
    }
}

fn row(keys: Vec<String>, figures: Vec<String>, missing: Option<&String>) -> Row {
    let mut cells = keys;
    let nothing = figures.iter().all(|figure| figure == NONE);
    let note = missing.map(|why| plain(why));
    if !(nothing && note.is_some()) {
        cells.extend(figures);
    }
    Row { cells: cells.iter().map(|cell| plain(cell)).collect(), note }
}

fn payload(report: &Report) -> Vec<Sheet> {
    let keys = |line: &PayloadRow| vec![line.n.to_string(), line.payload.name().to_owned()];
    let speed = |line: &PayloadRow| {
        let figures = vec![
            format::optional(line.round_trip_seconds.as_ref(), Unit::Seconds),
            format::optional(line.tasks_per_second.as_ref(), Unit::Rate),
        ];
        row(keys(line), figures, line.missing.as_ref())
    };
    let shares = |line: &PayloadRow| Some(row(keys(line), stage_shares(line.stages_seconds.as_ref()?)?, None));
    let amount = |bytes: Option<u64>| bytes.map_or_else(|| NONE.to_owned(), format::bytes);
    let memory = |line: &PayloadRow| {
        let peaks = [line.boss_peak_bytes, line.worker_peak_bytes];
        let amounts = [Some(line.task_bytes), Some(line.answer_bytes)].into_iter().chain(peaks);
        row(keys(line), amounts.map(amount).collect(), None)
    };
    let sheet = |caption: &str, columns: &[Column], rows: Vec<Row>| {
        let columns = [&[right("n"), left("payload")], columns].concat();
        Sheet { caption: caption.to_owned(), columns, rows }
    };
    let stage_columns = Stages::default().named().map(|(name, _)| right(name));
    let sizes = [right("task"), right("answer"), right("boss peak"), right("worker peak")];
    vec![
        sheet(
            "Payload: one task alone, and many in flight; median (quartiles)",
            &[left("round trip"), left("tasks/s")],
            report.payload.iter().map(speed).collect(),
        ),
        sheet(
            "Payload: where the round trip goes, in %",
            &stage_columns,
            report.payload.iter().filter_map(shares).collect(),
        ),
        sheet("Payload: size, and peak resident memory", &sizes, report.payload.iter().map(memory).collect()),
    ]
}

/// The stages in percent of their sum; none if that is no positive number.
fn stage_shares(of: &Stages) -> Option<Vec<String>> {
    let stages = of.named();
    let sum: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
    (sum > 0.0 && sum.is_finite()).then(|| {
        let shares = stages.iter().map(|(_, seconds)| format!("{:.1}", 100.0 * seconds / sum));
        shares.collect()
    })
}

fn compute(report: &Report) -> Vec<Sheet> {
    let line = |line: &ComputeRow| {
        let median = line.seconds.as_ref().map(|spread| spread.median);
        let times =
            median.zip(ours(report, line.n, line.threads)).and_then(|(theirs, ours)| format::ratio(theirs, ours));
        let keys = vec![
            line.n.to_string(),
            if line.threads == 0 { NONE.to_owned() } else { line.threads.to_string() },
            line.contestant.clone(),
        ];
        let figures = vec![
            format::optional(line.seconds.as_ref(), Unit::Seconds),
            format::times(times),
            format::error(line.backward_error),
        ];
        row(keys, figures, line.missing.as_ref())
    };
    let mut rows: Vec<_> = report.compute.iter().collect();
    rows.sort_by_key(|line| (line.n, line.threads));
    vec![Sheet {
        caption: "Compute: one solution, median (quartiles); ratio: their time / ours; error: backward".to_owned(),
        columns: vec![right("n"), right("threads"), left("contestant"), left("time"), right("ratio"), right("error")],
        rows: rows.into_iter().map(line).collect(),
    }]
}

fn pool(report: &Report) -> Vec<Sheet> {
    let sweeps =
        [(Sweep::Workers, "workers"), (Sweep::InFlight, "tasks in flight"), (Sweep::Prefetch, "messages taken ahead")];
    let rows = |sweep: Sweep| report.pool.iter().filter(|line| line.sweep == sweep).collect::<Vec<_>>();
    sweeps.map(|(sweep, varied)| sweep_sheet(sweep, varied, &rows(sweep))).into()
}

/// A setting of the pool that a column shows.
struct Setting {
    head: &'static str,
    of: fn(&PoolRow) -> Option<usize>,
    varied_by: Option<Sweep>,
}

const SETTINGS: [Setting; 4] = [
    Setting { head: "workers", of: |line| Some(line.workers), varied_by: Some(Sweep::Workers) },
    Setting { head: "slots", of: |line| Some(line.slots), varied_by: None },
    Setting { head: "in flight", of: |line| Some(line.in_flight), varied_by: Some(Sweep::InFlight) },
    Setting { head: "prefetch", of: |line| line.prefetch.map(usize::from), varied_by: Some(Sweep::Prefetch) },
];

/// The rows of one sweep. What is the same in all of them is said once, in the caption.
fn sweep_sheet(sweep: Sweep, varied: &str, rows: &[&PoolRow]) -> Sheet {
    let show = |setting: &Setting, line: &PoolRow| {
        (setting.of)(line).map_or_else(|| NONE.to_owned(), |value| value.to_string())
    };
    let fixed = |setting: &&Setting| {
        setting.varied_by != Some(sweep) && rows.windows(2).all(|pair| (setting.of)(pair[0]) == (setting.of)(pair[1]))
    };
    let (fixed, shown): (Vec<_>, Vec<_>) = SETTINGS.iter().partition(fixed);
    let mut caption = format!("Pool: {varied} varied");
    if let Some(first) = rows.first() {
        let known = fixed.iter().filter(|setting| (setting.of)(first).is_some());
        known.for_each(|setting| caption.push_str(&format!(", {} {}", setting.head, show(setting, first))));
    }
    let line = |line: &&PoolRow| {
        let settings = shown.iter().map(|setting| show(setting, line));
        let keys = std::iter::once(line.n.to_string()).chain(settings).collect();
        let figures =
            vec![format::spread(&line.tasks_per_second, Unit::Rate), format::spread(&line.efficiency, Unit::Share)];
        row(keys, figures, None)
    };
    let mut columns = vec![right("n")];
    columns.extend(shown.iter().map(|setting| right(setting.head)));
    columns.extend([left("tasks/s"), left("efficiency %")]);
    Sheet { caption: caption + "; median (quartiles)", columns, rows: rows.iter().map(line).collect() }
}

fn break_even(part: &BreakEven) -> Vec<Sheet> {
    let unknowns = |n: Option<f64>| n.map_or_else(|| "never".to_owned(), |n| format!("{n:.0}"));
    let points = part.points.iter().map(|point| {
        let cells = vec![point.workers.to_string(), unknowns(point.alone_n), unknowns(point.stream_n)];
        Row { cells, note: None }
    });
    let costs = part.measured.iter().map(|cost| {
        let seconds = [cost.local_seconds, cost.alone_seconds, cost.stream_seconds].map(format::seconds);
        Row { cells: [&[cost.n.to_string()], seconds.as_slice()].concat(), note: None }
    });
    vec![
        Sheet {
            caption: "Break-even: the n from which on a pool is faster than this machine".to_owned(),
            columns: vec![right("workers"), right("one by one, n"), right("stream, n")],
            rows: points.collect(),
        },
        Sheet {
            caption: "Break-even: a task solved here, and what sending it costs beside computing".to_owned(),
            columns: vec![right("n"), right("solved here"), right("sent one by one"), right("in a stream")],
            rows: costs.collect(),
        },
    ]
}

fn peers(report: &Report) -> Vec<Sheet> {
    let line = |line: &PeerRow| {
        let median = line.tasks_per_second.as_ref().map(|spread| spread.median);
        let times = our_rate(report, line).zip(median).and_then(|(ours, theirs)| format::ratio(ours, theirs));
        let keys = vec![line.n.to_string(), line.peer.clone(), line.count.to_string(), line.workers.to_string()];
        let figures = vec![
            format::optional(line.tasks_per_second.as_ref(), Unit::Rate),
            format::times(times),
            format::error(line.backward_error),
        ];
        row(keys, figures, line.missing.as_ref())
    };
    let mut rows: Vec<_> = report.peers.iter().collect();
    rows.sort_by_key(|line| line.n);
    vec![Sheet {
        caption: "Peers: the same job, median (quartiles); ratio: our throughput / theirs; error: backward".to_owned(),
        columns: vec![
            right("n"),
            left("peer"),
            right("systems"),
            right("workers"),
            left("tasks/s"),
            right("ratio"),
            right("error"),
        ],
        rows: rows.into_iter().map(line).collect(),
    }]
}

/// What each of the names stands for; with its sizes where that is not the same for all of them.
fn details<'a>(rows: impl Iterator<Item = (&'a str, &'a str, usize)>) -> Vec<String> {
    let mut known: Vec<(&str, &str, Vec<usize>)> = Vec::new();
    for (name, detail, n) in rows.filter(|(_, detail, _)| !detail.is_empty()) {
        match known.iter_mut().find(|(other, said, _)| (*other, *said) == (name, detail)) {
            Some((.., ns)) => ns.push(n),
            None => known.push((name, detail, vec![n])),
        }
    }
    let names: Vec<_> = known.iter().map(|(name, ..)| *name).collect();
    known.sort_by_key(|(name, ..)| names.iter().position(|other| other == name));
    let line = |(name, detail, ns): &(&str, &str, Vec<usize>)| {
        let several = names.iter().filter(|other| *other == name).count() > 1;
        let ns: Vec<_> = sizes(ns.iter().copied()).iter().map(usize::to_string).collect();
        let at = if several { format!(", n = {}", ns.join(", ")) } else { String::new() };
        plain(&format!("{name}{at}: {detail}"))
    };
    known.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::bench::model::Payload;

    fn sheets(report: &Report, part: Part) -> Vec<Sheet> {
        sections(report).into_iter().find(|section| section.part == part).unwrap().sheets
    }

    #[test]
    fn a_row_without_figures_says_why() {
        let payload = &sheets(&sample::report(), Part::Payload)[0];
        let row = payload.rows.iter().find(|row| row.note.is_some()).unwrap();
        assert_eq!(row.cells.len(), 2);
        assert!(row.note.as_deref().unwrap().contains("raise it to measure this"));
    }

    #[test]
    fn a_row_with_some_figures_shows_them_and_the_reason() {
        let mut report = sample::report();
        report.payload[0].tasks_per_second = None;
        report.payload[0].missing = Some("the stream was interrupted".to_owned());
        let row = &sheets(&report, Part::Payload)[0].rows[0];
        assert_eq!(row.cells.len(), 4);
        assert_eq!(row.cells[3], NONE);
        assert_eq!(row.note.as_deref(), Some("the stream was interrupted"));
    }

    #[test]
    fn theirs_is_divided_by_ours_of_the_same_size_and_threads() {
        let compute = &sheets(&sample::report(), Part::Compute)[0];
        let row = |name: &str| compute.rows.iter().find(|row| row.cells[0] == "1000" && row.cells[2] == name).unwrap();
        assert_eq!(row("rabbitry").cells[4], "1.00x");
        assert_eq!(row("eigen").cells[4], "2.10x");
    }

    #[test]
    fn ours_is_divided_by_theirs_among_peers() {
        let peers = &sheets(&sample::report(), Part::Peers)[0];
        assert_eq!(peers.rows[0].cells[5], "1.00x");
        assert_eq!(peers.rows[1].cells[5], "5.00x");
    }

    #[test]
    fn the_shares_of_the_stages_add_up() {
        let stages = Stages { encode: 1.0, compute: 2.0, reply: 1.0, ..Stages::default() };
        assert_eq!(stage_shares(&stages).unwrap(), ["25.0", "0.0", "0.0", "0.0", "0.0", "50.0", "25.0"]);
        assert_eq!(stage_shares(&Stages::default()), None);
    }

    #[test]
    fn a_part_that_is_not_there_says_why() {
        let mut report = sample::empty();
        let said = |report: &Report| -> Vec<_> { sections(report).into_iter().flat_map(|part| part.words).collect() };
        assert_eq!(said(&report)[0], "Not measured: not asked for, or a note says why.");
        assert_eq!(said(&report)[3], "Not worked out: nothing is sent away without --broker.");
        report.complete = false;
        assert!(said(&report).iter().all(|words| words.ends_with("the run ended before.")));
    }

    #[test]
    fn every_row_has_at_most_as_many_cells_as_columns() {
        let mut report = sample::report();
        report.payload.push(PayloadRow { payload: Payload::Json, ..report.payload[0].clone() });
        for sheet in sections(&report).into_iter().flat_map(|section| section.sheets) {
            assert!(sheet.rows.iter().all(|row| row.cells.len() <= sheet.columns.len()), "{sheet:?}");
            assert!(sheet.rows.iter().all(|row| row.cells.len() == sheet.columns.len() || row.note.is_some()));
        }
    }

    #[test]
    fn a_setting_that_never_changes_is_said_once() {
        let mut report = sample::report();
        let pool = sheets(&report, Part::Pool);
        assert_eq!(pool[0].caption, "Pool: workers varied, in flight 32, prefetch 2; median (quartiles)");
        assert_eq!(pool[0].columns.len(), 5);
        assert_eq!(
            pool[2].caption,
            "Pool: messages taken ahead varied, workers 8, slots 8, in flight 32; median (quartiles)"
        );
        report.pool[1].in_flight = 64;
        assert_eq!(sheets(&report, Part::Pool)[0].columns.len(), 6);
    }

    #[test]
    fn a_detail_names_its_sizes_if_there_are_several() {
        let rows =
            [("a", "LU", 10), ("b", "QR", 10), ("a", "LU", 20), ("a", "Cholesky", 30), ("b", "QR", 30), ("c", "", 1)];
        assert_eq!(details(rows.into_iter()), ["a, n = 10, 20: LU", "a, n = 30: Cholesky", "b: QR"]);
    }
}
