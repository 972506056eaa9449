//! The pool for an hour under what an hour may bring: tasks of all sizes, some wrong, and every minute one of two workers
//! is killed and another takes its place. The other one stays, to show whether its memory grows.
//!
//!     cargo bench --bench soak -- --minutes 60
//!
//! The boss is this process; the workers are the built program, the broker a private RabbitMQ. Every answer is checked.
//! Fails if a task is lost, answered twice or answered wrongly, or if memory grows by more than 5 % (and 16 MiB) from the
//! second tenth of the time to the last two.

#[path = "soak/kinds.rs"]
mod kinds;
#[path = "soak/memory.rs"]
mod memory;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/rabbitmq.rs"]
mod rabbitmq;

use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rabbitry::boss::{self, Boss};
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::task::TaskId;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use kinds::{Expected, Sort};
use memory::Memory;

/// Tasks submitted and not answered, at most.
const IN_FLIGHT: usize = 48;
/// Bytes of them, at most: two of the largest size.
const WINDOW_BYTES: u64 = 512 << 20;
/// Between two kills, unless the run is shorter than three of them.
const KILL_EVERY: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;
/// Longer than any task waits behind those in flight. What has no answer by then is lost.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let Some(time) = time() else {
        println!("soak: not run; say for how long: cargo bench --bench soak -- --minutes 60");
        return;
    };
    let node = rabbitmq::Node::start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let is_good = runtime.block_on(run(&node, time));
    std::process::exit(i32::from(!is_good));
}

/// `None` where all benches are run, without its option.
fn time() -> Option<Duration> {
    let minutes = std::env::args().skip_while(|argument| argument != "--minutes").nth(1)?;
    let Ok(minutes) = minutes.parse::<f64>() else {
        eprintln!("soak: --minutes takes a number, not {minutes:?}");
        std::process::exit(2);
    };
    Some(Duration::from_secs_f64(minutes.clamp(0.1, 10_000.0) * 60.0))
}

/// What came of the tasks.
#[derive(Default)]
struct Count {
    submitted: u64,
    by_sort: BTreeMap<Sort, u64>,
    answered: HashSet<TaskId>,
    doubles: u64,
    wrong: Vec<String>,
    slowest: Duration,
}

async fn run(node: &rabbitmq::Node, time: Duration) -> bool {
    let url = node.url("t0");
    let mut workers = Workers::start(&url);
    let broker = Arc::new(AmqpBroker::new(&url).expect("a legal address"));
    let options = boss::Options { window_bytes: WINDOW_BYTES, ..boss::Options::default() };
    let boss = Arc::new(Boss::connect(broker, options).await.expect("the broker is there"));
    let broker_pid: u32 = node.ctl(&["eval", "os:getpid()."]).await.trim().trim_matches('"').parse().expect("a pid");
    println!(
        "{:.1} minutes, {WORKERS} workers, one killed every {:.0} s",
        time.as_secs_f64() / 60.0,
        workers.every(time).as_secs_f64()
    );
    let (count, flight, tasks) =
        (Arc::new(Mutex::new(Count::default())), Arc::new(Semaphore::new(IN_FLIGHT)), TaskTracker::new());
    let mut memory = Memory::new(broker_pid);
    let (start, every) = (Instant::now(), workers.every(time));
    let (mut next_kill, mut next_look) = (every, Duration::ZERO);
    for number in 0u64.. {
        let elapsed = start.elapsed();
        if elapsed >= time {
            break;
        }
        if elapsed >= next_kill {
            workers.replace_one();
            next_kill += every;
        }
        if elapsed >= next_look {
            memory.look(elapsed, &workers.pids());
            next_look += Duration::from_secs(2);
        }
        let turn = flight.clone().acquire_owned().await.expect("never closed");
        let (boss, count) = (boss.clone(), count.clone());
        let (sort, submitted) = kinds::submit(&boss, number).await;
        {
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            count.submitted += 1;
            *count.by_sort.entry(sort).or_default() += 1;
        }
        tasks.spawn(async move {
            attend(submitted, &count).await;
            drop(turn);
        });
    }
    tasks.close();
    let all_came = tokio::time::timeout(PATIENCE, tasks.wait()).await.is_ok();
    let took = start.elapsed();
    let letters = boss.dead_letters().await.map_or_else(|error| error.to_string(), |letters| letters.to_string());
    let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = count.submitted - count.answered.len() as u64;
    println!(
        "tasks      {} in {:.0} s, {:.1} per second",
        count.submitted,
        took.as_secs_f64(),
        count.submitted as f64 / took.as_secs_f64()
    );
    count.by_sort.iter().for_each(|(sort, tasks)| println!("           {tasks:>8}  {sort}"));
    println!("kills      {}", workers.killed);
    println!("lost       {lost}");
    println!("doubles    {}", count.doubles);
    println!("wrong      {}", count.wrong.len());
    count.wrong.truncate(5);
    count.wrong.iter().for_each(|wrong| println!("           {wrong}"));
    println!("slowest    {:.2} s from submission to answer", count.slowest.as_secs_f64());
    println!("dead       {letters} letters");
    let is_flat = memory.report(time);
    all_came && lost == 0 && count.doubles == 0 && count.wrong.is_empty() && is_flat
}

async fn attend(expected: Expected, count: &Mutex<Count>) {
    let since = Instant::now();
    let (id, verdict) = expected.judge().await;
    let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
    count.doubles += u64::from(!count.answered.insert(id));
    count.wrong.extend(verdict.err().map(|why| format!("{id}: {why}")));
    count.slowest = count.slowest.max(since.elapsed());
}

/// Worker processes; they end with this.
struct Workers {
    url: String,
    /// The first one stays.
    running: Vec<Child>,
    killed: usize,
}

impl Workers {
    fn start(url: &str) -> Self {
        let running = (0..WORKERS).map(|_| start_worker(url)).collect();
        Workers { url: url.to_owned(), running, killed: 0 }
    }

    fn every(&self, time: Duration) -> Duration {
        KILL_EVERY.min(time / 4)
    }

    fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Child::id).collect()
    }

    /// With kill -9; there is no goodbye.
    fn replace_one(&mut self) {
        end(&mut self.running.remove(1));
        self.killed += 1;
        self.running.push(start_worker(&self.url));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(end);
    }
}

fn end(worker: &mut Child) {
    // One that has ended by itself shows in the figures.
    let _ = worker.kill();
    let _ = worker.wait();
}

fn start_worker(url: &str) -> Child {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_worker"));
    // One slot each: two of them share this machine with the boss and the broker.
    worker.args(["--broker", url, "--slots", "1", "--threads", "1", "--memory", "1GiB"]);
    worker.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    worker.spawn().expect("the worker starts")
}
