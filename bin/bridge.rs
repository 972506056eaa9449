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

/// Steps of its tasks after which a busy thread of the runtime looks for new requests. A step of a connection with a large
/// body copies up to 4 MB: after the 61 steps that are tokio's own choice, two such clients held up all others for 200 ms.
const LOOK_EVERY: u32 = 4;

fn main() -> ExitCode {
    let cli = BridgeCli::parse();
    telemetry::log_to_stderr("info");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let ended = runtime.enable_all().event_interval(LOOK_EVERY).build().map_err(|error| error.to_string());
    ExitCode::from(ended.and_then(|runtime| runtime.block_on(run(cli))).unwrap_or_else(|error| {
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
    let boss = match stop.run_until_cancelled(Boss::connect(broker, cli.boss())).await {
        Some(boss) => boss.map_err(|error: Error| error.to_string())?,
        None => return Ok(exit::INTERRUPTED),
    };
    bridge.serve(boss, launcher, stop).await;
    drained.cancel();
    if let Some(pool) = pool {
        let _ = pool.await;
    }
    Ok(exit::OK)
}
