//! The desk of dead letters: looking loses nothing, retrying computes, dropping drops.

use std::time::Duration;

use bytes::Bytes;
use rabbitry::boss::dead::{Acted, Action, Desk, LETTERS_MAX, Letter, Refusal, Which};
use rabbitry::broker::{Consume, Message, Queue};
use rabbitry::task::{HandBack, TaskError, TaskId};
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire::{self, TaskHead};
use rabbitry::worker::Options;

use crate::pool::{
    Client, Place, Probe, ProbeHandler, cut_all_connections, on_both, one_slot, raw, solve_handler, soon,
};

const RETRY: Action = Action::Retry { force: false };

on_both!(
    looking_loses_nothing_and_keeps_the_order,
    a_desk_whose_connection_dies_loses_nothing_and_keeps_the_order,
    a_thousand_letters_are_held_without_their_bodies,
    letters_that_come_meanwhile_are_for_the_next_look,
    a_retried_task_begins_anew_under_its_id,
    a_retried_task_is_computed_while_the_pool_runs,
    a_retried_letter_of_several_tasks_has_an_answer_to_each,
    what_nobody_can_compute_stays_until_it_is_dropped,
    a_letter_that_nobody_waits_for_stays_unless_forced,
    a_letter_without_a_work_queue_stays,
    all_is_what_is_there_and_what_is_refused_keeps_its_place,
    the_same_task_twice_is_meant_twice,
    a_letter_says_the_first_and_the_last_reason_and_who_put_it_there,
);

fn id(number: u128) -> TaskId {
    TaskId(number << 96 | 0xfeed)
}

