//! Somebody who does not take his answers. What bounds the memory of the others:
//!
//! - A boss keeps its own tasks below its window, whoever computes them and however slowly it reads; so that is also the
//!   most that can lie in its results queue, or be on the way to it.
//! - A boss that is stopped (SIGSTOP) sends no heartbeats: the broker disconnects it, and its queue goes with what is in
//!   it. What a worker has left of its tasks then is dropped unread.
//! - A client of its own making that never reads has its answers in its results queue, at the broker, for as long as it is
//!   connected: as many as it sends tasks. A worker keeps nothing of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rabbitry::broker::Queue;
use rabbitry::broker::amqp::AmqpBroker;
use rabbitry::tasks::solve::System;
use rabbitry::transport::names;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::{PATIENCE, on_node, short_and_long, within};
use crate::pool::{Place, raw};
use crate::programs::{BOSS, Process, program, until_busy, watcher};
use crate::rabbitmq::Node;

mod stopped {
    use super::*;
    short_and_long!(a_boss_that_is_stopped_costs_nobody_memory_and_goes_on_later, stop_boss, 200, 2000);
}

mod unread {
    use super::*;
    short_and_long!(answers_that_nobody_reads_stay_with_the_broker, leave_unread, 60, 300);
}

const MB: u64 = 1_000_000;
/// Of the boss, and so of everything that is on its way for it.
const WINDOW_BYTES: u64 = 100 * MB;
/// A's, B's and X's sides: tasks of 4 MB with answers of 2 MB.
const N: usize = 500;
/// What a worker may grow by: its payloads ahead, its buffers and its answers on their way.
const WORKER_BYTES: u64 = 300 * MB;
/// What programs and brokers take for each byte that is on its way: lapin's copies, Erlang's binaries.
const COPIES: u64 = 4;

/// The resident memory of a process, from the start of this on.
struct Resident {
    before: u64,
    highest: Arc<AtomicU64>,
    _looking: AbortOnDropHandle<()>,
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

impl Resident {
    fn watch(pid: u32) -> Resident {
        let before = resident_bytes(pid).expect("it runs");
        let highest = Arc::new(AtomicU64::new(before));
        let seen = highest.clone();
        let looking = tokio::spawn(async move {
            while let Some(now) = resident_bytes(pid) {
                seen.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Resident { before, highest, _looking: AbortOnDropHandle::new(looking) }
    }

    fn growth(&self) -> u64 {
        self.highest.load(Ordering::Relaxed) - self.before
    }

    fn said(&self) -> String {
        format!("{} to at most {} MB", self.before / MB, self.highest.load(Ordering::Relaxed) / MB)
    }
}

async fn stop_boss(tasks: usize) -> String {
    let node = on_node(Node::start);
    let url = format!("{}?heartbeat=2", node.url("t0"));
    let mut worker = Process::worker(&url, &["--slots", "2", "--memory", "512MiB"]).await;
    let watching = watcher(&node.url("t0")).await;
    let count = tasks.to_string();
    let window = WINDOW_BYTES.to_string();
    let job = ["--broker", &url, "--window", &window, "solve", "--random", "500", "--rhs", "500", "--json"];
    let mut boss = Process::start(program(BOSS, &[&job[..], &["--count", &count]].concat()));
    within(PATIENCE, "a busy worker", until_busy(&watching, worker.pid())).await;
    let (of_worker, of_boss, of_broker) =
        (Resident::watch(worker.pid()), Resident::watch(boss.pid()), Resident::watch(node.pid()));
    boss.signal("-STOP");
    let stopped = Instant::now();
    // The watcher's stays.
    let disconnected = async {
        while node.ctl(&["list_queues", "--vhost", "t0", "name"]).await.matches("rabbitry.results.").count() > 1 {}
    };
    within(PATIENCE, "the broker to give the boss up", disconnected).await;
    let noticed = stopped.elapsed();
    let drained = async {
        while watching.work_queue("solve").await.expect("a status").1.is_none_or(|queue| queue.ready > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(PATIENCE, "the work queue to be empty", drained).await;
    boss.signal("-CONT");
    let code = within(PATIENCE * 5, "the boss's end", boss.child.wait()).await.expect("waited for").code();
    assert_eq!(code, Some(0), "{}", boss.said());
    let mut out = String::new();
    let mut stdout = boss.child.stdout.take().expect("piped");
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut out).await.expect("read");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&report["ok"], &report["failed"]), (&tasks.into(), &0.into()), "{out}");
    worker.terminate();
    assert_eq!(worker.code().await, Some(0), "{}", worker.said());
    assert!(of_worker.growth() < WORKER_BYTES, "the worker grew from {}", of_worker.said());
    assert!(of_boss.growth() < COPIES * WINDOW_BYTES, "the boss grew from {}", of_boss.said());
    assert!(of_broker.growth() < COPIES * WINDOW_BYTES, "the broker grew from {}", of_broker.said());
    watching.close().await;
    format!(
        "a boss with a window of {} MB stopped amid {tasks} tasks of 4 MB with answers of 2 MB: its queues were gone after \
         {:.1} s (heartbeats of 2 s); it went on and had all answers; memory of the worker {}, of the boss {}, of the broker {}",
        WINDOW_BYTES / MB,
        noticed.as_secs_f64(),
        of_worker.said(),
        of_boss.said(),
        of_broker.said(),
    )
}

async fn leave_unread(tasks: usize) -> String {
    const UNREAD: &str = "unread";
    let node = on_node(Node::start);
    let place = Place::of(Arc::new(AmqpBroker::new(&node.url("t0")).expect("an address")));
    let client = place.client().await;
    let queue = Queue { name: UNREAD.to_owned(), exclusive: true, ..Queue::default() };
    client.connection.declare_queue(&queue).await.expect("declared");
    let worker = Process::worker(&node.url("t0"), &["--slots", "2", "--memory", "512MiB"]).await;
    let (of_worker, of_broker) = (Resident::watch(worker.pid()), Resident::watch(node.pid()));
    let (head, body) = raw(System::random(N, N, 1));
    for number in 0..tasks {
        let mut head = head.clone();
        head.id = rabbitry::task::TaskId::random();
        let mut message = client.message(rabbitry::wire::encode(&head), &body);
        message.reply_to = Some(UNREAD.to_owned());
        client.publish(&names::work_queue("solve"), message).await;
        // Tasks do not pile up before the worker: what is looked at is the answers.
        let answered = async {
            while client
                .connection
                .queue_status(UNREAD)
                .await
                .expect("a status")
                .is_none_or(|q| q.ready + 4 < number as u64)
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(PATIENCE, "the answers before it", answered).await;
    }
    within(PATIENCE, "all answers", client.until_ready(UNREAD, tasks as u64)).await;
    let unread = (tasks * N * N * 8) as u64;
    assert!(of_worker.growth() < WORKER_BYTES, "the worker grew from {}", of_worker.said());
    assert!(of_broker.growth() < COPIES * unread + COPIES * WINDOW_BYTES, "the broker grew from {}", of_broker.said());
    client.connection.delete_queue(UNREAD).await.expect("deleted");
    format!(
        "{tasks} answers, {} MB, in a queue that nobody reads: memory of the worker {}, of the broker {}",
        unread / MB,
        of_worker.said(),
        of_broker.said(),
    )
}
