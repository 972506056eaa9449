//! Detached tasks: submitted, listed, cancelled, read, forgotten.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::{Ask, Reply};
use super::{
    Gated, ROOM_FOR_ONE, Site, gated, gated_with, is_small_solution, large, prioritised, small, small_raw, submit,
};
use crate::pool::{Place, on_both, soon};

on_both!(a_detached_task_is_computed_and_its_result_waits, a_task_is_cancelled_in_every_phase, high_goes_before_low,);

fn with_key(key: &str, system: &Value) -> Ask {
    Ask::json("/v1/tasks?kind=solve", system).with("idempotency-key", key)
}

async fn a_detached_task_is_computed_and_its_result_waits(on: Place) {
    let site = Site::on(on).await;
    let url = submit(&site, &small()).await;
    let view = site.ended(&url).await;
    is_small_solution(&view["result"]["x"]);
    assert_eq!((&view["state"], &view["percent"], &view["detached"]), (&"done".into(), &100.0.into(), &true.into()));
    for told in ["created", "finished", "worker", "compute_seconds", "payload_bytes"] {
        assert!(!view[told].is_null(), "{told}: {view}");
    }
    assert!(time(&view, "created").is_some() && time(&view, "created") <= time(&view, "finished"), "{view}");
    let raw = site.ask(Ask::get(&url).accept("application/octet-stream")).await;
    assert_eq!((raw.status.as_u16(), raw.body.len(), raw.header("rabbitry-shape")), (200, 16, "2"));
    let npy = site.ask(Ask::get(&url).accept("application/x-npy")).await;
    assert_eq!(&npy.body[npy.body.len() - 16..], &raw.body[..]);
}

/// As a time: as texts they are of different lengths.
fn time(view: &Value, told: &str) -> Option<jiff::Timestamp> {
    view[told].as_str()?.parse().ok()
}

/// Cancels with DELETE and checks that the task is so.
async fn cancel(site: &Site, url: &str) {
    assert_eq!(site.ask(Ask::delete(url)).await.is(200)["state"], "cancelled");
    let view = site.get(url).await.is(200);
    assert_eq!((&view["state"], &view["error"]["code"]), (&"cancelled".into(), &"cancelled".into()), "{view}");
    site.ask(Ask::get(url).accept("application/x-npy")).await.problem(409, "cancelled");
    // Once more forgets it.
    assert_eq!(site.ask(Ask::delete(url)).await.is(200)["state"], "cancelled");
    site.get(url).await.problem(404, "not_found");
    site.ask(Ask::delete(url)).await.problem(404, "not_found");
}

async fn a_task_is_cancelled_in_every_phase(on: Place) {
    // Room for one large task at a time: the second waits on disk.
    let (site, mut gate) = gated_with(on, |options| options.memory_bytes = ROOM_FOR_ONE).await;
    let (content_type, body) = large(1000);
    let ask = Ask::post("/v1/tasks?kind=solve", &content_type, body);
    let running = site.ask(ask.clone()).await.accepted();
    gate.begins().await;
    let on_disk = site.ask(ask).await.accepted();
    assert_eq!(site.get("/v1/queues").await.is(200)["spooled"], 1);
    cancel(&site, &on_disk).await;
    // Nothing waits behind what was cancelled.
    let small_one = submit(&site, &small()).await;
    all_are_sent(&site).await;
    cancel(&site, &small_one).await;
    let view = site.until_state(&running, "running").await;
    assert_eq!(view["percent"], 25.0);
    let queued = submit(&site, &small()).await;
    cancel(&site, &queued).await;
    cancel(&site, &running).await;
    gate.open();
    let done = submit(&site, &small()).await;
    site.ended(&done).await;
    assert_eq!(site.ask(Ask::delete(&done)).await.is(200)["state"], "done");
    site.get(&done).await.problem(404, "not_found");
    site.until_idle().await;
    assert_eq!(site.figure("rabbitry_spool_bytes").await, 0.0);
}

