//! The commands of the README do what it says: each is run as it stands there, with the built programs for `cargo run`
//! and the test's broker for its own.

use std::path::Path;

use rabbitry::files;
use rabbitry::tasks::solve::System;

use super::{BOSS, Ended, Process, WORKER, program};
use crate::pool::soon;
use crate::rabbitmq::vhost;

/// A line of the README that starts one of our programs.
#[derive(Debug, PartialEq)]
struct Line {
    worker: bool,
    arguments: Vec<String>,
}

/// First words of lines that are for others: their own tests and `.ci/run` see to them.
const OTHERS: &[&str] = &["make", "docker", "podman", "git", "cd", "deploy", "curl", "sudo", "systemctl", "kubectl"];

/// The lines of blocks marked `sh` or `console` that start `boss` or `worker`. Fails at one that may, in a way that is
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
        let ours = words.iter().any(|word| matches!(*word, "boss" | "worker"));
        match name {
            "boss" | "worker" => {
                let shell = |word: &&&str| !matches!(**word, "&" | ">" | "|");
                let arguments =
                    arguments.iter().take_while(shell).map(|word| word.trim_matches(['\'', '"']).to_owned());
                found.push(Line { worker: name == "worker", arguments: arguments.collect() });
            }
            _ => assert!(other || !ours, "README.md: how is this to be tested? {line}"),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_s_commands_work() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = commands(&readme);
    assert!(lines.iter().any(|line| line.worker) && lines.iter().any(|line| !line.worker), "{lines:?}");
    let (folder, place) = (tempfile::tempdir().expect("a folder"), vhost().await);
    let command = |line: &Line| {
        let arguments = line.arguments.iter().map(|word| {
            let is_address = word.starts_with("amqp") && word.contains("://");
            if is_address { place.url.as_str() } else { word.as_str() }
        });
        let arguments: Vec<&str> = arguments.collect();
        let mut command = program(if line.worker { WORKER } else { BOSS }, &arguments);
        command.current_dir(folder.path());
        if line.worker {
            // In place of its default, which is somebody else's broker.
            command.env("RABBITRY_BROKER", &place.url);
        }
        command
    };
    let asks = |line: &Line| line.arguments.iter().any(|word| matches!(word.as_str(), "--help" | "--version"));
    let mut workers = Vec::new();
    for line in lines.iter().filter(|line| line.worker && !asks(line)) {
        let mut worker = Process::start(command(line));
        worker.until_consuming().await;
        workers.push(worker);
    }
    for line in lines.iter().filter(|line| !line.worker || asks(line)) {
        provide(folder.path(), &line.arguments);
        let output = soon(&format!("{line:?}"), command(line).output()).await.expect("it starts");
        let ended = Ended::from(output);
        assert_eq!(ended.code, Some(0), "{line:?}: {}{}", ended.out, ended.err);
    }
    for mut worker in workers {
        worker.terminate();
        assert_eq!(worker.code().await, Some(0), "{}", worker.said());
    }
}

#[test]
fn commands_are_found_as_they_stand() {
    let readme = "cargo run --release --bin boss -- outside\n```sh\nmake demo  # boss\n\
                  cargo run --release --bin worker   # as many as one likes\n$ boss --broker amqp://... solve \\\n  \
                  A.npy B.npy -o X.npy\nRUST=1\n```\n```text\nboss drawn\n```\n```console\nworker &\n```\n";
    let line = |worker, text: &str| Line { worker, arguments: text.split_whitespace().map(str::to_owned).collect() };
    let expected = [line(true, ""), line(false, "--broker amqp://... solve A.npy B.npy -o X.npy"), line(true, "")];
    assert_eq!(commands(readme), expected);
}

#[test]
#[should_panic(expected = "how is this to be tested?")]
fn a_command_that_is_not_understood_is_not_skipped() {
    commands("```sh\nRABBITRY_BROKER=amqp://... boss workers\n```\n");
}
