//! A task that kills whatever worker begins it: it comes to its end, and takes no other task along.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{FutureExt, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rabbitry::boss::Boss;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::task::TaskError;
use rabbitry::worker::{self, Options};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{BACK_WITHIN, PATIENCE, report, within};
use crate::pool::{Probe, ProbeHandler, one_slot, submit};
use crate::programs::{Process, program, watcher};
use crate::rabbitmq;

const DEADLY: &[u8] = b"deadly";
/// In the environment of a process that is to be such a worker: its broker.
const BROKER: &str = "RABBITRY_TEST_DEADLY_BROKER";
/// More than there are innocent tasks beside the deadly one: it has them all in hand when it dies.
const PREFETCH: u16 = 10;
const ATTEMPTS: u32 = 5;

/// Kills this process as the kernel kills one that is out of memory.
fn die() -> ! {
    let _ = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
    std::process::abort()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test: the worker that those below run as a process"]
async fn a_worker_that_dies_of_some_tasks() {
    let Ok(url) = std::env::var(BROKER) else { return };
    // Its end is that of the test that started it, however that comes.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let handler = ProbeHandler::new(|bytes| if bytes == DEADLY { die() } else { Ok(bytes) });
    let options = Options { prefetch: PREFETCH, attempts_max: ATTEMPTS, ..one_slot() };
    let broker = Arc::new(AmqpBroker::new(&url).expect("a legal address"));
    worker::run(broker, vec![handler], options, CancellationToken::new()).await.expect("a good end");
}

/// Always one such worker: as one dies, another starts.
struct Place {
    deaths: Arc<AtomicUsize>,
    _replaced: AbortOnDropHandle<()>,
}

impl Place {
    fn new(url: &str) -> Place {
        let (url, deaths) = (url.to_owned(), Arc::new(AtomicUsize::new(0)));
        let died = deaths.clone();
        let replaced = tokio::spawn(async move {
            loop {
                let this = std::env::current_exe().expect("a program");
                let name = concat!(module_path!(), "::a_worker_that_dies_of_some_tasks");
                let name = name.split_once("::").expect("it has a crate").1;
                let mut command: Command =
                    program(this.to_str().expect("UTF-8"), &["--exact", name, "--ignored", "--nocapture"]);
                command.env(BROKER, &url).stdin(std::process::Stdio::piped());
                let mut process = Process::start(command);
                // Waiting would close it.
                let _lifeline = process.child.stdin.take();
                let ended = process.child.wait().await.expect("waited for");
                assert_eq!(ended.code(), None, "it was no worker, or ended by itself: {}", process.said());
                died.fetch_add(1, Ordering::Relaxed);
            }
        });
        Place { deaths, _replaced: AbortOnDropHandle::new(replaced) }
    }

    fn deaths(&self) -> usize {
        self.deaths.load(Ordering::Relaxed)
    }
}

async fn is_dead_with_its_reasons(boss: &Boss, task: &str) {
    let desk = boss.dead_letter_desk().await.expect("a desk");
    let letters = desk.look(10).await.expect("letters");
    let [letter] = letters.iter().collect::<Vec<_>>()[..] else { panic!("{} letters", letters.iter().len()) };
    assert_eq!(letter.id, task);
    let (first, last) = (letter.reasons.first.as_deref(), letter.reasons.last.as_deref());
    assert!(first.is_some_and(|first| first.contains("was lost")), "{first:?}");
    assert!(last.is_some_and(|last| last.contains("5 attempts")), "{last:?}");
    drop(letters);
    desk.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prefetched_with_a_deadly_task_does_not_share_its_end() {
    report("what_is_prefetched_with_a_deadly_task_does_not_share_its_end", async {
        let on = rabbitmq::vhost().await;
        let boss = watcher(&on.url).await;
        let deadly = submit(&boss, Probe(DEADLY.into())).await;
        let mut others = Vec::new();
        for i in 1..u8::try_from(PREFETCH).expect("a few") {
            others.push(submit(&boss, Probe(Bytes::from(vec![i]))).await);
        }
        // All of them are in hand when the first is begun, and again each time it comes back.
        let place = Place::new(&on.url);
        let task = deadly.id();
        let end = within(PATIENCE, "the end of a deadly task", deadly.outcome()).await.result;
        assert_eq!(end, Err(TaskError::TooManyAttempts { attempts: ATTEMPTS }));
        let outcomes = within(PATIENCE, "the others", join_all(others.into_iter().map(|other| other.outcome()))).await;
        for (i, outcome) in (1u8..).zip(outcomes) {
            assert_eq!(outcome.result.unwrap_or_else(|error| panic!("{i}: {error}")), vec![i]);
        }
        let deaths = place.deaths();
        assert_eq!(deaths, ATTEMPTS as usize);
        is_dead_with_its_reasons(&boss, &task.to_string()).await;
        boss.close().await;
        format!(
            "{deaths} workers died, with {} other tasks in hand the first time: all of these were answered",
            PREFETCH - 1
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_task_kills_one_worker_after_another_the_pool_goes_on() {
    report("while_a_task_kills_one_worker_after_another_the_pool_goes_on", async {
        let on = rabbitmq::vhost().await;
        let boss = watcher(&on.url).await;
        let places = [(); 2].map(|()| Place::new(&on.url));
        let first = within(PATIENCE, "a worker", submit(&boss, Probe("first".into())).await.outcome()).await;
        assert!(first.result.is_ok());
        let started = Instant::now();
        let deadly = submit(&boss, Probe(DEADLY.into())).await.outcome();
        tokio::pin!(deadly);
        let (mut answered, mut longest, mut last) = (0u64, Duration::ZERO, Instant::now());
        let mut others = FuturesUnordered::new();
        let end = within(PATIENCE, "the end of a deadly task", async {
            for number in 0u64.. {
                // A few at a time, so that there is always something beside it.
                let payload = number.to_le_bytes();
                let other = submit(&boss, Probe(Bytes::copy_from_slice(&payload))).await.outcome();
                others.push(other.map(move |outcome| assert_eq!(outcome.result.expect("innocent"), payload[..])));
                if others.len() < usize::from(PREFETCH) {
                    continue;
                }
                tokio::select! {
                    end = &mut deadly => return end.result,
                    _ = others.next() => answered += 1,
                }
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            unreachable!("numbers end")
        })
        .await;
        within(PATIENCE, "the last of the others", others.collect::<Vec<()>>()).await;
        assert_eq!(end, Err(TaskError::TooManyAttempts { attempts: ATTEMPTS }));
        let deaths: usize = places.iter().map(Place::deaths).sum();
        assert_eq!(deaths, ATTEMPTS as usize);
        assert!(answered >= u64::from(ATTEMPTS), "{answered} tasks were answered meanwhile");
        assert!(longest < BACK_WITHIN, "nothing was answered for {longest:?}");
        boss.close().await;
        format!(
            "{deaths} of two workers died in {:.1} s; {answered} other tasks were answered meanwhile, with {:.2} s between \
             two answers at most",
            started.elapsed().as_secs_f64(),
            longest.as_secs_f64()
        )
    })
    .await;
}
