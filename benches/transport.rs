//! One payload from a boss to a worker and a word back, by the public API: 80 kB (a system of N = 100), 8 MB (1000) and
//! 200 MB (5000), on the embedded broker and through a private RabbitMQ on this machine.
//!
//! `cargo bench --bench transport`, about a minute; needs RabbitMQ's package, unless it runs with `-- embedded`.
//! `-- --test` runs everything once with smaller payloads, in seconds.
//!
//! The time is that from submit to outcome with nothing else on the way, so of small payloads it is the latency. The
//! handler looks at no byte. The embedded broker hands over the caller's own memory: its time does not grow with the
//! payload, and its rate says nothing. Through RabbitMQ 80 kB and 8 MB travel inside their message, and 200 MB are pulled
//! in parts; `cargo bench --bench pool -- transport` has these, summed up by the worker, beside a bare lapin stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use rabbitry::boss::Boss;
use rabbitry::task::{Blob, Encoded, Format, Handler, Kind, Plan, Task, TaskError, Watch};
use tokio::runtime::Runtime;

#[path = "pool/in_process.rs"]
mod in_process;

use in_process::{Pool, Via, is_smoke_test};

/// Bytes for which nothing is done.
struct Sink(Bytes);

impl Task for Sink {
    const KIND: Kind = Kind::from_static("sink");
    /// How many arrived.
    type Answer = u64;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        let blob = Blob { format, params: Vec::new(), payload: vec![self.0] };
        Ok(Encoded { blob, shared: false, flops: 0, answer_bytes: 0 })
    }

    fn decode_answer(_: &[u8], answer: Blob) -> Result<u64, TaskError> {
        let bytes = answer.params.try_into().map_err(|_| TaskError::Invalid("no length".into()))?;
        Ok(u64::from_le_bytes(bytes))
    }
}

struct SinkHandler;

impl Handler for SinkHandler {
    fn kind(&self) -> Kind {
        Sink::KIND
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, _: Format, _: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        Ok(Plan { memory_bytes: payload_bytes, threads: 1, shared: None })
    }

    fn run(&self, task: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        let length = task.payload_bytes().to_le_bytes().to_vec();
        Ok(Blob { format: task.format, params: length, payload: Vec::new() })
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    // 20 MB are pulled, too.
    let largest = if is_smoke_test() { 20_000_000 } else { 200_000_000 };
    // Not zeros, which would all be the same page of memory.
    let largest = Bytes::from(vec![1; largest]);
    for via in Via::ALL {
        // At the first need: with a filter for the other broker, there is none.
        let mut pool = None;
        for bytes in [80_000, 8_000_000, largest.len()] {
            let payload = largest.slice(..bytes);
            let mut group = criterion.benchmark_group("transport");
            group.throughput(Throughput::BytesDecimal(bytes as u64)).sampling_mode(SamplingMode::Flat);
            group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
            group.bench_function(BenchmarkId::new(via.name(), size(bytes)), |bencher| {
                let start = || Pool::start(&runtime, via, Arc::new(SinkHandler), Default::default());
                let pool = pool.get_or_insert_with(start);
                bencher.iter_custom(|times| runtime.block_on(send(&pool.boss, &payload, times)));
            });
            group.finish();
        }
        if let Some(pool) = pool {
            pool.end(&runtime);
        }
    }
    criterion.final_summary();
}

fn size(bytes: usize) -> String {
    if bytes < 1_000_000 { format!("{} kB", bytes / 1000) } else { format!("{} MB", bytes / 1_000_000) }
}

/// The payload, one time after the other.
async fn send(boss: &Boss, payload: &Bytes, times: u64) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        let ticket = boss.submit(Sink(payload.clone()), Default::default()).await.expect("submitted");
        assert_eq!(ticket.outcome().await.result, Ok(payload.len() as u64));
    }
    start.elapsed()
}
