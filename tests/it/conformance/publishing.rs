//! Messages arrive whole, where they should, in order, and the publisher knows.

use super::*;
use rabbitry::broker::{Error, ExchangeKind, concat};

on_both!(
    every_property_and_the_body_arrive,
    pieces_arrive_as_their_concatenation,
    an_empty_message_arrives,
    a_body_of_several_frames_arrives,
    the_default_exchange_routes_to_the_queue_of_that_name,
    a_direct_exchange_routes_by_key,
    a_fanout_exchange_routes_to_all,
    messages_of_one_task_keep_their_order,
    unroutable_is_told_of_the_right_message,
    many_tasks_publish_and_all_is_confirmed,
    an_unknown_exchange_fails_the_confirm_and_nothing_else,
    what_the_protocol_cannot_carry_is_refused_by_itself,
);

async fn every_property_and_the_body_arrive(on: Fixture) {
    let connection = on.with_queue().await;
    let sent = Message {
        head: Bytes::from((0..=255).collect::<Vec<u8>>().repeat(16)),
        body: vec![Bytes::from_static(&[0, 1, 254, 255])],
        content_type: Some("application/x-rabbitry".into()),
        reply_to: Some("rabbitry.results.me".into()),
        correlation_id: Some("0123456789abcdef".into()),
        priority: 3,
        persistent: true,
        headers: vec![("attempt".into(), "2".into()), ("reason".into(), "zu groß".into())],
    };
    assert_eq!(publish(&*connection, &Route::queue(Q), sent.clone()).await, Published::Routed);
    let got = next(&mut consume(&*connection, 1).await).await;
    assert_eq!(got.message, sent);
    assert_eq!(got.routing_key, Q);
    assert!(!got.redelivered);
}

async fn pieces_arrive_as_their_concatenation(on: Fixture) {
    let connection = on.with_queue().await;
    let pieces = vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"bc"), Bytes::from(vec![7; 300_000])];
    let whole = concat(pieces.clone());
    publish(&*connection, &Route::queue(Q), Message { body: pieces, ..Message::default() }).await;
    let got = next(&mut consume(&*connection, 1).await).await;
    assert_eq!(got.message.body_bytes(), whole.len());
    assert_eq!(concat(got.message.body.clone()), whole);
}

async fn an_empty_message_arrives(on: Fixture) {
    let connection = on.with_queue().await;
    publish(&*connection, &Route::queue(Q), Message::default()).await;
    let got = next(&mut consume(&*connection, 1).await).await;
    assert_eq!((got.message.body_bytes(), got.message.head.len()), (0, 0));
    assert_eq!(got.message.content_type, None);
}

