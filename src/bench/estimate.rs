//! How long so many systems of one size take here and in a pool that is there, before any of them is made.
//!
//! Pure: no clock, no I/O, and nothing of the broker; who is there and what a task costs are passed in.
//!
//! The model, with the seconds of a [`Cost`] at n:
//!
//! - here: count x local;
//! - in the pool: a first round trip, alone + one solution, and then (count - 1) / rate, where rate is the lesser of
//!   1 / stream, what this machine can send, and the sum of what the workers solve;
//! - a worker solves slots x GFLOP/s of a core x efficiency / (2/3 n^3 + 2 n^2) systems a second, and one in the
//!   inverse of that time. The first round trip is to the slowest worker: it gets its share, and may be the last to
//!   answer.
//!
//! What that assumes:
//! - Workers are idle and have this queue to themselves; slots that are busy now are not subtracted.
//! - A worker's slots are cores of its own. GFLOP/s are timed on one core at n = 640 or more: smaller systems come to
//!   less, and all cores at once to less than as many times one. The efficiency has to say how much less, see
//!   [`efficiency`].
//! - All cores work on one system. Of those too small for that the first takes up to as many times longer as there
//!   are cores, here as there: for a handful of small ones both times are too short.
//! - One right-hand side, binary payload, and a network like that on which the [`Cost`] was measured.
//!
//! Limits: an estimate is within tens of percent at best, which is why a difference below 20 % counts as none. It is
//! cautious by up to one solution where several workers share few systems.

use std::fmt;

use serde::Serialize;

use super::break_even::two_digits;
use super::model::Cost;

/// Times that differ by less than this factor do not differ.
const MATTERS: f64 = 1.2;

/// What is to be estimated, and what it is worked out from.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// What one task costs, at the n that is asked for.
    pub cost: Cost,
    /// Systems to solve.
    pub count: u64,
    /// The workers there are.
    pub workers: Vec<Power>,
    /// What comes of the workers' GFLOP/s at this n, as a fraction; above 1 where a method needs fewer operations
    /// than LU in f64. Not known, or not positive: 1.
    pub efficiency: Option<f64>,
    /// Bytes that a worker may use for tasks, if that is known.
    pub memory_bytes: Option<u64>,
}

/// How fast a worker says it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Power {
    /// Tasks it computes at a time, a core for each.
    pub slots: u32,
    /// GFLOP/s of one core.
    pub gflops: f64,
}

/// Where it is faster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// On this machine.
    Local,
    /// In the pool.
    Pool,
    /// There is no difference that matters.
    Same,
    /// A time is missing.
    Unknown,
}

/// The answer; its fields are the object that `--json` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Estimate {
    /// Unknowns; one right-hand side.
    pub n: usize,
    /// Systems.
    pub count: u64,
    /// Seconds for all of them on this machine; `null` if that is not known.
    pub local_seconds: Option<f64>,
    /// Seconds from the first that is sent to the last answer; `null` if no worker can take them, or it is not known.
    pub pool_seconds: Option<f64>,
    /// Answers per second that the pool comes to; `null` as that.
    pub pool_tasks_per_second: Option<f64>,
    /// That is limited by what this machine sends: more workers would not help.
    pub sending_limits: bool,
    /// Workers counted, those that say how fast they are.
    pub workers: usize,
    /// Slots of these.
    pub slots: u64,
    /// Payload of a task, bytes.
    pub task_bytes: u64,
    /// What a worker needs for it, bytes: the payload, a copy that is factored, and some more; 2.5 payloads.
    pub worker_bytes: u64,
    /// Payload of all tasks, bytes.
    pub sent_bytes: u64,
    /// Payload of all answers, bytes.
    pub received_bytes: u64,
    /// Where it is faster.
    pub better: Better,
    /// What to do, in words.
    pub advice: String,
}

/// Works it out.
pub fn estimate(ask: &Ask) -> Estimate {
    let Ask { cost, count, .. } = ask;
    let n = cost.n as u64;
    let task_bytes = n.saturating_mul(n.saturating_add(1)).saturating_mul(8);
    let worker_bytes = (task_bytes / 2).saturating_mul(5);
    let fits = ask.memory_bytes.is_none_or(|limit_bytes| worker_bytes <= limit_bytes);
    let rates = Rates::new(ask);
    let pool = rates.as_ref().filter(|_| fits).and_then(|rates| rates.pool(cost, *count));
    let something = *count > 0 && n > 0;
    let local_seconds = positive(*count as f64 * cost.local_seconds).filter(|_| something && cost.local_seconds > 0.0);
    let pool = pool.filter(|_| something);
    let mut estimate = Estimate {
        n: cost.n,
        count: *count,
        local_seconds,
        pool_seconds: pool.map(|(seconds, _)| seconds),
        pool_tasks_per_second: pool.map(|(_, rate)| rate),
        sending_limits: pool.is_some() && rates.as_ref().is_some_and(|rates| 1.0 / cost.stream_seconds < rates.sum),
        workers: rates.as_ref().map_or(0, |rates| rates.workers),
        slots: rates.as_ref().map_or(0, |rates| rates.slots),
        task_bytes,
        worker_bytes,
        sent_bytes: count.saturating_mul(task_bytes),
        received_bytes: count.saturating_mul(n.saturating_mul(8)),
        better: Better::Unknown,
        advice: String::new(),
    };
    estimate.better = estimate.compare();
    estimate.advice = if something { estimate.advice(ask, fits) } else { "There is nothing to solve.".to_owned() };
    estimate
}

