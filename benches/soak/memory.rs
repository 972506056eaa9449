//! Resident memory of the boss, the workers and the broker over a run.

use std::time::Duration;

/// The growth that is still called flat.
const FLAT: f64 = 1.05;
/// and what is too little to talk about.
const LITTLE_MIB: f64 = 16.0;

/// What was seen, in the order of time.
pub struct Memory {
    broker_pid: u32,
    seen: Vec<Seen>,
}

struct Seen {
    at: Duration,
    /// In MiB, of [`WHO`].
    resident: [f64; 4],
}

/// The worker is the one that is never killed: the others have no time to grow.
const WHO: [&str; 4] = ["boss", "worker", "workers", "broker"];

impl Memory {
    pub fn new(broker_pid: u32) -> Self {
        Memory { broker_pid, seen: Vec::new() }
    }

    /// Looks at all of them; the first worker is the one that stays.
    pub fn look(&mut self, at: Duration, workers: &[u32]) {
        let stays = resident_mib(workers[0]);
        let all = workers.iter().map(|&pid| resident_mib(pid)).sum();
        let resident = [resident_mib(std::process::id()), stays, all, resident_mib(self.broker_pid)];
        self.seen.push(Seen { at, resident });
    }

    /// Prints the medians of the second and third tenth of the time and of the last two; whether none has grown.
    pub fn report(&self, time: Duration) -> bool {
        let median = |who: usize, from: f64, to: f64| {
            let within = |seen: &&Seen| (from..to).contains(&(seen.at.as_secs_f64() / time.as_secs_f64()));
            let mut values: Vec<f64> = self.seen.iter().filter(within).map(|seen| seen.resident[who]).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        println!(
            "resident   {:>10} {:>10} {:>8}   MiB, medians of 10-30 % and of 80-100 % of the time",
            "start", "end", "ratio"
        );
        let mut is_flat = true;
        for (who, name) in WHO.iter().enumerate() {
            let (start, end) = (median(who, 0.1, 0.3), median(who, 0.8, 1.0));
            let grew = end > start * FLAT && end - start > LITTLE_MIB;
            println!(
                "  {name:<8} {start:>10.1} {end:>10.1} {:>8.3}{}",
                end / start,
                if grew { "   grows" } else { "" }
            );
            is_flat &= !grew;
        }
        is_flat
    }
}

/// NaN for a process that is gone, which a sum and a median show.
fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}
