//! Prefetch, ack, requeue: what is delivered, to whom, and what comes back.

use super::*;
use rabbitry::broker::Error;

on_both!(
    prefetch_bounds_what_is_outstanding,
    an_ack_forgets,
    acks_in_any_order_leave_exactly_the_unacked,
    a_requeued_message_comes_back_first_and_flagged,
    a_delivery_dropped_unsettled_comes_back,
    requeues_and_acks_mixed_settle_as_asked,
    a_dropped_consumer_keeps_what_it_handed_out_and_gives_back_the_rest,
    a_cancelled_consumer_hands_out_the_rest_and_gets_no_more,
    two_consumers_share_a_queue,
    no_ack_delivers_without_bound_and_forgets,
    consuming_from_a_missing_queue_says_so,
);

async fn prefetch_bounds_what_is_outstanding(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2", "3", "4", "5"]).await;
    let mut consumer = consume(&*connection, 2).await;
    let mut held = take(&mut consumer, 2).await;
    until_ready(&*connection, 3).await;
    held.remove(1).settle.ack();
    assert_eq!(body(&next(&mut consumer).await.message), "3");
    // The third was dropped unsettled, so it is there again, before the fourth.
    let again = next(&mut consumer).await;
    assert_eq!((body(&again.message).as_str(), again.redelivered), ("3", true));
    until_ready(&*connection, 2).await;
}

async fn an_ack_forgets(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["once"]).await;
    let mut consumer = consume(&*connection, 1).await;
    next(&mut consumer).await.settle.ack();
    connection.close().await;
    let connection = on.connect().await;
    let left = connection.queue_status(Q).await.expect("a status").expect("a queue");
    assert_eq!((left.ready, left.consumers), (0, 0));
}

async fn acks_in_any_order_leave_exactly_the_unacked(on: Fixture) {
    let connection = on.with_queue().await;
    let names: Vec<String> = (0..300).map(|i| format!("{i:03}")).collect();
    put(&*connection, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut consumer = consume(&*connection, 0).await;
    let mut held: Vec<_> = take(&mut consumer, 300).await.into_iter().map(Some).collect();
    let mut kept = Vec::new();
    for step in 0..300 {
        let at = step * 101 % 300;
        let delivery = held[at].take().expect("each once");
        if at % 10 == 3 {
            kept.push(delivery);
        } else {
            delivery.settle.ack();
        }
        if step % 40 == 0 {
            tokio::task::yield_now().await;
        }
    }
    connection.close().await;
    drop(kept);
    let connection = on.connect().await;
    let left = take(&mut consume(&*connection, 0).await, 30).await;
    assert!(left.iter().all(|delivery| delivery.redelivered));
    let expected: Vec<String> = (0..300).filter(|i| i % 10 == 3).map(|i| format!("{i:03}")).collect();
    assert_eq!(bodies(&left), expected);
    until_ready(&*connection, 0).await;
}

async fn a_requeued_message_comes_back_first_and_flagged(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["a", "b", "c"]).await;
    let mut consumer = consume(&*connection, 1).await;
    let first = next(&mut consumer).await;
    assert!(!first.redelivered);
    first.settle.requeue();
    let again = next(&mut consumer).await;
    assert_eq!((body(&again.message).as_str(), again.redelivered), ("a", true));
    again.settle.ack();
    let second = next(&mut consumer).await;
    assert_eq!((body(&second.message).as_str(), second.redelivered), ("b", false));
}

async fn a_delivery_dropped_unsettled_comes_back(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["a"]).await;
    let mut consumer = consume(&*connection, 1).await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((body(&again.message).as_str(), again.redelivered), ("a", true));
}

async fn requeues_and_acks_mixed_settle_as_asked(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["a", "b", "c", "d", "e", "f"]).await;
    let mut consumer = consume(&*connection, 6).await;
    for (i, delivery) in take(&mut consumer, 6).await.into_iter().enumerate() {
        if i % 2 == 0 { delivery.settle.ack() } else { delivery.settle.requeue() }
    }
    let again = take(&mut consumer, 3).await;
    let mut names = bodies(&again);
    names.sort();
    assert_eq!(names, ["b", "d", "f"]);
    assert!(again.iter().all(|delivery| delivery.redelivered));
    until_ready(&*connection, 0).await;
}

async fn a_dropped_consumer_keeps_what_it_handed_out_and_gives_back_the_rest(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2", "3", "4", "5", "6"]).await;
    let mut consumer = consume(&*connection, 4).await;
    let mut held = take(&mut consumer, 2).await;
    until_ready(&*connection, 2).await;
    drop(consumer);
    // 3 and 4 come back though 1 and 2 are still held.
    until(&*connection, Q, "the consumer gone and its rest back", |q| {
        q.is_some_and(|q| (q.ready, q.consumers) == (4, 0))
    })
    .await;
    held.remove(0).settle.ack();
    held.remove(0).settle.requeue();
    until_ready(&*connection, 5).await;
    let left = take(&mut consume(&*connection, 0).await, 5).await;
    assert_eq!(bodies(&left), ["2", "3", "4", "5", "6"]);
}

async fn a_cancelled_consumer_hands_out_the_rest_and_gets_no_more(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2", "3", "4", "5"]).await;
    let mut consumer = consume(&*connection, 4).await;
    let mut held = take(&mut consumer, 2).await;
    until_ready(&*connection, 1).await;
    let mut rest = soon("the rest", consumer.cancel()).await;
    assert_eq!(bodies(&rest), ["3", "4"]);
    let status = connection.queue_status(Q).await.expect("a status").expect("a queue");
    assert_eq!((status.ready, status.consumers), (1, 0), "it is gone at once");
    held.remove(0).settle.ack();
    rest.remove(0).settle.ack();
    drop((held, rest));
    until_ready(&*connection, 3).await;
    let left = take(&mut consume(&*connection, 0).await, 3).await;
    assert_eq!(bodies(&left), ["2", "4", "5"]);
}

async fn two_consumers_share_a_queue(on: Fixture) {
    let connection = on.with_queue().await;
    let other = on.connect().await;
    let (mut first, mut second) = (consume(&*connection, 1).await, consume(&*other, 1).await);
    put(&*connection, &["1", "2", "3", "4"]).await;
    let (one, two) = (next(&mut first).await, next(&mut second).await);
    until_ready(&*connection, 2).await;
    let mut got = bodies(&[one, two]);
    got.sort();
    assert_eq!(got, ["1", "2"]);
}

async fn no_ack_delivers_without_bound_and_forgets(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2", "3"]).await;
    let options = Consume { prefetch: 1, no_ack: true };
    let mut consumer = connection.consume(Q, options).await.expect("a consumer");
    let got = take(&mut consumer, 3).await;
    assert_eq!(bodies(&got), ["1", "2", "3"]);
    drop((got, consumer));
    until(&*connection, Q, "an empty queue", |q| q.is_some_and(|q| (q.ready, q.consumers) == (0, 0))).await;
}

async fn consuming_from_a_missing_queue_says_so(on: Fixture) {
    let connection = on.connect().await;
    let options = Consume { prefetch: 1, no_ack: false };
    let error = connection.consume("conformance.missing", options).await.map(drop).expect_err("no such queue");
    assert!(matches!(error, Error::Operation { .. }), "{error}");
    assert!(error.to_string().contains("conformance.missing"), "{error}");
    fresh(&*connection, &queue(Q)).await;
    consume(&*connection, 1).await;
}
