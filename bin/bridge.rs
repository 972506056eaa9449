//! The pool over HTTP; without `--broker` it computes by itself.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rabbitry::boss::Boss;
use rabbitry::bridge::Bridge;
use rabbitry::broker::{Broker, Error, amqp::AmqpBroker, embedded::EmbeddedBroker};
use rabbitry::cli::BridgeCli;
use rabbitry::command::exit;
use rabbitry::{tasks, telemetry, worker};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = BridgeCli::parse();
    telemetry::log_to_stderr("info");
    ExitCode::from(run(cli).await.unwrap_or_else(|error| {
        eprintln!("bridge: {error}");
        exit::FAILED
    }))
}

async fn run(cli: BridgeCli) -> Result<u8, String> {
    let options = cli.options()?;
    let bridge = Bridge::bind(&cli.listen, options).await?;
    let stop = telemetry::shutdown_on_signal().map_err(|error| error.to_string())?;
    let drained = CancellationToken::new();
    let (broker, pool): (Arc<dyn Broker>, _) = match &cli.broker {
        Some(url) => (Arc::new(AmqpBroker::new(url).map_err(|error| error.to_string())?), None),
        None => {
            let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new());
            let pool = cli.pool();
            let handlers = tasks::handlers(pool.threads);
            (broker.clone(), Some(tokio::spawn(worker::run(broker, handlers, pool, drained.clone()))))
        }
    };
    let launcher = worker::Launcher::new(broker.clone());
    let connect = async {
        match &pool {
            None => Boss::connect_keeping(broker, cli.boss(), bridge.keep()).await,
            // Nothing waits at a broker that ends with this process.
            Some(_) => Boss::connect(broker, cli.boss()).await,
        }
    };
    let boss = match stop.run_until_cancelled(connect).await {
        Some(boss) => boss.map_err(|error: Error| error.to_string())?,
        None => return Ok(exit::INTERRUPTED),
    };
    let served = bridge.serve(boss, launcher, stop).await;
    drained.cancel();
    if let Some(pool) = pool {
        let _ = pool.await;
    }
    served.map(|()| exit::OK)
}
