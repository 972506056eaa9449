//! Interleaved rounds: every contestant has a turn in each, so that what the machine does meanwhile meets all alike.

use std::time::Duration;

use async_trait::async_trait;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

/// The bar moves so often.
const REDRAW: Duration = Duration::from_millis(200);
/// A turn that runs at the end has so long to end.
const LAST: Duration = Duration::from_secs(2);
/// So many times the rounds asked for, at most, for those whose interval is wide.
const ROUNDS_TIMES_MAX: usize = 2;

/// Something measured again and again.
#[async_trait]
pub(super) trait Contestant {
    /// For the bar: what has its turn.
    fn name(&self) -> String;

    /// Seconds that a turn takes, roughly, for the time left.
    fn turn_seconds(&self) -> f64;

    /// One turn. What it finds counts unless it is the warm-up.
    async fn turn(&mut self, counts: bool);

    /// Whether more turns would say little more. So it is with one that can't be measured.
    fn is_settled(&self) -> bool;
}

/// How far all parts are.
pub(super) struct Progress {
    bar: ProgressBar,
    rounds: usize,
}

impl Progress {
    /// Of work that takes `seconds`, roughly. Drawn on stderr where that is a terminal.
    pub(super) fn new(rounds: usize, seconds: f64) -> Self {
        let bar = ProgressBar::new(units(seconds));
        // The template is a constant that the tests of this crate have drawn.
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed} + {eta} to go  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            bar.enable_steady_tick(REDRAW);
        }
        Progress { bar, rounds }
    }

    /// Says something above the bar.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("boss: {text}"));
    }

    /// What is being prepared.
    pub(super) fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A warm-up and all rounds, and more of those that are wide, until `stop`.
    pub(super) async fn run<C: Contestant>(&self, contestants: &mut [C], stop: &CancellationToken) {
        for round in 0..=self.rounds * ROUNDS_TIMES_MAX {
            let is_extra = round > self.rounds;
            let mut anyone = false;
            for one in contestants.iter_mut().filter(|one| !is_extra || !one.is_settled()) {
                if stop.is_cancelled() {
                    return;
                }
                anyone = true;
                self.doing(&one.name());
                let mut turn = one.turn(round > 0);
                if stop.run_until_cancelled(&mut turn).await.is_none() {
                    // Most are short, and leave things in order at their end.
                    let _ = tokio::time::timeout(LAST, turn).await;
                    return;
                }
                drop(turn);
                // The length is of the rounds that are sure.
                if !is_extra {
                    self.bar.inc(units(one.turn_seconds()));
                }
            }
            if !anyone {
                return;
            }
        }
    }
}

/// Milliseconds.
fn units(seconds: f64) -> u64 {
    (seconds * 1e3).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Fake {
        id: u8,
        turns: usize,
        settled_after: usize,
        log: Arc<Mutex<Vec<u8>>>,
    }

    #[async_trait]
    impl Contestant for Fake {
        fn name(&self) -> String {
            self.id.to_string()
        }

        fn turn_seconds(&self) -> f64 {
            0.001
        }

        async fn turn(&mut self, counts: bool) {
            self.turns += usize::from(counts);
            self.log.lock().unwrap().push(self.id);
        }

        fn is_settled(&self) -> bool {
            self.turns >= self.settled_after
        }
    }

    async fn order(settled_after: [usize; 2], stop: &CancellationToken) -> Vec<u8> {
        let log = Arc::default();
        let fake = |id: u8| {
            let settled_after = settled_after[usize::from(id)];
            Fake { id, turns: 0, settled_after, log: Arc::clone(&log) }
        };
        let mut all = [fake(0), fake(1)];
        Progress::new(2, 1.0).run(&mut all, stop).await;
        Arc::clone(&log).lock().unwrap().clone()
    }

    #[tokio::test]
    async fn all_have_their_turn_in_each_round_and_the_wide_ones_go_on() {
        let stop = CancellationToken::new();
        assert_eq!(order([2, 2], &stop).await, [0, 1, 0, 1, 0, 1]);
        assert_eq!(order([2, 3], &stop).await, [0, 1, 0, 1, 0, 1, 1]);
        assert_eq!(order([9, 2], &stop).await, [0, 1, 0, 1, 0, 1, 0, 0]);
        stop.cancel();
        assert_eq!(order([2, 2], &stop).await, [0_u8; 0]);
    }
}
