//! Answers to detached tasks come while there is no bridge, and are read when there is one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rabbitry::transport::names;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Ask, Connection, Reply};
use super::{Gated, Site, gated, is_small_solution, large, multipart, npy, prioritised, small, submit};
use crate::pool::{Client, Place, on_both, one_slot, soon};
use crate::programs::{BRIDGE, Process, program};
use crate::recovery;

on_both!(
    answers_wait_while_there_is_no_bridge_and_are_not_computed_again,
    a_large_answer_waits_in_parts,
    a_bridge_that_stops_with_nothing_to_wait_for_leaves_no_queues,
    a_task_goes_on_when_what_it_waited_in_is_gone,
    answers_stay_with_the_broker_until_the_disk_takes_them,
);

/// The name under which the tasks of a spool are submitted.
fn kept_name(spool: &Path) -> String {
    let text = std::fs::read_to_string(spool.join("boss.id")).expect("a name");
    text.trim_end().to_owned()
}

fn results_of(site: &Site) -> String {
    names::results_queue(&kept_name(&site.options.spool))
}

/// Stops the bridge and lets what it has sent be computed; its answers wait.
async fn answered_meanwhile(site: &mut Site, client: &Client, gate: &Gated, messages: u64) {
    let results = results_of(site);
    site.stop().await;
    gate.open();
    client.until_ready(&results, messages).await;
}

/// What was sent again would begin before this.
async fn nothing_was_computed_again(site: &Site, gate: &mut Gated) {
    let last = submit(site, &small()).await;
    is_small_solution(&site.ended(&last).await["result"]["x"]);
    assert_eq!(gate.begins().await, 2, "something was computed again");
}

async fn answers_wait_while_there_is_no_bridge_and_are_not_computed_again(on: Place) {
    let (mut site, mut gate) = gated(on).await;
    let client = site.place.client().await;
    let runs = submit(&site, &prioritised(3, "high")).await;
    assert_eq!(gate.begins().await, 3);
    let in_hand = submit(&site, &prioritised(4, "normal")).await;
    let waits = submit(&site, &prioritised(5, "low")).await;
    client.until_ready(&names::work_queue("solve"), 1).await;
    answered_meanwhile(&mut site, &client, &gate, 3).await;
    assert_eq!((gate.begins().await, gate.begins().await), (4, 5), "they went on");
    site.start().await;
    for (url, n) in [(runs, 3), (in_hand, 4), (waits, 5)] {
        let view = site.ended(&url).await;
        assert_eq!(view["result"]["x"], Value::from(vec![1.0; n]), "{view}");
        assert!(view["worker"].is_string(), "{view}");
    }
    client.until_ready(&results_of(&site), 0).await;
    nothing_was_computed_again(&site, &mut gate).await;
}

async fn a_large_answer_waits_in_parts(on: Place) {
    let in_parts = on.embedded.is_none();
    let (mut site, mut gate) = gated(on).await;
    let client = site.place.client().await;
    // X is as long as B: longer than one message takes.
    let (n, nrhs) = (20, 70_000);
    let a: Vec<f64> = (0..n * n).map(|at| if at % (n + 1) == 0 { 2.0 } else { 0.0 }).collect();
    let (content_type, body) = multipart(&[("a", &npy(&[n, n], &a)), ("b", &npy(&[n, nrhs], &vec![3.0; n * nrhs]))]);
    let url = site.ask(Ask::post("/v1/tasks?kind=solve", &content_type, body)).await.accepted();
    assert_eq!(gate.begins().await, n);
    answered_meanwhile(&mut site, &client, &gate, if in_parts { 4 } else { 1 }).await;
    site.start().await;
    assert_eq!(site.get(format!("{url}?wait=60&result=false")).await.is(200)["state"], "done");
    let raw = site.ask(Ask::get(&url).accept("application/octet-stream")).await;
    let x = super::numbers(&raw.body);
    assert!(x.len() == n * nrhs && x.iter().all(|x| (x - 1.5).abs() < 1e-14), "{} numbers", x.len());
    client.until_ready(&results_of(&site), 0).await;
    nothing_was_computed_again(&site, &mut gate).await;
}

async fn a_bridge_that_stops_with_nothing_to_wait_for_leaves_no_queues(on: Place) {
    let (mut site, gate) = gated(on).await;
    let client = site.place.client().await;
    let name = kept_name(&site.options.spool);
    gate.open();
    let url = submit(&site, &small()).await;
    site.ended(&url).await;
    site.stop().await;
    for queue in [names::results_queue(&name), names::pull_queue(&name)] {
        client.until(&queue, "no queue", |queue| queue.is_none()).await;
    }
    site.start().await;
    assert_eq!(kept_name(&site.options.spool), name);
    is_small_solution(&site.ended(&url).await["result"]["x"]);
}

