//! Queues: declared, looked at, locked, expired, deleted.

use super::*;
use rabbitry::broker::{Error, ExchangeKind};

on_both!(
    status_counts_what_is_ready_and_who_consumes,
    declaring_again_the_same_is_no_error,
    a_conflicting_declaration_is_refused_and_told,
    binding_to_what_is_missing_is_refused,
    deleting_ends_consumers_and_what_was_in_it,
    an_exclusive_queue_is_locked_for_others_and_gone_with_its_connection,
    higher_priorities_go_first_and_equal_ones_in_order,
    of_several_consumers_of_a_queue_with_one_active_the_oldest_gets_all_and_then_the_next,
    what_a_dead_connection_held_of_a_queue_with_one_active_goes_to_the_next_before_the_rest,
    an_unused_queue_expires,
    a_used_queue_does_not_expire,
    a_queue_that_is_declared_again_begins_its_time_anew_whatever_is_in_it,
    impossible_queues_are_refused,
);

async fn status_counts_what_is_ready_and_who_consumes(on: Fixture) {
    let connection = on.with_queue().await;
    assert_eq!(connection.queue_status("conformance.missing").await.expect("a status"), None);
    put(&*connection, &["1", "2", "3"]).await;
    let status = connection.queue_status(Q).await.expect("a status");
    assert_eq!(status, Some(QueueStatus { ready: 3, consumers: 0 }));
    let mut consumer = consume(&*connection, 1).await;
    let _held = next(&mut consumer).await;
    until(&*connection, Q, "one out", |q| q == Some(QueueStatus { ready: 2, consumers: 1 })).await;
}

async fn declaring_again_the_same_is_no_error(on: Fixture) {
    let connection = on.connect().await;
    let name = "conformance.full";
    let full = Queue {
        expires: Some(Duration::from_secs(60)),
        max_priority: Some(2),
        message_ttl: Some(Duration::from_secs(60)),
        dead_letter: Some(Route::queue("conformance.dead")),
        ..queue(name)
    };
    fresh(&*connection, &full).await;
    connection.declare_queue(&full).await.expect("declared again");
    on.connect().await.declare_queue(&full).await.expect("declared again by another");
}

async fn a_conflicting_declaration_is_refused_and_told(on: Fixture) {
    let connection = on.with_queue().await;
    for other in [
        Queue { max_priority: Some(2), ..queue(Q) },
        Queue { message_ttl: Some(Duration::from_secs(60)), ..queue(Q) },
        Queue { dead_letter: Some(Route::queue("conformance.dead")), ..queue(Q) },
    ] {
        let error = connection.declare_queue(&other).await.expect_err("other arguments");
        assert!(matches!(error, Error::Operation { .. }), "{error}");
        assert!(error.to_string().contains(Q) && error.to_string().contains("delete"), "{error}");
    }
    connection.declare_exchange("conformance.kind", ExchangeKind::Direct).await.expect("declared");
    let error = connection.declare_exchange("conformance.kind", ExchangeKind::Fanout).await.expect_err("other kind");
    assert!(error.to_string().contains("conformance.kind"), "{error}");
    put(&*connection, &["unharmed"]).await;
    connection.declare_queue(&queue(Q)).await.expect("declared as it is");
}

async fn binding_to_what_is_missing_is_refused(on: Fixture) {
    let connection = on.with_queue().await;
    assert!(connection.bind_queue(Q, "conformance.missing", "").await.is_err());
    connection.declare_exchange("conformance.kind", ExchangeKind::Direct).await.expect("declared");
    assert!(connection.bind_queue("conformance.missing", "conformance.kind", "").await.is_err());
}

async fn deleting_ends_consumers_and_what_was_in_it(on: Fixture) {
    let connection = on.with_queue().await;
    put(&*connection, &["1", "2"]).await;
    let mut consumer = consume(&*connection, 1).await;
    let held = next(&mut consumer).await;
    connection.delete_queue(Q).await.expect("deleted");
    connection.delete_queue(Q).await.expect("deleted again");
    assert!(soon("the end", consumer.next()).await.is_none());
    held.settle.requeue();
    connection.declare_queue(&queue(Q)).await.expect("declared anew");
    put(&*connection, &["3"]).await;
    let got = next(&mut consume(&*connection, 1).await).await;
    assert_eq!(body(&got.message), "3");
}

async fn an_exclusive_queue_is_locked_for_others_and_gone_with_its_connection(on: Fixture) {
    let (owner, other) = (on.connect().await, on.connect().await);
    let mine = Queue { exclusive: true, ..queue("conformance.mine") };
    owner.declare_queue(&mine).await.expect("declared");
    let options = Consume { prefetch: 1, no_ack: false };
    let mut consumer = owner.consume(&mine.name, options).await.expect("a consumer");
    assert!(matches!(other.declare_queue(&mine).await, Err(Error::Operation { .. })));
    let locked = other.consume(&mine.name, options).await.map(drop).expect_err("locked");
    assert!(locked.to_string().contains("exclusive"), "{locked}");
    assert_eq!(publish(&*other, &Route::queue(&mine.name), text("for you")).await, Published::Routed);
    assert_eq!(body(&next(&mut consumer).await.message), "for you");
    drop(owner);
    assert!(soon("the end", consumer.next()).await.is_none());
    until_gone(&*other, &mine.name).await;
}

