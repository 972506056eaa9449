//! Work on the numbers of a body, away from the threads that serve connections.
//!
//! A text of 500 MB takes seconds to read. On a thread of the runtime it would hold up every connection that this thread
//! happens to serve, the health of the bridge among them.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::budget::Reservation;

/// Up to so many bytes are worked on where they are: they take less than a millisecond, and a change of threads costs
/// the time of some kilobytes.
const HERE_BYTES: u64 = 256 << 10;

/// Does work on so many bytes. It goes on, and has its memory, if the client goes away; a panic in it goes on in the caller.
pub(super) async fn run<T: Send + 'static>(
    bytes: u64,
    memory: &Arc<Reservation>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes <= HERE_BYTES {
        return work();
    }
    let memory = memory.clone();
    let work = move || {
        let done = work();
        drop(memory);
        done
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody aborts it: it ended by a panic.
        Err(error) => resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::budget::Budget;
    use super::*;

    #[tokio::test]
    async fn much_work_is_done_elsewhere_and_little_here() {
        let here = std::thread::current().id();
        let place = || std::thread::current().id();
        let none = Arc::new(Budget::new(0).reserve(0).unwrap());
        assert_eq!(run(HERE_BYTES, &none, place).await, here);
        assert_ne!(run(HERE_BYTES + 1, &none, place).await, here);
    }

    #[tokio::test]
    async fn work_has_its_memory_even_if_nobody_waits_for_it() {
        let budget = Budget::new(10);
        let memory = Arc::new(budget.reserve(10).unwrap());
        let (go, wait) = mpsc::channel::<()>();
        {
            let work = run(u64::MAX, &memory, move || wait.recv());
            tokio::pin!(work);
            assert!(futures_util::poll!(&mut work).is_pending());
        }
        drop(memory);
        assert_eq!(budget.used_bytes(), 10);
        drop(go);
        while budget.used_bytes() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    #[should_panic(expected = "a defect")]
    async fn a_panic_goes_on_in_the_caller() {
        let none = Arc::new(Budget::new(0).reserve(0).unwrap());
        run(u64::MAX, &none, || panic!("a defect")).await
    }
}
