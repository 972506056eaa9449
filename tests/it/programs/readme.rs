//! The commands of the README do what it says: each is run as it stands there, with the built programs for `cargo run`
//! and the test's broker for its own.

use std::path::Path;

use rabbitry::files;
use rabbitry::tasks::solve::System;

use super::{BOSS, BRIDGE, Ended, Process, WORKER, program};
use crate::pool::soon;
use crate::rabbitmq::vhost;

/// A line of the README that starts one of our programs, or asks one over HTTP.
#[derive(Debug, PartialEq)]
struct Line {
    /// `boss`, `worker`, `bridge` or `curl`.
    program: String,
    arguments: Vec<String>,
}

/// First words of lines that are for others: their own tests and `.ci/run` see to them.
const OTHERS: &[&str] = &["make", "docker", "podman", "git", "cd", "deploy", "sudo", "systemctl", "kubectl"];

/// Ours, and what asks them.
const PROGRAMS: &[&str] = &["boss", "worker", "bridge", "curl"];

/// The lines of blocks marked `sh` or `console` that start [`PROGRAMS`]. Fails at one that may, in a way that is
/// not understood: nothing is skipped in silence.
fn commands(readme: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut inside = false;
    let joined = readme.replace("\\\n", " ");
    for line in joined.lines() {
        if let Some(mark) = line.trim_start().strip_prefix("```") {
            inside = !inside && matches!(mark.trim(), "sh" | "console");
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        if !inside || words.is_empty() {
            continue;
        }
        let (name, arguments) = match words.as_slice() {
            ["cargo", "run", "--release", "--bin", name, rest @ ..] => {
                let own = rest.iter().position(|word| *word == "--").map_or(&[][..], |at| &rest[at + 1..]);
                (*name, own)
            }
            [name, rest @ ..] => (name.rsplit('/').next().unwrap_or(name), rest),
            [] => continue,
        };
        let other = OTHERS.iter().any(|other| name.starts_with(other) || words[0].starts_with(other));
        let ours = words.iter().any(|word| PROGRAMS.contains(word));
        if name == "curl" {
            // With its quotes, for a shell.
            found.push(Line { program: name.to_owned(), arguments: vec![line.to_owned()] });
        } else if PROGRAMS.contains(&name) {
            let shell = |word: &&&str| !matches!(**word, "&" | ">" | "|");
            let arguments = arguments.iter().take_while(shell).map(|word| word.trim_matches(['\'', '"']).to_owned());
            found.push(Line { program: name.to_owned(), arguments: arguments.collect() });
        } else {
            assert!(other || !ours, "README.md: how is this to be tested? {line}");
        }
    }
    found
}

/// Writes the files that a command reads.
fn provide(folder: &Path, arguments: &[String]) {
    let system = System::random(50, 1, 0);
    let is_file = |name: &&String| name.ends_with(".npy") || name.ends_with(".mtx");
    let outputs = arguments.windows(2).filter(|pair| matches!(pair[0].as_str(), "-o" | "--output"));
    let outputs: Vec<&String> = outputs.map(|pair| &pair[1]).collect();
    for (number, name) in arguments.iter().filter(is_file).filter(|name| !outputs.contains(name)).enumerate() {
        let matrix = if number == 0 { &system.a } else { &system.b };
        files::write(folder.join(name), matrix).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The scenes that come with the repository, where its own folder has them.
fn provide_scenes(folder: &Path) {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenes"), folder.join("docs/scenes"));
    std::fs::create_dir_all(&to).expect("a folder");
    for scene in std::fs::read_dir(from).expect("the scenes") {
        let scene = scene.expect("a scene");
        std::fs::copy(scene.path(), to.join(scene.file_name())).expect("copied");
    }
}

/// The lines of the README, on this broker and in this folder.
struct Trial {
    folder: tempfile::TempDir,
    broker: String,
}

impl Trial {
    fn command(&self, line: &Line) -> tokio::process::Command {
        let arguments = line.arguments.iter().map(|word| {
            let is_address = word.starts_with("amqp") && word.contains("://");
            if is_address { self.broker.as_str() } else { word.as_str() }
        });
        let arguments: Vec<&str> = arguments.collect();
        let path = if line.program == "worker" { WORKER } else { BOSS };
        let mut command = program(path, &arguments);
        command.current_dir(self.folder.path());
        // Benches as they stand, but of small systems and few rounds.
        command.env("RABBITRY_SIZES", "30,60").env("RABBITRY_ROUNDS", "1");
        if line.program == "worker" {
            // In place of its default, which is somebody else's broker.
            command.env("RABBITRY_BROKER", &self.broker);
        }
        command
    }

    /// A bridge on a port that is free, and its URL.
    async fn bridge(&self, number: usize, line: &Line) -> (Process, String) {
        let mut arguments: Vec<&str> = Vec::new();
        let mut words = line.arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--listen" => drop(words.next()),
                address if address.starts_with("amqp") => arguments.push(&self.broker),
                other => arguments.push(other),
            }
        }
        let mut command = program(BRIDGE, &[&arguments[..], &["--listen", "127.0.0.1:0"]].concat());
        command.env("RABBITRY_SPOOL", self.folder.path().join(format!("spool-{number}")));
        let mut bridge = Process::start(command);
        let url = bridge.until_listening().await;
        (bridge, url)
    }

    /// A line of curl, to this URL, which fails if the answer is an error.
    async fn curl(&self, line: &Line, url: &str) {
        let shell = line.arguments[0].replace("http://127.0.0.1:8080", url).replace("curl -s ", "curl -sSf ");
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &shell]).current_dir(self.folder.path()).kill_on_drop(true);
        let output = soon(&shell, command.output()).await.expect("sh starts");
        assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_s_commands_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = commands(&readme);
    for name in PROGRAMS {
        assert!(lines.iter().any(|line| line.program == *name), "no {name} in {lines:?}");
    }
    let place = vhost().await;
    let trial = Trial { folder: tempfile::tempdir().expect("a folder"), broker: place.url.clone() };
    provide_scenes(trial.folder.path());
    let asks = |line: &Line| line.arguments.iter().any(|word| matches!(word.as_str(), "--help" | "--version"));
    let of = |name: &'static str| lines.iter().filter(move |line| line.program == name);
    let mut running = Vec::new();
    for line in of("worker").filter(|line| !asks(line)) {
        let mut worker = Process::start(trial.command(line));
        worker.until_consuming().await;
        running.push(worker);
    }
    for line in lines.iter().filter(|line| line.program == "boss" || (line.program == "worker" && asks(line))) {
        provide(trial.folder.path(), &line.arguments);
        let output = soon(&format!("{line:?}"), trial.command(line).output()).await.expect("it starts");
        let ended = Ended::from(output);
        assert_eq!(ended.code, Some(0), "{line:?}: {}{}", ended.out, ended.err);
    }
    provide(trial.folder.path(), &["A.npy".to_owned(), "B.npy".to_owned()]);
    for (number, line) in of("bridge").enumerate() {
        let (bridge, url) = trial.bridge(number, line).await;
        for line in of("curl") {
            trial.curl(line, &url).await;
        }
        running.push(bridge);
    }
    for mut program in running {
        program.terminate();
        assert_eq!(program.code().await, Some(0), "{}", program.said());
    }
}

#[test]
fn commands_are_found_as_they_stand() {
    let readme = "cargo run --release --bin boss -- outside\n```sh\nmake demo  # boss\n\
                  cargo run --release --bin worker   # as many as one likes\n$ boss --broker amqp://... solve \\\n  \
                  A.npy B.npy -o X.npy\nRUST=1\n```\n```text\nboss drawn\n```\n```console\nworker &\n```\n";
    let line = |program: &str, text: &str| Line {
        program: program.to_owned(),
        arguments: text.split_whitespace().map(str::to_owned).collect(),
    };
    let solve = line("boss", "--broker amqp://... solve A.npy B.npy -o X.npy");
    let expected = [line("worker", ""), solve, line("worker", "")];
    assert_eq!(commands(readme), expected);
}

#[test]
#[should_panic(expected = "how is this to be tested?")]
fn a_command_that_is_not_understood_is_not_skipped() {
    commands("```sh\nRABBITRY_BROKER=amqp://... boss workers\n```\n");
}
