//! A program to compare with: requests are lines on its stdin, answers JSON objects, one line each, on its stdout.
//! `benches/baselines/run.py` and `benches/peers/run.py` start them, and say what the lines are.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A program that was told to end has so long, twice: by the end of its stdin, then by a signal.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs.
pub(super) struct Program {
    name: String,
    child: Child,
    /// Open until it is ended.
    requests: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Finds `benches/<folder>/run.py`: below `programs` if that is given, else in the checkout that the working directory or
/// this program is in.
pub(super) fn find(programs: Option<&Path>, folder: &str) -> Result<PathBuf, String> {
    let script = Path::new(folder).join("run.py");
    if let Some(programs) = programs {
        let path = programs.join(script);
        return if path.is_file() { Ok(path) } else { Err(format!("{}: there is no such file", path.display())) };
    }
    let places = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let up = places.iter().flatten().flat_map(|place| place.ancestors());
    let found = up.map(|place| place.join("benches").join(&script)).find(|path| path.is_file());
    let wanted = Path::new("benches").join(&script);
    found.ok_or_else(|| {
        format!(
            "{} is not here: run boss in a checkout of rabbitry, or name its benches with --programs",
            wanted.display()
        )
    })
}

impl Program {
    /// Starts one, with the address of the broker in its environment, where nobody else reads its password, and waits at
    /// most `limit` for the first line, in which it says what it is.
    pub(super) async fn start<T: DeserializeOwned>(
        name: &str,
        script: &Path,
        arguments: &[String],
        broker: Option<&str>,
        limit: Duration,
    ) -> Result<(Self, T), String> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(&python);
        // What it says on stderr about what can't be had comes in its line on stdout as well.
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // Ctrl-C is for us: a program ends when it is told to.
        command.process_group(0);
        if let Some(url) = broker {
            command.env("RABBITRY_BROKER", url);
        }
        let mut child =
            command.kill_on_drop(true).spawn().map_err(|error| format!("{}: {error}", python.to_string_lossy()))?;
        let requests = child.stdin.take();
        let stdout = child.stdout.take().ok_or("its stdout is not there")?;
        let answers = BufReader::new(stdout).lines();
        let mut program = Program { name: name.to_owned(), child, requests, answers };
        match program.answer(limit).await {
            Ok(identity) => Ok((program, identity)),
            Err(error) => {
                program.end(false).await;
                Err(error)
            }
        }
    }

    /// One request, and the answer to it.
    pub(super) async fn ask<T: DeserializeOwned>(&mut self, request: &str, limit: Duration) -> Result<T, String> {
        let Some(requests) = &mut self.requests else { return Err(format!("{} gave no answer before", self.name)) };
        {
            // A program that is gone reads no requests; whether it is, the missing answer says better.
            let _ = requests.write_all(format!("{request}\n").as_bytes()).await;
            let _ = requests.flush().await;
        }
        self.answer(limit).await
    }

    async fn answer<T: DeserializeOwned>(&mut self, limit: Duration) -> Result<T, String> {
        let Ok(line) = tokio::time::timeout(limit, self.answers.next_line()).await else {
            // Its answer may come later, as that to another request.
            self.requests = None;
            return Err(format!("{} gave no answer in {} s", self.name, limit.as_secs()));
        };
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) => return Err(format!("{} has ended", self.name)),
            Err(error) => return Err(format!("the answer of {} can't be read: {error}", self.name)),
        };
        if let Ok(Refusal { error }) = serde_json::from_str(&line) {
            return Err(error);
        }
        let shown: String = line.chars().take(200).collect();
        let foreign = |error| format!("the answer of {} is none of the protocol ({error}): {shown}", self.name);
        serde_json::from_str(&line).map_err(foreign)
    }

    /// Ends it, and what it has started: by the end of its stdin unless it may be at work, then by a signal, then at once.
    pub(super) async fn end(mut self, at_once: bool) {
        self.requests = None;
        if !at_once && tokio::time::timeout(PATIENCE, self.child.wait()).await.is_ok() {
            return;
        }
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended this moment.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A program of these lines of Python.
    fn script(folder: &tempfile::TempDir, lines: &str) -> PathBuf {
        let path = folder.path().join("run.py");
        std::fs::write(&path, lines).expect("written");
        path
    }

    #[tokio::test]
    async fn a_program_answers_refuses_and_ends_with_its_stdin() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = script(
            &folder,
            "import sys, json\nprint(json.dumps({'ready': 7}), flush=True)\nfor line in sys.stdin:\n    \
             word = line.strip()\n    print(word if word.startswith('{') else '{\"error\": \"no ' + word + '\"}', flush=True)\n",
        );
        let started = Program::start::<serde_json::Value>("it", &path, &[], None, LIMIT).await;
        let (mut program, identity) = started.expect("python3 is here");
        assert_eq!(identity["ready"], 7);
        let foreign = program.ask::<Vec<u8>>("{\"a\": 1}", LIMIT).await.expect_err("no list");
        assert!(foreign.starts_with("the answer of it is none of the protocol"), "{foreign}");
        assert_eq!(program.ask::<serde_json::Value>("work", LIMIT).await.expect_err("refused"), "no work");
        assert_eq!(program.ask::<serde_json::Value>("{\"a\": 1}", LIMIT).await.expect("echoed")["a"], 1);
        program.end(false).await;
    }

    #[tokio::test]
    async fn one_that_ends_or_hangs_is_an_error_in_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = script(&folder, "print('{}', flush=True)\n");
        let (mut program, _) =
            Program::start::<serde_json::Value>("it", &ended, &[], None, LIMIT).await.expect("it starts");
        assert_eq!(program.ask::<serde_json::Value>("x", LIMIT).await.expect_err("gone"), "it has ended");
        let hangs = script(&folder, "import sys\nsys.stdin.read()\n");
        let late = Program::start::<serde_json::Value>("it", &hangs, &[], None, Duration::from_millis(100)).await;
        assert_eq!(late.err().as_deref(), Some("it gave no answer in 0 s"));
    }

    #[test]
    fn a_missing_script_says_where_it_was_looked_for() {
        let missing = find(Some(Path::new("/nowhere")), "peers").expect_err("nothing there");
        assert_eq!(missing, "/nowhere/peers/run.py: there is no such file");
        assert!(find(None, "no-such").expect_err("nothing there").contains("--programs"));
        assert!(find(None, "baselines").is_ok());
    }
}
