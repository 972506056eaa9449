//! Real brokers under fault: processes against a RabbitMQ of the test's own that is stopped, killed, cut off, full, or one
//! of three.
//!
//! Each scenario has a short form among the other tests, and a long one (`long`, ignored) that `make test-faults` runs on
//! every version of RabbitMQ there is. Both print their figures in one line, to be seen with `--nocapture`.

mod alarms;
mod clocks;
mod cluster;
mod cuts;
mod deadly;
mod kills;
mod load;
mod proxy;
mod restarts;
mod slow_reader;
mod timeouts;

use std::future::Future;
use std::time::Duration;

use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::{Broker, Consume};
use rabbitry::transport::names;

use crate::pool::soon;

/// Longer than anything takes in here that is not a whole scenario.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs are back in time if they are so soon after their broker, whatever the backoff was at.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// Makes two tests of a scenario, a function of how much of it there is to be.
macro_rules! short_and_long {
    ($claim:ident, $scenario:ident, $short:expr, $long:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $claim() {
            $crate::faults::report(stringify!($claim), $scenario($short)).await;
        }
        mod long {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "minutes: make test-faults"]
            async fn $claim() {
                $crate::faults::report(stringify!($claim), super::$scenario($long)).await;
            }
        }
    };
}
use short_and_long;

/// Runs a scenario and prints its figures.
async fn report(claim: &str, scenario: impl Future<Output = String>) {
    let figures = scenario.await;
    println!("faults: RabbitMQ {}, {claim}: {figures}", crate::rabbitmq::version());
}

async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(done) => done,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// Runs something on a node, whose methods block.
fn on_node<T>(what: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(what)
}

/// Nothing is in `rabbitry.dead`; else this says what and why.
async fn nothing_died(url: &str) {
    let broker = AmqpBroker::new(url).expect("a legal address");
    let connection = soon("a connection", broker.connect()).await.expect("a connection");
    let dead = connection.queue_status(names::DEAD).await.expect("a status").map_or(0, |queue| queue.ready);
    let mut reasons = Vec::new();
    if dead > 0 {
        let all = Consume { prefetch: 0, no_ack: true };
        let mut letters = connection.consume(names::DEAD, all).await.expect("consuming");
        for _ in 0..dead {
            reasons.push(soon("a dead letter", letters.next()).await.expect("a dead letter").message.headers);
        }
    }
    assert!(reasons.is_empty(), "dead letters: {reasons:?}");
    connection.close().await;
}
