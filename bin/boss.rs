//! Submits tasks and shows what comes of them; without `--broker` it computes them itself.

use std::process::ExitCode;
use std::sync::Arc;

use rabbitry::boss::Boss;
use rabbitry::broker::{Broker, Error, amqp::AmqpBroker, embedded::EmbeddedBroker};
use rabbitry::cli::{BossCli, BossCommand};
use rabbitry::command::{Input, cancel, exit, workers};
use rabbitry::{tasks, telemetry, worker};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = BossCli::from_arguments();
    telemetry::log_to_stderr("warn");
    ExitCode::from(run(cli).await.unwrap_or_else(|error| {
        eprintln!("boss: {error}");
        if matches!(error, Error::Address { .. }) { exit::USAGE } else { exit::FAILED }
    }))
}

async fn run(cli: BossCli) -> Result<u8, Error> {
    // Input first: a wrong file needs no broker and no calibration to be found out.
    let job = match cli.command.input().map(Input::load).transpose() {
        Ok(job) => job,
        Err(error) => {
            eprintln!("boss: {error}");
            return Ok(exit::USAGE);
        }
    };
    let stop = telemetry::shutdown_on_signal().map_err(|e| Error::Lost(e.to_string()))?;
    let drained = CancellationToken::new();
    let (broker, pool): (Arc<dyn Broker>, _) = match &cli.broker.broker {
        Some(url) => (Arc::new(AmqpBroker::new(url)?), None),
        None => {
            let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::new());
            let options = worker::Options { quorum: cli.broker.quorum, ..cli.pool.options() };
            let handlers = tasks::handlers(options.threads);
            (broker.clone(), Some(tokio::spawn(worker::run(broker, handlers, options, drained.clone()))))
        }
    };
    let address = broker.address();
    let boss = match stop.run_until_cancelled(Boss::connect(broker, cli.broker.options())).await {
        Some(boss) => boss?,
        None => return Ok(exit::INTERRUPTED),
    };
    let code = match (cli.command, job) {
        (BossCommand::Workers(args), _) => workers::run(&boss, &address, args.json).await,
        (BossCommand::Cancel(args), _) => cancel::run(&boss, &address, args.task, args.json).await,
        (work, Some(job)) => Ok(job.run(&boss, work.submit(), work.json(), &stop).await),
        (_, None) => Ok(exit::USAGE),
    };
    boss.close().await;
    drained.cancel();
    if let Some(pool) = pool.filter(|_| !stop.is_cancelled()) {
        let _ = pool.await;
    }
    code
}