/// What share of so many cores' GFLOP/s this machine comes to at the cost's n, by what it was measured to solve:
/// the best guess for workers of the same kind. `None` if a figure is missing.
pub fn efficiency(cost: &Cost, gflops: f64, cores: usize) -> Option<f64> {
    positive(flops(cost.n) / cost.local_seconds / (gflops * 1e9 * cores as f64))
}

/// Floating point operations of a solution by LU, for one right-hand side.
fn flops(n: usize) -> f64 {
    let n = n as f64;
    n * n * (2.0 / 3.0 * n + 2.0)
}

fn positive(x: f64) -> Option<f64> {
    (x.is_finite() && x > 0.0).then_some(x)
}

/// What workers solve, systems a second.
struct Rates {
    workers: usize,
    slots: u64,
    slowest: f64,
    sum: f64,
}

impl Rates {
    /// Of the workers that say how fast they are; `None` if none does.
    fn new(ask: &Ask) -> Option<Self> {
        let efficiency = ask.efficiency.and_then(positive).unwrap_or(1.0);
        let rate = |power: &Power| {
            positive(power.gflops * 1e9 * f64::from(power.slots) * efficiency / flops(ask.cost.n))
                .map(|rate| (power.slots, rate))
        };
        let known: Vec<(u32, f64)> = ask.workers.iter().filter_map(rate).collect();
        let slowest = known.iter().map(|(_, rate)| *rate).reduce(f64::min)?;
        let slots = known.iter().map(|(slots, _)| u64::from(*slots)).sum();
        Some(Rates { workers: known.len(), slots, slowest, sum: known.iter().map(|(_, rate)| rate).sum() })
    }

    /// Seconds, and systems a second.
    fn pool(&self, cost: &Cost, count: u64) -> Option<(f64, f64)> {
        // Zero is what noise may leave of a small cost, and as good as any; less is not a time.
        if !(cost.alone_seconds >= 0.0 && cost.stream_seconds >= 0.0) {
            return None;
        }
        let rate = positive(self.sum.min(1.0 / cost.stream_seconds))?;
        let round_trip = cost.alone_seconds + 1.0 / self.slowest;
        Some((positive(round_trip + count.saturating_sub(1) as f64 / rate)?, rate))
    }
}

impl Estimate {
    fn compare(&self) -> Better {
        match self.local_seconds.zip(self.pool_seconds) {
            None => Better::Unknown,
            Some((local, pool)) if local / pool >= MATTERS => Better::Pool,
            Some((local, pool)) if pool / local >= MATTERS => Better::Local,
            Some(_) => Better::Same,
        }
    }

    fn advice(&self, ask: &Ask, fits: bool) -> String {
        let mut sentences = vec![self.verdict(ask, fits)];
        if self.sending_limits && self.count > 1 {
            let rate = self.pool_tasks_per_second.unwrap_or_default();
            let most = two_digits(rate);
            sentences.push(format!("This machine can send at most {most} a second: more workers would not help."));
        }
        match ask.workers.len() - self.workers {
            0 => {}
            _ if self.workers == 0 => {}
            1 => sentences.push("A worker that does not say how fast it is was not counted.".to_owned()),
            more => sentences.push(format!("{more} workers that do not say how fast they are were not counted.")),
        }
        sentences.join(" ")
    }

