//! What the subcommands of `boss` do, over the public [`crate::boss::Boss`] and nothing below it.

pub mod bench;
pub mod cancel;
pub mod dead;
mod hint;
pub mod render;
pub mod report;
pub mod solve;
mod table;
pub mod workers;

use tokio_util::sync::CancellationToken;

use crate::boss::{Boss, Submit};

/// What to work on, as asked for.
#[derive(Clone, Debug)]
pub enum Input {
    /// `boss solve`.
    Solve(solve::Input),
    /// `boss render`.
    Render(render::Input),
}

/// What to work on, in memory.
pub enum Job {
    /// `boss solve`.
    Solve(solve::Job),
    /// `boss render`.
    Render(Box<render::Job>),
}

impl Input {
    /// Reads the files, and makes sure that the output can be written, before anything else is begun.
    ///
    /// # Errors
    /// What is wrong with which file, in words.
    pub fn load(self) -> Result<Job, String> {
        match self {
            Input::Solve(input) => input.load().map(Job::Solve).map_err(|error| error.to_string()),
            Input::Render(input) => input.load().map(|job| Job::Render(Box::new(job))),
        }
    }
}

impl Job {
    /// Works on it, prints the report, and gives the exit code.
    pub async fn run(self, boss: &Boss, how: Submit, json: bool, stop: &CancellationToken) -> u8 {
        match self {
            Job::Solve(job) => solve::run(boss, job, how, json, stop).await,
            Job::Render(job) => render::run(boss, *job, how, json, stop).await,
        }
    }
}

/// Writes to stdout; false if it is gone. A reader that has seen enough (`| head`) is no error worth words.
pub(crate) fn print(text: &str) -> bool {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match &written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("boss: can't write to stdout: {error}")
        }
        _ => {}
    }
    written.is_ok()
}

/// Exit codes that scripts rely on.
pub mod exit {
    /// All answers came and were right in form; the task was cancelled; all letters meant were retried or dropped.
    pub const OK: u8 = 0;
    /// A task failed, there was none to cancel, a letter was not found or stays, or the broker is not there.
    pub const FAILED: u8 = 1;
    /// Bad usage or unreadable input.
    pub const USAGE: u8 = 2;
    /// Interrupted by a signal.
    pub const INTERRUPTED: u8 = 130;

    /// Says what is wrong with the usage or the input, and gives the code of that.
    pub fn usage(why: &str) -> u8 {
        eprintln!("boss: {why}");
        USAGE
    }
}
