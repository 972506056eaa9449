//! How many bytes of bodies, tasks and answers the bridge may hold in all. Who can't have them now is told so, or waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes to be shared. Clones share the same.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit_bytes: u64,
    used_bytes: Mutex<u64>,
    freed: Notify,
}

impl Shared {
    fn used(&self) -> MutexGuard<'_, u64> {
        self.used_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// More than there are in all.
    Never {
        /// What there is in all.
        limit_bytes: u64,
    },
    /// Others have them.
    Now,
}

impl Budget {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Budget { shared: Arc::new(Shared { limit_bytes, used_bytes: Mutex::new(0), freed: Notify::new() }) }
    }

    pub(super) fn limit_bytes(&self) -> u64 {
        self.shared.limit_bytes
    }

    pub(super) fn used_bytes(&self) -> u64 {
        *self.shared.used()
    }

    /// Bytes for somebody who can be told to come again.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation, Refused> {
        let reservation = self.nothing();
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    /// A reservation of nothing.
    fn nothing(&self) -> Reservation {
        Reservation { shared: self.shared.clone(), bytes: AtomicU64::new(0) }
    }

    /// Waits for bytes for work in the background, which leaves a quarter to the others. What is larger than that has to
    /// have it all to itself.
    pub(super) async fn reserve_in_background(&self, bytes: u64) -> Reservation {
        let Shared { limit_bytes, freed, .. } = &*self.shared;
        let bytes = bytes.min(*limit_bytes);
        loop {
            // Before the look: what is freed after it wakes us.
            let freed = freed.notified();
            {
                let mut used = self.shared.used();
                if *used == 0 || *used + bytes <= limit_bytes / 4 * 3 {
                    *used += bytes;
                    return Reservation { shared: self.shared.clone(), bytes: bytes.into() };
                }
            }
            freed.await;
        }
    }
}

/// Bytes that are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    /// Changed under the lock of what is used.
    bytes: AtomicU64,
}

impl Reservation {
    /// More bytes, or none at all.
    pub(super) fn grow_to(&self, bytes: u64) -> Result<(), Refused> {
        let limit_bytes = self.shared.limit_bytes;
        if bytes > limit_bytes {
            return Err(Refused::Never { limit_bytes });
        }
        let mut used = self.shared.used();
        let more = bytes.saturating_sub(self.bytes.load(Relaxed));
        if more > limit_bytes - *used {
            return Err(Refused::Now);
        }
        *used += more;
        self.bytes.fetch_add(more, Relaxed);
        Ok(())
    }

    /// Gives back what is above `bytes`.
    pub(super) fn shrink_to(&self, bytes: u64) {
        {
            let mut used = self.shared.used();
            let less = self.bytes.load(Relaxed).saturating_sub(bytes);
            *used -= less;
            self.bytes.fetch_sub(less, Relaxed);
        }
        self.shared.freed.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_never_is_told_from_what_does_not_fit_now() {
        let budget = Budget::new(100);
        assert_eq!(budget.reserve(101).unwrap_err(), Refused::Never { limit_bytes: 100 });
        let first = budget.reserve(60).unwrap();
        assert_eq!(budget.reserve(41).unwrap_err(), Refused::Now);
        first.shrink_to(10);
        assert_eq!(budget.used_bytes(), 10);
        assert!(first.grow_to(100).is_ok());
        assert_eq!(first.grow_to(u64::MAX).unwrap_err(), Refused::Never { limit_bytes: 100 });
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn the_background_waits_and_leaves_a_quarter() {
        let budget = Budget::new(100);
        let first = budget.reserve_in_background(70).await;
        let second = budget.reserve_in_background(10);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(budget.reserve(30).is_ok(), "the others need not wait");
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        drop(second);
        let whole = budget.reserve_in_background(1000).await;
        assert_eq!(whole.bytes.load(Relaxed), 100, "what is too large for all of it gets all of it");
    }
}
