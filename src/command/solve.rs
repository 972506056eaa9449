//! `boss solve`: systems in, answers and a report out.

use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::exit;
use super::hint::Hints;
use super::report::Report;
use crate::boss::{Boss, Submit};
use crate::files;
use crate::task::{Format, Outcome, Task, TaskError, TaskId};
pub use crate::tasks::solve::{Choice, How};
use crate::tasks::solve::{Solution, System, flops};

/// Nothing answered for so long: look whether anybody works at all.
const HINT_AFTER: Duration = Duration::from_secs(2);

/// The bar moves so often.
const REDRAW: Duration = Duration::from_millis(100);

/// Units of the bar per task, so that it moves within one.
const BAR_UNITS: u64 = 1000;

/// Random systems to solve.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Unknowns.
    pub n: usize,
    /// Right-hand sides.
    pub nrhs: usize,
    /// How many systems.
    pub count: u64,
    /// System `i` is made from `seed + i`.
    pub seed: u64,
    /// By which method.
    pub how: How,
}

/// What to solve, as asked for.
#[derive(Clone, Debug)]
pub enum Input {
    /// Made here.
    Random(Random),
    /// From files.
    Files {
        /// A, n x n.
        a: PathBuf,
        /// B, n or n x m.
        b: PathBuf,
        /// Where X goes.
        x: PathBuf,
        /// By which method.
        how: How,
    },
}

/// What to solve, in memory.
pub enum Job {
    /// Made here.
    Random(Random),
    /// Read from files.
    System {
        /// A and B.
        system: System,
        /// Where X goes.
        x: PathBuf,
    },
}

impl Input {
    /// Reads the files, and makes sure that the output can be written, before anything else is begun.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(self) -> Result<Job, files::Error> {
        match self {
            Input::Random(random) => Ok(Job::Random(random)),
            Input::Files { a, b, x, how } => {
                files::check_output(&x)?;
                Ok(Job::System { system: System { a: files::read(&a)?, b: files::read(&b)?, how }, x })
            }
        }
    }
}

/// Solves, prints the report, writes the solution, and gives the exit code.
pub async fn run(boss: &Boss, job: Job, how: Submit, json: bool, stop: &CancellationToken) -> u8 {
    let mut written = true;
    let report = match job {
        Job::Random(input) => random(boss, input, how, stop).await,
        Job::System { system, x } => {
            let (report, solution) = one(boss, system, how, stop).await;
            if let Some(Err(error)) = solution.map(|solution| files::write(&x, &solution.x)) {
                eprintln!("boss: {error}");
                written = false;
            }
            report
        }
    };
    let printed = super::print(&match serde_json::to_string(&report) {
        Ok(document) if json => document + "\n",
        _ => report.to_string(),
    });
    match () {
        () if stop.is_cancelled() => exit::INTERRUPTED,
        () if report.failed == 0 && written && printed => exit::OK,
        () => exit::FAILED,
    }
}

/// Solves `count` random systems. They are made as the window has room for them, so memory does not grow with `count`.
async fn random(boss: &Boss, random: Random, how: Submit, stop: &CancellationToken) -> Report {
    let Random { n, nrhs, count, seed, how: by } = random;
    // As JSON a number takes up to 25 characters.
    let each = if how.format == Format::Binary { 8 } else { 25 };
    let bytes = |numbers: usize| (numbers as u64).saturating_mul(each);
    let (payload, answer) = (bytes(n.saturating_mul(n + nrhs)), bytes(n.saturating_mul(nrhs)));
    let mut run = Run::new(boss, count, flops(n, n, nrhs));
    let mut pace = Pace::new(payload);
    let mut outcomes = FuturesUnordered::new();
    let mut next = 0;
    while next < count || !outcomes.is_empty() {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(outcome) = outcomes.next() => { run.take(outcome); }
            room = boss.reserve(payload, answer), if next < count && outcomes.len() < pace.tasks(boss) => {
                let system = System::try_random(n, nrhs, seed.wrapping_add(next));
                match system.and_then(|system| room.submit(System { how: by, ..system }, how)) {
                    Ok(ticket) => {
                        run.id = (count == 1).then(|| ticket.id());
                        outcomes.push(ticket.outcome());
                    }
                    Err(error) => run.refuse(&error),
                }
                next += 1;
            }
            () = run.watch() => {}
        }
    }
    run.finish(count)
}

/// Solves one system and gives its solution, if there is one.
async fn one(boss: &Boss, system: System, how: Submit, stop: &CancellationToken) -> (Report, Option<Solution>) {
    let (m, n, nrhs) = (system.a.rows(), system.a.cols(), system.b.cols());
    let mut run = Run::new(boss, 1, flops(m, n, nrhs));
    let mut solution = None;
    match boss.submit(system, how).await {
        Ok(ticket) => {
            run.id = Some(ticket.id());
            let outcome = ticket.outcome();
            tokio::pin!(outcome);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    outcome = &mut outcome => { solution = run.take(outcome); break }
                    () = run.watch() => {}
                }
            }
        }
        Err(error) => run.refuse(&error),
    }
    (run.finish(1), solution)
}

/// How many random systems to have on their way: they can be made at any time, so no more than keep the pool busy.
/// Memory that is used again is several times faster than memory that is touched for the first time.
struct Pace {
    payload_bytes: u64,
    tasks: usize,
    looked: Option<Instant>,
}

