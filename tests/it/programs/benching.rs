//! `boss bench` and `boss estimate`: the report in all its forms, and what becomes of it when something is wrong.

use std::path::Path;

use serde_json::Value;

use super::{BOSS, Process, boss, program};
use crate::pool::soon;
use crate::rabbitmq::vhost;

/// So small and so few that all parts take seconds.
const QUICK: [&str; 6] = ["bench", "--sizes", "30,60", "--rounds", "1", "--json"];

fn report_in(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("report.json")).expect("report.json is there");
    serde_json::from_str(&text).expect("report.json is JSON")
}

fn rows<'a>(report: &'a Value, part: &str) -> &'a [Value] {
    report[part].as_array().unwrap_or_else(|| panic!("no {part} in {report}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The bounds of what lies between the quartiles, and what the stages come to.
fn check_stages(row: &Value) {
    let wall = &row["round_trip_seconds"];
    let stages = row["stages_seconds"].as_object().expect("stages");
    let names: Vec<&str> = stages.keys().map(String::as_str).collect();
    assert_eq!(names, ["compute", "decode", "encode", "publish", "queue", "receive", "reply"]);
    assert!(stages.values().all(|seconds| number(seconds) >= 0.0), "{row}");
    let sum: f64 = stages.values().map(number).sum();
    let (lower, upper) = (number(&wall["lower"]), number(&wall["upper"]));
    assert!(sum > 0.95 * lower && sum < 1.05 * upper, "{sum} s of stages in {wall}");
}

fn check_payload(report: &Value, worker_has_a_process: bool) {
    let payload = rows(report, "payload");
    assert_eq!(payload.len(), 6, "two sizes, three forms");
    for row in payload {
        assert!(row["missing"].is_null(), "{row}");
        check_stages(row);
        assert!(number(&row["tasks_per_second"]["median"]) > 0.0);
        assert!(number(&row["boss_peak_bytes"]) > 1e6, "{row}");
        assert_eq!(row["worker_peak_bytes"].is_number(), worker_has_a_process, "{row}");
    }
    let bytes = |n: u64, form: &str| {
        let of = |row: &&Value| row["n"] == n && row["payload"] == form;
        number(&payload.iter().find(of).expect("a row")["task_bytes"])
    };
    assert_eq!(bytes(60, "binary"), 60.0 * 61.0 * 8.0);
    assert!(bytes(60, "base64") > 4.0 / 3.0 * bytes(60, "binary") && bytes(60, "json") > 1.5 * bytes(60, "base64"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_bench_writes_a_report_whose_stages_add_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new/report").to_string_lossy().into_owned();
    let ended = boss(&[&QUICK[..], &["--out", &out]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let report = report_in(Path::new(&out));
    let mut printed: Value = serde_json::from_str(&ended.out).expect("one JSON object");
    assert_eq!(printed, report);
    assert_eq!(
        (&report["schema"], &report["complete"], &report["settings"]["broker"]),
        (&1.into(), &true.into(), &"embedded".into())
    );
    check_payload(&report, false);
    // Five methods and two baselines, of two sizes, on one thread and on all; where there is one core that is the same.
    let threads = std::thread::available_parallelism().expect("cores").get().min(2);
    let compute = rows(&report, "compute");
    assert_eq!(compute.len(), 7 * 2 * threads);
    for row in compute.iter().filter(|row| row["contestant"].as_str().is_some_and(|name| name.starts_with("rabbitry")))
    {
        assert!(number(&row["seconds"]["median"]) > 0.0 && number(&row["backward_error"]) < 1e-12, "{row}");
    }
    for row in compute.iter().filter(|row| row["seconds"].is_null()) {
        assert!(row["missing"].is_string(), "who can't be had says why: {row}");
    }
    let sweeps: Vec<&str> = rows(&report, "pool").iter().filter_map(|row| row["sweep"].as_str()).collect();
    for sweep in ["workers", "in_flight", "prefetch"] {
        assert!(sweeps.contains(&sweep), "{sweeps:?}");
    }
    assert!(report["break_even"].is_null() && rows(&report, "peers").is_empty());
    let page = std::fs::read_to_string(Path::new(&out).join("report.html")).expect("report.html is there");
    assert!(page.contains("<svg") && page.ends_with("</html>\n"), "{} bytes", page.len());
    let csv = std::fs::read_to_string(Path::new(&out).join("report.csv")).expect("report.csv is there");
    assert!(csv.starts_with("part,n,contestant,payload,") && csv.lines().count() > 100);
    let files = std::fs::read_dir(&out).expect("the folder").count();
    assert_eq!(files, 3, "nothing half done is left");

    // The same as if it had been a hundred times as fast: everything is slower now.
    scale(&mut printed, 0.01);
    let old = folder.path().join("old.json");
    std::fs::write(&old, printed.to_string()).expect("written");
    let against = ["--parts", "payload", "--compare", &old.to_string_lossy()];
    let ended = boss(&[&QUICK[..], &against].concat()).await;
    assert_eq!(ended.code, Some(1), "slower is a failure: {}", ended.err);
    assert!(ended.out.contains("\"slower\""), "{}", ended.out);
}

/// All round trips of a report, with their quartiles.
fn scale(report: &mut Value, by: f64) {
    for row in report["payload"].as_array_mut().expect("rows") {
        let spread = row["round_trip_seconds"].as_object_mut().expect("a spread");
        for key in ["median", "lower", "upper", "min", "max"] {
            spread[key] = (number(&spread[key]) * by).into();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bench_through_a_broker_uses_the_workers_that_run_or_its_own() {
    let place = vhost().await;
    for manned in [false, true] {
        let worker = if manned { Some(Process::worker(&place.url, &["--slots", "2"]).await) } else { None };
        let ended = boss(&[&["--broker", &place.url], &QUICK[..], &["--parts", "payload"]].concat()).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        check_payload(&serde_json::from_str(&ended.out).expect("one JSON object"), manned);
        let one = ["bench", "--sizes", "60", "--rounds", "1", "--json", "--parts", "pool,break-even"];
        let ended = boss(&[&["--broker", &place.url], &one[..]].concat()).await;
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
        let broker = report["settings"]["broker"].as_str().expect("an address");
        assert!(broker.starts_with("amqp://") && !broker.contains("guest:guest"), "{broker}");
        assert!(report["machine"]["broker"].as_str().is_some_and(|name| name.starts_with("RabbitMQ ")), "{report}");
        assert_eq!(rows(&report["machine"], "workers").len(), usize::from(manned));
        let varied = rows(&report, "pool").iter().filter(|row| row["sweep"] != "in_flight").count();
        assert_eq!(varied > 0, !manned, "others' workers are not varied");
        let even = &report["break_even"];
        assert_eq!(rows(even, "points").len(), 7, "{even}");
        assert!(!rows(even, "sentences").is_empty());
        drop(worker);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_bench_writes_what_it_has_and_says_so() {
    let (place, folder) = (vhost().await, tempfile::tempdir().expect("a folder"));
    let _worker = Process::worker(&place.url, &["--slots", "1"]).await;
    let out = folder.path().to_string_lossy().into_owned();
    let arguments =
        ["--broker", &place.url, "bench", "--sizes", "30", "--rounds", "1000", "--parts", "payload", "-o", &out];
    let mut bench = Process::start(program(BOSS, &arguments));
    // More than a warm-up of one form comes to.
    let tasks = async || {
        let listed = boss(&["--broker", &place.url, "workers", "--json"]).await;
        let nodes: Value = serde_json::from_str(&listed.out).expect("JSON");
        nodes[0]["done"].as_u64().unwrap_or(0)
    };
    soon("some thousand tasks", async { while tasks().await < 5000 {} }).await;
    bench.interrupt();
    assert_eq!(bench.code().await, Some(130), "{}", bench.said());
    let report = report_in(folder.path());
    assert_eq!((&report["complete"], rows(&report, "payload").len()), (&false.into(), 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_measured_or_compared_is_said_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("bad.json"), "{\"schema\": 1").expect("written");
    std::fs::write(path("next.json"), "{\"schema\": 999}").expect("written");
    for (arguments, said) in [
        (vec!["--sizes", "0"], "0 is not in 1.."),
        (vec!["--payload", "xml"], "possible values: binary, json, base64"),
        (vec!["--compare", &path("none.json")], "none.json"),
        (vec!["--compare", &path("bad.json")], "bad.json"),
        (vec!["--compare", &path("next.json")], "999"),
        (vec!["--out", "/dev/null/x"], "/dev/null/x: the folder can't be made"),
    ] {
        let ended = boss(&[&["bench"], &arguments[..]].concat()).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(said), "{arguments:?}: {}", ended.err);
    }
    let none = path("programs");
    let parts = ["--parts", "compute,peers", "--baselines", "numpy", "--peers", "dask", "--programs", &none];
    let ended = boss(&[&QUICK[..], &parts].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
    for (part, who, script) in [("compute", "numpy", "baselines/run.py"), ("peers", "dask", "peers/run.py")] {
        let row = rows(&report, part).iter().find(|row| row["contestant"] == who || row["peer"] == who).expect("a row");
        let missing = row["missing"].as_str().expect("why");
        assert!(missing.contains(script) && missing.contains("no such file"), "{missing}");
    }
}

/// A peer that answers for other systems than it was asked for is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_do_the_same_job_or_have_no_figure() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("peers")).expect("made");
    let script = r#"
import json, sys
name = sys.argv[-1]
print(json.dumps({"peer": name, "version": "1", "detail": "a test", "workers": 2, "ready": True}), flush=True)
for line in sys.stdin:
    word, n, count, seed, flight, limit = line.split()
    answer = {"tasks_per_second": 50.0, "backward_error": 1e-16, "fingerprint": "0"}
    print(json.dumps(answer if name == "cheat" else {"error": "no memory for N=" + n}), flush=True)
"#;
    std::fs::write(folder.path().join("peers/run.py"), script).expect("written");
    let programs = folder.path().to_string_lossy().into_owned();
    let peers = ["--parts", "peers", "--peers", "cheat,poor", "--programs", &programs];
    let ended = boss(&[&QUICK[..], &peers].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let report: Value = serde_json::from_str(&ended.out).expect("one JSON object");
    let said = |peer: &str| {
        let mut of = rows(&report, "peers").iter().filter(|row| row["peer"] == peer && row["n"] == 60);
        of.next().unwrap_or_else(|| panic!("no {peer} in {report}")).clone()
    };
    assert!(number(&said("rabbitry embedded")["tasks_per_second"]["median"]) > 1.0);
    assert_eq!(said("cheat")["missing"], "it solved other systems than ours");
    assert_eq!(said("poor")["missing"], "no memory for N=60");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_says_where_it_is_faster_and_what_is_missing() {
    let place = vhost().await;
    let ask = ["estimate", "--n", "200", "--count", "50"];
    let alone = boss(&ask).await;
    assert_eq!(alone.code, Some(0), "{}", alone.err);
    assert!(alone.out.contains("There are no workers."), "{}", alone.out);
    let _worker = Process::worker(&place.url, &["--slots", "1"]).await;
    let ended = boss(&[&["--broker", &place.url], &ask[..], &["--json"]].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let estimate: Value = serde_json::from_str(&ended.out).expect("one JSON object");
    assert_eq!((&estimate["workers"], &estimate["task_bytes"]), (&1.into(), &(200 * 201 * 8).into()));
    assert!(number(&estimate["local_seconds"]) > 0.0 && number(&estimate["pool_seconds"]) > 0.0, "{estimate}");
    assert!(estimate["advice"].as_str().is_some_and(|advice| !advice.is_empty()));
}
