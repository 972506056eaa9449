//! A boss that is away for a long time, under the faults of a seed: its large task waits, comes back and is computed, and
//! nothing is left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rabbitry::broker::embedded::{EmbeddedBroker, FaultPlan};
use rabbitry::broker::{Broker, Connection, Consume, Message, Queue, Route};
use rabbitry::task::ambient::Simulation;
use rabbitry::task::{Task, unix_ms};
use rabbitry::transport::outgoing::{self, Outgoing};
use rabbitry::transport::{self, names};
use rabbitry::wire::{self, OutcomeHead, PullRequest, TaskHead};
use rabbitry::worker::{self, Compute, Memory, Options};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::actors::PATIENCE;
use crate::pool::{Probe, ProbeHandler, pulled_head};

const AWAY: Duration = Duration::from_secs(1200);
const BYTES: u64 = 200 << 10;
const RIGHT: &str = "it came whole";
const RESULTS: &str = "rabbitry.results.away";
const PULL: &str = "rabbitry.pull.away";

/// No two parts alike.
fn payload() -> Bytes {
    (0..BYTES as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

fn task() -> Outgoing {
    let head = TaskHead { sent_unix_ms: unix_ms(), ..pulled_head(&Probe::KIND, BYTES, PULL) };
    Outgoing { head, payload: vec![payload()], shared: false, priority: 3, kept: false }
}

/// Its queues and its task are there, and it is not.
async fn submit(connection: &dyn Connection, task: &Outgoing) {
    transport::declare_shared(connection, &[Probe::KIND], false).await.expect("declared");
    for name in [RESULTS, PULL] {
        connection.declare_queue(&Queue { name: name.into(), ..Queue::default() }).await.expect("declared");
    }
    let head = wire::encode(&task.head).into();
    let message = Message { head, reply_to: Some(RESULTS.into()), persistent: true, ..Message::default() };
    connection.publish(&Route::exchange(names::WORK, "probe"), message).await.expect("published");
}

/// Serves its task until it is answered, and tells whoever asks for it after that that it is gone.
async fn serve(connection: &dyn Connection, task: &Outgoing, answered: &CancellationToken) {
    let options = Consume { prefetch: 0, no_ack: true };
    let mut pulls = connection.consume(PULL, options).await.expect("consuming");
    let mut results = connection.consume(RESULTS, options).await.expect("consuming");
    loop {
        tokio::select! {
            biased;
            outcome = results.next() => {
                let outcome = outcome.expect("an outcome").message;
                let head: OutcomeHead = wire::decode(&outcome.head).expect("one outcome");
                assert_eq!((head.id, head.error), (task.head.id, None));
                assert_eq!(outcome.body.concat(), RIGHT.as_bytes());
                answered.cancel();
            }
            request = pulls.next() => {
                let request = request.expect("a request").message;
                let wanted: PullRequest = wire::decode(&request.head).expect("a pull request");
                let there = if answered.is_cancelled() { None } else { Some(task) };
                outgoing::serve(connection, &wanted, &request.reply_to.expect("an inbox"), there).await.expect("served");
            }
        }
    }
}

/// Keeps a worker going until `over`.
async fn work(broker: EmbeddedBroker, memory: Memory, over: CancellationToken) {
    while !over.is_cancelled() {
        let options = Options {
            slots: 1,
            threads: 1,
            prefetch: 2,
            attempts_max: u32::MAX,
            memory: Some(memory.clone()),
            compute: Compute::Inline(Arc::new(|| Duration::from_millis(20))),
            ..Options::default()
        };
        let handler = ProbeHandler::new(|bytes| Ok(if bytes == payload() { RIGHT.into() } else { Bytes::new() }));
        let (broker, handlers) = (Arc::new(broker.clone()), vec![handler as _]);
        if let Err(error) = worker::run(broker, handlers, options, over.clone()).await {
            assert!(error.is_transient(), "{error}");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

async fn play(faults: FaultPlan) -> u64 {
    let broker = EmbeddedBroker::with_faults(faults);
    let connection = broker.without_faults().connect().await.expect("a connection");
    let (task, memory, over) = (task(), Memory::new(BYTES), CancellationToken::new());
    submit(&*connection, &task).await;
    let worker = tokio::spawn(work(broker.named("worker"), memory.clone(), over.clone()));
    sleep(AWAY).await;
    let answered = CancellationToken::new();
    assert_eq!(connection.queue_status(RESULTS).await.expect("a status").expect("it is there").ready, 0);
    let waits = || {
        broker.contents().into_iter().any(|(name, ready, unacked)| {
            let busy = [names::work_queue("probe"), names::later_queue("probe")].contains(&name);
            busy && ready + unacked > 0
        })
    };
    tokio::select! {
        biased;
        () = serve(&*connection, &task, &answered) => {}
        done = timeout(PATIENCE, async {
            answered.cancelled().await;
            broker.calm();
            while waits() {
                sleep(Duration::from_secs(1)).await;
            }
        }) => done.unwrap_or_else(|_| panic!("answered: {}, left: {:?}", answered.is_cancelled(), broker.contents())),
    }
    over.cancel();
    worker.await.expect("no panic");
    assert_eq!(memory.available_bytes(), BYTES);
    assert!(broker.contents().iter().all(|(name, ready, _)| name != names::DEAD || *ready == 0));
    broker.trace().events()
}

#[test]
fn a_large_task_of_a_boss_that_is_away_waits_and_is_computed_whatever_goes_wrong() {
    for seed in 0..60 {
        let faults = if seed == 0 { FaultPlan::calm(seed) } else { FaultPlan::seeded(seed) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let _simulation = Simulation::begin(seed);
            println!("seed {seed}: {} events", play(faults).await);
        });
    }
}
