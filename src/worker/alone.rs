//! Tasks that workers were lost with again and again are computed alone. Must not touch: connections, queues.
//!
//! What a worker holds when it dies is counted as an attempt, whether it was begun or not. A task that kills every worker
//! would take those along that are prefetched with it each time, up to their last attempt. So one with
//! [`SUSPECT`] attempts behind it is computed by a worker that holds nothing else.
//!
//! Invariant: from [`Alone::alone`] until its guard is dropped, nobody has what [`Alone::taking`] gives.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, watch};

use crate::broker::Delivery;
use crate::transport::incoming;
use crate::wire::TaskHead;

/// Lost once, a task may have been beside the one at fault; lost twice, it may be that one.
const SUSPECT: u32 = 2;

/// The head of a task that is to be computed alone. One that is redelivered is not computed at all: its attempt is counted first.
pub(super) fn suspect(delivery: &Delivery) -> Option<TaskHead> {
    let head = incoming::failed_before(&delivery.message).filter(|_| !delivery.redelivered);
    head.filter(|head| head.attempt >= SUSPECT)
}

/// Who takes deliveries, and who is to be alone.
#[derive(Default)]
pub(super) struct Alone {
    taking: Arc<RwLock<()>>,
    /// Whether somebody asks for it and is not yet.
    asking: Arc<watch::Sender<bool>>,
}

/// Somebody takes deliveries. Held for each of them, too, until it is settled.
pub(super) type Taking = Arc<OwnedRwLockReadGuard<()>>;

impl Alone {
    /// Waits until nobody is alone, or asks to be.
    pub(super) async fn taking(&self) -> Taking {
        // The sender is in `self`.
        let _ = self.asking.subscribe().wait_for(|asking| !*asking).await;
        Arc::new(self.taking.clone().read_owned().await)
    }

    /// Resolves when somebody asks to be alone: whoever takes deliveries should then let go.
    pub(super) async fn asked(&self) {
        let _ = self.asking.subscribe().wait_for(|asking| *asking).await;
    }

    /// Asks all to let go; `None` if somebody else does.
    pub(super) fn ask(&self) -> Option<Asking> {
        let first = self.asking.send_if_modified(|asking| !std::mem::replace(asking, true));
        first.then(|| Asking(self.asking.clone()))
    }

    /// Waits until all have let go. Whoever calls this has done so before.
    pub(super) async fn alone(&self, _asking: Asking) -> OwnedRwLockWriteGuard<()> {
        self.taking.clone().write_owned().await
    }
}

/// Somebody asks to be alone, until this is dropped.
pub(super) struct Asking(Arc<watch::Sender<bool>>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn whoever_asks_waits_for_those_who_take_and_they_for_him() {
        let alone = Alone::default();
        let (first, second) = (alone.taking().await, alone.taking().await);
        let in_hand = first.clone();
        assert_eq!(alone.asked().now_or_never(), None);
        let asking = alone.ask().expect("nobody else does");
        assert_eq!(alone.asked().now_or_never(), Some(()));
        assert!(alone.taking().now_or_never().is_none(), "nobody begins what he is to end at once");
        let mut waits = Box::pin(alone.alone(asking));
        assert!((&mut waits).now_or_never().is_none());
        drop((first, second));
        assert!((&mut waits).now_or_never().is_none(), "a delivery is in hand");
        drop(in_hand);
        let guard = waits.now_or_never().expect("alone");
        assert_eq!(alone.asked().now_or_never(), None);
        assert!(alone.taking().now_or_never().is_none());
        drop(guard);
        assert!(alone.taking().now_or_never().is_some());
    }

    #[tokio::test]
    async fn of_two_who_ask_one_does() {
        let alone = Alone::default();
        let first = alone.ask().expect("nobody else does");
        assert!(alone.ask().is_none());
        let turn = alone.alone(first).now_or_never().expect("alone");
        let mut other = Box::pin(alone.taking());
        assert!((&mut other).now_or_never().is_none());
        drop(turn);
        assert!(other.now_or_never().is_some(), "whoever waits has his turn");
        assert!(alone.ask().is_some());
    }

    #[tokio::test]
    async fn who_asked_and_went_away_asks_no_more() {
        let alone = Alone::default();
        let taking = alone.taking().await;
        let mut asked = Box::pin(alone.alone(alone.ask().expect("nobody else does")));
        assert!((&mut asked).now_or_never().is_none());
        drop(asked);
        assert_eq!(alone.asked().now_or_never(), None);
        drop(taking);
        assert!(alone.taking().now_or_never().is_some());
    }
}
