//! Waits for the first of several futures that all get their share of a busy task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// The output of whichever future ends first. In each poll another one of them has the first turn: the runtime lets a task do
/// so much at a time, and what has always something to do would leave nothing of it to those behind. `select!` draws who is first
/// at random, which a simulation could not repeat.
pub(super) async fn race<T, const N: usize>(mut all: [Pin<&mut (dyn Future<Output = T> + Send)>; N]) -> T {
    poll_fn(move |context| {
        for future in &mut all {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                return Poll::Ready(done);
            }
        }
        all.rotate_left(N.min(1));
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn who_is_always_busy_starves_nobody() {
        let (busy_in, mut busy) = mpsc::unbounded_channel();
        let (rare_in, mut rare) = mpsc::unbounded_channel();
        (0..10_000).for_each(|number| busy_in.send(number).unwrap());
        rare_in.send(7).unwrap();
        let taken = AtomicU32::new(0);
        let endless = async {
            while busy.recv().await.is_some() {
                taken.fetch_add(1, Relaxed);
            }
            0
        };
        assert_eq!(race([pin!(endless), pin!(async { rare.recv().await.unwrap() })]).await, 7);
        assert!(taken.load(Relaxed) < 1000, "{taken:?}");
    }

    #[tokio::test]
    async fn each_has_the_first_turn_in_its_turn() {
        let turns = std::sync::Mutex::new(Vec::new());
        let contender = |name: u32| {
            let turns = &turns;
            poll_fn(move |context: &mut std::task::Context<'_>| {
                let mut turns = turns.lock().unwrap();
                turns.push(name);
                context.waker().wake_by_ref();
                if turns.len() == 9 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        race([pin!(contender(0)), pin!(contender(1)), pin!(contender(2))]).await;
        assert_eq!(*turns.lock().unwrap(), [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }
}