async fn a_body_of_several_frames_arrives(on: Fixture) {
    let connection = on.with_queue().await;
    let whole: Vec<u8> = (0..5_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = Bytes::from(whole);
    let message = Message { body: vec![whole.clone()], ..Message::default() };
    publish(&*connection, &Route::queue(Q), message).await;
    let got = next(&mut consume(&*connection, 1).await).await;
    assert!(concat(got.message.body.clone()) == whole, "the body differs");
}

async fn the_default_exchange_routes_to_the_queue_of_that_name(on: Fixture) {
    let connection = on.with_queue().await;
    fresh(&*connection, &queue("conformance.other")).await;
    put(&*connection, &["here"]).await;
    let other = connection.queue_status("conformance.other").await.expect("a status").expect("a queue");
    assert_eq!(other.ready, 0);
    until_ready(&*connection, 1).await;
}

async fn a_direct_exchange_routes_by_key(on: Fixture) {
    let connection = on.with_queue().await;
    connection.declare_exchange("conformance.direct", ExchangeKind::Direct).await.expect("declared");
    connection.declare_exchange("conformance.direct", ExchangeKind::Direct).await.expect("declared again");
    connection.bind_queue(Q, "conformance.direct", "solve").await.expect("bound");
    connection.bind_queue(Q, "conformance.direct", "solve").await.expect("bound again");
    let route = |key: &str| Route::exchange("conformance.direct", key);
    assert_eq!(publish(&*connection, &route("solve"), text("mine")).await, Published::Routed);
    assert_eq!(publish(&*connection, &route("render"), text("not mine")).await, Published::Unroutable);
    let got = next(&mut consume(&*connection, 1).await).await;
    assert_eq!((body(&got.message).as_str(), got.routing_key.as_str()), ("mine", "solve"));
    got.settle.ack();
    until_ready(&*connection, 0).await;
}

async fn a_fanout_exchange_routes_to_all(on: Fixture) {
    let connection = on.with_queue().await;
    connection.declare_exchange("conformance.fanout", ExchangeKind::Fanout).await.expect("declared");
    for name in ["conformance.f1", "conformance.f2"] {
        fresh(&*connection, &queue(name)).await;
        connection.bind_queue(name, "conformance.fanout", "").await.expect("bound");
    }
    let route = Route::exchange("conformance.fanout", "whatever");
    assert_eq!(publish(&*connection, &route, text("all")).await, Published::Routed);
    for name in ["conformance.f1", "conformance.f2"] {
        let options = Consume { prefetch: 1, no_ack: false };
        let mut consumer = connection.consume(name, options).await.expect("a consumer");
        assert_eq!(body(&next(&mut consumer).await.message), "all");
    }
    until_ready(&*connection, 0).await;
}

async fn messages_of_one_task_keep_their_order(on: Fixture) {
    let connection = on.with_queue().await;
    let mut consumer = consume(&*connection, 50).await;
    let mut confirms = Vec::new();
    for i in 0..1000 {
        // Of very different sizes: none may overtake another.
        let mut message = text(&i.to_string());
        message.body.push(Bytes::from(vec![b' '; if i % 100 == 0 { 400_000 } else { i }]));
        confirms.push(connection.publish(&Route::queue(Q), message).await.expect("published"));
    }
    for i in 0..1000 {
        let got = next(&mut consumer).await;
        assert_eq!(body(&got.message).trim_end(), i.to_string());
        got.settle.ack();
    }
    for confirm in confirms {
        assert_eq!(soon("a confirm", confirm.0).await.expect("confirmed"), Published::Routed);
    }
}

async fn unroutable_is_told_of_the_right_message(on: Fixture) {
    let connection = on.with_queue().await;
    let mut confirms = Vec::new();
    for i in 0..2000 {
        // No pattern that a mistaken order would keep.
        let nowhere = (i * i) % 7 == 2;
        let route = Route::queue(if nowhere { "conformance.nowhere" } else { Q });
        confirms.push((nowhere, connection.publish(&route, text("x")).await.expect("published")));
    }
    for (i, (nowhere, confirm)) in confirms.into_iter().enumerate() {
        let expected = if nowhere { Published::Unroutable } else { Published::Routed };
        assert_eq!(soon("a confirm", confirm.0).await.expect("confirmed"), expected, "message {i}");
    }
}

async fn many_tasks_publish_and_all_is_confirmed(on: Fixture) {
    let connection = on.with_queue().await;
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move {
                for i in 0..50 {
                    put(&*connection, &[&format!("{task}.{i}")]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let mut got = bodies(&take(&mut consume(&*connection, 0).await, 800).await);
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 800);
}

async fn an_unknown_exchange_fails_the_confirm_and_nothing_else(on: Fixture) {
    let connection = &*on.with_queue().await;
    let publish_to = |route: Route| async move { connection.publish(&route, text("x")).await };
    let lost = Route::exchange("conformance.missing", "k");
    let (before, wrong, after) =
        (publish_to(Route::queue(Q)).await, publish_to(lost).await, publish_to(Route::queue(Q)).await);
    let error = soon("the error", wrong.expect("handed over").0).await.expect_err("there is no such exchange");
    assert!(matches!(error, Error::Operation { .. }), "{error}");
    assert!(error.to_string().contains("conformance.missing"), "{error}");
    assert!(!error.is_transient());
    for confirm in [before, after] {
        let confirmed = soon("a confirm", confirm.expect("handed over").0).await;
        assert_eq!(confirmed.expect("confirmed"), Published::Routed);
    }
    put(connection, &["and on it goes"]).await;
}

async fn what_the_protocol_cannot_carry_is_refused_by_itself(on: Fixture) {
    let connection = on.with_queue().await;
    let long = "x".repeat(256);
    let wrong = [
        Message { reply_to: Some(long.clone()), ..text("") },
        Message { correlation_id: Some(long.clone()), ..text("") },
        Message { headers: vec![(long.clone(), String::new())], ..text("") },
        Message { headers: vec![("h".into(), "x".repeat(130_000))], ..text("") },
        Message { head: Bytes::from(vec![0; 64 * 1024 + 1]), ..text("") },
    ];
    for message in wrong {
        let refused = connection.publish(&Route::queue(Q), message).await.map(drop).expect_err("too long");
        assert!(matches!(refused, Error::Operation { .. }), "{refused}");
    }
    assert!(connection.publish(&Route::queue(long.clone()), text("")).await.is_err());
    assert!(connection.declare_queue(&queue(&long)).await.is_err());
    let most = Message { head: Bytes::from(vec![1; 64 * 1024]), ..text("") };
    assert_eq!(publish(&*connection, &Route::queue(Q), most.clone()).await, Published::Routed);
    assert_eq!(next(&mut consume(&*connection, 1).await).await.message.head, most.head);
}
