//! Messages that are in a queue for too long, and where they go.

use super::*;
use rabbitry::broker::ExchangeKind;

on_both!(
    what_has_expired_comes_out_in_order_and_as_it_was,
    what_expires_while_it_is_held_goes_when_it_comes_back,
    what_has_expired_and_has_nowhere_to_go_is_gone,
);

const TTL: Duration = Duration::from_millis(300);
const WAITS: &str = "conformance.waits";
const AGAIN: &str = "conformance.again";

/// A connection, an empty queue [`WAITS`], and an empty [`Q`] where what has expired there comes out.
async fn waiting(on: &Fixture, quorum: bool) -> Arc<dyn Connection> {
    let connection = on.with_queue().await;
    connection.declare_exchange(AGAIN, ExchangeKind::Direct).await.expect("declared");
    connection.bind_queue(Q, AGAIN, "key").await.expect("bound");
    let dead_letter = Some(Route::exchange(AGAIN, "key"));
    fresh(&*connection, &Queue { quorum, message_ttl: Some(TTL), dead_letter, ..queue(WAITS) }).await;
    connection
}

fn sent(body: &str, priority: u8) -> Message {
    Message {
        head: Bytes::from_static(b"head"),
        content_type: Some("text/plain".into()),
        reply_to: Some("answers".into()),
        correlation_id: Some("17".into()),
        priority,
        persistent: true,
        headers: vec![("note".into(), "kept".into())],
        ..text(body)
    }
}

/// Takes what the broker says of itself out of the headers.
fn said_by_broker(message: &mut Message) -> Vec<(String, String)> {
    let (said, kept) = std::mem::take(&mut message.headers).into_iter().partition(|(name, _)| name.starts_with("x-"));
    message.headers = kept;
    said
}

async fn comes_out(connection: &dyn Connection, priorities: [u8; 3]) {
    let messages = [("1", priorities[0]), ("2", priorities[1]), ("3", priorities[2])].map(|(body, it)| sent(body, it));
    for message in &messages {
        assert_eq!(publish(connection, &Route::queue(WAITS), message.clone()).await, Published::Routed);
    }
    let got = take(&mut consume(connection, 0).await, 3).await;
    for (sent, got) in messages.iter().zip(got) {
        let mut message = got.message.clone();
        let said = said_by_broker(&mut message);
        assert_eq!((&message, got.routing_key.as_str(), got.redelivered), (sent, "key", false));
        for word in [("x-first-death-queue", WAITS), ("x-first-death-reason", "expired")] {
            assert!(said.contains(&(word.0.to_owned(), word.1.to_owned())), "{said:?}");
        }
        got.settle.ack();
    }
    until(connection, WAITS, "nothing left", |q| q.is_some_and(|q| q.ready == 0)).await;
}

async fn what_has_expired_comes_out_in_order_and_as_it_was(on: Fixture) {
    comes_out(&*waiting(&on, false).await, [0, 5, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_lets_messages_expire_as_well() {
    let on = Fixture::rabbitmq().await;
    // From RabbitMQ 4 on those of a high priority come first.
    let priorities = if crate::rabbitmq::version().starts_with("3.") { [0, 5, 1] } else { [5, 5, 5] };
    comes_out(&*waiting(&on, true).await, priorities).await;
}

async fn what_expires_while_it_is_held_goes_when_it_comes_back(on: Fixture) {
    let connection = waiting(&on, false).await;
    let options = Consume { prefetch: 1, no_ack: false };
    let mut holder = connection.consume(WAITS, options).await.expect("a consumer");
    publish(&*connection, &Route::queue(WAITS), text("held")).await;
    let held = next(&mut holder).await;
    let mut out = consume(&*connection, 0).await;
    // The clock: it came later.
    publish(&*connection, &Route::queue(WAITS), text("clock")).await;
    let clock = next(&mut out).await;
    assert_eq!(body(&clock.message), "clock");
    held.settle.requeue();
    let held = next(&mut out).await;
    assert_eq!(body(&held.message), "held");
    publish(&*connection, &Route::queue(WAITS), text("fresh")).await;
    assert_eq!(body(&next(&mut holder).await.message), "fresh");
}

async fn what_has_expired_and_has_nowhere_to_go_is_gone(on: Fixture) {
    let connection = on.connect().await;
    fresh(&*connection, &Queue { message_ttl: Some(TTL), ..queue(Q) }).await;
    put(&*connection, &["1", "2"]).await;
    until_ready(&*connection, 0).await;
    let mut consumer = consume(&*connection, 1).await;
    put(&*connection, &["3"]).await;
    assert_eq!(body(&next(&mut consumer).await.message), "3");
}
