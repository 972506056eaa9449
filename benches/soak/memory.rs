//! Resident memory of the boss, the workers and the broker over a run.

use std::time::Duration;

/// The growth that is still called flat.
const FLAT: f64 = 1.05;
/// and what is too little to talk about.
const LITTLE_MIB: f64 = 16.0;
/// What malloc keeps grows with each new coincidence of large tasks, and such are common for so long.
const WARM_UP: Duration = Duration::from_secs(240);

/// What was seen, in the order of time.
pub struct Memory {
    broker_pid: u32,
    seen: Vec<Seen>,
    /// The most that any of the workers had that do not stay.
    highest_mib: f64,
}

struct Seen {
    at: Duration,
    /// In MiB, of [`WHO`].
    resident: [f64; 3],
}

/// The worker is the one that stays: those that are killed have no time to grow.
const WHO: [&str; 3] = ["boss", "worker", "broker"];

impl Memory {
    pub fn new(broker_pid: u32) -> Self {
        Memory { broker_pid, seen: Vec::new(), highest_mib: 0.0 }
    }

    /// Looks at all of them; the first worker is the one that stays.
    pub fn look(&mut self, at: Duration, workers: &[u32]) {
        let resident = [std::process::id(), workers[0], self.broker_pid].map(resident_mib);
        self.seen.push(Seen { at, resident });
        let others = workers[1..].iter().map(|&pid| resident_mib(pid));
        self.highest_mib = others.fold(self.highest_mib, f64::max);
    }

    /// Prints the medians of a fifth of the time at the start, after the warm-up, and of the last fifth; whether none has grown.
    pub fn report(&self, time: Duration) -> bool {
        let median = |who: usize, from: Duration, to: Duration| {
            let within = |seen: &&Seen| (from..to).contains(&seen.at);
            let mut values: Vec<f64> = self.seen.iter().filter(within).map(|seen| seen.resident[who]).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let start = WARM_UP.min(time.mul_f64(0.4));
        let (started, end) = (start + time.mul_f64(0.2), time.mul_f64(0.8));
        let minutes = [start, started, end, time].map(|at| at.as_secs_f64() / 60.0);
        println!(
            "resident   {:>10} {:>10} {:>8}   MiB, medians of the minutes {:.0} to {:.0} and {:.0} to {:.0}",
            "start", "end", "ratio", minutes[0], minutes[1], minutes[2], minutes[3]
        );
        let mut is_flat = true;
        for (who, name) in WHO.iter().enumerate() {
            let (start, end) = (median(who, start, started), median(who, end, time));
            let grew = end > start * FLAT && end - start > LITTLE_MIB;
            println!(
                "  {name:<8} {start:>10.1} {end:>10.1} {:>8.3}{}",
                end / start,
                if grew { "   grows" } else { "" }
            );
            is_flat &= !grew;
        }
        println!("  a worker that was killed had at most {:.1} MiB", self.highest_mib);
        is_flat
    }
}

/// NaN for a process that is gone, which a sum and a median show.
fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}
