//! What a seed makes of a pool: who is there, who goes and when, and what is asked of it.

use std::time::Duration;

use rabbitry::boss::{Priority, Submit};
use rabbitry::broker::embedded::FaultPlan;
use rabbitry::task::Format;
use rabbitry::worker::Options;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::kinds::{BYTES_MAX, Deed, Does};

/// A message is no longer than this here, and neither is a part: the shortest that a boss takes.
const INLINE_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Scenario {
    pub seed: u64,
    pub faults: FaultPlan,
    /// Attempts before a task is dead-lettered; `None` for so many that none is.
    pub attempts_max: Option<u32>,
    pub bosses: Vec<BossPlan>,
    pub workers: Vec<WorkerPlan>,
}

#[derive(Debug)]
pub struct BossPlan {
    pub window_bytes: u64,
    /// It dies then, and nobody waits for its tasks any more.
    pub crash_at: Option<Duration>,
    pub tasks: Vec<TaskPlan>,
}

#[derive(Debug)]
pub struct TaskPlan {
    pub deed: Deed,
    pub at: Duration,
    pub how: Submit,
    pub then: Then,
}

/// What the caller does when it has submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    Await,
    CancelAfter(Duration),
    /// It drops the ticket.
    Leave,
}

#[derive(Clone, Debug)]
pub struct WorkerPlan {
    pub slots: usize,
    pub prefetch: u16,
    pub memory_bytes: u64,
    pub one_by_one: bool,
    /// Most handlers take up to this.
    pub pause_max: Duration,
    /// Before its first start, and when it goes, in this order.
    pub starts_at: Duration,
    pub goes: Vec<(Duration, Go)>,
}

/// How a worker goes. Another takes its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Go {
    Crash,
    Stop,
}

impl Scenario {
    pub fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let faults = FaultPlan { inline_max_bytes: INLINE_MAX, ..FaultPlan::seeded(seed) };
        let attempts_max = rng.random_bool(0.3).then_some(5);
        let mut nonce = 0;
        let bosses = (0..if rng.random_bool(0.3) { 2 } else { 1 })
            .map(|index| {
                let most = *pick(&mut rng, &[10, 40, 100]);
                let count = rng.random_range(1..=most);
                BossPlan {
                    window_bytes: *pick(&mut rng, &[1 << 16, 1 << 20, 1 << 22, 1 << 30]),
                    crash_at: (index == 1 && rng.random_bool(0.7)).then(|| millis(&mut rng, 40_000)),
                    tasks: (0..count).map(|_| task(&mut rng, &mut nonce, attempts_max.is_some())).collect(),
                }
            })
            .collect();
        let workers = (0..rng.random_range(1..=3)).map(|_| worker(&mut rng)).collect();
        Scenario { seed, faults, attempts_max, bosses, workers }
    }
}

fn pick<'a, T>(rng: &mut SmallRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

fn millis(rng: &mut SmallRng, max: u64) -> Duration {
    Duration::from_millis(rng.random_range(0..=max))
}

fn bytes(rng: &mut SmallRng) -> usize {
    match rng.random_range(0..20) {
        0 => 0,
        1..12 => rng.random_range(1..1000),
        12..16 => rng.random_range(1000..INLINE_MAX),
        16 => *pick(rng, &[INLINE_MAX - 1, INLINE_MAX, INLINE_MAX + 1, 2 * INLINE_MAX, 2 * INLINE_MAX + 1]),
        17 | 18 => rng.random_range(INLINE_MAX..4 * INLINE_MAX),
        _ => rng.random_range(INLINE_MAX..=BYTES_MAX - 200),
    }
}

fn task(rng: &mut SmallRng, nonce: &mut u64, may_kill: bool) -> TaskPlan {
    *nonce += 1;
    let does = match rng.random_range(0..40) {
        0 | 1 => Does::Fail,
        2 => Does::Panic,
        3 if may_kill => Does::Kill,
        _ => Does::Answer,
    };
    let shared = rng.random_bool(0.2).then(|| rng.random_range(0..3));
    // Of a length that follows from which it is; a payload of nothing is nothing to share.
    let payload_bytes = shared.map_or_else(|| bytes(rng), |which| [1, 1000, 150_000][which as usize]);
    let flops = if rng.random_bool(0.7) { 1000 } else { 1 << 40 };
    let deed = Deed { nonce: *nonce, does, payload_bytes, answer_bytes: bytes(rng), shared, flops };
    let then = match rng.random_range(0..20) {
        0 | 1 => Then::CancelAfter(millis(rng, 5000)),
        2 => Then::Leave,
        _ => Then::Await,
    };
    let deadline = rng.random_bool(0.1).then(|| millis(rng, 20_000));
    let priority = *pick(rng, &[Priority::Low, Priority::Normal, Priority::High]);
    let how = Submit { format: Format::Binary, deadline, priority };
    // Many at once, and some later.
    let at = if rng.random_bool(0.6) { Duration::ZERO } else { millis(rng, 30_000) };
    TaskPlan { deed, at, how, then }
}

fn worker(rng: &mut SmallRng) -> WorkerPlan {
    let slots = rng.random_range(1..=3);
    let go = |rng: &mut SmallRng| (millis(rng, 30_000), if rng.random_bool(0.5) { Go::Crash } else { Go::Stop });
    WorkerPlan {
        slots,
        prefetch: *pick(rng, &[1, 2, slots as u16 + 1, 20]),
        memory_bytes: *pick(rng, &[2 << 20, 3 << 20, 8 << 20, 1 << 30]),
        one_by_one: rng.random_bool(0.2),
        pause_max: *pick(rng, &[20, 500, 10_000].map(Duration::from_millis)),
        starts_at: if rng.random_bool(0.7) { Duration::ZERO } else { millis(rng, 20_000) },
        goes: (0..rng.random_range(0..3)).map(|_| go(rng)).collect(),
    }
}

impl WorkerPlan {
    pub fn options(&self, attempts_max: Option<u32>) -> Options {
        Options {
            slots: self.slots,
            threads: 1,
            prefetch: self.prefetch,
            one_by_one: self.one_by_one,
            attempts_max: attempts_max.unwrap_or(u32::MAX),
            memory_bytes: self.memory_bytes,
            ..Options::default()
        }
    }
}