    fn verdict(&self, ask: &Ask, fits: bool) -> String {
        let them = if self.count == 1 { "it" } else { "them" };
        let times = |slow: f64, fast: f64| two_digits((slow / fast).min(f64::MAX));
        if let Some(limit_bytes) = ask.memory_bytes.filter(|_| !fits) {
            return format!(
                "A task takes about {} on a worker, which may use {}: it would be refused. Solve {them} here if this \
                 machine has the memory, or start workers that have.",
                bytes(self.worker_bytes),
                bytes(limit_bytes)
            );
        }
        if ask.workers.is_empty() {
            return format!("There are no workers. Solve {them} here, or start one with: worker --broker URL");
        }
        if self.workers == 0 {
            return format!("No worker says how fast it is; to know, send {them} and see.");
        }
        match (self.local_seconds, self.pool_seconds) {
            (None, _) => "There is no figure for solving here to compare with.".to_owned(),
            (_, None) => "There is no figure for sending to compare with.".to_owned(),
            (Some(local), Some(pool)) => match self.better {
                Better::Pool => format!("Send {them} away: {} times as fast as here.", times(local, pool)),
                Better::Local => format!("Solve {them} here: {} times as fast as sent away.", times(pool, local)),
                _ => "It does not matter where: the difference is below 20 %.".to_owned(),
            },
        }
    }
}

/// A short table and the advice, for people.
impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Option<f64>| time.map_or("-".to_owned(), seconds);
        let rate = self.pool_tasks_per_second.map_or(String::new(), |rate| format!(", {} tasks/s", two_digits(rate)));
        writeln!(f, "tasks           {}, N = {}", self.count, self.n)?;
        writeln!(f, "here            {}", time(self.local_seconds))?;
        writeln!(f, "pool            {}{rate}", time(self.pool_seconds))?;
        writeln!(f, "workers         {} ({} slots)", self.workers, self.slots)?;
        writeln!(f, "sent            {}, {} a task", bytes(self.sent_bytes), bytes(self.task_bytes))?;
        writeln!(f, "received        {}", bytes(self.received_bytes))?;
        writeln!(f, "memory          {} a task on a worker", bytes(self.worker_bytes))?;
        writeln!(f, "{}", self.advice)
    }
}

fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-3 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s if s < 120.0 => (s, "s"),
        s if s < 7200.0 => (s / 60.0, "min"),
        s if s < 172_800.0 => (s / 3600.0, "h"),
        s => (s / 86_400.0, "days"),
    };
    format!("{} {unit}", two_digits(value))
}

