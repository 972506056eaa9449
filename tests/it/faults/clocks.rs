//! Two workers whose clocks are an hour off, one ahead and one behind: deadlines hold all the same.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rabbitry::task::{TaskError, TaskId, unix_ms};
use rabbitry::tasks::solve::System;

use super::{PATIENCE, report, within};
use crate::pool::{Client, Place, raw};
use crate::programs::{Process, WORKER, program};

const HOUR_S: i64 = 3600;
const TASKS_EACH: usize = 8;

/// Compiles the library that makes a clock wrong. Whoever has built these tests has a C compiler: Rust links with it.
fn false_clock(folder: &Path) -> PathBuf {
    let library = folder.join("false_clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/false_clock.c");
    let compiled = std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.expect("cc runs").success());
    library
}

/// A worker that believes it is so many seconds later than it is.
fn worker(url: &str, library: &Path, seconds: i64) -> Process {
    let mut command = program(WORKER, &["--broker", url, "--slots", "1", "--prefetch", "1", "--memory", "512MiB"]);
    command.env("LD_PRELOAD", library).env("RABBITRY_TEST_CLOCK_SECONDS", seconds.to_string());
    Process::start(command)
}

/// When a worker began, as it believes, in seconds since 1970: the first word of its log.
fn believed_s(worker: &Process) -> i64 {
    let said = worker.said();
    let time = said.split_whitespace().next().and_then(|word| word.parse::<jiff::Timestamp>().ok());
    time.unwrap_or_else(|| panic!("no time in {said}")).as_second()
}

/// Sends tasks with this deadline until each of these workers has answered some; what they answered.
async fn answers_of_both(client: &mut Client, pids: &[u32], deadline_in_ms: i64) -> Vec<Option<TaskError>> {
    let mut results: Vec<(u32, Option<TaskError>)> = Vec::new();
    within(PATIENCE, "answers of both workers", async {
        while pids.iter().any(|pid| results.iter().filter(|(by, _)| by == pid).count() < TASKS_EACH) {
            // As many at once as both have in hand: neither takes all.
            let mut sent: HashSet<TaskId> = HashSet::new();
            for seed in 0..4 {
                let (mut head, body) = raw(System::random(50, 1, seed));
                head.sent_unix_ms = unix_ms();
                head.deadline_unix_ms = head.sent_unix_ms.saturating_add_signed(deadline_in_ms);
                client.send(&head, &body).await;
                sent.insert(head.id);
            }
            while !sent.is_empty() {
                let outcome = client.outcome().await;
                assert!(sent.remove(&outcome.id), "an answer to something else, or a second one");
                let pid = outcome.worker.id.rsplit('-').nth(1).and_then(|pid| pid.parse().ok());
                results.push((pid.expect("host-pid-xxxx"), outcome.error));
            }
        }
    })
    .await;
    results.into_iter().map(|(_, error)| error).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_between_clocks_that_are_an_hour_off() {
    report("deadlines_hold_between_clocks_that_are_an_hour_off", async {
        let on = Place::rabbitmq().await;
        let folder = tempfile::tempdir().expect("a folder");
        let library = false_clock(folder.path());
        let mut workers = [HOUR_S, -HOUR_S].map(|seconds| worker(on.url(), &library, seconds));
        for worker in &mut workers {
            worker.until_consuming().await;
        }
        let pids = [workers[0].pid(), workers[1].pid()];
        let mut client = on.client().await;
        // To the clock that is ahead this was over long ago.
        let in_time = answers_of_both(&mut client, &pids, 60_000).await;
        assert!(in_time.iter().all(Option::is_none), "{in_time:?}");
        // To the one that is behind there is an hour left.
        let late = answers_of_both(&mut client, &pids, -2_000).await;
        assert!(late.iter().all(|error| *error == Some(TaskError::DeadlineExceeded)), "{late:?}");
        for (worker, seconds) in workers.iter().zip([HOUR_S, -HOUR_S]) {
            // Else all of this would show nothing.
            assert!((believed_s(worker) - i64::try_from(unix_ms() / 1000).expect("now") - seconds).abs() < 600);
        }
        format!("{} tasks in time and {} late ones, each as it should be", in_time.len(), late.len())
    })
    .await;
}
