//! A solver that is another program, behind `benches/baselines/run.py` and its protocol of lines.
//!
//! The program lives from one round to the next: its start, its imports and its first page faults are in no figure.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long a program may take to end by itself once its stdin has.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running baseline. Ended when dropped.
pub struct Baseline {
    child: Child,
    /// `None` only while it is being dropped.
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// What it says of itself: version, BLAS, threads.
    pub identity: Identity,
}

/// The first line of a baseline.
#[derive(Deserialize)]
pub struct Identity {
    /// Of the library.
    pub version: String,
    /// The BLAS under it, or what it has in its place.
    pub blas: String,
    /// That it will use: asked of the library, not of the environment.
    pub threads: usize,
}

/// What a baseline did with one request.
#[derive(Deserialize)]
pub struct Answer {
    /// Of each call.
    pub seconds: Vec<f64>,
    /// Of the last X.
    pub backward_error: f64,
    /// The bits of A and B, summed up, in hex.
    pub fingerprint: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Baseline {
    /// Starts one that `make baselines` has set up. Fetches and builds nothing: a bench should not go to the network.
    ///
    /// # Errors
    /// Why there is none.
    pub fn start(name: &str, threads: usize) -> Result<Self, String> {
        let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baselines/run.py");
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(&python);
        command.arg(runner).args(["serve", "--no-setup", "--threads", &threads.to_string(), name]);
        // What a baseline that can't be had says on stderr comes in its line on stdout as well.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", python.to_string_lossy()))?;
        let requests = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("its stdout is piped"));
        let first = read(&mut answers);
        let unknown = Identity { version: String::new(), blas: String::new(), threads: 0 };
        // Made before the first line is looked at: dropped, and so ended, should that be an error.
        let mut baseline = Baseline { child, requests, answers, identity: unknown };
        baseline.identity = match first {
            Ok(identity) => identity,
            Err(Unread::Said(error)) => return Err(error),
            Err(Unread::Ended) => return Err(baseline.how_it_ended()),
        };
        if baseline.identity.threads != threads {
            return Err(format!("it uses {} threads, not {threads}", baseline.identity.threads));
        }
        Ok(baseline)
    }

    /// One request, and the answer to it.
    ///
    /// # Errors
    /// What the program says is wrong, or that it has ended.
    pub fn ask(&mut self, request: &str) -> Result<Answer, String> {
        let requests = self.requests.as_mut().expect("open until it is dropped");
        // A program that is gone reads no requests; whether it is, the missing answer says better.
        let _ = writeln!(requests, "{request}").and_then(|()| requests.flush());
        read(&mut self.answers).map_err(|error| match error {
            Unread::Said(error) => error,
            Unread::Ended => self.how_it_ended(),
        })
    }

    fn how_it_ended(&mut self) -> String {
        // Its stdout is closed a moment before it is gone.
        std::thread::sleep(Duration::from_millis(100));
        match self.child.try_wait() {
            Ok(Some(status)) => format!("it has ended ({status})"),
            _ => "it has closed its stdout".to_owned(),
        }
    }
}

/// Why there is no answer.
enum Unread {
    Said(String),
    Ended,
}

/// The next line, as what is expected or as the error that it says.
fn read<T: DeserializeOwned>(answers: &mut impl BufRead) -> Result<T, Unread> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => return Err(Unread::Ended),
        Ok(_) => {}
        Err(error) => return Err(Unread::Said(format!("its answer can't be read: {error}"))),
    }
    if let Ok(Refusal { error }) = serde_json::from_str(&line) {
        return Err(Unread::Said(error));
    }
    let foreign = |error| format!("its answer is none of the protocol ({error}): {}", line.trim());
    serde_json::from_str(&line).map_err(|error| Unread::Said(foreign(error)))
}

impl Drop for Baseline {
    fn drop(&mut self) {
        // The end of its stdin ends it. The runner makes way for the program, so the pid that we have is the program's.
        self.requests = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
