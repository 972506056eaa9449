//! `boss solve`: files in, files out, a report for people and one for scripts.

use std::path::Path;

use rabbitry::files;
use rabbitry::tasks::solve::System;
use serde_json::Value;

use super::{Process, boss};
use crate::pool::backward_error;
use crate::rabbitmq::vhost;

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Solves a system from files of this kind and checks the file that comes out.
async fn files_round_trip(folder: &Path, before: &[&str], extension: &str, nrhs: usize) {
    let path = |name: &str| folder.join(format!("{name}.{extension}")).to_string_lossy().into_owned();
    let (a, b, x) = (path("A"), path("B"), path("X"));
    let system = System::random(60, nrhs, 3);
    files::write(&a, &system.a).expect("A is written");
    files::write(&b, &system.b).expect("B is written");
    let ended = boss(&[before, &["solve", &a, &b, "-o", &x]].concat()).await;
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "nothing to complain about");
    assert!(ended.out.contains("1 ok, 0 failed") && ended.out.contains("backward error"), "{}", ended.out);
    let solution = files::read(&x).expect("X is there");
    let error = backward_error(&system, &solution);
    assert!(error < 1e-14, "{extension}, {nrhs}: {error:e}");
    std::fs::remove_file(x).expect("X is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_in_files_are_solved_with_and_without_a_broker() {
    let (folder, place) = (tempfile::tempdir().expect("a folder"), vhost().await);
    let _worker = Process::worker(&place.url, &["--slots", "1"]).await;
    for (extension, nrhs) in [("npy", 1), ("npy", 3), ("mtx", 1), ("mtx", 3)] {
        files_round_trip(folder.path(), &[], extension, nrhs).await;
        files_round_trip(folder.path(), &["--broker", &place.url], extension, nrhs).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_one_object_with_the_keys_that_scripts_rely_on() {
    let place = vhost().await;
    let worker = Process::worker(&place.url, &["--slots", "1"]).await;
    for before in [vec![], vec!["--broker", place.url.as_str()]] {
        for payload in ["binary", "json"] {
            let solve = ["solve", "--random", "40", "--count", "12", "--rhs", "2", "--payload", payload, "--json"];
            let ended = boss(&[&before[..], &solve].concat()).await;
            assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
            // Fails if there is anything before or after the object.
            let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
            let expected = "failed failures gflops max_backward_error ok seconds tasks tasks_per_second workers";
            assert_eq!(keys(&report).join(" "), expected);
            assert_eq!((&report["tasks"], &report["ok"], &report["failed"]), (&12.into(), &12.into(), &0.into()));
            assert_eq!(report["failures"], serde_json::json!([]));
            assert!(report["max_backward_error"].as_f64().is_some_and(|error| error < 1e-14), "{report}");
            for rate in ["seconds", "tasks_per_second", "gflops"] {
                assert!(report[rate].as_f64().is_some_and(|rate| rate > 0.0), "{rate}: {report}");
            }
            let share = &report["workers"][0];
            assert_eq!(keys(share).join(" "), "compute_seconds host id tasks");
            assert_eq!(share["tasks"], 12);
            let pid = format!("-{}-", worker.pid());
            assert_eq!(share["id"].as_str().is_some_and(|id| id.contains(&pid)), !before.is_empty(), "{share}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_in_the_report_and_in_the_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (a, b, x) = (path("A.npy"), path("B.npy"), path("X.npy"));
    let singular = ndarray::array![[1.0, 2.0], [2.0, 4.0]];
    files::write(&a, &singular.into()).expect("A is written");
    files::write(&b, &ndarray::array![1.0, 2.0].into()).expect("B is written");
    let ended = boss(&["solve", &a, &b, "-o", &x, "--json"]).await;
    assert_eq!(ended.code, Some(1));
    let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
    assert_eq!((&report["ok"], &report["failed"], &report["max_backward_error"]), (&0.into(), &1.into(), &Value::Null));
    let failure = &report["failures"][0];
    assert_eq!(keys(failure).join(" "), "error message task");
    assert_eq!(failure["error"], "singular");
    assert_eq!(failure["task"].as_str().map(str::len), Some(32));
    assert!(failure["message"].as_str().is_some_and(|message| message.contains("pivot 2")), "{failure}");
    assert!(!Path::new(&x).exists(), "no answer, no file");
}
