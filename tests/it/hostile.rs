//! Messages that no boss sends: whatever lies in the work queue, workers go on.

use bytes::Bytes;
use rabbitry::broker::{Consume, Consumer, Message};
use rabbitry::task::{Format, TaskError};
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use rabbitry::wire;
use rabbitry::worker::Options;

use crate::pool::{Client, Place, on_both, one_slot, raw, solve_handler, soon, submit};

on_both!(
    messages_that_are_none_are_dead_lettered_and_the_worker_goes_on,
    a_head_that_claims_2_to_the_60_bytes_earns_no_memory,
    a_head_whose_payload_nobody_has_is_dropped,
    json_without_a_head_is_answered_in_json,
    json_that_is_wrong_is_told_so_in_json,
    a_task_that_killed_five_workers_is_given_up,
);

async fn dead_letters(client: &Client) -> Consumer {
    client.connection.consume(names::DEAD, Consume { prefetch: 0, no_ack: true }).await.expect("consuming")
}

/// The next dead letter and why it is one.
async fn dead(letters: &mut Consumer) -> (Message, String) {
    let message = soon("a dead letter", letters.next()).await.expect("a dead letter").message;
    let reason = message.headers.iter().find(|(name, _)| name == "rabbitry-reason");
    let reason = reason.unwrap_or_else(|| panic!("no reason among {:?}", message.headers)).1.clone();
    (message, reason)
}

/// A worker that still computes is alive, and has its slot and its memory.
async fn still_works(on: &Place) {
    let boss = on.boss().await;
    let ticket = submit(&boss, System::random(20, 1, 0)).await;
    let outcome = soon("a good task after bad ones", ticket.outcome()).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    boss.close().await;
}

async fn messages_that_are_none_are_dead_lettered_and_the_worker_goes_on(on: Place) {
    let (client, worker) = (on.client().await, on.solver());
    let mut letters = dead_letters(&client).await;
    let (head, body) = raw(System::random(4, 1, 0));
    let bytes = wire::encode(&head);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        bytes
    };
    let endless = with(&|bytes| bytes[26..34].copy_from_slice(&u64::MAX.to_le_bytes()));
    let random: Vec<u8> = (0..200u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (longer, damaged) = ([body.clone(), vec![0; 8]].concat(), vec![1; body.len()]);
    let hostile: Vec<(&str, Vec<u8>, &[u8], &str)> = vec![
        ("a truncated head", bytes[..bytes.len() - 3].to_vec(), &body, "ends early"),
        ("an oversized head", with(&|bytes| bytes.push(0)), &body, "task head"),
        ("a truncated body", bytes.clone(), &body[..body.len() - 8], "announce"),
        ("an oversized body", bytes.clone(), &longer, "announce"),
        ("a damaged body", bytes.clone(), &damaged, "checksum"),
        ("random bytes", random.clone(), &random, "task head"),
        ("version 9", with(&|bytes| bytes[4..6].copy_from_slice(&9u16.to_le_bytes())), &body, "version 9"),
        ("an endless string", endless, &body, "task head"),
        ("JSON garbage that claims to be binary", Vec::new(), b"{\"a\": [[", "content type"),
        ("nothing", Vec::new(), b"", "content type"),
    ];
    for (what, head, body, why) in hostile {
        client.publish(&names::work_queue("solve"), client.message(head.clone(), body)).await;
        let (message, reason) = dead(&mut letters).await;
        assert!(reason.contains(why), "{what}: {reason}");
        assert_eq!((&message.head[..], &message.body.concat()[..]), (&head[..], body), "{what} is kept as it was");
        assert!(message.headers.iter().any(|(name, _)| name == "rabbitry-worker"), "{what}");
    }
    let mute = Message { reply_to: None, ..client.message(bytes.clone(), &body) };
    client.publish(&names::work_queue("solve"), mute).await;
    assert!(dead(&mut letters).await.1.contains("reply_to"));
    still_works(&on).await;
    assert_eq!(worker.stop().await.done, 1);
}

async fn a_head_that_claims_2_to_the_60_bytes_earns_no_memory(on: Place) {
    let (mut client, _worker) = (on.client().await, on.solver());
    let (mut head, _) = raw(System::random(4, 1, 0));
    (head.payload_bytes, head.checksum, head.pull_from) = (1 << 60, None, Some("nobody".into()));
    // The parameters say another size.
    client.send(&head, b"").await;
    let error = client.outcome().await.error;
    assert!(matches!(error, Some(TaskError::Invalid(_))), "{error:?}");
    // They agree: m = n = nrhs = 2^28 are 2^57 numbers.
    head.params[..8].copy_from_slice(&(1u64 << 28).to_le_bytes());
    head.params[8..16].copy_from_slice(&(1u64 << 28).to_le_bytes());
    head.params[16..24].copy_from_slice(&(1u64 << 28).to_le_bytes());
    head.params[26] = 0;
    client.send(&head, b"").await;
    let error = client.outcome().await.error;
    let needs = |needed: u64| needed >= 1 << 60;
    assert!(matches!(error, Some(TaskError::TooLarge { needed_bytes, .. }) if needs(needed_bytes)), "{error:?}");
    still_works(&on).await;
}

