//! Worker processes that come, go and are killed.

use serde_json::Value;

use super::{BOSS, Process, WORKER, boss, program, run, until_busy, watcher};
use crate::pool::soon;
use crate::rabbitmq::vhost;
use crate::recovery::get;

/// Starts a job that takes one core some seconds.
fn job(url: &str) -> tokio::task::JoinHandle<super::Ended> {
    let job = ["--broker", url, "solve", "--random", "1200", "--count", "40", "--json"];
    let mut job = program(BOSS, &job);
    tokio::spawn(async move { job.output().await.expect("the boss starts").into() })
}

fn all_answered(ended: &super::Ended) -> Value {
    let report: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    assert_eq!((&report["tasks"], &report["ok"], &report["failed"]), (&40.into(), &40.into(), &0.into()));
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_nothing() {
    let place = vhost().await;
    let watcher = watcher(&place.url).await;
    let mut first = Process::worker(&place.url, &["--slots", "1"]).await;
    let mut second = Process::worker(&place.url, &["--slots", "1"]).await;
    let job = job(&place.url);
    until_busy(&watcher, first.pid()).await;
    // SIGKILL.
    first.child.start_kill().expect("killed");
    assert_eq!(first.code().await, None, "ended by a signal");
    let report = all_answered(&soon("the job", job).await.expect("no panic"));
    let shares = report["workers"].as_array().expect("a list");
    let pid = format!("-{}-", second.pid());
    assert!(shares.iter().any(|share| share["id"].as_str().is_some_and(|id| id.contains(&pid))), "{shares:?}");
    second.terminate();
    assert_eq!(second.code().await, Some(0));
    watcher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_worker_finishes_what_it_computes_and_exits_0() {
    let place = vhost().await;
    let watcher = watcher(&place.url).await;
    let mut first = Process::worker(&place.url, &["--slots", "1", "--prefetch", "5"]).await;
    let job = job(&place.url);
    until_busy(&watcher, first.pid()).await;
    first.terminate();
    assert_eq!(first.code().await, Some(0), "{}", first.said());
    assert!(first.said().contains("stopped") && !first.said().contains("WARN"), "{}", first.said());
    let _second = Process::worker(&place.url, &["--slots", "1"]).await;
    let report = all_answered(&soon("the job", job).await.expect("no panic"));
    assert_eq!(report["workers"].as_array().map(Vec::len), Some(2), "{report}");
    watcher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boss_workers_lists_who_is_there() {
    let place = vhost().await;
    let ask = ["--broker", &place.url, "workers", "--json"];
    let none = boss(&ask).await;
    assert_eq!((none.code, none.out.trim(), none.err.as_str()), (Some(0), "[]", ""));
    let worker = Process::worker(&place.url, &["--slots", "2"]).await;
    let listed = boss(&ask).await;
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    let nodes: Value = serde_json::from_str(&listed.out).expect("JSON");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    let node = &nodes[0];
    assert_eq!((&node["pid"], &node["slots"], &node["busy"]), (&worker.pid().into(), &2.into(), &0.into()));
    assert_eq!(
        (&node["kinds"], &node["version"]),
        (&serde_json::json!(["render", "solve"]), &env!("CARGO_PKG_VERSION").into())
    );
    let host = node["host"].as_str().expect("a host");
    assert!(node["id"].as_str().is_some_and(|id| id.starts_with(&format!("{host}-{}-", worker.pid()))), "{node}");
    assert!(node["address"].as_str().is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok()), "{node}");
    for key in ["cores", "gflops", "last_seen_seconds"] {
        assert!(node[key].is_number(), "{key}: {node}");
    }
    assert!(node["gflops"].as_f64().is_some_and(|gflops| gflops > 0.0), "measured: {node}");
    let table = boss(&ask[..3]).await;
    assert_eq!(table.code, Some(0));
    assert!(table.out.starts_with("HOST") && table.out.contains(&worker.pid().to_string()), "{}", table.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_answers_whether_it_consumes() {
    let place = vhost().await;
    let mut worker = Process::start(program(WORKER, &["--broker", &place.url, "--health", "127.0.0.1:0"]));
    let url = worker.until_listening().await;
    worker.until_consuming().await;
    let address = url.split('/').nth(2).expect("an address");
    let ready = soon("a reply", get(address, "/readyz")).await;
    assert!(ready.starts_with("HTTP/1.0 200") && ready.contains(r#""status":"consuming""#), "{ready}");
    let wrong = run(WORKER, &["--broker", &place.url, "--health", address]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    assert!(wrong.err.contains("--health"), "{}", wrong.err);
    worker.terminate();
    assert_eq!(worker.code().await, Some(0));
}
