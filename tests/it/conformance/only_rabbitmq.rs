//! What only a broker over a network can do: refuse a connection, be out of reach, cut one off, refuse a size.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use rabbitry::broker::Error;

use crate::rabbitmq::MAX_MESSAGE_BYTES;

/// The node, for tests that command it. `None` only with a broker given by the environment, which takes no commands.
async fn node() -> Option<&'static rabbitmq::Node> {
    if !rabbitmq::takes_commands() {
        return None;
    }
    Some(tokio::task::spawn_blocking(rabbitmq::node).await.expect("the node starts"))
}

async fn refusal(url: &str) -> Error {
    let broker = match AmqpBroker::new(url) {
        Ok(broker) => broker,
        Err(error) => return error,
    };
    soon("the refusal", broker.connect()).await.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_printed() {
    let Some(node) = node().await else { return };
    let error = refusal(&node.url("t0").replace("guest:guest", "guest:s3cret")).await;
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn an_unknown_vhost_or_one_without_permission_is_refused() {
    let Some(node) = node().await else { return };
    let error = refusal(&node.url("no-such-vhost")).await;
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("no-such-vhost"), "{error}");
    let error = refusal(&node.url("t0").replace("guest:guest", "nobody:nobody")).await;
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let error = refusal(&format!("amqp://guest:s3cret@127.0.0.1:{port}")).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.is_transient() && !error.to_string().contains("s3cret"), "{error}");
    let error = refusal("amqp://no-such-host.invalid").await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_unreachable_in_bounded_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let error = refusal(&format!("amqp://127.0.0.1:{port}?connection_timeout=300")).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_bad_address_is_an_address_error() {
    for url in ["localhost:5672", "http://localhost", ""] {
        assert!(matches!(refusal(url).await, Error::Address { .. }), "{url:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_is_refused_and_the_next_one_taken() {
    if node().await.is_none() {
        return;
    }
    let on = Fixture::rabbitmq().await;
    let connection = on.with_queue().await;
    let sized = |bytes| Message { body: vec![Bytes::from(vec![0; bytes])], ..Message::default() };
    for _ in 0..2 {
        let confirm = connection.publish(&Route::queue(Q), sized(MAX_MESSAGE_BYTES + 1)).await.expect("handed over");
        let error = soon("the refusal", confirm.0).await.expect_err("over the limit");
        assert!(matches!(error, Error::MessageTooLarge { bytes, .. } if bytes == MAX_MESSAGE_BYTES + 1), "{error}");
        assert_eq!(publish(&*connection, &Route::queue(Q), sized(1)).await, Published::Routed);
    }
    assert_eq!(publish(&*connection, &Route::queue(Q), sized(MAX_MESSAGE_BYTES)).await, Published::Routed);
    assert!(connection.inline_max_bytes() <= MAX_MESSAGE_BYTES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_over_the_limit_leaves_no_other_unanswered() {
    if node().await.is_none() {
        return;
    }
    let on = Fixture::rabbitmq().await;
    let connection = on.with_queue().await;
    let mut confirms = Vec::new();
    for i in 0..200 {
        let bytes = if i == 100 { MAX_MESSAGE_BYTES + 1 } else { 10_000 };
        let message = Message { body: vec![Bytes::from(vec![0; bytes])], ..Message::default() };
        confirms.push(connection.publish(&Route::queue(Q), message).await.expect("handed over").0);
    }
    for (i, confirm) in confirms.into_iter().enumerate() {
        match soon("an answer", confirm).await {
            Ok(Published::Routed) if i != 100 => {}
            Err(Error::MessageTooLarge { .. }) if i == 100 => {}
            other => panic!("message {i}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_ends_everything_and_answers_every_confirm() {
    if node().await.is_none() {
        return;
    }
    let node = tokio::task::spawn_blocking(rabbitmq::Node::start).await.expect("the node starts");
    let on = Fixture { broker: Arc::new(AmqpBroker::new(&node.url("t0")).expect("an address")), _place: None };
    let connection = on.with_queue().await;
    let mut consumer = consume(&*connection, 4).await;
    let publisher = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move {
            let message = Message { body: vec![Bytes::from(vec![1; 1_000_000])], ..Message::default() };
            let mut confirms = Vec::new();
            while let Ok(confirm) = connection.publish(&Route::queue(Q), message.clone()).await {
                confirms.push(confirm.0);
            }
            confirms
        })
    };
    for _ in 0..20 {
        next(&mut consumer).await.settle.ack();
    }
    drop(node);
    assert!(matches!(soon("closed", connection.closed()).await, Error::Lost(_)));
    while soon("the end", consumer.next()).await.is_some() {}
    for confirm in soon("the publisher's end", publisher).await.expect("no panic") {
        let answer = soon("an answer", confirm).await;
        assert!(matches!(answer, Ok(Published::Routed) | Err(Error::Lost(_))), "{answer:?}");
    }
    soon("the close", connection.close()).await;
    let unreachable = soon("the refusal", on.broker.connect()).await.map(drop).expect_err("killed");
    assert!(unreachable.is_transient(), "{unreachable}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_ends_everything_on_it() {
    let Some(node) = node().await else { return };
    let on = Fixture::rabbitmq().await;
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2"]).await;
    let mut consumer = consume(&*connection, 1).await;
    let held = next(&mut consumer).await;
    let address = on.broker.address();
    let vhost = address.rsplit('/').next().expect("a vhost");
    node.ctl(&["close_all_connections", "--vhost", vhost, "a test"]).await;
    let lost = soon("closed", connection.closed()).await;
    assert!(matches!(&lost, Error::Lost(reason) if reason.contains("a test")), "{lost}");
    assert!(soon("the end", consumer.next()).await.is_none());
    assert!(matches!(connection.publish(&Route::queue(Q), text("")).await.map(drop), Err(Error::Lost(_))));
    held.settle.ack();
    soon("the close of a dead connection", connection.close()).await;
    let connection = on.connect().await;
    let again = take(&mut consume(&*connection, 0).await, 2).await;
    assert_eq!(bodies(&again), ["1", "2"]);
    assert_eq!(again.iter().map(|delivery| delivery.redelivered).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_blocks_publishing_and_nothing_else() {
    if node().await.is_none() {
        return;
    }
    // A node of its own: an alarm is for all of a node.
    let node = tokio::task::spawn_blocking(rabbitmq::Node::start).await.expect("the node starts");
    let on = Fixture { broker: Arc::new(AmqpBroker::new(&node.url("t0")).expect("an address")), _place: None };
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2"]).await;
    let mut consumer = consume(&*connection, 1).await;
    let held = next(&mut consumer).await;
    node.ctl(&["set_vm_memory_high_watermark", "0.00000001"]).await;
    let mut blocked = connection.blocked();
    // The broker says so to those that try.
    let pending = connection.publish(&Route::queue(Q), text("3")).await.expect("handed over");
    soon("the block", blocked.wait_for(Option::is_some)).await.expect("alive");
    let waiting = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { put(&*connection, &["4"]).await })
    };
    held.settle.ack();
    assert_eq!(body(&next(&mut consumer).await.message), "2");
    assert!(!waiting.is_finished());
    node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
    soon("the end of the block", blocked.wait_for(Option::is_none)).await.expect("alive");
    assert_eq!(soon("the confirm", pending.0).await.expect("confirmed"), Published::Routed);
    soon("the other publish", waiting).await.expect("published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_goes_with_its_owner_under_a_stream_leaves_no_lasting_error() {
    let on = Fixture::rabbitmq().await;
    let publisher = on.connect().await;
    let message = Message { body: vec![Bytes::from(vec![0; 100_000])], ..Message::default() };
    for round in 0..10 {
        let owner = on.connect().await;
        let name = format!("{Q}.{round}");
        owner.declare_queue(&Queue { exclusive: true, ..queue(&name) }).await.expect("declared");
        let gone = Arc::new(AtomicBool::new(false));
        let stream = {
            let (publisher, message, gone) = (publisher.clone(), message.clone(), gone.clone());
            let route = Route::queue(&*name);
            tokio::spawn(async move {
                let mut confirms = VecDeque::new();
                while !gone.load(Ordering::Relaxed) || !confirms.is_empty() {
                    if confirms.len() < 50 && !gone.load(Ordering::Relaxed) {
                        confirms.push_back(publisher.publish(&route, message.clone()).await.expect("handed over").0);
                    } else if let Some(oldest) = confirms.pop_front()
                        && let Err(error) = soon("an answer", oldest).await
                    {
                        // RabbitMQ 4 answers so what it had read when the queue went.
                        assert!(error.is_transient(), "{error}");
                    }
                }
            })
        };
        until(&*owner, &name, "something in the queue", |q| q.is_some_and(|q| q.ready > 0)).await;
        soon("the owner's end", owner.close()).await;
        // It is locked until it is gone.
        soon("the end of the queue", async { while !matches!(publisher.queue_status(&name).await, Ok(None)) {} }).await;
        gone.store(true, Ordering::Relaxed);
        soon("the stream's end", stream).await.expect("no lasting error");
        assert_eq!(publish(&*publisher, &Route::queue(&*name), message.clone()).await, Published::Unroutable);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_keeps_the_same_contract() {
    let on = Fixture::rabbitmq().await;
    let connection = on.connect().await;
    fresh(&*connection, &Queue { quorum: true, ..queue(Q) }).await;
    let message = Message { persistent: true, ..text("1") };
    assert_eq!(publish(&*connection, &Route::queue(Q), message).await, Published::Routed);
    let mut consumer = consume(&*connection, 1).await;
    next(&mut consumer).await.settle.requeue();
    let again = next(&mut consumer).await;
    assert!(again.redelivered);
    again.settle.ack();
    until_ready(&*connection, 0).await;
}
