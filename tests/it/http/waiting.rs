//! Long polls and events: who waits is answered, and waiting costs next to nothing.

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::client::{Ask, Connection};
use super::{Site, gated, gated_with, is_small_solution, large, small, submit};
use crate::pool::{Place, on_both, soon};

on_both!(two_hundred_polls_of_one_task_are_answered_at_once, events_tell_every_state_and_end);

/// The states of a task as its events tell them.
pub(super) struct Events {
    body: hyper::body::Incoming,
    heard: Vec<u8>,
}

impl Events {
    pub(super) async fn of(site: &Site, url: &str) -> Self {
        let stream = TcpStream::connect(site.address()).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1");
        tokio::spawn(connection);
        let request = Request::get(format!("{url}/events")).header("host", "localhost");
        let request = request.body(Empty::<bytes::Bytes>::new()).expect("legal");
        let response = soon("events", sender.send_request(request)).await.expect("events");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), heard: Vec::new() }
    }

    /// The next event's data; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|bytes| bytes == b"\n\n") {
                let event: Vec<u8> = self.heard.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("text");
                if event.starts_with(':') {
                    continue;
                }
                assert!(event.starts_with("event: state\n"), "{event}");
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
                return Some(serde_json::from_str(data).expect("JSON"));
            }
            let frame = soon("an event", self.body.frame()).await?.expect("no error");
            self.heard.extend_from_slice(frame.data_ref().expect("data"));
        }
    }
}

async fn two_hundred_polls_of_one_task_are_answered_at_once(on: Place) {
    let (site, mut gate) = gated(on).await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let mut connections = join_all((0..10).map(|_| Connection::two(site.address()))).await;
    let polls = connections.iter_mut().map(|connection| async {
        let connection: &mut Connection = connection;
        let Connection::Two(sender) = connection else { unreachable!("HTTP/2") };
        let polls = (0..20).map(|_| {
            let mut connection = Connection::Two(sender.clone());
            let ask = Ask::get(format!("{url}?wait=60"));
            async move { connection.ask(ask).await.expect("a reply") }
        });
        join_all(polls).await
    });
    let open = async {
        // The polls are open when a later request on each connection has been answered.
        soon("figures", async { site.figure("rabbitry_tasks").await }).await;
        gate.open();
    };
    let (replies, ()) = soon("all replies", async { tokio::join!(join_all(polls), open) }).await;
    let replies: Vec<_> = replies.into_iter().flatten().collect();
    assert_eq!(replies.len(), 200);
    replies.iter().for_each(|reply| is_small_solution(&reply.is(200)["result"]["x"]));
}

async fn events_tell_every_state_and_end(on: Place) {
    let (site, mut gate) = gated(on).await;
    // Has the slot until the first event has come.
    let holds = submit(&site, &small()).await;
    assert_eq!(gate.begins().await, 2);
    let (content_type, body) = large(1000);
    let url = site.ask(Ask::post("/v1/tasks?kind=solve", &content_type, body)).await.accepted();
    let mut events = Events::of(&site, &url).await;
    assert_eq!(events.next().await.expect("the first")["state"], "queued");
    site.ask(Ask::delete(&holds)).await.is(200);
    assert_eq!(gate.begins().await, 1000);
    let mut last = events.next().await.expect("a second");
    while last["state"] == "queued" {
        last = events.next().await.expect("another");
    }
    assert_eq!((&last["state"], &last["percent"]), (&"running".into(), &25.0.into()), "{last}");
    gate.open();
    while last["state"] == "running" {
        last = events.next().await.expect("another");
    }
    assert_eq!(last["state"], "done", "{last}");
    assert_eq!(events.next().await, None, "it ends with the outcome");
    let mut late = Events::of(&site, &url).await;
    assert_eq!(late.next().await.expect("one")["state"], "done");
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn a_poll_ends_with_its_patience_and_says_how_far_the_task_is() {
    let (site, mut gate) = gated(Place::embedded()).await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let started = std::time::Instant::now();
    assert_eq!(site.get(format!("{url}?wait=0.3")).await.is(200)["state"], "queued");
    assert!(started.elapsed() >= Duration::from_millis(300));
    let binary = site.ask(Ask::get(format!("{url}?wait=0.01")).accept("application/x-npy")).await;
    assert_eq!(binary.is(202)["state"], "queued", "there is no result yet");
}

#[tokio::test]
async fn events_of_a_cancelled_task_end_and_of_an_unknown_one_never_begin() {
    let (site, mut gate) = gated(Place::embedded()).await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let mut events = Events::of(&site, &url).await;
    assert_eq!(events.next().await.expect("one")["state"], "queued");
    site.ask(Ask::delete(&url)).await.is(200);
    assert_eq!(events.next().await.expect("two")["state"], "cancelled");
    assert_eq!(events.next().await, None);
    site.get("/v1/tasks/00112233445566778899aabbccddeeff/events").await.problem(404, "not_found");
    site.get("/v1/tasks/nonsense/events").await.problem_at(400, "bad_request", "id");
}

#[tokio::test]
async fn events_end_when_the_bridge_stops() {
    let (mut site, mut gate) = gated(Place::embedded()).await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let mut events = Events::of(&site, &url).await;
    assert_eq!(events.next().await.expect("one")["state"], "queued");
    let stopping = site.stop();
    let (last, ()) = tokio::join!(events.next(), stopping);
    assert_eq!(last, None);
}

/// Threads of this process.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("a line");
    line.trim().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_polls_take_no_thread_each() {
    let (site, mut gate) = gated_with(Place::embedded(), |_| {}).await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let before = threads();
    let mut polls = Vec::new();
    for _ in 0..2000 {
        let mut connection = Connection::one(site.address()).await;
        let ask = Ask::get(format!("{url}?wait=60"));
        polls.push(tokio::spawn(async move { connection.ask(ask).await.expect("a reply").is(200) }));
    }
    // This one came after all others, and is answered while they wait.
    assert_eq!(site.get(&url).await.is(200)["state"], "queued");
    let more = threads().saturating_sub(before);
    assert!(more < 400, "{more} threads more for 2000 polls");
    assert!(polls.iter().all(|poll| !poll.is_finished()));
    gate.open();
    for poll in polls {
        is_small_solution(&soon("a reply", poll).await.expect("no panic")["result"]["x"]);
    }
}
