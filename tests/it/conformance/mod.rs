//! What a broker owes its users, claim by claim, held against both brokers. A claim is a function of a [`Fixture`];
//! [`on_both`] makes three tests of it: the embedded broker is held to it behind the simulations' network, too.

mod consuming;
mod expiring;
mod links;
mod only_rabbitmq;
mod publishing;
mod topology;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::embedded::{EmbeddedBroker, FaultPlan};
use rabbitry::broker::{
    Broker, Connection, Consume, Consumer, Delivery, Message, Published, Queue, QueueStatus, Route,
};

use crate::rabbitmq;

/// Longer than anything takes, a rabbitmqctl on busy cores included; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The queue most claims use.
const Q: &str = "conformance.q";

/// Makes a test per claim and broker.
macro_rules! on_both {
    ($($claim:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(crate::conformance::Fixture::embedded()).await;
            })*
        }
        mod embedded_with_delays {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(crate::conformance::Fixture::delayed()).await;
            })*
        }
        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $claim() {
                super::$claim(crate::conformance::Fixture::rabbitmq().await).await;
            })*
        }
    };
}
use on_both;

/// A broker, and the right to use it.
struct Fixture {
    broker: Arc<dyn Broker>,
    _place: Option<rabbitmq::TestBroker>,
}

impl Fixture {
    fn embedded() -> Self {
        Fixture { broker: Arc::new(EmbeddedBroker::new()), _place: None }
    }

    /// The embedded broker over the network of the simulations, on which nothing goes wrong.
    fn delayed() -> Self {
        Fixture { broker: Arc::new(EmbeddedBroker::with_faults(FaultPlan::calm(rand::random()))), _place: None }
    }

    async fn rabbitmq() -> Self {
        let place = rabbitmq::vhost().await;
        let broker = AmqpBroker::new(&place.url).expect("a legal address");
        Fixture { broker: Arc::new(broker), _place: Some(place) }
    }

    async fn connect(&self) -> Arc<dyn Connection> {
        soon("a connection", self.broker.connect()).await.expect("a connection")
    }

    /// A connection and an empty queue [`Q`] on it.
    async fn with_queue(&self) -> Arc<dyn Connection> {
        let connection = self.connect().await;
        fresh(&*connection, &queue(Q)).await;
        connection
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

fn queue(name: &str) -> Queue {
    Queue { name: name.to_owned(), ..Queue::default() }
}

/// Declares a queue that has nothing in it, whatever an earlier run on the same broker left.
async fn fresh(connection: &dyn Connection, queue: &Queue) {
    connection.delete_queue(&queue.name).await.expect("deleted");
    connection.declare_queue(queue).await.expect("declared");
}

fn text(body: &str) -> Message {
    Message { body: vec![Bytes::copy_from_slice(body.as_bytes())], ..Message::default() }
}

fn body(message: &Message) -> String {
    String::from_utf8(message.body.concat()).expect("text")
}

async fn publish(connection: &dyn Connection, route: &Route, message: Message) -> Published {
    let confirm = soon("room to publish", connection.publish(route, message)).await.expect("published");
    soon("a confirm", confirm.0).await.expect("confirmed")
}

/// Publishes texts to [`Q`] and waits for their confirms.
async fn put(connection: &dyn Connection, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(publish(connection, &Route::queue(Q), text(body)).await, Published::Routed);
    }
}

async fn consume(connection: &dyn Connection, prefetch: u16) -> Consumer {
    let options = Consume { prefetch, no_ack: false };
    soon("a consumer", connection.consume(Q, options)).await.expect("a consumer")
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon("a delivery", consumer.next()).await.expect("a delivery")
}

/// The next `count` deliveries.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(next(consumer).await);
    }
    taken
}

fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| body(&delivery.message)).collect()
}

/// Asks for the state of a queue until it is so; each question is a round trip to the broker.
async fn until(connection: &dyn Connection, queue: &str, what: &str, so: impl Fn(Option<QueueStatus>) -> bool) {
    soon(what, async {
        while !so(connection.queue_status(queue).await.expect("a status")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn until_ready(connection: &dyn Connection, ready: u64) {
    until(connection, Q, &format!("{ready} messages ready"), |q| q.is_some_and(|q| q.ready == ready)).await;
}
