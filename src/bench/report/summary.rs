//! What a report says in a few sentences: where it was measured, and the ratios that matter most.
//!
//! Plain text; whoever puts it into a page escapes it.

use super::format::{self, count, plain, ratio, seconds};
use crate::bench::model::{ComputeRow, Payload, PayloadRow, PeerRow, Report, Sweep};

/// Our own rows among those of contestants and peers.
pub const OURS: &str = "rabbitry";

/// Whether a contestant's figures are published ones, of another machine.
pub fn published(contestant: &str) -> bool {
    contestant.ends_with("(published)")
}

/// Why the report is not all that was asked for; none if it is.
pub fn incomplete(report: &Report) -> Option<&'static str> {
    const WORDS: &str =
        "INCOMPLETE: the run was interrupted. What is here is of fewer rounds, and parts may be missing.";
    (!report.complete).then_some(WORDS)
}

/// When, on what, and with what it was measured: names and what they are.
pub fn machine(report: &Report) -> Vec<(&'static str, String)> {
    let (machine, settings) = (&report.machine, &report.settings);
    let governor = machine.governor.as_ref().map_or_else(String::new, |name| format!(", governor {name}"));
    let mut lines = vec![
        ("run", format!("{}, {} s, at least {}", report.started, format::number(report.seconds), rounds(report))),
        (
            "machine",
            format!(
                "{}: {}, {}, {}, {}{governor}, load {:.2} at the start",
                machine.host,
                machine.cpu,
                count(machine.cores, "core"),
                format::bytes(machine.memory_bytes),
                machine.os,
                machine.load
            ),
        ),
        ("versions", format!("rabbitry {}, {}", machine.rabbitry, machine.kernel)),
        ("broker", machine.broker.as_ref().map_or_else(String::new, |name| format!("{name}, ")) + &settings.broker),
    ];
    if !machine.workers.is_empty() {
        lines.push(("workers", machine.workers.join("; ")));
    }
    lines.into_iter().map(|(name, text)| (name, plain(&text))).collect()
}

fn rounds(report: &Report) -> String {
    format!("{}, seed {}", count(report.settings.rounds, "round"), report.settings.seed)
}

/// The ratios that matter most, a sentence for each size.
pub fn facts(report: &Report) -> Vec<String> {
    let mut facts = Vec::new();
    facts.extend(sizes(report.payload.iter().map(|row| row.n)).into_iter().filter_map(|n| payload(report, n)));
    facts.extend(compute(report));
    facts.extend(sizes(report.pool.iter().map(|row| row.n)).into_iter().filter_map(|n| pool(report, n)));
    facts.extend(sizes(report.peers.iter().map(|row| row.n)).into_iter().filter_map(|n| peers(report, n)));
    facts.into_iter().map(|fact| plain(&fact)).collect()
}

