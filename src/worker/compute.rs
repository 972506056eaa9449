//! The threads that compute. Handlers run here and never on an async thread, whose heartbeats they would starve.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::task::TaskError;

type Work = Box<dyn FnOnce() + Send>;

/// A fixed set of threads; they end when it is dropped and what runs is done.
pub(super) struct ComputeThreads {
    queue: crossbeam_channel::Sender<Work>,
}

impl ComputeThreads {
    /// Starts `count` threads, at least one.
    pub(super) fn start(count: usize) -> Self {
        let (queue, work) = crossbeam_channel::unbounded::<Work>();
        for index in 0..count.max(1) {
            let work = work.clone();
            let run = move || work.into_iter().for_each(|job| job());
            if let Err(error) = std::thread::Builder::new().name(format!("compute-{index}")).spawn(run) {
                // The others go on; with none at all each task would end in `Shutdown`.
                tracing::error!(%error, "could not start a compute thread");
            }
        }
        ComputeThreads { queue }
    }

    /// Runs `job` on one of the threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let (sender, result) = oneshot::channel();
        let work: Work = Box::new(move || {
            let _ = sender.send(job());
        });
        self.queue.send(work).map_err(|_| TaskError::Shutdown)?;
        result.await.map_err(|_| TaskError::Shutdown)
    }
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
        let threads = ComputeThreads::start(1);
        let panicked = threads.run(|| catch::<()>(|| panic!("no {}", "luck"))).await.unwrap();
        assert_eq!(panicked, Err(TaskError::Panicked("no luck".into())));
        assert_eq!(threads.run(|| catch(|| Ok(7))).await.unwrap(), Ok(7));
    }
}