async fn higher_priorities_go_first_and_equal_ones_in_order(on: Fixture) {
    let connection = on.connect().await;
    fresh(&*connection, &Queue { max_priority: Some(2), ..queue(Q) }).await;
    for (priority, name) in [(0, "low 1"), (1, "mid 1"), (2, "high 1"), (0, "low 2"), (9, "high 2"), (1, "mid 2")] {
        let message = Message { priority, ..text(name) };
        publish(&*connection, &Route::queue(Q), message).await;
    }
    let got = take(&mut consume(&*connection, 0).await, 6).await;
    assert_eq!(bodies(&got), ["high 1", "high 2", "mid 1", "mid 2", "low 1", "low 2"]);
}

/// Publishes to a queue until it is gone. To ask for its status is a use on RabbitMQ, and would keep it.
async fn until_gone(connection: &dyn Connection, name: &str) {
    let gone = async {
        loop {
            match connection.publish(&Route::queue(name), text("still there?")).await.expect("published").0.await {
                Ok(Published::Unroutable) => return,
                // So RabbitMQ 4 answers what meets a queue that is just being deleted.
                Ok(Published::Routed) | Err(Error::Nacked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{name}: {error}"),
            }
        }
    };
    soon("the end of a queue", gone).await;
}

async fn an_unused_queue_expires(on: Fixture) {
    let connection = on.connect().await;
    fresh(&*connection, &Queue { expires: Some(Duration::from_millis(150)), ..queue(Q) }).await;
    until_gone(&*connection, Q).await;
    assert_eq!(connection.queue_status(Q).await.expect("a status"), None);
}

async fn a_used_queue_does_not_expire(on: Fixture) {
    let connection = on.connect().await;
    let expires = Some(Duration::from_millis(150));
    fresh(&*connection, &Queue { expires, ..queue(Q) }).await;
    fresh(&*connection, &Queue { expires, ..queue("conformance.clock") }).await;
    let mut consumer = consume(&*connection, 1).await;
    // Another queue's expiry is the clock: when it is gone, this one would be.
    until_gone(&*connection, "conformance.clock").await;
    put(&*connection, &["still here"]).await;
    let held = next(&mut consumer).await;
    assert_eq!(body(&held.message), "still here");
    // Held or not, without a consumer it goes.
    drop(consumer);
    until_gone(&*connection, Q).await;
}

async fn a_queue_that_is_declared_again_begins_its_time_anew_whatever_is_in_it(on: Fixture) {
    let connection = on.connect().await;
    let expires = Some(Duration::from_secs(2));
    let kept = Queue { expires, ..queue(Q) };
    fresh(&*connection, &kept).await;
    fresh(&*connection, &Queue { expires, ..queue("conformance.clock") }).await;
    put(&*connection, &["still here"]).await;
    let again = async {
        loop {
            connection.declare_queue(&kept).await.expect("declared again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = until_gone(&*connection, "conformance.clock") => {}
        () = again => {}
    }
    let held = next(&mut consume(&*connection, 1).await).await;
    assert_eq!(body(&held.message), "still here");
}

async fn impossible_queues_are_refused(on: Fixture) {
    let connection = on.connect().await;
    for wrong in [
        queue(""),
        Queue { quorum: true, exclusive: true, ..queue(Q) },
        Queue { quorum: true, max_priority: Some(2), ..queue(Q) },
        Queue { dead_letter: Some(Route::queue("x".repeat(256))), ..queue(Q) },
    ] {
        assert!(matches!(connection.declare_queue(&wrong).await, Err(Error::Operation { .. })), "{wrong:?}");
    }
}

async fn of_several_consumers_of_a_queue_with_one_active_the_oldest_gets_all_and_then_the_next(on: Fixture) {
    let connection = on.connect().await;
    fresh(&*connection, &Queue { single_active: true, ..queue(Q) }).await;
    let (mut first, mut second) = (consume(&*connection, 1).await, consume(&*connection, 2).await);
    put(&*connection, &["1", "2", "3", "4", "5"]).await;
    for text in ["1", "2", "3"] {
        // The second has room for each of them.
        let delivery = next(&mut first).await;
        assert_eq!(body(&delivery.message), text);
        delivery.settle.ack();
    }
    let held = next(&mut first).await;
    assert_eq!(body(&held.message), "4");
    held.settle.ack();
    drop(first);
    // On its way to the first it may have been, and comes back.
    assert_eq!(body(&next(&mut second).await.message), "5");
}

async fn what_a_dead_connection_held_of_a_queue_with_one_active_goes_to_the_next_before_the_rest(on: Fixture) {
    let (connection, other) = (on.connect().await, on.connect().await);
    fresh(&*connection, &Queue { single_active: true, ..queue(Q) }).await;
    let mut first = consume(&*other, 2).await;
    let mut second = consume(&*connection, 5).await;
    put(&*connection, &["1", "2", "3", "4", "5"]).await;
    let held = [next(&mut first).await, next(&mut first).await];
    other.close().await;
    for text in ["1", "2", "3", "4", "5"] {
        let delivery = next(&mut second).await;
        assert_eq!(body(&delivery.message), text);
        assert_eq!(delivery.redelivered, text < "3");
        delivery.settle.ack();
    }
    drop(held);
}
