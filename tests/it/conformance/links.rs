//! Connections: how they end, and what is given back then.

use super::*;
use rabbitry::broker::Error;

on_both!(
    a_dropped_connection_gives_back_what_it_held,
    closing_keeps_acks_and_gives_back_the_rest,
    after_close_everything_says_lost,
    publishing_and_closing_at_once_loses_no_confirmed_message,
    an_open_connection_is_not_blocked,
);

async fn a_dropped_connection_gives_back_what_it_held(on: Fixture) {
    let watcher = on.with_queue().await;
    put(&*watcher, &["1", "2", "3"]).await;
    let connection = on.connect().await;
    let mut consumer = consume(&*connection, 2).await;
    let held = take(&mut consumer, 2).await;
    drop(connection);
    assert!(soon("the end", consumer.next()).await.is_none());
    until(&*watcher, Q, "all back", |q| q == Some(QueueStatus { ready: 3, consumers: 0 })).await;
    // Too late: they belong to the queue again.
    held.into_iter().for_each(|delivery| delivery.settle.ack());
    let again = take(&mut consume(&*watcher, 0).await, 3).await;
    assert_eq!(bodies(&again), ["1", "2", "3"]);
    assert_eq!(again.iter().map(|delivery| delivery.redelivered).collect::<Vec<_>>(), [true, true, false]);
}

async fn closing_keeps_acks_and_gives_back_the_rest(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2", "3"]).await;
    let mut consumer = consume(&*connection, 3).await;
    let mut held = take(&mut consumer, 3).await;
    held.remove(1).settle.ack();
    connection.close().await;
    assert!(soon("the end", consumer.next()).await.is_none());
    let connection = on.connect().await;
    let again = take(&mut consume(&*connection, 0).await, 2).await;
    assert_eq!(bodies(&again), ["1", "3"]);
    until_ready(&*connection, 0).await;
}

async fn after_close_everything_says_lost(on: Fixture) {
    let connection = on.with_queue().await;
    let closed = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { connection.closed().await })
    };
    soon("the close", connection.close()).await;
    soon("the close again", connection.close()).await;
    assert!(matches!(soon("closed", closed).await.expect("no panic"), Error::Lost(_)));
    assert!(connection.closed().await.is_transient());
    assert!(matches!(connection.publish(&Route::queue(Q), text("")).await.map(drop), Err(Error::Lost(_))));
    assert!(matches!(connection.declare_queue(&queue(Q)).await, Err(Error::Lost(_))));
    assert!(matches!(connection.queue_status(Q).await, Err(Error::Lost(_))));
    let options = Consume { prefetch: 1, no_ack: false };
    assert!(matches!(connection.consume(Q, options).await.map(drop), Err(Error::Lost(_))));
}

async fn publishing_and_closing_at_once_loses_no_confirmed_message(on: Fixture) {
    let connection = on.with_queue().await;
    let mut confirms = Vec::new();
    for i in 0..100 {
        confirms.push(connection.publish(&Route::queue(Q), text(&i.to_string())).await.expect("published"));
    }
    connection.close().await;
    let mut confirmed = 0;
    for confirm in confirms {
        confirmed += u64::from(soon("an answer", confirm.0).await.is_ok());
    }
    assert_eq!(confirmed, 100, "close waits for what is in flight");
    let connection = on.connect().await;
    until_ready(&*connection, 100).await;
}

async fn an_open_connection_is_not_blocked(on: Fixture) {
    let connection = on.connect().await;
    assert_eq!(*connection.blocked().borrow(), None);
}

mod only_embedded {
    use super::*;

    #[tokio::test]
    async fn severing_ends_connections_and_keeps_queues() {
        let broker = EmbeddedBroker::new();
        let on = Fixture { broker: Arc::new(broker.clone()), _place: None };
        let connection = on.with_queue().await;
        put(&*connection, &["kept"]).await;
        let mut consumer = consume(&*connection, 1).await;
        let _held = next(&mut consumer).await;
        broker.sever();
        assert!(matches!(connection.closed().await, Error::Lost(_)));
        assert!(consumer.next().await.is_none());
        let connection = on.connect().await;
        let again = next(&mut consume(&*connection, 1).await).await;
        assert_eq!((body(&again.message).as_str(), again.redelivered), ("kept", true));
    }

    #[tokio::test]
    async fn a_blocked_publisher_waits_and_an_ack_does_not() {
        let broker = EmbeddedBroker::new();
        let on = Fixture { broker: Arc::new(broker.clone()), _place: None };
        let connection = on.with_queue().await;
        put(&*connection, &["1"]).await;
        broker.block(Some("memory"));
        assert_eq!(connection.blocked().borrow().as_deref(), Some("memory"));
        let waiting = {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { put(&*connection, &["2"]).await })
        };
        let mut consumer = consume(&*connection, 1).await;
        next(&mut consumer).await.settle.ack();
        until_ready(&*connection, 0).await;
        assert!(!waiting.is_finished());
        broker.block(None);
        soon("the publish", waiting).await.expect("published");
        assert_eq!(body(&next(&mut consumer).await.message), "2");
    }

    #[tokio::test(start_paused = true)]
    async fn expiry_is_on_time() {
        let on = Fixture::embedded();
        let connection = on.connect().await;
        let lease = Queue { expires: Some(Duration::from_secs(60)), ..queue(Q) };
        connection.declare_queue(&lease).await.expect("declared");
        tokio::time::sleep(Duration::from_secs(40)).await;
        connection.declare_queue(&lease).await.expect("declared again");
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(connection.queue_status(Q).await.expect("a status").is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(connection.queue_status(Q).await.expect("a status"), None);
    }

    #[tokio::test]
    async fn bodies_are_shared_and_not_copied() {
        let on = Fixture::embedded();
        let connection = on.with_queue().await;
        let body = Bytes::from(vec![1; 1000]);
        let message = Message { body: vec![body.clone()], ..Message::default() };
        publish(&*connection, &Route::queue(Q), message).await;
        let got = next(&mut consume(&*connection, 1).await).await;
        assert_eq!(got.message.body[0].as_ptr(), body.as_ptr());
    }
}