async fn a_task_goes_on_when_what_it_waited_in_is_gone(on: Place) {
    let (mut site, mut gate) = gated(on).await;
    let client = site.place.client().await;
    let url = submit(&site, &small()).await;
    gate.begins().await;
    let name = kept_name(&site.options.spool);
    site.stop().await;
    // As when nobody has come for a day.
    for queue in [names::results_queue(&name), names::pull_queue(&name)] {
        client.connection.delete_queue(&queue).await.expect("deleted");
    }
    gate.open();
    site.start().await;
    is_small_solution(&site.ended(&url).await["result"]["x"]);
}

async fn answers_stay_with_the_broker_until_the_disk_takes_them(on: Place) {
    let (mut site, mut gate) = gated(on).await;
    let client = site.place.client().await;
    let first = submit(&site, &prioritised(3, "high")).await;
    assert_eq!(gate.begins().await, 3);
    let second = submit(&site, &prioritised(4, "normal")).await;
    let third = submit(&site, &prioritised(5, "low")).await;
    // Two are in hand: all are sent.
    client.until_ready(&names::work_queue("solve"), 1).await;
    let results = results_of(&site);
    answered_meanwhile(&mut site, &client, &gate, 3).await;
    // No files can be written here. Whichever answer is in front, it does not get past.
    let obstacles = [&first, &second, &third].map(|url| {
        let id = url.rsplit('/').next().expect("an id");
        site.options.spool.join(format!("{id}.outcome.tmp"))
    });
    obstacles.iter().for_each(|obstacle| std::fs::create_dir(obstacle).expect("made"));
    site.start().await;
    // All are taken from the queue, and one again and again to the disk; to the broker they are unacked.
    client.until_ready(&results, 0).await;
    assert_eq!(site.get(&first).await.is(200)["state"], "queued");
    site.stop().await;
    client.until_ready(&results, 3).await;
    site.start().await;
    client.until_ready(&results, 0).await;
    obstacles.iter().for_each(|obstacle| std::fs::remove_dir(obstacle).expect("removed"));
    for (url, n) in [(first, 3), (second, 4), (third, 5)] {
        assert_eq!(site.ended(&url).await["result"]["x"], Value::from(vec![1.0; n]));
    }
    assert_eq!((gate.begins().await, gate.begins().await), (4, 5));
    nothing_was_computed_again(&site, &mut gate).await;
}

/// A bridge as a process, with its spool.
struct Program {
    process: Process,
    address: SocketAddr,
}

impl Program {
    /// With a broker, or with a pool of its own.
    async fn start(broker: Option<&str>, spool: &Path) -> Program {
        let spool = spool.to_string_lossy();
        let broker = broker.map_or(vec!["--slots", "1"], |broker| vec!["--broker", broker]);
        let arguments = [&["--listen", "127.0.0.1:0", "--spool", &spool], &broker[..]].concat();
        let mut process = Process::start(program(BRIDGE, &arguments));
        let url = process.until_listening().await;
        let address = url.rsplit('/').next().expect("an address").parse().expect("an address");
        Program { process, address }
    }

    async fn ask(&self, ask: Ask) -> Reply {
        soon("a reply", async { Connection::one(self.address).await.ask(ask).await.expect("a reply") }).await
    }

    async fn submit(&self, system: &Value) -> String {
        self.ask(Ask::json("/v1/tasks?kind=solve", system)).await.accepted()
    }

    async fn kill(mut self) {
        self.process.child.kill().await.expect("killed");
    }
}

