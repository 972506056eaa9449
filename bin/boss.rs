//! Submits tasks and shows what comes of them; without `--broker` it computes them itself.

use std::process::ExitCode;
use std::sync::Arc;

use rabbitry::bench::Place;
use rabbitry::boss::Boss;
use rabbitry::broker::{Broker, Error, amqp::AmqpBroker, embedded::EmbeddedBroker};
use rabbitry::cli::{BossCli, BossCommand};
use rabbitry::command::{Input, cancel, dead, exit, workers};
use rabbitry::worker::{self, Launcher};
use rabbitry::{tasks, telemetry};
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
        Err(error) => return Ok(exit::usage(&error)),
    };
    let (stop, drained) =
        (telemetry::shutdown_on_signal().map_err(|e| Error::Lost(e.to_string()))?, CancellationToken::new());
    let url = cli.broker.broker.as_deref();
    let remote = url.map(AmqpBroker::new).transpose()?.map(|broker| Arc::new(broker) as Arc<dyn Broker>);
    if let Some(measure) = cli.command.measure(url) {
        let place = Place { broker: remote, options: cli.broker.options(), pool: cli.pool.options() };
        return measure.run(place, &stop).await;
    }
    let broker = remote.clone().unwrap_or_else(|| Arc::new(EmbeddedBroker::new()));
    let pool = remote.is_none().then(|| {
        let options = worker::Options { quorum: cli.broker.queue_type.is_quorum(), ..cli.pool.options() };
        Launcher::new(broker.clone()).start(tasks::handlers(options.threads), options, drained.clone())
    });
    let connected = stop.run_until_cancelled(Boss::connect(broker.clone(), cli.broker.options())).await;
    let Some(boss) = connected.transpose()? else { return Ok(exit::INTERRUPTED) };
    let code = match (cli.command, job) {
        (BossCommand::Workers(args), _) => workers::run(&boss, &broker.address(), args.json).await,
        (BossCommand::Cancel(args), _) => cancel::run(&boss, &broker.address(), args.task, args.json).await,
        (BossCommand::Dead(args), _) => dead::run(&boss, &broker.address(), &args.request(), args.json, &stop).await,
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
