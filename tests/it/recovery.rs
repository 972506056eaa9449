//! What brokers and their keepers do to a worker that has done nothing wrong: it goes on, or says why not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::{Consume, Error, Message, Queue, Route};
use rabbitry::task::{Task, TaskError};
use rabbitry::transport::names;
use rabbitry::wire::{self, OutcomeHead};
use rabbitry::worker::{self, Health, Launcher, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use crate::pool::{Did, Place, Probe, ProbeHandler, endless, head, on_both, one_slot, soon, submit};
use crate::rabbitmq::{Node, Setup, classic_queues_time_out, node, takes_commands};

on_both!(
    tasks_of_a_queue_deleted_by_hand_are_published_again_and_computed,
    a_queue_deleted_while_no_worker_is_there_is_found_out,
    a_task_that_runs_when_its_queue_is_deleted_is_not_stopped,
    a_queue_deleted_while_a_task_is_computed_alone_is_declared_again,
);

fn watched(options: Options) -> (Options, watch::Receiver<Health>) {
    let heard = options.health.subscribe();
    (options, heard)
}

async fn until_ready(health: &mut watch::Receiver<Health>) {
    soon("a worker that consumes", health.wait_for(Health::is_ready)).await.expect("the worker is there");
}

async fn tasks_of_a_queue_deleted_by_hand_are_published_again_and_computed(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let mut endless = endless(Probe::KIND);
    let (options, mut health) = watched(one_slot());
    let worker = on.worker(endless.handler.clone(), options);
    until_ready(&mut health).await;
    let mut tickets = Vec::new();
    for payload in ["running", "prefetched", "ready", "ready, too"] {
        tickets.push((payload, submit(&boss, Probe(payload.into())).await));
    }
    endless.begins("running").await;
    let queue = names::work_queue("probe");
    client.until(&queue, "the rest in the queue", |status| status.is_some_and(|status| status.ready == 2)).await;
    client.connection.delete_queue(&queue).await.expect("deleted");
    // It may consume again by now; the reason stays.
    soon("the end of its consumer", health.wait_for(|health| health.reason.is_some()))
        .await
        .expect("the worker is there");
    until_ready(&mut health).await;
    endless.enough();
    for (payload, ticket) in tickets {
        let answer = soon("an answer", ticket.outcome()).await.result.expect("an answer");
        assert_eq!(answer, payload.as_bytes());
    }
    assert!(worker.is_running());
    client.until_ready(names::DEAD, 0).await;
}

async fn a_queue_deleted_while_no_worker_is_there_is_found_out(on: Place) {
    let (boss, client) = (on.boss().await, on.client().await);
    let ticket = submit(&boss, Probe(Bytes::from_static(b"early"))).await;
    let queue = names::work_queue("probe");
    client.until_ready(&queue, 1).await;
    client.connection.delete_queue(&queue).await.expect("deleted");
    // For half a second the boss takes a queue that a worker finds missing for the new one that it has just declared.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _worker = on.worker(ProbeHandler::new(Ok), one_slot());
    // It declares the queue, so nothing that the boss might ask the broker would tell it any more.
    let answer = soon("an answer", ticket.outcome()).await.result.expect("an answer");
    assert_eq!(answer, &b"early"[..]);
}

async fn a_task_that_runs_when_its_queue_is_deleted_is_not_stopped(on: Place) {
    let (mut client, mut endless) = (on.client().await, endless(Probe::KIND));
    let (options, mut health) = watched(one_slot());
    let _worker = on.worker(endless.handler.clone(), options);
    until_ready(&mut health).await;
    let message = client.message(wire::encode(&head(&Probe::KIND, b"x")), b"x");
    client.publish(&names::work_queue("probe"), message).await;
    assert_eq!(endless.next().await, Did::Begin(Bytes::from_static(b"x")));
    client.connection.delete_queue(&names::work_queue("probe")).await.expect("deleted");
    // It may consume again by now; the reason stays.
    soon("the end of its consumer", health.wait_for(|health| health.reason.is_some()))
        .await
        .expect("the worker is there");
    endless.enough();
    let outcome = client.outcome().await;
    assert_eq!(outcome.error, None);
}

async fn a_queue_deleted_while_a_task_is_computed_alone_is_declared_again(on: Place) {
    let (boss, mut client, mut endless) = (on.boss().await, on.client().await, endless(Probe::KIND));
    let (options, mut health) = watched(one_slot());
    let worker = on.worker(endless.handler.clone(), options);
    until_ready(&mut health).await;
    let suspect = client.send_suspect().await;
    endless.begins("suspect").await;
    // Nobody consumes, so nobody hears of it.
    let queue = names::work_queue("probe");
    let waits = submit(&boss, Probe("waits".into())).await;
    client.until_ready(&queue, 1).await;
    client.connection.delete_queue(&queue).await.expect("deleted");
    endless.enough();
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error), (suspect, None));
    assert_eq!(soon("an answer", waits.outcome()).await.result, Ok(Bytes::from_static(b"waits")));
    assert!(worker.is_running());
    until_ready(&mut health).await;
}