fn bytes(bytes: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = bytes as f64;
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", two_digits(value / size)),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// flops(300) = 18.18e6: a core of 18.18 GFLOP/s solves 1000 a second.
    const GFLOPS: f64 = 18.18;

    /// 100 systems of N = 300: 10 ms each here, 3 ms for a round trip, 0.1 ms to send one of a stream.
    fn ask(workers: &[(u32, f64)]) -> Ask {
        let cost = Cost { n: 300, local_seconds: 0.01, alone_seconds: 0.003, stream_seconds: 0.0001 };
        let workers = workers.iter().map(|&(slots, gflops)| Power { slots, gflops }).collect();
        Ask { cost, count: 100, workers, efficiency: None, memory_bytes: None }
    }

    fn near(found: Option<f64>, wanted: f64) -> bool {
        found.is_some_and(|x| (x / wanted - 1.0).abs() < 1e-9)
    }

    #[test]
    fn times_are_those_worked_out_by_hand() {
        let found = estimate(&ask(&[(1, GFLOPS), (2, GFLOPS)]));
        // 3 ms and 1 ms at the slower one, then 99 at 3000 a second.
        assert!(near(found.local_seconds, 1.0) && near(found.pool_seconds, 0.004 + 0.033), "{found:?}");
        assert!(near(found.pool_tasks_per_second, 3000.0) && !found.sending_limits);
        assert_eq!((found.workers, found.slots), (2, 3));
        assert_eq!((found.task_bytes, found.worker_bytes), (722_400, 1_806_000));
        assert_eq!((found.sent_bytes, found.received_bytes), (72_240_000, 240_000));
        assert_eq!((found.better, found.advice.as_str()), (Better::Pool, "Send them away: 27 times as fast as here."));
    }

    #[test]
    fn people_get_a_table_and_the_advice() {
        let wanted = "tasks           100, N = 300\n\
                      here            1 s\n\
                      pool            37 ms, 3000 tasks/s\n\
                      workers         2 (3 slots)\n\
                      sent            72 MB, 720 kB a task\n\
                      received        240 kB\n\
                      memory          1.8 MB a task on a worker\n\
                      Send them away: 27 times as fast as here.\n";
        assert_eq!(estimate(&ask(&[(1, GFLOPS), (2, GFLOPS)])).to_string(), wanted);
    }

    #[test]
    fn what_this_machine_cannot_send_no_worker_solves() {
        let mut ask = ask(&[(64, GFLOPS)]);
        ask.cost.stream_seconds = 0.001;
        let found = estimate(&ask);
        assert!(found.sending_limits && near(found.pool_seconds, 0.003 + 0.001 / 64.0 + 0.099), "{found:?}");
        assert!(found.advice.ends_with("This machine can send at most 1000 a second: more workers would not help."));
    }

    #[test]
    fn efficiency_slows_workers_and_is_what_this_machine_comes_to() {
        // 18.18e6 operations in 10 ms are 1.818 GFLOP/s: a tenth of one core, a twentieth of two.
        let mut ask = ask(&[(1, GFLOPS)]);
        assert!(near(efficiency(&ask.cost, GFLOPS, 2), 0.05));
        ask.efficiency = efficiency(&ask.cost, GFLOPS, 1);
        let found = estimate(&ask);
        assert!(near(found.pool_seconds, 0.003 + 1.0), "a worker like this machine: {found:?}");
        assert_eq!(found.better, Better::Same);
        assert_eq!(found.advice, "It does not matter where: the difference is below 20 %.");
    }

    #[test]
    fn one_system_stays_here_if_its_round_trip_is_longer() {
        let mut ask = ask(&[(2, GFLOPS)]);
        (ask.count, ask.cost.alone_seconds) = (1, 0.0495);
        assert_eq!(estimate(&ask).advice, "Solve it here: 5 times as fast as sent away.");
    }

    #[test]
    fn without_workers_it_says_how_to_start_one() {
        let found = estimate(&ask(&[]));
        assert_eq!((found.pool_seconds, found.better), (None, Better::Unknown));
        assert!(found.advice.ends_with("start one with: worker --broker URL"), "{found}");
    }

    #[test]
    fn workers_of_unknown_speed_are_not_counted_but_named() {
        let found = estimate(&ask(&[(1, GFLOPS), (2, 0.0), (0, 5.0), (1, f64::NAN)]));
        assert_eq!((found.workers, found.slots), (1, 1));
        assert!(found.advice.ends_with("3 workers that do not say how fast they are were not counted."));
        assert!(estimate(&ask(&[(1, 0.0)])).advice.starts_with("No worker says how fast it is"));
    }

    #[test]
    fn a_task_above_the_memory_of_a_worker_is_not_sent() {
        let mut ask = ask(&[(1, GFLOPS)]);
        (ask.cost.n, ask.memory_bytes) = (40_000, Some(32_000_799_999));
        let found = estimate(&ask);
        assert_eq!((found.worker_bytes, found.pool_seconds), (32_000_800_000, None));
        assert!(
            found.advice.starts_with("A task takes about 32 GB on a worker, which may use 32 GB: it would be refused")
        );
        ask.memory_bytes = Some(found.worker_bytes);
        assert!(estimate(&ask).pool_seconds.is_some(), "it just fits");
    }

    #[test]
    fn of_nothing_there_is_nothing_to_say() {
        let mut none = ask(&[(1, GFLOPS)]);
        none.count = 0;
        let mut empty = ask(&[(1, GFLOPS)]);
        empty.cost.n = 0;
        for ask in [none, empty] {
            let found = estimate(&ask);
            assert_eq!((found.local_seconds, found.pool_seconds, found.sent_bytes), (None, None, 0));
            assert_eq!(found.advice, "There is nothing to solve.");
        }
    }

    #[test]
    fn times_and_bytes_have_units_people_use() {
        assert_eq!(
            [2e-5, 0.5, 90.0, 600.0, 36_000.0, 864_000.0].map(seconds).join(" "),
            "20 us 500 ms 90 s 10 min 10 h 10 days"
        );
        assert_eq!([999, 1000, 8_008_000, 20_000_000_000].map(bytes).join(" "), "999 bytes 1 kB 8 MB 20 GB");
    }

    #[test]
    fn odd_figures_give_no_odd_results() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 5e-324, 1e-9, 1.0, f64::MAX];
        let mut state = 1_u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..50_000 {
            let n = [0, 1, 300, usize::MAX][draw(4)];
            let cost =
                Cost { n, local_seconds: odd[draw(9)], alone_seconds: odd[draw(9)], stream_seconds: odd[draw(9)] };
            let mut power = || Power { slots: [0, 1, u32::MAX][draw(3)], gflops: odd[draw(9)] };
            let workers: Vec<Power> = [power(), power()].into_iter().take(draw(3)).collect();
            let count = [0, 1, 1000, u64::MAX][draw(4)];
            let memory_bytes = [None, Some(0), Some(u64::MAX)][draw(3)];
            let ask = Ask { cost, count, workers, efficiency: Some(odd[draw(9)]), memory_bytes };
            let found = estimate(&ask);
            let fine = |x: Option<f64>| x.is_none_or(|x| x.is_finite() && x > 0.0);
            assert!(fine(found.local_seconds) && fine(found.pool_seconds), "{ask:?} {found:?}");
            assert!(fine(found.pool_tasks_per_second) && fine(efficiency(&ask.cost, odd[draw(9)], draw(3))));
            let text = found.to_string();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{ask:?}\n{text}");
        }
    }
}
