//! A boss and a worker in this process, on the embedded broker or on a private RabbitMQ: the public API as a program of
//! one's own would use it. The programs, each a process of its own, are measured by `benches/pool.rs`.

use std::sync::Arc;

use rabbitry::boss::{self, Boss};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::broker::embedded::EmbeddedBroker;
use rabbitry::broker::{self, Broker};
use rabbitry::task::Handler;
use rabbitry::worker::{self, Summary};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/it/rabbitmq.rs"]
mod rabbitmq;

/// What the messages go through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// This process.
    Embedded,
    /// A node of its own, as the tests have it.
    RabbitMq,
}

impl Via {
    pub const ALL: [Via; 2] = [Via::Embedded, Via::RabbitMq];

    pub fn name(self) -> &'static str {
        match self {
            Via::Embedded => "embedded",
            Via::RabbitMq => "RabbitMQ",
        }
    }

    fn broker(self) -> Arc<dyn Broker> {
        match self {
            Via::Embedded => Arc::new(EmbeddedBroker::new()),
            // One node for all, that ends with the process.
            Via::RabbitMq => Arc::new(AmqpBroker::new(&rabbitmq::node().url("t0")).expect("an address")),
        }
    }
}

/// One boss and one worker; its slots are the cores.
pub struct Pool {
    pub boss: Boss,
    worker: JoinHandle<Result<Summary, broker::Error>>,
    stop: CancellationToken,
}

impl Pool {
    pub fn start(runtime: &Runtime, via: Via, handler: Arc<dyn Handler>, options: boss::Options) -> Self {
        // Outside the runtime: a node takes seconds to start, and blocks.
        let broker = via.broker();
        let stop = CancellationToken::new();
        let worker = worker::run(broker.clone(), vec![handler], worker::Options::default(), stop.clone());
        let worker = runtime.spawn(worker);
        let boss = runtime.block_on(Boss::connect(broker, options)).expect("a broker");
        Pool { boss, worker, stop }
    }

    pub fn end(self, runtime: &Runtime) {
        runtime.block_on(async {
            self.boss.close().await;
            self.stop.cancel();
            self.worker.await.expect("the worker ends").expect("in good order");
        });
    }
}

/// Whether criterion only tries everything once: with `--test`, or where cargo does not say `--bench`.
pub fn is_smoke_test() -> bool {
    let said = |flag: &str| std::env::args().any(|argument| argument == flag);
    said("--test") || !said("--bench")
}
