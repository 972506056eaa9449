//! Stops and restarts: who waits is answered, and what was accepted is computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::broker::{Broker, Connection as Link, Error};
use serde_json::json;

use super::client::{Ask, Connection};
use super::{ROOM_FOR_ONE, Site, gated, gated_with, is_small_solution, large, small, submit};
use crate::pool::{Place, cut_all_connections, on_both, soon};

on_both!(
    detached_tasks_survive_a_restart_in_every_phase,
    a_waiting_client_gets_202_at_the_stop_and_its_result_after_the_start,
    detached_tasks_survive_a_restart_while_the_broker_loses_its_links,
);

async fn detached_tasks_survive_a_restart_in_every_phase(on: Place) {
    let (mut site, mut gate) = gated_with(on, |options| options.memory_bytes = ROOM_FOR_ONE).await;
    gate.open();
    let done = submit(&site, &small()).await;
    assert_eq!(gate.begins().await, 2);
    soon("its end", async {
        while site.get("/v1/tasks?state=done").await.is(200)["tasks"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    gate.close();
    let (content_type, body) = large(1000);
    let ask = Ask::post("/v1/tasks?kind=solve", &content_type, body);
    let running = site.ask(ask.clone().with("idempotency-key", "mine")).await.accepted();
    assert_eq!(gate.begins().await, 1000);
    let on_disk = site.ask(ask.clone()).await.accepted();
    let cancelled = submit(&site, &small()).await;
    site.ask(Ask::delete(&cancelled)).await.is(200);
    let before = site.get("/v1/tasks").await.is(200);

    site.restart().await;
    let after = site.get("/v1/tasks").await.is(200);
    let ids = |page: &serde_json::Value| {
        let tasks = page["tasks"].as_array().expect("a list").iter();
        tasks.map(|task| (task["task"].to_string(), task["created"].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&after), ids(&before), "the same tasks in the same order");
    is_small_solution(&site.get(&done).await.is(200)["result"]["x"]);
    assert_eq!(site.get(&cancelled).await.is(200)["state"], "cancelled");
    assert_eq!(site.ask(ask.with("idempotency-key", "mine")).await.accepted(), running, "keys survive");
    gate.open();
    for url in [running, on_disk] {
        let view = site.ended(&url).await;
        assert_eq!(view["result"]["x"].as_array().map(Vec::len), Some(1000), "{}", view["state"]);
    }
}

async fn a_waiting_client_gets_202_at_the_stop_and_its_result_after_the_start(on: Place) {
    let (mut site, mut gate) = gated(on).await;
    let mut connection = Connection::one(site.address()).await;
    let solving = tokio::spawn(async move { connection.ask(Ask::json("/v1/solve?wait=600", &small())).await });
    gate.begins().await;
    let detached = submit(&site, &small()).await;
    let mut connection = Connection::two(site.address()).await;
    let Connection::Two(sender) = &connection else { unreachable!("HTTP/2") };
    let mut other = Connection::Two(sender.clone());
    let polling = connection.ask(Ask::get(format!("{detached}?wait=600")));
    let mut polling = std::pin::pin!(polling);
    assert!(futures_util::poll!(&mut polling).is_pending());
    // On the same connection, after it.
    soon("health", other.ask(Ask::get("/healthz"))).await.expect("a reply").is(200);
    site.stop().await;
    let solving = soon("an answer", solving).await.expect("no panic").expect("an answer").accepted();
    assert_eq!(soon("an answer", polling).await.expect("an answer").is(200)["state"], "queued");
    site.start().await;
    gate.open();
    is_small_solution(&site.ended(&solving).await["result"]["x"]);
    is_small_solution(&site.ended(&detached).await["result"]["x"]);
}

async fn detached_tasks_survive_a_restart_while_the_broker_loses_its_links(on: Place) {
    let (mut site, mut gate) = gated(on).await;
    let first = submit(&site, &small()).await;
    gate.begins().await;
    if !cut_all_connections(&site.place).await {
        return;
    }
    let second = submit(&site, &small()).await;
    site.restart().await;
    cut_all_connections(&site.place).await;
    gate.open();
    for url in [first, second] {
        is_small_solution(&site.ended(&url).await["result"]["x"]);
    }
}

#[tokio::test]
async fn a_bridge_that_stops_takes_nobody_new_and_is_not_ready() {
    let (mut site, mut gate) = gated(Place::embedded()).await;
    let mut waiting = Connection::two(site.address()).await;
    let Connection::Two(sender) = &waiting else { unreachable!("HTTP/2") };
    let mut other = Connection::Two(sender.clone());
    let solving = tokio::spawn(async move { waiting.ask(Ask::json("/v1/solve?wait=600", &small())).await });
    gate.begins().await;
    assert_eq!(soon("health", other.ask(Ask::get("/readyz"))).await.expect("a reply").is(200)["status"], "ok");
    let address = site.address();
    site.ask_to_stop();
    soon("an answer", solving).await.expect("no panic").expect("an answer").accepted();
    site.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_stop() {
    let mut site = Site::embedded().await;
    let mut idle = Connection::one(site.address()).await;
    soon("a reply", idle.ask(Ask::get("/healthz"))).await.expect("a reply").is(200);
    let _silent = tokio::net::TcpStream::connect(site.address()).await.expect("connected");
    site.get("/healthz").await.is(200);
    let started = std::time::Instant::now();
    site.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_stop() {
    use tokio::io::AsyncWriteExt;
    let mut site = Site::embedded().await;
    let mut stuck = tokio::net::TcpStream::connect(site.address()).await.expect("connected");
    let head = "POST /v1/solve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{";
    stuck.write_all(head.as_bytes()).await.expect("sent");
    soon("the request to be there", async {
        while site.figure("rabbitry_memory_bytes").await == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // The spool is free again at once, so nothing of the old bridge is left.
    site.restart().await;
    assert_eq!(site.figure("rabbitry_memory_bytes").await, 0.0);
}

/// A broker that can be away.
struct Away {
    broker: EmbeddedBroker,
    away: AtomicBool,
}

#[async_trait]
impl Broker for Away {
    async fn connect(&self) -> Result<Arc<dyn Link>, Error> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(Error::Unreachable { address: self.address(), reason: "it is away".into() }),
            false => self.broker.connect().await,
        }
    }

    fn address(&self) -> String {
        self.broker.address()
    }

    fn local_address(&self) -> String {
        self.broker.local_address()
    }
}

#[tokio::test]
async fn while_the_broker_is_away_tasks_are_taken_and_the_rest_says_so() {
    let embedded = EmbeddedBroker::new();
    let broker = Arc::new(Away { broker: embedded.clone(), away: AtomicBool::new(false) });
    let site = Site::on(Place::of(broker.clone())).await;
    site.get("/readyz").await.is(200);
    broker.away.store(true, Ordering::Relaxed);
    embedded.sever();
    soon("the bridge to notice", async {
        while site.get("/readyz").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    site.get("/readyz").await.problem(503, "broker");
    site.get("/v1/queues").await.problem(503, "broker");
    site.get("/healthz").await.is(200);
    assert_eq!(site.figure("rabbitry_broker_connected").await, 0.0);
    let detached = submit(&site, &small()).await;
    let attached = site.ask(Ask::json("/v1/solve?wait=0.2", &small())).await.accepted();
    broker.away.store(false, Ordering::Relaxed);
    for url in [detached, attached] {
        is_small_solution(&site.ended(&url).await["result"]["x"]);
    }
}