/// A task of `solve` that was given up.
fn given_up(client: &Client, number: u128) -> Message {
    let (head, body) = raw(System::random(4, 1, 0));
    let head = TaskHead { id: id(number), attempt: 5, ..head };
    let headers =
        [("rabbitry-reason", "tired"), ("rabbitry-first-reason", "lost"), ("rabbitry-kind", "solve"), ("x", "1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Message { headers, persistent: true, ..client.message(wire::encode(&head), &body) }
}

/// What nobody can compute.
fn malformed(client: &Client) -> Message {
    let whole = given_up(client, 99);
    Message { head: whole.head.slice(..whole.head.len() - 3), ..whole }
}

async fn desk(on: &Place) -> Desk {
    // It has a connection of its own: its boss may go.
    soon("a desk", on.boss().await.dead_letter_desk()).await.expect("a desk")
}

async fn close(desk: Desk) {
    soon("the end of the desk", desk.close()).await.expect("a good end");
}

fn these(ids: &[&str]) -> Which {
    Which::These(ids.iter().map(|id| id.parse().expect("an id")).collect())
}

/// Acts, and gives what was told of the letters, by id.
async fn act(desk: &Desk, action: Action, which: &Which) -> (Vec<String>, Vec<(String, Refusal)>, Acted) {
    let (mut done, mut stay) = (Vec::new(), Vec::new());
    let each = |letter: &Letter, result: Result<(), Refusal>| match result {
        Ok(()) => done.push(letter.id.clone()),
        Err(refusal) => stay.push((letter.id.clone(), refusal)),
    };
    let acted = soon("a decision", desk.act(action, which, each)).await.expect("the broker is there");
    (done, stay, acted)
}

/// Everything in the queue, in its order, taken out.
async fn empty(on: &Place, count: usize) -> Vec<Message> {
    let client = on.client().await;
    client.until_ready(names::DEAD, count as u64).await;
    let mut letters =
        client.connection.consume(names::DEAD, Consume { prefetch: 0, no_ack: true }).await.expect("consuming");
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(soon("a letter", letters.next()).await.expect("a letter").message);
    }
    messages
}

fn ids(messages: &[Message]) -> Vec<TaskId> {
    messages.iter().map(|message| wire::decode::<TaskHead>(&message.head).expect("a head").id).collect()
}

async fn looking_loses_nothing_and_keeps_the_order(on: Place) {
    let client = on.client().await;
    let expected: Vec<TaskId> = (0..70).map(id).collect();
    for number in 0..70 {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    let desk = desk(&on).await;
    for limit in [10, LETTERS_MAX] {
        let letters = soon("a look", desk.look(limit)).await.expect("letters");
        let seen: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
        let count = limit.min(70);
        assert_eq!(seen, expected[..count].iter().map(TaskId::to_string).collect::<Vec<_>>());
        assert_eq!(letters.unseen(), 70 - count as u64);
        drop(letters);
        client.until_ready(names::DEAD, 70).await;
    }
    let letters = soon("a look", desk.look(40)).await.expect("letters");
    close(desk).await;
    drop(letters);
    assert_eq!(ids(&empty(&on, 70).await), expected);
}

async fn a_desk_whose_connection_dies_loses_nothing_and_keeps_the_order(on: Place) {
    let client = on.client().await;
    let expected: Vec<TaskId> = (0..50).map(id).collect();
    for number in 0..50 {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    let desk = desk(&on).await;
    let letters = soon("a look", desk.look(40)).await.expect("letters");
    assert_eq!(letters.iter().len(), 40);
    if !cut_all_connections(&on).await {
        return;
    }
    assert_eq!(ids(&empty(&on, 50).await), expected);
    assert!(soon("the end of the desk", desk.close()).await.is_err(), "it says that the connection was lost");
}

async fn a_thousand_letters_are_held_without_their_bodies(on: Place) {
    const BODY: usize = 40_000;
    let client = on.client().await;
    let (head, _) = raw(System::random(4, 1, 0));
    for number in 0..1000 {
        let head = TaskHead { id: id(number), payload_bytes: BODY as u64, checksum: None, ..head.clone() };
        let message = client.message(wire::encode(&head), &[number as u8; BODY]);
        client.publish(names::DEAD, message).await;
    }
    let desk = desk(&on).await;
    let letters = soon("a look", desk.look(LETTERS_MAX)).await.expect("letters");
    assert_eq!((letters.iter().len(), letters.unseen()), (1000, 0));
    assert!(letters.iter().all(|letter| letter.body_bytes == BODY as u64 && letter.defect.is_none()));
    assert!(letters.kept_bytes() < 1_500_000, "{} bytes of 40 MB", letters.kept_bytes());
    client.until_ready(names::DEAD, 0).await;
    drop(letters);
    client.until_ready(names::DEAD, 1000).await;
    let (done, stay, _) = act(&desk, Action::Drop, &Which::All).await;
    assert_eq!((done.len(), stay.len()), (1000, 0));
    close(desk).await;
    client.until_ready(names::DEAD, 0).await;
}

async fn letters_that_come_meanwhile_are_for_the_next_look(on: Place) {
    let client = on.client().await;
    let (first, second) = (desk(&on).await, desk(&on).await);
    for number in 0..3 {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    let held = soon("a look", first.look(LETTERS_MAX)).await.expect("letters");
    for number in 3..5 {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    client.until_ready(names::DEAD, 2).await;
    let seen = |letters: &rabbitry::boss::dead::Letters| -> Vec<String> {
        letters.iter().map(|letter| letter.id.clone()).collect()
    };
    assert_eq!(seen(&held), [0, 1, 2].map(|number| id(number).to_string()));
    let others = soon("another look", second.look(LETTERS_MAX)).await.expect("letters");
    assert_eq!(seen(&others), [3, 4].map(|number| id(number).to_string()));
    // One that somebody else holds is not there, and is not waited for.
    let (done, _, acted) = act(&first, Action::Drop, &these(&[&id(4).to_string()])).await;
    assert_eq!((done.len(), acted.missing.len()), (0, 1));
    drop((held, others));
    client.until_ready(names::DEAD, 5).await;
    close(first).await;
    close(second).await;
    assert_eq!(ids(&empty(&on, 5).await), [0, 1, 2, 3, 4].map(id));
}

async fn a_retried_task_begins_anew_under_its_id(on: Place) {
    let client = on.client().await;
    for number in 0..3 {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    let desk = desk(&on).await;
    let beginning: String = id(1).to_string().chars().take(8).collect();
    let (done, stay, acted) = act(&desk, RETRY, &these(&[&beginning, "dddddd"])).await;
    assert_eq!((done, stay), (vec![id(1).to_string()], vec![]));
    assert_eq!(acted.missing, ["dddddd".parse().expect("an id")]);
    close(desk).await;
    let queue = names::work_queue("solve");
    let mut work = client.connection.consume(&queue, Consume { prefetch: 1, no_ack: true }).await.expect("consuming");
    let message = soon("the task", work.next()).await.expect("the task").message;
    let head: TaskHead = wire::decode(&message.head).expect("a head");
    assert_eq!((head.id, head.attempt, head.kind.as_str()), (id(1), 0, "solve"));
    assert_eq!(message.headers, [("x".to_owned(), "1".to_owned())], "what was not ours is kept");
    assert!(message.persistent);
    assert_eq!(message.reply_to.as_deref(), Some(client.reply_to.as_str()));
    assert_eq!(ids(&empty(&on, 2).await), [0, 2].map(id));
}

async fn a_retried_task_is_computed_while_the_pool_runs(on: Place) {
    let mut client = on.client().await;
    let _worker = on.solver();
    client.publish(names::DEAD, given_up(&client, 7)).await;
    client.publish(names::DEAD, given_up(&client, 8)).await;
    let desk = desk(&on).await;
    let (done, ..) = act(&desk, RETRY, &these(&[&id(8).to_string(), &id(7).to_string()])).await;
    assert_eq!(done.len(), 2);
    close(desk).await;
    let mut answered = [client.outcome().await, client.outcome().await];
    answered.sort_by_key(|outcome| outcome.id);
    assert_eq!(answered.map(|outcome| (outcome.id, outcome.error)), [(id(7), None), (id(8), None)]);
    client.until_ready(names::DEAD, 0).await;
}

async fn a_retried_letter_of_several_tasks_has_an_answer_to_each(on: Place) {
    let mut client = on.client().await;
    let _worker = on.solver();
    let (mut heads, mut bodies) = (Vec::new(), Vec::new());
    for number in [1, 2] {
        let (head, body) = raw(System::random(4, 1, number as u64));
        wire::encode_into(&TaskHead { id: id(number), attempt: 3, ..head }, &mut heads);
        bodies.extend(body);
    }
    client.publish(names::DEAD, client.message(heads, &bodies)).await;
    let desk = desk(&on).await;
    let (done, ..) = act(&desk, RETRY, &these(&[&id(2).to_string()])).await;
    assert_eq!(done.len(), 1, "the letter as a whole");
    close(desk).await;
    let mut answered = [client.outcome().await, client.outcome().await];
    answered.sort_by_key(|outcome| outcome.id);
    assert_eq!(answered.map(|outcome| (outcome.id, outcome.error)), [(id(1), None), (id(2), None)]);
}

async fn what_nobody_can_compute_stays_until_it_is_dropped(on: Place) {
    let client = on.client().await;
    client.publish(names::DEAD, given_up(&client, 1)).await;
    client.publish(names::DEAD, malformed(&client)).await;
    client.publish(names::DEAD, Message { reply_to: None, ..given_up(&client, 2) }).await;
    let desk = desk(&on).await;
    let letters = soon("a look", desk.look(LETTERS_MAX)).await.expect("letters");
    let name = letters.iter().nth(1).expect("three letters").id.clone();
    drop(letters);
    client.until_ready(names::DEAD, 3).await;
    for force in [false, true] {
        let which = these(&[&name[..10], &id(2).to_string()]);
        let (done, stay, _) = act(&desk, Action::Retry { force }, &which).await;
        assert!(done.is_empty(), "{done:?}");
        let reasons: Vec<String> = stay.iter().map(|(_, refusal)| refusal.to_string()).collect();
        assert!(reasons[0].contains("ends early") && reasons[1].contains("reply_to"), "{reasons:?}");
        client.until_ready(names::DEAD, 3).await;
    }
    let (done, ..) = act(&desk, Action::Drop, &these(&[&name[..10]])).await;
    assert_eq!(done, [name]);
    close(desk).await;
    assert_eq!(ids(&empty(&on, 2).await), [1, 2].map(id));
}

async fn a_letter_that_nobody_waits_for_stays_unless_forced(on: Place) {
    let client = on.client().await;
    let gone = Message { reply_to: Some("rabbitry.results.gone".into()), ..given_up(&client, 1) };
    client.publish(names::DEAD, gone).await;
    let (head, _) = raw(System::random(4, 1, 0));
    let pulled = TaskHead { id: id(2), checksum: None, pull_from: Some("rabbitry.pull.gone".into()), ..head.clone() };
    client.publish(names::DEAD, client.message(wire::encode(&pulled), b"")).await;
    let late = TaskHead { id: id(3), deadline_unix_ms: 1, ..head };
    let body = raw(System::random(4, 1, 0)).1;
    client.publish(names::DEAD, client.message(wire::encode(&late), &body)).await;
    // The queue of a live boss is locked for everybody else: it is there.
    let boss = on.boss().await;
    let waited_for = Message { reply_to: Some(names::results_queue(boss.id())), ..given_up(&client, 4) };
    client.publish(names::DEAD, waited_for).await;
    let desk = desk(&on).await;
    let (done, stay, _) = act(&desk, RETRY, &Which::All).await;
    assert_eq!(done, [id(4).to_string()]);
    let refusals: Vec<Refusal> = stay.into_iter().map(|(_, refusal)| refusal).collect();
    let expected = [
        Refusal::NoReader("rabbitry.results.gone".into()),
        Refusal::NoPayload("rabbitry.pull.gone".into()),
        Refusal::Late,
    ];
    assert_eq!(refusals, expected);
    client.until_ready(names::DEAD, 3).await;
    let (done, stay, _) = act(&desk, Action::Retry { force: true }, &Which::All).await;
    assert_eq!((done.len(), stay), (3, vec![]));
    close(desk).await;
    client.until_ready(names::DEAD, 0).await;
    client.until_ready(&names::work_queue("solve"), 4).await;
    boss.close().await;
}

async fn a_letter_without_a_work_queue_stays(on: Place) {
    let client = on.client().await;
    let (head, body) = raw(System::random(4, 1, 0));
    let bake = TaskHead { id: id(1), kind: "bake".into(), ..head };
    client.publish(names::DEAD, client.message(wire::encode(&bake), &body)).await;
    let desk = desk(&on).await;
    for which in [these(&[&id(1).to_string()]), Which::All] {
        let (done, stay, _) = act(&desk, RETRY, &which).await;
        assert_eq!((done, stay), (vec![], vec![(id(1).to_string(), Refusal::Unroutable("bake".into()))]));
        client.until_ready(names::DEAD, 1).await;
    }
    close(desk).await;
}

async fn all_is_what_is_there_and_what_is_refused_keeps_its_place(on: Place) {
    let client = on.client().await;
    for number in 0..90 {
        let letter = given_up(&client, number);
        // Every third has nobody who waits for it.
        let reply_to = if number % 3 == 0 { Some("rabbitry.results.gone".into()) } else { letter.reply_to.clone() };
        client.publish(names::DEAD, Message { reply_to, ..letter }).await;
    }
    let desk = desk(&on).await;
    let (done, stay, acted) = act(&desk, RETRY, &Which::All).await;
    assert_eq!((done.len(), stay.len(), acted), (60, 30, Acted::default()));
    client.until_ready(&names::work_queue("solve"), 60).await;
    client.until_ready(names::DEAD, 30).await;
    let letters = soon("a look", desk.look(LETTERS_MAX)).await.expect("letters");
    let left: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(left, (0..90).step_by(3).map(|number| id(number).to_string()).collect::<Vec<_>>());
    drop(letters);
    client.until_ready(names::DEAD, 30).await;
    let (done, stay, _) = act(&desk, Action::Drop, &Which::All).await;
    assert_eq!((done.len(), stay.len()), (30, 0));
    // The broker hears of it a moment later.
    client.until_ready(names::DEAD, 0).await;
    let (done, stay, acted) = act(&desk, RETRY, &Which::All).await;
    assert_eq!((done.len(), stay.len(), acted), (0, 0, Acted::default()), "nothing is there");
    close(desk).await;
    client.until_ready(names::DEAD, 0).await;
}

async fn the_same_task_twice_is_meant_twice(on: Place) {
    let client = on.client().await;
    for number in [1, 2, 1] {
        client.publish(names::DEAD, given_up(&client, number)).await;
    }
    let desk = desk(&on).await;
    let (done, ..) = act(&desk, RETRY, &these(&[&id(1).to_string()])).await;
    assert_eq!(done, [id(1), id(1)].map(|id| id.to_string()));
    close(desk).await;
    assert_eq!(ids(&empty(&on, 1).await), [id(2)]);
}

async fn a_letter_says_the_first_and_the_last_reason_and_who_put_it_there(on: Place) {
    let mut client = on.client().await;
    let mut head = raw(System::random(4, 1, 0)).0;
    (head.kind, head.payload_bytes, head.checksum) = ("probe".into(), 3, None);
    let queue = names::work_queue("probe");
    client.publish(&queue, client.message(wire::encode(&head), b"abc")).await;
    // A worker that dies with it.
    let doomed = soon("a connection", on.broker.connect()).await.expect("a connection");
    let mut consumer = doomed.consume(&queue, Consume { prefetch: 1, no_ack: false }).await.expect("consuming");
    drop(soon("the delivery", consumer.next()).await.expect("the delivery"));
    drop(consumer);
    doomed.close().await;
    let handler = ProbeHandler::watching(<Probe as rabbitry::task::Task>::KIND, |bytes, watch| {
        watch.hand_back(HandBack::Counted);
        Ok(bytes)
    });
    let worker = on.worker(handler, Options { attempts_max: 2, ..one_slot() });
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error), (head.id, Some(TaskError::TooManyAttempts { attempts: 2 })));
    let desk = desk(&on).await;
    let letters = soon("a look", desk.look(LETTERS_MAX)).await.expect("letters");
    let letter = letters.iter().next().expect("a letter");
    let reasons = &letter.reasons;
    assert!(reasons.first.as_ref().is_some_and(|why| why.contains("was lost with it")), "{reasons:?}");
    let last = reasons.last.as_deref().expect("a reason");
    assert!(last.starts_with("2 attempts") && last.contains("silent for too long"), "{last}");
    assert_eq!(reasons.worker.as_deref(), Some(outcome.worker.id.as_str()));
    assert!(reasons.since_unix_ms.is_some_and(|at| at > 1_700_000_000_000), "{reasons:?}");
    assert_eq!(
        (letter.kind.as_deref(), letter.attempts(), letter.id.as_str()),
        (Some("probe"), 2, &*head.id.to_string())
    );
    drop(letters);
    close(desk).await;
    worker.stop().await;
}

/// On paused time: the worker asks for parts for 20 s.
#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_come_is_the_reason_and_is_kept_from_the_first_attempt_on() {
    let on = Place::embedded();
    let mut client = on.client().await;
    let silent = "rabbitry.pull.silent";
    client.connection.declare_queue(&Queue { name: silent.into(), ..Queue::default() }).await.expect("declared");
    // It is there, and serves nothing.
    let _deaf = client.connection.consume(silent, Consume { prefetch: 0, no_ack: true }).await.expect("consuming");
    let (head, _) = raw(System::random(4, 1, 0));
    let head = TaskHead { checksum: None, pull_from: Some(silent.into()), ..head };
    client.publish(&names::work_queue("solve"), client.message(wire::encode(&head), b"")).await;
    let _worker = on.worker(solve_handler(), Options { attempts_max: 2, ..one_slot() });
    let outcome = tokio::time::timeout(Duration::from_secs(120), client.outcome()).await.expect("an outcome");
    assert_eq!(outcome.error, Some(TaskError::TooManyAttempts { attempts: 2 }));
    let letters = empty(&on, 1).await;
    let said = |name: &str| letters[0].headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let first = said("rabbitry-first-reason").expect("a first reason");
    assert!(first.contains("no part came for 20 s"), "{first}");
    assert!(said("rabbitry-reason").is_some_and(|why| why.starts_with("2 attempts") && why.contains("no part came")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rabbitmq_dead_letters_itself_says_so_and_can_be_retried() {
    if !crate::rabbitmq::takes_commands() {
        return;
    }
    let on = Place::rabbitmq().await;
    let client = on.client().await;
    let vhost = on.url().rsplit('/').next().expect("a vhost").to_owned();
    let expire = ["set_policy", "-p", &vhost, "expire", "^rabbitry[.]work[.]probe$", r#"{"message-ttl": 1}"#];
    crate::rabbitmq::node().ctl(&expire).await;
    let mut head = raw(System::random(4, 1, 0)).0;
    (head.kind, head.payload_bytes, head.checksum) = ("probe".into(), 3, None);
    client.publish(&names::work_queue("probe"), client.message(wire::encode(&head), b"abc")).await;
    client.until_ready(names::DEAD, 1).await;
    crate::rabbitmq::node().ctl(&["clear_policy", "-p", &vhost, "expire"]).await;
    let desk = desk(&on).await;
    let letters = soon("a look", desk.look(1)).await.expect("letters");
    let reasons = letters.iter().next().expect("a letter").reasons.clone();
    assert_eq!(reasons.last.as_deref(), Some("RabbitMQ dead-lettered it: expired"));
    assert_eq!((reasons.kind.as_deref(), reasons.worker), (Some("probe"), None));
    drop(letters);
    client.until_ready(names::DEAD, 1).await;
    let worker = on.worker(ProbeHandler::new(|bytes: Bytes| Ok(bytes)), one_slot());
    let (done, ..) = act(&desk, RETRY, &these(&[&head.id.to_string()])).await;
    assert_eq!(done.len(), 1);
    close(desk).await;
    let mut client = client;
    assert_eq!(client.outcome().await.error, None);
    worker.stop().await;
}
