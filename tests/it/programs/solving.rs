//! `boss solve`: files in, files out, a report for people and one for scripts.

use std::path::Path;

use rabbitry::files;
use rabbitry::tasks::solve::System;
use serde_json::{Value, json};

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
            let expected = "failed failures gflops max_backward_error max_forward_error_bound methods min_rcond ok seconds \
                tasks tasks_per_second warnings workers";
            assert_eq!(keys(&report).join(" "), expected);
            assert_eq!((&report["tasks"], &report["ok"], &report["failed"]), (&12.into(), &12.into(), &0.into()));
            assert_eq!(report["failures"], serde_json::json!([]));
            assert!(report["max_backward_error"].as_f64().is_some_and(|error| error < 1e-14), "{report}");
            assert!(report["max_forward_error_bound"].as_f64().is_some_and(|bound| bound < 1e-9), "{report}");
            assert!(report["min_rcond"].as_f64().is_some_and(|rcond| rcond > 1e-7), "{report}");
            assert_eq!((&report["methods"], &report["warnings"]), (&json!({"lu": 12}), &json!([])));
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
async fn a_method_is_taken_and_an_answer_not_to_be_trusted_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (a, b, x) = (path("A.npy"), path("B.npy"), path("X.npy"));
    let (a, b, x) = (a.as_str(), b.as_str(), x.as_str());
    let write = |at: &str, numbers: ndarray::Array2<f64>| files::write(at, &numbers.into()).expect("it is written");
    let solve = async |options: &[&str]| boss(&[&["solve", a, b, "-o", x], options].concat()).await;
    // Hilbert's matrix of 12: its condition is 4e16.
    write(a, ndarray::Array2::from_shape_fn((12, 12), |(i, j)| 1.0 / (i + j + 1) as f64));
    write(b, ndarray::Array2::from_elem((12, 1), 1.0));
    for (method, used) in [("auto", "cholesky"), ("lu", "lu")] {
        let ended = solve(&["--method", method, "--json", "--reproducible"]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
        assert!(report["methods"] == json!({used: 1}) || report["methods"] == json!({"lu": 1}), "{report}");
        assert!(report["min_rcond"].as_f64().is_some_and(|rcond| rcond < 2.3e-16), "{report}");
        let warning = &report["warnings"][0];
        assert_eq!(keys(warning).join(" "), "message task");
        let said = warning["message"].as_str().expect("words");
        assert!(said.contains("singular to working precision"), "{said}");
        let words = solve(&["--method", method]).await;
        assert!(
            words.out.contains("warning  ") && words.out.contains("singular to working precision"),
            "{}",
            words.out
        );
    }
    let wrong = solve(&["--method", "triangular"]).await;
    assert!(wrong.code == Some(1) && wrong.out.contains("A[1, 0] is 0.5"), "{}", wrong.out);
    write(a, ndarray::Array2::from_shape_fn((4, 2), |(i, j)| (i as f64).powi(j as i32)));
    write(b, ndarray::Array2::from_shape_fn((4, 1), |(i, _)| 1.0 + 2.0 * i as f64));
    let square = solve(&[]).await;
    assert!(square.code == Some(1) && square.out.contains("A is 4 x 2; it must be square, or the method lstsq"));
    assert_eq!(solve(&["--method", "lstsq"]).await.code, Some(0));
    let line = files::read(x).expect("X was written");
    assert!(
        line.as_slice().iter().zip([1.0, 2.0]).all(|(x, exact)| (x - exact).abs() < 1e-14),
        "{:?}",
        line.as_slice()
    );
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