async fn high_goes_before_low(on: Place) {
    let (site, mut gate) = gated(on).await;
    let first = submit(&site, &prioritised(3, "normal")).await;
    assert_eq!(gate.begins().await, 3);
    // The worker has one more in hand; it takes it before it knows of the others, and no other shares its message.
    let second = submit(&site, &prioritised(4, "normal")).await;
    all_are_sent(&site).await;
    let mut urls = vec![first, second];
    for (n, priority) in [(5, "low"), (6, "normal"), (7, "high")] {
        urls.push(submit(&site, &prioritised(n, priority)).await);
    }
    soon("the broker to have all three", async {
        while site.get("/v1/queues").await.is(200)["queues"][0]["ready"] != 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    gate.open();
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(gate.begins().await);
    }
    let place = |n: usize| order.iter().position(|begun| *begun == n).expect("it began");
    assert!(place(7) < place(6) && place(6) < place(5), "{order:?}");
    for url in urls {
        site.ended(&url).await;
    }
}

/// Waits until nothing waits on the bridge's disk any more.
async fn all_are_sent(site: &Site) {
    soon("all to be sent", async {
        while site.get("/v1/queues").await.is(200)["spooled"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_form_of_body_can_be_detached() {
    let site = Site::embedded().await;
    let (params, body) = small_raw();
    let raw = Ask::post("/v1/tasks?kind=solve", "application/x-rabbitry", body).with("rabbitry-params", &params);
    let (content_type, parts) =
        super::multipart(&[("a", &super::npy(&[2, 2], &[4.0, 1.0, 2.0, 3.0])), ("b", &super::npy(&[2], &[1.0, 2.0]))]);
    let parts = Ask::post("/v1/tasks?kind=solve", &content_type, parts);
    for ask in [raw, parts, Ask::json("/v1/tasks?kind=solve", &small())] {
        let url = site.ask(ask).await.accepted();
        is_small_solution(&site.ended(&url).await["result"]["x"]);
    }
}

#[tokio::test]
async fn a_repeated_submission_is_the_same_task() {
    let site = Site::embedded().await;
    let url = site.ask(with_key("k-1", &small())).await.accepted();
    assert_eq!(site.ask(with_key("k-1", &small())).await.accepted(), url);
    // Whatever the form: it is the same system.
    let (params, body) = small_raw();
    let raw = Ask::post("/v1/tasks?kind=solve", "application/x-rabbitry", body).with("rabbitry-params", &params);
    assert_eq!(site.ask(raw.with("idempotency-key", "k-1")).await.accepted(), url);
    site.ended(&url).await;
    assert_eq!(site.ask(with_key("k-1", &small())).await.accepted(), url, "after its end, too");
    assert_ne!(site.ask(with_key("k-2", &small())).await.accepted(), url);
    assert_ne!(submit(&site, &small()).await, url);

    let other = json!({"a": [[4.0, 1.0], [2.0, 3.0]], "b": [1.0, 2.5]});
    let problem = site.ask(with_key("k-1", &other)).await;
    let problem = problem.problem_at(422, "idempotency_key_reused", "Idempotency-Key");
    assert_eq!(format!("/v1/tasks/{}", problem["task"].as_str().expect("an id")), url);

    site.ask(Ask::delete(&url)).await.is(200);
    assert_ne!(site.ask(with_key("k-1", &other)).await.accepted(), url, "a deleted task gives its key back");
}

#[tokio::test]
async fn keys_have_a_form() {
    let site = Site::embedded().await;
    for wrong in ["", "two words", "ä", &"k".repeat(256)] {
        let reply = site.ask(with_key(wrong, &small())).await;
        reply.problem_at(400, "bad_request", "Idempotency-Key");
    }
    site.ask(with_key(&"k".repeat(255), &small())).await.accepted();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_submissions_with_one_key_one_is_made() {
    let (site, _gate) = gated(Place::embedded()).await;
    let replies = join_all((0..40).map(|_| site.ask(with_key("once", &small())))).await;
    let (made, coming): (Vec<Reply>, Vec<Reply>) = replies.into_iter().partition(|reply| reply.status == 202);
    coming.iter().for_each(|reply| drop(reply.problem_at(409, "conflict", "Idempotency-Key")));
    let urls: Vec<String> = made.iter().map(Reply::accepted).collect();
    assert!(!urls.is_empty() && urls.iter().all(|url| *url == urls[0]), "{urls:?}");
    assert_eq!(site.get("/v1/tasks").await.is(200)["tasks"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_refused_submission_gives_its_key_back() {
    let site = Site::with(Place::embedded(), vec![], |options| options.spool_bytes = 20_000).await;
    let n = 50;
    let too_much = super::identity(n, &vec![1.0; n]);
    site.ask(with_key("k", &too_much)).await.problem(507, "spool");
    site.ask(with_key("k", &too_much)).await.problem(507, "spool");
    site.ask(with_key("k", &small())).await.accepted();
}

#[tokio::test]
async fn tasks_are_listed_by_page_and_by_state() {
    let (site, mut gate) = gated(Place::embedded()).await;
    let mut urls = Vec::new();
    for _ in 0..5 {
        urls.push(submit(&site, &small()).await);
    }
    gate.begins().await;
    cancel_once(&site, &urls[1]).await;
    let all = page(&site, "").await;
    assert_eq!(all.0, urls.iter().rev().cloned().collect::<Vec<_>>(), "the newest first");
    assert_eq!(all.1, Value::Null);
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let (page, more) = page(&site, &format!("limit=2{next}")).await;
        assert!(page.len() <= 2);
        seen.extend(page);
        if more.is_null() {
            break;
        }
        next = format!("&before={more}");
    }
    assert_eq!(seen, all.0);
    assert_eq!(page(&site, "state=cancelled").await.0, [urls[1].clone()]);
    assert_eq!(page(&site, "state=queued").await.0.len(), 4);
    assert!(page(&site, "state=done").await.0.is_empty() && page(&site, "before=1").await.0.is_empty());
    for (wrong, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("before=-1", "before"),
        ("state=x", "state"),
    ] {
        site.get(format!("/v1/tasks?{wrong}")).await.problem_at(400, "bad_request", field);
    }
}

async fn cancel_once(site: &Site, url: &str) {
    assert_eq!(site.ask(Ask::delete(url)).await.is(200)["state"], "cancelled");
}

/// The URLs on a page, and where the next begins.
async fn page(site: &Site, query: &str) -> (Vec<String>, Value) {
    let page = site.get(format!("/v1/tasks?{query}")).await.is(200);
    let tasks = page["tasks"].as_array().expect("a list").iter();
    let urls = tasks.map(|task| format!("/v1/tasks/{}", task["task"].as_str().expect("an id")));
    (urls.collect(), page["next"].clone())
}

#[tokio::test]
async fn a_deadline_ends_a_task_that_runs_and_one_that_waits() {
    let (site, mut gate) = gated(Place::embedded()).await;
    let late_in = |ms: u64| {
        let mut system = small();
        system["deadline_ms"] = ms.into();
        system
    };
    // Time to reach the disk and the worker.
    let runs = submit(&site, &late_in(3000)).await;
    gate.begins().await;
    let waits = submit(&site, &late_in(300)).await;
    for url in [runs, waits] {
        let view = site.ended(&url).await;
        assert_eq!((&view["state"], &view["error"]["code"]), (&"failed".into(), &"deadline_exceeded".into()), "{view}");
        assert!(time(&view, "created").is_some() && time(&view, "created") < time(&view, "deadline"), "{view}");
        site.ask(Ask::get(&url).accept("application/x-npy")).await.problem(504, "deadline_exceeded");
    }
    site.ask(Ask::json("/v1/solve", &late_in(300))).await.problem(504, "deadline_exceeded");
}

#[tokio::test]
async fn a_deadline_ends_a_task_that_was_never_sent() {
    let (site, mut gate) = gated_with(Place::embedded(), |options| options.memory_bytes = ROOM_FOR_ONE).await;
    let (_, body) = large(1000);
    let first = Ask::post("/v1/tasks?kind=solve", &large(1000).0, body.clone());
    site.ask(first).await.accepted();
    gate.begins().await;
    let mut parts = body;
    let end = parts.len() - "--\r\n".len();
    parts.truncate(end);
    parts.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"deadline_ms\"\r\n\r\n200\r\n");
    parts.extend_from_slice(b"--a-boundary-that-is-in-no-part--\r\n");
    let url = site.ask(Ask::post("/v1/tasks?kind=solve", &large(10).0, parts)).await.accepted();
    assert_eq!(site.ended(&url).await["error"]["code"], "deadline_exceeded");
    assert!(gate.is_silent(), "nobody computed it");
}

#[tokio::test]
async fn a_task_that_cannot_be_read_holds_up_no_other() {
    let (site, mut gate) = gated_with(Place::embedded(), |options| options.memory_bytes = ROOM_FOR_ONE).await;
    let (content_type, body) = large(1000);
    let ask = Ask::post("/v1/tasks?kind=solve", &content_type, body);
    let running = site.ask(ask.clone()).await.accepted();
    assert_eq!(gate.begins().await, 1000);
    let unreadable = site.ask(ask).await.accepted();
    // No file can be read here.
    let file = site.options.spool.join(format!("{}.task", unreadable.rsplit('/').next().expect("an id")));
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).expect("moved");
    std::fs::create_dir(&file).expect("made");
    let other = submit(&site, &small()).await;
    gate.open();
    site.ended(&running).await;
    is_small_solution(&site.ended(&other).await["result"]["x"]);
    assert_eq!(site.get(&unreadable).await.is(200)["state"], "queued");
    std::fs::remove_dir(&file).expect("removed");
    std::fs::rename(&kept, &file).expect("moved back");
    assert_eq!(site.ended(&unreadable).await["state"], "done");
}

#[tokio::test]
async fn results_that_were_read_go_soon_and_the_others_when_they_are_old() {
    let change = |options: &mut rabbitry::bridge::Options| {
        options.read_again = Duration::from_millis(1500);
        options.result_ttl = Duration::from_secs(8);
    };
    let gate = Gated::new();
    gate.open();
    let site = Site::with(Place::embedded(), vec![gate.handler.clone()], change).await;
    let (read, unread) = (submit(&site, &small()).await, submit(&site, &small()).await);
    // The list reads no results.
    soon("both to be done", async {
        while page(&site, "state=done").await.0.len() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    is_small_solution(&site.get(&read).await.is(200)["result"]["x"]);
    is_small_solution(&site.get(&read).await.is(200)["result"]["x"]);
    until_gone(&site, &read).await;
    assert_eq!(page(&site, "").await.0, std::slice::from_ref(&unread), "what nobody read is still there");
    until_listed(&site, 0).await;
    site.get(&unread).await.problem(404, "not_found");
    // The file goes a moment after its entry.
    soon("an empty spool", async {
        while site.figure("rabbitry_spool_bytes").await != 0.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn until_gone(site: &Site, url: &str) {
    soon("a result to go", async {
        while page(site, "").await.0.iter().any(|there| there == url) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    site.get(url).await.problem(404, "not_found");
}

async fn until_listed(site: &Site, count: usize) {
    soon("results to go", async {
        while page(site, "").await.0.len() != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_task_that_fails_says_why() {
    let site = Site::embedded().await;
    let singular = json!({"a": [[1.0, 2.0], [2.0, 4.0]], "b": [1.0, 2.0]});
    let url = submit(&site, &singular).await;
    let view = site.ended(&url).await;
    assert_eq!((&view["state"], &view["error"]["code"]), (&"failed".into(), &"singular".into()), "{view}");
    site.ask(Ask::get(&url).accept("application/x-npy")).await.problem(422, "singular");
    site.ask(Ask::json("/v1/solve", &singular)).await.problem(422, "singular");
}
