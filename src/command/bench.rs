//! `boss bench` and `boss estimate`: measurements in, reports out.

use std::io::IsTerminal;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::exit;
use crate::bench::{self, Place, Plan, Question, report};
use crate::broker::Error;

/// Columns of a report that no terminal reads.
const WIDTH: usize = 120;

/// Where a report goes.
#[derive(Clone, Debug)]
pub struct Output {
    /// The folder for the files.
    pub out: Option<PathBuf>,
    /// The `report.json` to compare with.
    pub compare: Option<PathBuf>,
    /// Whether a script reads what is printed.
    pub json: bool,
}

/// What to find out by measuring.
#[derive(Clone, Debug)]
pub enum Measure {
    /// `boss bench`.
    Bench(Box<Plan>, Output),
    /// `boss estimate`.
    Estimate {
        /// Of what.
        question: Question,
        /// Whether a script reads what is printed.
        json: bool,
    },
}

impl Measure {
    /// Measures, prints, and gives the exit code.
    ///
    /// # Errors
    /// The broker's, at the first connection.
    pub async fn run(self, place: Place, stop: &CancellationToken) -> Result<u8, Error> {
        match self {
            Measure::Bench(plan, output) => run(*plan, place, &output, stop).await,
            Measure::Estimate { question, json } => estimate(question, place, json, stop).await,
        }
    }
}

/// Measures, prints the report, writes the files.
async fn run(plan: Plan, place: Place, output: &Output, stop: &CancellationToken) -> Result<u8, Error> {
    // First: a wrong file or folder needs no two minutes to be found out.
    let old = match output.compare.as_deref().map(report::read).transpose() {
        Ok(old) => old,
        Err(why) => return Ok(exit::usage(&why)),
    };
    if let Some(folder) = &output.out
        && let Err(error) = std::fs::create_dir_all(folder)
    {
        let why = format!("{}: the folder can't be made: {error}; name one that you may write to", folder.display());
        return Ok(exit::usage(&why));
    }
    let (found, is_whole) = match bench::run(plan, place, stop).await {
        Err(_) if stop.is_cancelled() => return Ok(exit::INTERRUPTED),
        done => done?,
    };
    let mut code = if is_whole { exit::OK } else { exit::FAILED };
    if let Some(folder) = &output.out {
        match report::write(&found, folder) {
            Ok(paths) => paths.iter().for_each(|path| eprintln!("boss: wrote {}", path.display())),
            Err(why) => {
                eprintln!("boss: {why}");
                code = exit::FAILED;
            }
        }
    }
    let comparison = old.map(|old| report::compare(&old, &found));
    let text = match (&comparison, output.json) {
        (Some(comparison), true) => serde_json::to_string(comparison).map_err(|error| error.to_string()),
        (None, true) => report::json(&found),
        (Some(comparison), false) => Ok(report::table(&found, width()) + "\n" + &comparison.to_string()),
        (None, false) => Ok(report::table(&found, width())),
    };
    let text = text.map_err(Error::Lost)?;
    let printed = super::print(&(text.trim_end().to_owned() + "\n"));
    Ok(match () {
        () if stop.is_cancelled() => exit::INTERRUPTED,
        () if !printed || comparison.is_some_and(|comparison| comparison.slower() > 0) => exit::FAILED,
        () => code,
    })
}

fn width() -> usize {
    if std::io::stdout().is_terminal() {
        terminal_size::terminal_size().map_or(WIDTH, |(width, _)| usize::from(width.0).max(80))
    } else {
        WIDTH
    }
}

async fn estimate(question: Question, place: Place, json: bool, stop: &CancellationToken) -> Result<u8, Error> {
    let Some(estimate) = stop.run_until_cancelled(bench::estimate(question, place)).await else {
        return Ok(exit::INTERRUPTED);
    };
    let estimate = estimate?;
    let text = match serde_json::to_string(&estimate) {
        Ok(document) if json => document + "\n",
        _ => estimate.to_string(),
    };
    Ok(if super::print(&text) { exit::OK } else { exit::FAILED })
}