/// What differs of some numbers, in order.
pub fn sizes(all: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sizes: Vec<_> = all.collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn payload(report: &Report, n: usize) -> Option<String> {
    let time = |row: &PayloadRow| row.round_trip_seconds.as_ref().map(|spread| spread.median);
    let rows = || report.payload.iter().filter(|row| row.n == n);
    let binary = rows().find(|row| row.payload == Payload::Binary).and_then(time)?;
    let others = rows().filter(|row| row.payload != Payload::Binary).filter_map(|row| {
        let ratio = ratio(time(row)?, binary)?;
        Some(format!("{} times as long with {}", format::number(ratio), row.payload.name()))
    });
    let others: Vec<_> = others.collect();
    (!others.is_empty())
        .then(|| format!("n = {n}: a round trip takes {} with binary, {}.", seconds(binary), others.join(", ")))
}

/// Our time for a size and a number of threads.
pub fn ours(report: &Report, n: usize, threads: usize) -> Option<f64> {
    let row = report.compute.iter().find(|row| row.contestant == OURS && row.n == n && row.threads == threads)?;
    row.seconds.as_ref().map(|spread| spread.median)
}

/// For the largest size that can be compared, a sentence for each number of threads.
fn compute(report: &Report) -> Vec<String> {
    let theirs = |row: &&ComputeRow| !row.contestant.starts_with(OURS) && !published(&row.contestant);
    let compared = |row: &ComputeRow| {
        let times = ratio(row.seconds.as_ref()?.median, ours(report, row.n, row.threads)?)?;
        Some((row.n, row.threads, format!("{} takes {} times as long", row.contestant, format::number(times))))
    };
    let all: Vec<_> = report.compute.iter().filter(theirs).filter_map(compared).collect();
    let largest = all.iter().map(|(n, ..)| *n).max();
    let all: Vec<_> = all.into_iter().filter(|(n, ..)| Some(*n) == largest).collect();
    let sentence = |threads: usize| {
        let parts: Vec<_> = all.iter().filter(|(_, of, _)| *of == threads).map(|(.., part)| part.as_str()).collect();
        let n = largest.unwrap_or_default();
        format!("n = {n}, {}: {} as rabbitry's solver.", count(threads, "thread"), parts.join(", "))
    };
    sizes(all.iter().map(|(_, threads, _)| *threads)).into_iter().map(sentence).collect()
}

fn pool(report: &Report, n: usize) -> Option<String> {
    let rows = || report.pool.iter().filter(|row| row.sweep == Sweep::Workers && row.n == n);
    let few = rows().min_by_key(|row| row.workers)?;
    let many = rows().max_by_key(|row| row.workers)?;
    let times = ratio(many.tasks_per_second.median, few.tasks_per_second.median)?;
    let (workers, few) = (many.workers, few.workers);
    let (times, base) = (format::number(times), count(few, "worker"));
    (workers > few).then(|| format!("n = {n}: {workers} workers do {times} times the tasks per second of {base}."))
}

/// Our throughput for a size.
pub fn our_rate(report: &Report, theirs: &PeerRow) -> Option<f64> {
    // Through the broker if there is one, else embedded.
    let ours = |name: &str| report.peers.iter().find(|row| row.peer == name && row.n == theirs.n);
    let row = ours(OURS).or_else(|| ours("rabbitry embedded"))?;
    row.tasks_per_second.as_ref().map(|spread| spread.median)
}

fn peers(report: &Report, n: usize) -> Option<String> {
    let rate = |row: &PeerRow| row.tasks_per_second.as_ref().map_or(f64::NAN, |spread| spread.median);
    let theirs = report.peers.iter().filter(|row| !row.peer.starts_with(OURS) && row.n == n && rate(row).is_finite());
    let best = theirs.max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
    let times = ratio(our_rate(report, best)?, rate(best))?;
    let (times, peer) = (format::number(times), &best.peer);
    Some(format!("n = {n}: the pool does {times} times the tasks per second of the best peer, {peer}."))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_facts_compare_payloads_solvers_pools_and_peers() {
        let facts = facts(&sample::report()).join("\n");
        assert!(facts.contains("n = 1000: a round trip takes"), "{facts}");
        assert!(facts.contains("times as long with json"), "{facts}");
        assert!(
            facts.contains("n = 5000, 8 threads: numpy takes 1.30 times as long, eigen takes 2.10 times"),
            "{facts}"
        );
        assert!(
            facts.contains("n = 100: the pool does 3.23 times the tasks per second of the best peer, celery."),
            "{facts}"
        );
        assert!(!facts.contains("published"), "{facts}");
    }

    #[test]
    fn a_peer_without_figures_is_not_the_best() {
        let facts = facts(&sample::report()).join("\n");
        assert!(
            facts.contains("n = 1000: the pool does 5.00 times the tasks per second of the best peer, dask."),
            "{facts}"
        );
    }

    #[test]
    fn nothing_measured_gives_no_facts() {
        assert_eq!(facts(&sample::empty()), Vec::<String>::new());
    }

    #[test]
    fn figures_of_zero_give_no_ratio() {
        let mut report = sample::report();
        for row in &mut report.payload {
            row.round_trip_seconds = Some(sample::once(0.0));
        }
        assert_eq!(payload(&report, 10), None);
    }
}
