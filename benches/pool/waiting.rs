//! The rate of small tasks while many wait in the queue, against the rate while few do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rabbitry::boss::{self, Boss, Submit};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::tasks::solve::System;

use super::{Worker, row};

const N: usize = 10;
const MANY: u64 = 100_000;
const FEW: usize = 100;
const ROUNDS: usize = 3;
/// Room for all of them at once.
const WINDOW_BYTES: u64 = 4 << 30;

/// Prints the ratio of the two rates.
pub fn run(url: &str) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let few = runtime.block_on(few(url));
        let many = runtime.block_on(many(url));
        ratios.push(many / few);
        rates.push(many);
    }
    row("N=10: rate with 100,000 waiting / with 100", "x", ratios);
    row("N=10, 100,000 waiting", "tasks/s", rates);
}

async fn boss(url: &str) -> Boss {
    let broker = Arc::new(AmqpBroker::new(url).expect("a legal address"));
    let options = boss::Options { window_bytes: WINDOW_BYTES, ..boss::Options::default() };
    Boss::connect(broker, options).await.expect("the broker is there")
}

async fn submit(boss: &Boss, seed: u64) -> impl Future<Output = ()> + use<> {
    let ticket = boss.submit(System::random(N, 1, seed), Submit::default()).await.expect("a right task");
    async move { drop(ticket.outcome().await.result.expect("a solution")) }
}

/// As many in flight as few are, one more with each answer.
async fn few(url: &str) -> f64 {
    let (boss, _worker) = (boss(url).await, Worker::start(url));
    let mut waiting = FuturesUnordered::new();
    for seed in 0..FEW as u64 {
        waiting.push(submit(&boss, seed).await);
    }
    waiting.next().await;
    let start = Instant::now();
    for seed in 1..MANY / 4 {
        waiting.push(submit(&boss, seed).await);
        waiting.next().await;
    }
    let rate = (MANY / 4 - 1) as f64 / start.elapsed().as_secs_f64();
    waiting.collect::<Vec<()>>().await;
    boss.close().await;
    rate
}

/// All of them are in the queue before there is a worker.
async fn many(url: &str) -> f64 {
    let boss = boss(url).await;
    let mut waiting = FuturesUnordered::new();
    for seed in 0..MANY {
        waiting.push(submit(&boss, seed).await);
    }
    // Messages have up to some hundred small tasks each: the queue is full when it grows no more.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ready = boss.work_queue("solve").await.expect("a status").1.map_or(0, |status| status.ready);
        if ready > 0 && ready == before {
            break;
        }
        before = ready;
    }
    // Started beside this: it computes from the moment it is connected, which is before it is listed.
    let broker = url.to_owned();
    let worker = tokio::task::spawn_blocking(move || Worker::start(&broker));
    waiting.next().await;
    let start = Instant::now();
    waiting.collect::<Vec<()>>().await;
    let rate = (MANY - 1) as f64 / start.elapsed().as_secs_f64();
    drop(worker.await.expect("a worker"));
    boss.close().await;
    rate
}
