//! Computes tasks from a RabbitMQ broker until it is told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rabbitry::broker::Error;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::cli::WorkerCli;
use rabbitry::command::exit;
use rabbitry::{health, tasks, telemetry, worker};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = WorkerCli::parse();
    telemetry::log_to_stderr("info");
    ExitCode::from(run(cli).await.unwrap_or_else(|error| {
        eprintln!("worker: {error}");
        if matches!(error, Error::Address { .. }) { exit::USAGE } else { exit::FAILED }
    }))
}

async fn run(cli: WorkerCli) -> Result<u8, Error> {
    let options = cli.options();
    let mut handlers = tasks::handlers(options.threads);
    if let Some(kinds) = &cli.kinds {
        let known: Vec<String> = handlers.iter().map(|handler| handler.kind().to_string()).collect();
        if let Some(unknown) = kinds.iter().find(|kind| !known.contains(kind)) {
            eprintln!("worker: there is no kind {unknown:?}; this program computes {}", known.join(", "));
            return Ok(exit::USAGE);
        }
        handlers.retain(|handler| kinds.iter().any(|kind| kind == handler.kind().as_str()));
    }
    let broker = Arc::new(AmqpBroker::new(&cli.broker)?);
    if let Some(address) = &cli.health
        && let Err(error) = health::listen(address, options.health.subscribe()).await
    {
        eprintln!("worker: {error}");
        return Ok(exit::USAGE);
    }
    let shutdown = telemetry::shutdown_on_signal().map_err(|e| Error::Lost(e.to_string()))?;
    let summary = worker::run(broker, handlers, options, shutdown).await?;
    tracing::info!(done = summary.done, failed = summary.failed, "stopped");
    Ok(exit::OK)
}
