//! Systems solved per second by the public API: streams of N = 100 and N = 1000 from a boss to a worker in the same
//! process, on the embedded broker and through a private RabbitMQ on this machine.
//!
//! `cargo bench --bench throughput`, about a minute and a half; needs RabbitMQ's package, unless it runs with `-- embedded`.
//! `-- --test` runs everything once with a few systems, in seconds.
//!
//! A stream is 1000 systems, or 32 of N = 1000. They are made before the clock starts, which stops at the last outcome:
//! the start and the end of a stream, when not all slots have work, are in its rate. As many are on their way at a time
//! as with `boss solve`. Boss, worker and RabbitMQ share the cores with the solver; `cargo bench --bench kernel` has the
//! solver alone, and `cargo bench --bench pool -- small` the programs, with longer streams of systems made as they go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use futures_util::{StreamExt, stream};
use rabbitry::boss::{self, Boss};
use rabbitry::task::Handler;
use rabbitry::tasks::solve::{SolveHandler, System};
use tokio::runtime::Runtime;

#[path = "pool/in_process.rs"]
mod in_process;

use in_process::{Pool, Via, is_smoke_test};

/// Bytes on their way at a time: what `boss solve` takes for random systems, and 8 systems of N = 1000.
const WINDOW_BYTES: u64 = 64 << 20;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // One for all pools: it times the machine when it is made, and should find the same.
    let handler: Arc<dyn Handler> = Arc::new(SolveHandler::new(cores));
    let window = boss::Options { window_bytes: WINDOW_BYTES, ..Default::default() };
    for (n, count) in if is_smoke_test() { [(100, 20), (1000, 2)] } else { [(100, 1000), (1000, 32)] } {
        let systems: Vec<System> = (0..count).map(|seed| System::random(n, 1, seed)).collect();
        let mut group = criterion.benchmark_group("throughput");
        group.throughput(Throughput::Elements(count)).sampling_mode(SamplingMode::Flat);
        group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
        for via in Via::ALL {
            // At the first need: with a filter for the other broker, there is none.
            let mut pool = None;
            group.bench_function(BenchmarkId::new(via.name(), format!("N={n}")), |bencher| {
                let pool = pool.get_or_insert_with(|| Pool::start(&runtime, via, handler.clone(), window));
                bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(solve(&pool.boss, &systems))).sum());
            });
            if let Some(pool) = pool {
                pool.end(&runtime);
            }
        }
        group.finish();
    }
    criterion.final_summary();
}

/// All systems, as many at a time as the window has room for. Clones of random systems share their numbers.
async fn solve(boss: &Boss, systems: &[System]) -> Duration {
    let systems = systems.to_vec();
    let most = systems.len();
    let start = Instant::now();
    stream::iter(systems)
        .then(|system| boss.submit(system, Default::default()))
        .map(|ticket| ticket.expect("submitted").outcome())
        .buffer_unordered(most)
        .for_each(|outcome| async move { assert!(outcome.result.is_ok(), "{:?}", outcome.result) })
        .await;
    start.elapsed()
}