/// No message of [`strict_node`] is longer.
const STRICT_MAX_BYTES: usize = 4 << 20;

/// A node whose consumers have 3 s to ack, looked at twice a second, with short messages, and whose users come and go. `None` if
/// the environment names a broker, which takes no commands.
pub async fn strict_node() -> Option<&'static Node> {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    if !takes_commands() {
        return None;
    }
    let start = async {
        let node = tokio::task::spawn_blocking(|| Node::start_with(Setup { vhosts: 6, ..Setup::default() }))
            .await
            .expect("the node starts");
        let of_time = "application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 500)";
        // RabbitMQ 3 reads the one, 4 the other.
        let of_length = "application:set_env(rabbit, max_message_size, N), persistent_term:put(max_message_size, N)";
        let limits = format!("N = {STRICT_MAX_BYTES}, {of_time}, {of_length}.");
        node.ctl(&["eval", &limits]).await;
        node
    };
    Some(NODE.get_or_init(|| start).await)
}

pub fn place(node: &Node, vhost: &str, user: &str) -> Place {
    let url = node.url(vhost).replace("guest:guest", &format!("{user}:{user}"));
    Place::of(Arc::new(AmqpBroker::new(&url).expect("a legal address")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_longer_than_the_consumer_timeout_is_computed_once() {
    let Some(node) = strict_node().await.filter(|_| classic_queues_time_out()) else { return };
    let on = place(node, "t0", "guest");
    let (boss, client) = (on.boss().await, on.client().await);
    let mut endless = endless(Probe::KIND);
    let (options, mut health) = watched(one_slot());
    let worker = on.worker(endless.handler.clone(), options);
    until_ready(&mut health).await;
    let ticket = submit(&boss, Probe("long".into())).await;
    endless.begins("long").await;
    for _ in 0..2 {
        let late = soon("the broker's patience to end", health.wait_for(|health| !health.is_ready())).await;
        let reason = late.expect("the worker is there").reason.clone().unwrap_or_default();
        assert!(reason.contains("timed out") || reason.contains("timeout"), "{reason}");
        until_ready(&mut health).await;
    }
    endless.enough();
    assert_eq!(soon("an answer", ticket.outcome()).await.result.expect("an answer"), &b"long"[..]);
    assert_eq!(worker.stop().await.done, 1, "the copies were dropped");
    client.until_ready(&names::work_queue("probe"), 0).await;
    client.until_ready(names::DEAD, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_at_another_worker_stops_when_the_first_has_answered() {
    let Some(node) = strict_node().await.filter(|_| classic_queues_time_out()) else { return };
    let on = place(node, "t1", "guest");
    let (boss, client) = (on.boss().await, on.client().await);
    let [mut first, mut second] = [(); 2].map(|()| endless(Probe::KIND));
    let one = on.worker(first.handler.clone(), one_slot());
    let ticket = submit(&boss, Probe("long".into())).await;
    first.begins("long").await;
    let other = on.worker(second.handler.clone(), one_slot());
    second.begins("long").await;
    first.enough();
    assert_eq!(soon("an answer", ticket.outcome()).await.result.expect("an answer"), &b"long"[..]);
    second.stops("long").await;
    assert_eq!(one.stop().await.done, 1);
    other.stop().await;
    client.until_ready(&names::work_queue("probe"), 0).await;
    client.until_ready(names::DEAD, 0).await;
}

/// A user of a virtual host, with all rights there.
pub async fn user(node: &Node, name: &str, vhost: &str) {
    node.ctl(&["add_user", name, name]).await;
    node.ctl(&["set_permissions", "-p", vhost, name, ".*", ".*", ".*"]).await;
}

/// A worker that is expected to end by itself.
async fn start_worker(
    on: &Place,
) -> (tokio::task::JoinHandle<Result<worker::Summary, Error>>, watch::Receiver<Health>) {
    let (options, mut health) = watched(one_slot());
    let worker = Launcher::new(on.broker.clone()).start(vec![ProbeHandler::new(Ok)], options, CancellationToken::new());
    until_ready(&mut health).await;
    (worker, health)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_rights_are_taken_away_ends_and_says_so() {
    let Some(node) = strict_node().await else { return };
    user(node, "careless", "t2").await;
    let boss = place(node, "t2", "guest").boss().await;
    let (worker, health) = start_worker(&place(node, "t2", "careless")).await;
    node.ctl(&["clear_permissions", "-p", "t2", "careless"]).await;
    // Its answer is the first that the broker forbids; the task itself is kept.
    let ticket = submit(&boss, Probe("mine".into())).await;
    let error = soon("the worker's end", worker).await.expect("no panic").expect_err("it may not go on");
    assert!(matches!(error, Error::Forbidden { .. }) && error.to_string().contains("set_permissions"), "{error}");
    assert!(!health.borrow().is_ready());
    let _allowed = place(node, "t2", "guest").worker(ProbeHandler::new(Ok), one_slot());
    assert_eq!(soon("an answer", ticket.outcome()).await.result.expect("an answer"), &b"mine"[..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_user_is_deleted_ends_and_says_so() {
    let Some(node) = strict_node().await else { return };
    user(node, "leaver", "t3").await;
    let (worker, health) = start_worker(&place(node, "t3", "leaver")).await;
    node.ctl(&["delete_user", "leaver"]).await;
    let error = soon("the worker's end", worker).await.expect("no panic").expect_err("it may not go on");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let health = health.borrow().clone();
    assert!(!health.is_ready() && health.reason.is_some_and(|reason| reason.contains("refused")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_broker_does_not_take_costs_no_attempt() {
    if !takes_commands() {
        return;
    }
    // Its deliveries may be unacked for long.
    let (on, node) = (Place::rabbitmq().await, node());
    let address = on.broker.address();
    let vhost = address.rsplit('/').next().expect("a vhost");
    let (client, handler) = (on.client().await, ProbeHandler::new(Ok));
    let worker = on.worker(handler.clone(), Options { attempts_max: 1, ..one_slot() });
    let full = Route::queue("full");
    let declared = Queue { name: full.key.clone(), exclusive: true, ..Queue::default() };
    client.connection.declare_queue(&declared).await.expect("declared");
    let limit = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    node.ctl(&["set_policy", "--vhost", vhost, "--apply-to", "queues", "full", "^full$", limit]).await;
    let mut fillers = 0;
    soon("the limit to count", async {
        while client.connection.publish(&full, Message::default()).await.expect("handed over").0.await.is_ok() {
            fillers += 1;
        }
    })
    .await;
    let head = head(&Probe::KIND, b"again");
    let message = Message { reply_to: Some(full.key.clone()), ..client.message(wire::encode(&head), b"again") };
    client.publish(&names::work_queue("probe"), message).await;
    // Redelivered it would have been at its end.
    handler.until_planned(3).await;
    node.ctl(&["clear_policy", "--vhost", vhost, "full"]).await;
    client.until_ready(&full.key, fillers + 1).await;
    let mut replies =
        client.connection.consume(&full.key, Consume { prefetch: 0, no_ack: true }).await.expect("consuming");
    for _ in 0..fillers {
        soon("what fills it", replies.next()).await;
    }
    let answer = soon("an answer", replies.next()).await.expect("the queue is there").message;
    let outcome: OutcomeHead = wire::decode(&answer.head).expect("one outcome");
    assert_eq!((outcome.id, outcome.error), (head.id, None));
    assert_eq!(worker.stop().await.done, handler.planned() as u64);
    client.until_ready(names::DEAD, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_long_for_the_broker_is_an_outcome_that_says_so() {
    let Some(node) = strict_node().await else { return };
    let on = place(node, "t5", "guest");
    let boss = on.boss().await;
    let worker = on.worker(ProbeHandler::new(|_| Ok(vec![0; STRICT_MAX_BYTES + 1].into())), one_slot());
    let ticket = submit(&boss, Probe("short".into())).await;
    let error = soon("an outcome", ticket.outcome()).await.result.expect_err("it can't be sent");
    assert!(matches!(&error, TaskError::Refused(reason) if reason.contains("max_message_size")), "{error}");
    worker.stop().await;
    assert_eq!(soon("the desk", boss.dead_letters()).await.expect("a count"), 0);
}

/// A reply, head and body.
pub async fn get(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.expect("a reply");
    reply
}

#[tokio::test]
async fn readiness_means_that_it_consumes() {
    let health = watch::Sender::new(Health { queues: 2, ..Health::default() });
    let address = rabbitry::health::listen("127.0.0.1:0", health.subscribe()).await.expect("a free port");
    let address = address.to_string();
    let ask = async |path: &str| get(&address, path).await;
    let ready = async |status: &str, word: &str| {
        let reply = ask("/readyz").await;
        assert!(reply.starts_with(&format!("HTTP/1.0 {status}")) && reply.contains(&format!("{word:?}")), "{reply}");
    };
    ready("503", "not consuming").await;
    health.send_modify(|health| health.consuming = 1);
    ready("503", "not consuming").await;
    health.send_modify(|health| health.consuming = 2);
    ready("200", "consuming").await;
    health.send_modify(|health| health.draining = true);
    ready("503", "draining").await;
    assert!(ask("/healthz").await.starts_with("HTTP/1.0 200"));
    let taken = rabbitry::health::listen(&address, health.subscribe()).await.expect_err("it is taken");
    assert!(taken.contains("--health") && taken.contains(&address), "{taken}");
}
