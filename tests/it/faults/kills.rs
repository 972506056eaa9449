//! Workers killed with SIGKILL at random moments and at chosen ones, a fresh one started for each.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IndexedRandom;

use super::load::{PULLED, Spy, Stream, Watched};
use super::proxy::Proxy;
use super::{PATIENCE, nothing_died, on_node, short_and_long, within};
use crate::programs::{Process, WORKER, program, watcher};
use crate::rabbitmq::Node;

short_and_long!(workers_killed_at_any_moment_lose_no_task, kill_workers, 10, 200);

/// The broker must not need its heartbeats (10 s) to notice a process that is gone.
const REDELIVERED_WITHIN: Duration = Duration::from_secs(10);
/// What was redelivered stands first in the queue: after so many more answers it has been taken.
const SETTLED: usize = 8;
/// One attempt more, and the next kill could be the fifth.
const ENDANGERED: u32 = 3;
const IN_FLIGHT: usize = 32;

/// When a worker is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    Random,
    /// It has some parts of a payload and not all.
    Receiving,
    /// It has all of a payload, and its answer is not there yet.
    Computing,
    /// Its outcome is at the boss; whether its ack is at the broker is a matter of microseconds.
    Answering,
    /// It has just been given its first tasks.
    Fresh,
}

const MOMENTS: [Moment; 5] = [Moment::Receiving, Moment::Answering, Moment::Computing, Moment::Fresh, Moment::Random];

/// A worker with its own stretch of network, which tells how much has come.
struct Victim {
    process: Process,
    proxy: Proxy,
}

impl Victim {
    async fn start(node: &Node) -> Victim {
        let proxy = Proxy::before(node.port()).await;
        let url = node.url_through(proxy.port(), "t0");
        let process = Process::start(program(WORKER, &["--broker", &url, "--slots", "1", "--memory", "512MiB"]));
        Victim { process, proxy }
    }

    /// Waits for the moment. A worker that waits for work in vain is killed at the end of a patience that it should not
    /// need: the kill counts, whenever it is.
    async fn until(&mut self, moment: Moment, log: &Watched) {
        let payload = (PULLED * PULLED * 8) as u64;
        let came = |share: f64| {
            let mut carried = self.proxy.carried_back();
            let wanted = *carried.borrow() + (payload as f64 * share) as u64;
            async move { drop(carried.wait_for(|bytes| *bytes >= wanted).await.map(|_| ())) }
        };
        let pid = self.process.pid();
        let arrived = async {
            match moment {
                Moment::Random => {
                    let wait = rand::rng().random_range(0..400);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                Moment::Receiving => came(0.4).await,
                Moment::Computing => {
                    came(1.02).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Moment::Answering => {
                    let from = Instant::now();
                    log.until(PATIENCE, "an answer", |log| log.answers_since(from).find(|it| it.pid == pid).map(drop))
                        .await;
                }
                Moment::Fresh => {}
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), arrived).await;
    }
}

#[derive(Default)]
struct Figures {
    /// From each kill to the last task of the killed worker being put back; only kills that hit a task.
    waits: Vec<Duration>,
    put_back: usize,
}

/// Waits until what the killed worker held is back, and writes down how long that took.
async fn settle(log: &Watched, killed: Instant, figures: &mut Figures) {
    log.until(PATIENCE, "answers after a kill", |log| {
        let waiting = log.attempts.values().any(|attempt| *attempt >= ENDANGERED);
        (log.answers_since(killed).count() >= SETTLED && !waiting).then_some(())
    })
    .await;
    let log = log.now();
    let back: Vec<Instant> = log.backs.iter().rev().map(|back| back.at).take_while(|at| *at > killed).collect();
    figures.waits.extend(back.first().map(|last| last.duration_since(killed)));
    figures.put_back += back.len();
}

async fn kill_workers(kills: usize) -> String {
    let node = on_node(Node::start);
    let log = Watched::default();
    let _spy = Spy::on(&node.url("t0"), log.clone()).await;
    let boss = std::sync::Arc::new(watcher(&node.url("t0")).await);
    let mut victims = [Victim::start(&node).await, Victim::start(&node).await];
    for victim in &mut victims {
        victim.process.until_consuming().await;
    }
    let stream = Stream::start(boss.clone(), IN_FLIGHT, 3, log.clone());
    log.until_more(SETTLED).await;
    let started = Instant::now();
    let mut figures = Figures::default();
    let mut newest = 0;
    for number in 0..kills {
        let moment = MOMENTS[number % MOMENTS.len()];
        let at = if moment == Moment::Fresh { newest } else { *[0, 1].choose(&mut rand::rng()).expect("two") };
        let victim = &mut victims[at];
        victim.until(moment, &log).await;
        assert!(!stream.has_failed(), "an answer was wrong: see above");
        let killed = Instant::now();
        victim.process.child.start_kill().expect("killed");
        within(PATIENCE, "the end of a killed worker", victim.process.child.wait()).await.expect("waited for");
        settle(&log, killed, &mut figures).await;
        victims[at] = Victim::start(&node).await;
        // What it was given first is in its hands, or on the way to it.
        victims[at].process.until_consuming().await;
        newest = at;
    }
    let took = started.elapsed();
    let tally = stream.end(PATIENCE).await;
    let twice = log.now().answered_and_back;
    let longest = figures.waits.iter().max().copied().unwrap_or_default();
    assert!(longest < REDELIVERED_WITHIN, "a task waited {longest:?} to be put back");
    assert!(!figures.waits.is_empty(), "no kill hit a task");
    nothing_died(&node.url("t0")).await;
    boss.close().await;
    figures.waits.sort();
    format!(
        "{kills} kills in {:.0} s, {} of them with tasks in hand; {} small and {} pulled tasks, each answered once and \
         right; {} put back ({twice} of them answered before, too), {:.0} ms after the kill in the median, {:.0} ms at most",
        took.as_secs_f64(),
        figures.waits.len(),
        tally.small,
        tally.pulled,
        figures.put_back,
        figures.waits[figures.waits.len() / 2].as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
    )
}