async fn a_head_whose_payload_nobody_has_is_dropped(on: Place) {
    // With a prefetch of 1 a task is delivered when those before it have their end.
    let one_by_one = Options { prefetch: 1, ..one_slot() };
    let (client, worker) = (on.client().await, on.worker(solve_handler(), one_by_one));
    let work = names::work_queue("solve");
    let (mut head, body) = raw(System::random(1000, 1, 0));
    (head.checksum, head.pull_from) = (None, Some("rabbitry.pull.nobody".into()));
    for _ in 0..8 {
        client.send(&head, b"").await;
    }
    still_works(&on).await;
    // So is one whose boss no longer waits for it.
    let boss = on.boss().await;
    head.pull_from = Some(names::pull_queue(boss.id()));
    assert_eq!(head.payload_bytes, body.len() as u64);
    client.send(&head, b"").await;
    // A good task may overtake the heads, by its priority: one that comes when they are all with the worker does not.
    client.until_ready(&work, 0).await;
    still_works(&on).await;
    assert_eq!(worker.stop().await.done, 2);
    client.until_ready(&work, 0).await;
    client.until_ready(names::DEAD, 0).await;
}

fn json(client: &Client, body: &'static str, id: &str) -> Message {
    Message {
        head: Bytes::new(),
        content_type: Some("application/json".into()),
        correlation_id: Some(id.into()),
        ..client.message(Vec::new(), body.as_bytes())
    }
}

async fn json_reply(client: &mut Client, body: &'static str, id: &str) -> serde_json::Value {
    client.publish(&names::work_queue("solve"), json(client, body, id)).await;
    let reply = client.reply().await;
    assert_eq!(reply.correlation_id.as_deref(), Some(id));
    assert_eq!(reply.content_type.as_deref(), Some(Format::Json.content_type()));
    serde_json::from_slice(&reply.body.concat()).expect("JSON")
}

async fn json_without_a_head_is_answered_in_json(on: Place) {
    let (mut client, _worker) = (on.client().await, on.solver());
    for id in ["my own id 1", "0123456789abcdef0123456789abcdef"] {
        let answer = json_reply(&mut client, r#"{"a": [[2, 1], [0, 4]], "b": [2.5, 2]}"#, id).await;
        assert_eq!(answer["x"], serde_json::json!([1.0, 0.5]));
        assert_eq!(answer["certificate"]["method"], "triangular");
        let by_lu = r#"{"a": [[2, 1], [0, 4]], "b": [2.5, 2], "method": "lu", "reproducible": true}"#;
        let answer = json_reply(&mut client, by_lu, id).await;
        assert_eq!(answer["certificate"]["method"], "lu");
        assert!(answer["certificate"]["reproducible"].is_string(), "{answer}");
    }
}

async fn json_that_is_wrong_is_told_so_in_json(on: Place) {
    let (mut client, worker) = (on.client().await, on.solver());
    for (body, code, word) in [
        (r#"{"a": [["#, "invalid", "JSON"),
        ("", "invalid", "JSON"),
        ("[]", "invalid", "JSON"),
        (r#"{"a": [[1, 2]], "b": [1]}"#, "invalid", "square"),
        (r#"{"a": [[1, 0], [0, 1]], "b": [1]}"#, "invalid", "rows"),
        (r#"{"a": [], "b": []}"#, "invalid", "empty"),
        (r#"{"a": [[1]], "b": [1], "methd": "lu"}"#, "invalid", "methd"),
        (r#"{"a": [[1]], "b": [1], "method": "qr"}"#, "invalid", "lstsq"),
        (r#"{"a": [[1, 2], [2, 4]], "b": [1, 1]}"#, "singular", "pivot"),
    ] {
        let answer = json_reply(&mut client, body, "an id").await;
        let keys: Vec<_> = answer.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["error"], "{body}");
        assert_eq!(answer["error"]["code"], code, "{body}");
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(word), "{body}: {message}");
    }
    still_works(&on).await;
    assert_eq!(worker.stop().await.failed, 9);
}

async fn a_task_that_killed_five_workers_is_given_up(on: Place) {
    let mut client = on.client().await;
    let mut letters = dead_letters(&client).await;
    let (mut head, body) = raw(System::random(4, 1, 0));
    head.attempt = 4;
    client.send(&head, &body).await;
    // A worker that dies with it.
    let doomed = soon("a connection", on.broker.connect()).await.expect("a connection");
    let queue = names::work_queue("solve");
    let mut consumer = doomed.consume(&queue, Consume { prefetch: 1, no_ack: false }).await.expect("consuming");
    drop(soon("the delivery", consumer.next()).await.expect("the delivery"));
    drop(consumer);
    doomed.close().await;
    let _worker = on.worker(solve_handler(), Options { attempts_max: 5, ..one_slot() });
    let outcome = client.outcome().await;
    assert_eq!((outcome.id, outcome.error), (head.id, Some(TaskError::TooManyAttempts { attempts: 5 })));
    let (message, reason) = dead(&mut letters).await;
    assert!(reason.contains("5 attempts"), "{reason}");
    assert_eq!(message.body.concat(), body);
    still_works(&on).await;
}
