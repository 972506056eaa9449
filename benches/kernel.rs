//! The solver against LAPACK's own driver on the same kernel and the same threads.
//!
//! `cargo bench --bench kernel`; N = 5000 as well with `RABBITRY_BENCH_LARGE=1`. Read ratios within one run: `auto`
//! against `gesv`. `gesv` factors a copy in place and does nothing else; `auto` also checks for NaN, refines and computes
//! the backward error, and allocates its answer. `versus.rs` compares with the solvers of others.

use std::hint::black_box;
use std::thread::available_parallelism;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use rabbitry::task::{Format, Handler, Task, Watch};
use rabbitry::tasks::solve::{Choice, SolveHandler, System, gesv};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let large = std::env::var_os("RABBITRY_BENCH_LARGE").is_some_and(|value| value == "1");
    let cores = available_parallelism().map_or(1, |cores| cores.get());
    let handler = SolveHandler::new(cores);
    println!("kernel {}, {:.1} GFLOP/s, parallel from {}", handler.kernel(), handler.gflops(), handler.parallel_from());
    let threads = if cores == 1 { vec![1] } else { vec![1, cores] };
    let sizes = [100, 200, 300, 1000].into_iter().chain(large.then_some(5000));
    for n in sizes {
        solve(&mut criterion, &handler, n, &threads);
    }
    around(&mut criterion, &handler);
    criterion.final_summary();
}

fn solve(criterion: &mut Criterion, handler: &SolveHandler, n: usize, threads: &[usize]) {
    let mut group = criterion.benchmark_group(format!("solve {n}"));
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500)).sample_size(20);
    let system = System::random(n, 1, 1);
    let (mut a, mut b) = (vec![0.0; n * n], vec![0.0; n]);
    for &threads in threads {
        group.bench_function(BenchmarkId::new("gesv", threads), |bencher| {
            bencher.iter(|| {
                a.copy_from_slice(system.a.as_slice());
                b.copy_from_slice(system.b.as_slice());
                gesv(n, &mut a, &mut b, threads)
            });
        });
        for (name, choice) in [("auto", Choice::Auto), ("lu", Choice::Lu), ("mixed", Choice::Mixed)] {
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                let system = system.clone().by(choice);
                bencher.iter(|| handler.solve(&system, threads, &Watch::default()));
            });
        }
    }
    group.finish();
}

/// What surrounds a small solution: generating it, checking and encoding it, the handler's whole run.
fn around(criterion: &mut Criterion, handler: &SolveHandler) {
    let mut group = criterion.benchmark_group("around");
    for n in [100, 1000] {
        let system = System::random(n, 1, 1);
        group.bench_function(BenchmarkId::new("random", n), |bencher| {
            bencher.iter(|| System::random(n, 1, black_box(1)))
        });
        group.bench_function(BenchmarkId::new("check", n), |bencher| bencher.iter(|| black_box(&system).check()));
    }
    let task = System::random(100, 1, 1).encode(Format::Binary).expect("a random system is sound").blob;
    let whole = task.payload.concat().into();
    let task = rabbitry::task::Blob { payload: vec![whole], ..task };
    group.bench_function("run 100", |bencher| bencher.iter(|| handler.run(task.clone(), 1, &Watch::default())));
    let many = System::random(1000, 1000, 1);
    for (name, choice) in [("lu 1000 rhs", Choice::Lu), ("mixed 1000 rhs", Choice::Mixed)] {
        group.sample_size(10).bench_function(name, |bencher| {
            let many = many.clone().by(choice);
            bencher.iter(|| handler.solve(&many, 1, &Watch::default()))
        });
    }
    group.finish();
}
