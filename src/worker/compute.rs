//! The threads that compute. Handlers run here and never on an async thread, whose heartbeats they would starve.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::task::TaskError;

type Work = Box<dyn FnOnce() + Send>;

/// Where handlers run.
#[derive(Clone, Default)]
pub enum Compute {
    /// On threads of the worker's own, so that they hold up nothing else.
    #[default]
    Threads,
    /// On the async task that waits for the result, after a pause as long as this says: for tests and simulations in paused
    /// time, on one thread, where the pause is the time that the work takes.
    Inline(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compute::Threads => "Threads",
            Compute::Inline(_) => "Inline",
        })
    }
}

/// What computes.
pub(super) enum Computing {
    Threads(ComputeThreads),
    Inline(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Computing {
    /// For so many slots, and tasks of up to so many threads each.
    pub(super) fn start(compute: &Compute, slots: usize, threads: usize) -> Self {
        match compute {
            Compute::Threads => Computing::Threads(ComputeThreads::start(slots, threads)),
            Compute::Inline(pause) => Computing::Inline(pause.clone()),
        }
    }

    /// Runs `job`, which uses `threads` threads in all.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        threads: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        match self {
            Computing::Threads(compute) => compute.run(threads, job).await,
            Computing::Inline(pause) => {
                // Begun, it comes to its end even if nobody waits for it any more, as on a thread.
                let pause = pause();
                let job = tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    job()
                });
                job.await.map_err(|_| TaskError::Shutdown)
            }
        }
    }
}

/// A fixed set of threads; they end when it is dropped and what runs is done.
///
/// Tasks that bring threads of their own have a few to themselves: each thread that such a task has run on keeps a team
/// of helpers with their work space, tens of megabytes, for as long as it lives.
pub(super) struct ComputeThreads {
    narrow: crossbeam_channel::Sender<Work>,
    wide: crossbeam_channel::Sender<Work>,
}

impl ComputeThreads {
    /// As many threads as slots for tasks of one thread each, and as many as there is room for of `threads` each.
    fn start(slots: usize, threads: usize) -> Self {
        let narrow = start("compute", slots);
        // Where no task brings threads of its own, one set does for all.
        let wide = if threads > 1 { start("compute-wide", slots / threads) } else { narrow.clone() };
        ComputeThreads { narrow, wide }
    }

    /// Runs `job`, which uses `threads` threads in all, on a thread of its sort.
    async fn run<T: Send + 'static>(
        &self,
        threads: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let (sender, result) = oneshot::channel();
        let work: Work = Box::new(move || {
            let _ = sender.send(job());
        });
        let queue = if threads > 1 { &self.wide } else { &self.narrow };
        queue.send(work).map_err(|_| TaskError::Shutdown)?;
        result.await.map_err(|_| TaskError::Shutdown)
    }
}

/// Starts `count` threads on a queue, at least one.
fn start(name: &str, count: usize) -> crossbeam_channel::Sender<Work> {
    let (queue, work) = crossbeam_channel::unbounded::<Work>();
    for index in 0..count.max(1) {
        let work = work.clone();
        let run = move || work.into_iter().for_each(|job| job());
        if let Err(error) = std::thread::Builder::new().name(format!("{name}-{index}")).spawn(run) {
            // The others go on; with none at all each task would end in `Shutdown`.
            tracing::error!(%error, "could not start a compute thread");
        }
    }
    queue
}

/// Calls a handler; a panic becomes an outcome. State that a handler shares between tasks must stay whole if one panics.
pub(super) fn catch<T>(call: impl FnOnce() -> Result<T, TaskError>) -> Result<T, TaskError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(TaskError::Panicked(message(&*panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    // It travels in a head, which has little room.
    text.unwrap_or("no message").chars().take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_the_thread_goes_on() {
        let threads = ComputeThreads::start(1, 1);
        let panicked = threads.run(1, || catch::<()>(|| panic!("no {}", "luck"))).await.unwrap();
        assert_eq!(panicked, Err(TaskError::Panicked("no luck".into())));
        assert_eq!(threads.run(2, || catch(|| Ok(7))).await.unwrap(), Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn inline_work_takes_its_time_on_the_runtimes_clock_and_ends_though_nobody_waits() {
        let day = Duration::from_secs(86_400);
        let inline = Computing::start(&Compute::Inline(Arc::new(move || day)), 1, 1);
        let start = tokio::time::Instant::now();
        assert_eq!(inline.run(1, || 7).await, Ok(7));
        assert_eq!(start.elapsed(), day);
        let (done_in, done) = oneshot::channel();
        assert!(tokio::time::timeout(day / 2, inline.run(1, move || done_in.send(9))).await.is_err());
        assert_eq!(done.await, Ok(9));
    }
}