/// Three are with the worker or in its queue, and the fourth, which is pulled, is on the bridge's disk.
async fn submit_in_every_phase(bridge: &Program, client: &Client, gate: &mut Gated) -> Vec<(String, usize)> {
    let mut urls = vec![(bridge.submit(&prioritised(2, "high")).await, 2)];
    assert_eq!(gate.begins().await, 2);
    gate.open();
    assert_eq!(bridge.ask(Ask::get(format!("{}?wait=60", urls[0].0))).await.is(200)["state"], "done");
    gate.close();
    urls.push((bridge.submit(&prioritised(3, "high")).await, 3));
    assert_eq!(gate.begins().await, 3);
    let work = names::work_queue("solve");
    urls.push((bridge.submit(&prioritised(4, "normal")).await, 4));
    // Of the same priority it might share a message with the one before, which may not be sent yet.
    urls.push((bridge.submit(&prioritised(5, "low")).await, 5));
    client.until_ready(&work, 1).await;
    let (content_type, body) = large(1150);
    let ask = Ask::post("/v1/tasks?kind=solve", &content_type, body);
    urls.push((bridge.ask(ask).await.accepted(), 1150));
    client.until_ready(&work, 2).await;
    urls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_bridge_that_was_killed_are_answered_after_its_restart_and_those_whose_answers_wait_once() {
    let on = Place::rabbitmq().await;
    let (client, mut gate, folder) = (on.client().await, Gated::new(), TempDir::new().expect("a folder"));
    let _worker = on.worker(gate.handler.clone(), one_slot());
    let spool: PathBuf = folder.path().join("spool");
    let bridge = Program::start(Some(on.url()), &spool).await;
    let urls = submit_in_every_phase(&bridge, &client, &mut gate).await;
    bridge.kill().await;
    // The one that runs, and the two behind it; the large one waits for its parts.
    gate.open();
    client.until_ready(&names::results_queue(&kept_name(&spool)), 3).await;
    assert_eq!((gate.begins().await, gate.begins().await), (4, 5));
    assert!(gate.is_silent(), "the large one was not pulled");
    let bridge = Program::start(Some(on.url()), &spool).await;
    for (url, n) in urls {
        let view = bridge.ask(Ask::get(format!("{url}?wait=60"))).await.is(200);
        assert_eq!((&view["state"], view["result"]["x"].as_array().map(Vec::len)), (&"done".into(), Some(n)));
    }
    assert_eq!(gate.begins().await, 1150);
    // What was sent again would begin before this, but for a large one, which would wait for longer.
    let last = bridge.submit(&small()).await;
    assert_eq!(bridge.ask(Ask::get(format!("{last}?wait=60"))).await.is(200)["state"], "done");
    assert_eq!(gate.begins().await, 2, "something was computed again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_with_a_pool_of_its_own_ends_in_mid_task_and_computes_it_after_its_restart() {
    let folder = TempDir::new().expect("a folder");
    let spool: PathBuf = folder.path().join("spool");
    let mut bridge = Program::start(None, &spool).await;
    // To take one from HTTP takes less than to solve it: one runs when the bridge is told, and others wait.
    let (content_type, body) = large(2000);
    let ask = Ask::post("/v1/tasks?kind=solve", &content_type, body);
    let mut urls = Vec::new();
    for _ in 0..4 {
        urls.push(bridge.ask(ask.clone()).await.accepted());
    }
    bridge.process.terminate();
    assert_eq!(soon("its end", bridge.process.code()).await, Some(0), "{}", bridge.process.said());
    let bridge = Program::start(None, &spool).await;
    for url in urls {
        let view = bridge.ask(Ask::get(format!("{url}?wait=60"))).await.is(200);
        assert_eq!((&view["state"], view["result"]["x"].as_array().map(Vec::len)), (&"done".into(), Some(2000)));
    }
    let metrics = bridge.ask(Ask::get("/metrics")).await.text();
    let ended = r#"rabbitry_tasks_ended_total{kind="solve",outcome="ok"}"#;
    assert!(metrics.contains(ended), "nothing was left for the second one: {metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_that_the_broker_refuses_ends_and_its_tasks_wait_for_the_next() {
    let Some(node) = recovery::strict_node().await else { return };
    recovery::user(node, "bridge", "t4").await;
    let on = recovery::place(node, "t4", "guest");
    let url = node.url("t4").replace("guest:guest", "bridge:bridge");
    let (client, folder) = (on.client().await, TempDir::new().expect("a folder"));
    let spool: PathBuf = folder.path().join("spool");
    let mut bridge = Program::start(Some(&url), &spool).await;
    let urls = [bridge.submit(&prioritised(3, "high")).await, bridge.submit(&prioritised(4, "low")).await];
    client.until_ready(&names::work_queue("solve"), 2).await;
    node.ctl(&["delete_user", "bridge"]).await;
    assert_eq!(soon("its end", bridge.process.code()).await, Some(1));
    let said = bridge.process.said();
    assert!(said.contains("gave up on the broker") && said.contains("wait in the spool"), "{said}");
    recovery::user(node, "bridge", "t4").await;
    let bridge = Program::start(Some(&url), &spool).await;
    let _worker = on.solver();
    for (url, n) in urls.iter().zip([3, 4]) {
        let view = bridge.ask(Ask::get(format!("{url}?wait=60"))).await.is(200);
        assert_eq!((&view["state"], view["result"]["x"].as_array().map(Vec::len)), (&"done".into(), Some(n)), "{view}");
    }
}
