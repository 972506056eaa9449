//! What the pool costs: the CPU time of a picture's tiles through RabbitMQ, against that of the picture in one call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rabbitry::boss::Boss;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::render::{Render, Request};
use rabbitry::task::{Blob, Format, Handler, Kind, Plan, Prepared, TaskError, Watch};
use rabbitry::tasks::render::trace::{Tracer, View};
use rabbitry::tasks::render::{EncodedScene, RenderHandler};
use rabbitry::worker;
use tokio_util::sync::CancellationToken;

use super::rabbitmq::Node;
use super::scenes::Case;
use super::{Figures, process_seconds, render, thread_seconds};

/// As `boss render` has it by default.
const TILE: u32 = 64;

/// The worker's handler, with a clock that counts the CPU time of its thread.
#[derive(Default)]
struct Timed {
    handler: RenderHandler,
    tiles_nanos: Arc<AtomicU64>,
}

impl Timed {
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = thread_seconds();
        let made = work();
        self.tiles_nanos.fetch_add(((thread_seconds() - start) * 1e9) as u64, Ordering::Relaxed);
        made
    }
}

impl Handler for Timed {
    fn kind(&self) -> Kind {
        self.handler.kind()
    }

    fn gflops(&self) -> f64 {
        self.handler.gflops()
    }

    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, threads: usize) -> Result<Plan, TaskError> {
        self.handler.plan(format, params, payload_bytes, threads)
    }

    fn run(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        self.handler.run(task, threads, watch)
    }

    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        self.timed(|| self.handler.prepare(payload))
    }

    fn run_on(&self, shared: &Prepared, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        self.timed(|| self.handler.run_on(shared, task, threads, watch))
    }
}

/// One slot: tiles then share no core and no cache with each other, and neither does the picture in one call.
#[tokio::main]
pub async fn run(case: &Case, view: View, samples: u32, rounds: usize) {
    let node = Node::start();
    let broker = Arc::new(AmqpBroker::new(&node.url("t0")).expect("an address"));
    let handler = Timed::default();
    let tiles = Arc::clone(&handler.tiles_nanos);
    let stop = CancellationToken::new();
    let options = worker::Options { slots: 1, threads: 1, prefetch: 2, ..worker::Options::default() };
    let worker = tokio::spawn(worker::run(broker.clone(), vec![Arc::new(handler)], options, stop.clone()));
    let boss = Boss::connect(broker, rabbitry::boss::Options::default()).await.expect("a broker");
    let mut figures = [const { Figures::new() }; 3];
    let mut doubles = 0;
    for round in 0..=rounds {
        let start = thread_seconds();
        let tracer = Tracer::new(case.scene());
        let whole = render(&tracer, &view, samples);
        let one_process = thread_seconds() - start;
        drop(tracer);
        // Another seed is another picture, but the scene would be known: each round has one of its own.
        let mut scene = case.scene();
        scene.environment = [round as f32 * 1e-9; 3];
        let request = Request { scene: EncodedScene::new(&scene), view, samples, tile: TILE };
        let picture = Render::new(request).expect("a picture");
        let (before, everything) = (tiles.load(Ordering::Relaxed), process_seconds());
        let said = Mutex::new(Vec::new());
        let say = |words: &str| said.lock().expect("whole").push(words.to_owned());
        picture.run(&boss, Default::default(), &CancellationToken::new(), &say).await.expect("a picture");
        let pooled = (tiles.load(Ordering::Relaxed) - before) as f64 / 1e9;
        let everything = process_seconds() - everything;
        let report = picture.report();
        doubles += report.doubles;
        let sum = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>();
        let ratio = sum(&picture.means()) * f64::from(samples) / sum(&whole.sums);
        assert!((ratio - 1.0).abs() < 1e-3, "the pool's picture is another: {ratio}");
        if round > 0 {
            figures[0].push(pooled / one_process);
            figures[1].push(everything / one_process);
            figures[2].push(report.seconds / one_process);
        }
    }
    let name = case.name;
    figures[0].row(&format!("{name}: tiles through RabbitMQ / one call, CPU"), "x");
    figures[1].row(&format!("{name}: boss and worker in all / one call, CPU"), "x");
    figures[2].row(&format!("{name}: seconds of the clock / one call, CPU"), "x");
    if doubles > 0 {
        println!("{name}: {doubles} tiles were rendered twice, which is in these");
    }
    boss.close().await;
    stop.cancel();
    worker.await.expect("the worker ends").expect("in good order");
}
