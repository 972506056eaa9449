//! What this machine is good for, timed once at start-up in well under 0.3 s: the speed of one core, and the size from
//! which all threads together are worth more than as many tasks side by side.

use std::time::{Duration, Instant};

use super::method::{self, How, Problem};
use super::scratch::Pool;
use super::{Order, System, flops};
use crate::task::Watch;

/// Sizes timed: the first always, the second while time is left.
const SIZES: [usize; 2] = [640, 1280];
/// No further size is begun after this, and no second run of one after twice this: on a machine busy with other things
/// threads that wait for each other take tens of times as long.
const BUDGET: Duration = Duration::from_millis(60);
/// Parallel efficiency, t(1) / (p t(p)), from which a task gets all threads.
const EFFICIENCY: f64 = 0.8;
/// The size taken is within these, whatever a busy machine made of the timing.
const PARALLEL_FROM: std::ops::RangeInclusive<f64> = 512.0..=4096.0;

/// The result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    /// GFLOP/s of one core, counted as LU in f64 would need them.
    pub gflops: f64,
    /// n of one right-hand side from which a task gets all threads; `usize::MAX` if there is one thread.
    pub parallel_from: usize,
}

/// Times factorisations on one thread and on `max_threads`.
pub(super) fn run(max_threads: usize, pool: &Pool) -> Calibration {
    let start = Instant::now();
    let mut result = Calibration { gflops: 0.0, parallel_from: usize::MAX };
    for n in SIZES {
        if result.gflops > 0.0 && (max_threads == 1 || start.elapsed() > BUDGET) {
            break;
        }
        let system = System::random(n, 1, n as u64);
        let one = seconds(&system, 1, pool, start);
        result.gflops = flops(n, n, 1) / one / 1e9;
        if max_threads > 1 {
            let efficiency = one / (max_threads as f64 * seconds(&system, max_threads, pool, start));
            // What is lost to threads grows slower than the work: efficiency = 1 / (1 + c / n).
            let lost = n as f64 * (1.0 / efficiency - 1.0).max(0.0);
            let from = lost / (1.0 / EFFICIENCY - 1.0);
            result.parallel_from = from.clamp(*PARALLEL_FROM.start(), *PARALLEL_FROM.end()) as usize;
        }
    }
    result
}

/// The best of three, the first of which warms caches, pages and threads.
fn seconds(system: &System, threads: usize, pool: &Pool, start: Instant) -> f64 {
    let n = system.a.rows();
    let (a, b) = (system.a.as_slice(), system.b.as_slice());
    let (a_order, b_order) = (Order::ColMajor, Order::ColMajor);
    let problem = Problem { rows: n, cols: n, nrhs: 1, a, a_order, b, b_order };
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let begin = Instant::now();
        // What it comes to is of no interest: a random matrix is not singular.
        let _ = method::solve(&problem, How::default(), threads, &Watch::default(), pool);
        best = best.min(begin.elapsed().as_secs_f64());
        if start.elapsed() > 2 * BUDGET {
            break;
        }
    }
    best.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_sane_and_one_thread_is_never_parallel() {
        let pool = Pool::default();
        let one = run(1, &pool);
        assert!(one.gflops > 0.01 && one.gflops < 100_000.0, "{one:?}");
        assert_eq!(one.parallel_from, usize::MAX);
        let two = run(2, &pool);
        assert!(PARALLEL_FROM.contains(&(two.parallel_from as f64)), "{two:?}");
    }
}