impl Pace {
    /// Always worth having on the way, in bytes.
    const BYTES: u64 = 64 << 20;
    /// Workers come and go: look again after this.
    const LOOK: Duration = Duration::from_millis(200);

    fn new(payload_bytes: u64) -> Self {
        Pace { payload_bytes, tasks: 0, looked: None }
    }

    fn tasks(&mut self, boss: &Boss) -> usize {
        if self.looked.is_none_or(|looked| looked.elapsed() > Self::LOOK) {
            self.looked = Some(Instant::now());
            // What computes, what is prefetched, and what is on its way to either.
            let for_slots = 4 * boss.slots();
            self.tasks =
                usize::try_from(for_slots.max(Self::BYTES / self.payload_bytes.max(1))).unwrap_or(usize::MAX).max(4);
        }
        self.tasks
    }
}

/// A run of tasks: its bar, its report, and whether it seems stuck.
struct Run<'a> {
    boss: &'a Boss,
    bar: ProgressBar,
    /// On a terminal.
    drawn: bool,
    report: Report,
    flops_each: f64,
    started: Instant,
    last: Instant,
    looked: Instant,
    /// Of a run of one task, until it is told.
    id: Option<TaskId>,
    hints: Hints,
}

impl<'a> Run<'a> {
    fn new(boss: &'a Boss, count: u64, flops_each: f64) -> Self {
        // On stderr, so that stdout stays for the report; hidden where that is no terminal.
        let bar = ProgressBar::new(count.saturating_mul(BAR_UNITS));
        let style = "{bar:40} {tasks}  {rate}  {elapsed} + {eta} to go";
        // The template is a constant that the tests of this crate have drawn.
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        // There is nobody to tell when a bar can't be drawn.
        let style = style.with_key("tasks", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = out.write_str(&done_of(state.pos(), state.len().unwrap_or(0)));
        });
        bar.set_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{:.1} tasks/s", state.per_sec() / BAR_UNITS as f64);
        }));
        let drawn = std::io::stderr().is_terminal();
        if drawn {
            bar.enable_steady_tick(REDRAW);
        }
        let now = Instant::now();
        let (report, id, hints) = (Report::default(), None, Hints::default());
        Run { boss, bar, drawn, report, flops_each, started: now, last: now, looked: now, id, hints }
    }

    fn take(&mut self, outcome: Outcome<Solution>) -> Option<Solution> {
        self.last = Instant::now();
        if let Some(worker) = &outcome.worker {
            self.report.computed_by(worker, outcome.compute_seconds);
        }
        let solution = match outcome.result {
            Ok(solution) => {
                self.report.answered(outcome.task, self.flops_each, &solution.certificate);
                Some(solution)
            }
            Err(error) => {
                self.report.failed(Some(outcome.task), &error);
                None
            }
        };
        self.advance();
        solution
    }

    fn refuse(&mut self, error: &TaskError) {
        self.report.failed(None, error);
        self.advance();
    }

    /// Moves the bar to what is done, the shares of running tasks included. It goes back when one begins anew.
    fn advance(&self) {
        let running = self.boss.progress() * BAR_UNITS as f64;
        self.bar.set_position(self.report.tasks.saturating_mul(BAR_UNITS).saturating_add(running as u64));
    }

    /// Returns now and then: the bar has moved, or nothing was answered for a while and why that may be has been said.
    async fn watch(&mut self) {
        let hint = self.last + HINT_AFTER;
        let next = if self.drawn { hint.min(self.looked + REDRAW) } else { hint };
        tokio::time::sleep_until(next.into()).await;
        self.looked = Instant::now();
        self.advance();
        if self.looked < hint {
            return;
        }
        self.last = self.looked;
        if let Some(id) = self.id.take().filter(|_| self.drawn) {
            self.say(&format!("the id of this task is {id} (for boss cancel)"));
        }
        if let Some(hint) = self.hints.look(self.boss, &System::KIND).await {
            self.say(&hint);
        }
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("boss: {text}"));
    }

    /// Counts what was not answered as failed, and works out the rates.
    fn finish(mut self, count: u64) -> Report {
        self.bar.finish_and_clear();
        self.report.finish(self.started.elapsed());
        self.report.interrupted(count);
        self.report
    }
}

/// What stands beside the bar, of positions in its units: a single task in per cent, few tasks with a fraction.
fn done_of(position: u64, length: u64) -> String {
    let tasks = length / BAR_UNITS;
    match tasks {
        0 | 1 => format!("{} %", position.min(length).saturating_mul(100) / length.max(1)),
        2..1000 => format!("{}.{}/{tasks} tasks", position / BAR_UNITS, position % BAR_UNITS / (BAR_UNITS / 10)),
        _ => format!("{}/{} tasks", HumanCount(position / BAR_UNITS), HumanCount(tasks)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_counts_within_a_task_where_that_is_seen() {
        for (position, length, text) in [
            (0, 1000, "0 %"),
            (999, 1000, "99 %"),
            (1000, 1000, "100 %"),
            (3_449, 16_000, "3.4/16 tasks"),
            (16_000, 16_000, "16.0/16 tasks"),
            (52_345_678, 100_000_000, "52,345/100,000 tasks"),
            (0, 0, "0 %"),
        ] {
            assert_eq!(done_of(position, length), text);
        }
    }
}
