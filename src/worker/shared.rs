//! Payloads that many tasks share: fetched once, prepared once by their handler, kept for tasks to come.
//!
//! Must not touch: how a payload is fetched. Invariants: of each payload one task at a time fetches and prepares, and the
//! others wait; what is in use is reserved, once for all its tasks; whoever waits for memory holds none, so that two
//! payloads that do not fit together are worked on one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OnceCell, OwnedSemaphorePermit};

use super::memory::Memory;
use crate::task::{Plan, Prepared, Shared, TaskError};

/// A payload, as one kind prepares it. Its size is part of the name: who claims another waits for another.
type Key = (String, Shared);

/// The shared payloads of a worker.
pub(super) struct SharedPayloads {
    entries: Mutex<Entries>,
    /// Of those that no task works on.
    keep_bytes: u64,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Kept>,
    uses: u64,
}

struct Kept {
    entry: Arc<Entry>,
    /// The higher, the later.
    last_use: u64,
}

#[derive(Default)]
struct Entry {
    prepared: OnceCell<Prepared>,
    /// Held by whoever reserves its memory.
    turn: tokio::sync::Mutex<()>,
    /// Its memory, while tasks work on it.
    room: Mutex<Weak<OwnedSemaphorePermit>>,
}

impl Entry {
    fn room(&self) -> MutexGuard<'_, Weak<OwnedSemaphorePermit>> {
        // One pointer: a panic elsewhere does not spoil it.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use a shared payload: its memory is reserved.
pub(super) struct Lease {
    entry: Arc<Entry>,
    room: Arc<OwnedSemaphorePermit>,
}

/// A shared payload in use.
#[derive(Clone)]
pub(super) struct InUse {
    /// What the handler has made of it.
    pub(super) prepared: Prepared,
    /// Nobody forgets it meanwhile.
    _entry: Arc<Entry>,
    _room: Arc<OwnedSemaphorePermit>,
}

impl Lease {
    /// Its memory, for whoever may go on with it when the lease has ended.
    pub(super) fn room(&self) -> Arc<OwnedSemaphorePermit> {
        self.room.clone()
    }

    /// What the handler has made of the payload. `prepare` is polled if nobody has made it before; while it goes on, others wait,
    /// and if it fails or is given up, the next of them begins anew.
    pub(super) async fn prepared<E>(&self, prepare: impl Future<Output = Result<Prepared, E>>) -> Result<InUse, E> {
        let prepared = self.entry.prepared.get_or_try_init(|| prepare).await?.clone();
        Ok(InUse { prepared, _entry: self.entry.clone(), _room: self.room.clone() })
    }
}

impl SharedPayloads {
    /// Keeps up to `keep_bytes` that no task works on.
    pub(super) fn new(keep_bytes: u64) -> Self {
        SharedPayloads { entries: Mutex::default(), keep_bytes }
    }

    /// Waits for the memory that the payload takes, and for that of a task that has it.
    pub(super) async fn enter(
        &self,
        kind: &str,
        shared: Shared,
        plan: Plan,
        memory: &Memory,
    ) -> Result<(Lease, OwnedSemaphorePermit), TaskError> {
        let entry = self.entry((kind.to_owned(), shared));
        loop {
            if entry.room().strong_count() > 0 {
                let memory = memory.reserve(plan.memory_bytes).await?;
                // Not held meanwhile: who waits in front may wait for just this.
                let room = entry.room().upgrade();
                if let Some(room) = room {
                    return Ok((Lease { entry, room }, memory));
                }
                continue;
            }
            let turn = entry.turn.lock().await;
            if entry.room().strong_count() > 0 {
                continue;
            }
            let (room, memory) = memory.reserve_two(shared.memory_bytes, plan.memory_bytes).await?;
            // Those that had this memory before may be idle now. Ours is not: we hold it.
            self.trim();
            let room = Arc::new(room);
            *entry.room() = Arc::downgrade(&room);
            drop(turn);
            return Ok((Lease { entry, room }, memory));
        }
    }

    /// Whether it is prepared, so that nobody needs to be asked for it.
    pub(super) fn has(&self, kind: &str, shared: Shared) -> bool {
        let entries = self.entries();
        entries.by_key.get(&(kind.to_owned(), shared)).is_some_and(|kept| kept.entry.prepared.initialized())
    }

    /// Forgets what is idle and more than is kept, that used last at last, and what came to nothing.
    pub(super) fn trim(&self) {
        let mut entries = self.entries();
        let mut idle: Vec<(u64, Key, u64)> = Vec::new();
        entries.by_key.retain(|key, kept| {
            // Only the map knows it: nobody is on the way to it.
            let is_idle = Arc::strong_count(&kept.entry) == 1;
            let bytes = kept.entry.prepared.get().map(|prepared| prepared.bytes);
            if let Some(bytes) = bytes.filter(|_| is_idle) {
                idle.push((kept.last_use, key.clone(), bytes));
            }
            !is_idle || bytes.is_some()
        });
        idle.sort_unstable_by_key(|(last_use, ..)| std::cmp::Reverse(*last_use));
        let mut kept_bytes = 0u64;
        for (_, key, bytes) in idle {
            kept_bytes = kept_bytes.saturating_add(bytes);
            if kept_bytes > self.keep_bytes {
                entries.by_key.remove(&key);
            }
        }
    }

    fn entry(&self, key: Key) -> Arc<Entry> {
        let mut entries = self.entries();
        entries.uses += 1;
        let last_use = entries.uses;
        let kept = entries.by_key.entry(key).or_insert_with(|| Kept { entry: Arc::default(), last_use });
        kept.last_use = last_use;
        kept.entry.clone()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // The map is whole after every statement.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::poll;

    use super::*;
    use crate::task::ContentHash;

    fn shared(name: u8, kib: u64) -> Shared {
        Shared { hash: ContentHash([name; 32]), memory_bytes: kib << 10 }
    }

    fn plan(kib: u64) -> Plan {
        Plan { memory_bytes: kib << 10, threads: 1, shared: None }
    }

    fn made(bytes: u64) -> Prepared {
        Prepared { made: Arc::new(()), bytes }
    }

    #[tokio::test]
    async fn memory_of_a_payload_is_taken_once_for_all_its_tasks() {
        let (payloads, memory) = (SharedPayloads::new(0), Memory::new(100 << 10));
        let first = payloads.enter("k", shared(1, 80), plan(10), &memory).await.unwrap();
        let second = payloads.enter("k", shared(1, 80), plan(10), &memory).await.unwrap();
        let third = payloads.enter("k", shared(1, 80), plan(10), &memory);
        tokio::pin!(third);
        assert!(poll!(&mut third).is_pending());
        drop(first);
        let third = third.await.unwrap();
        drop((second, third));
        assert!(memory.reserve(100 << 10).await.is_ok(), "all of it is free again");
    }

    #[tokio::test]
    async fn payloads_that_do_not_fit_together_take_turns() {
        let (payloads, memory) = (SharedPayloads::new(0), Memory::new(100 << 10));
        let first = payloads.enter("k", shared(1, 60), plan(10), &memory).await.unwrap();
        let other = payloads.enter("k", shared(2, 60), plan(10), &memory);
        // Of the first payload, but behind the other in the queue for memory: it must not hold what the other waits for.
        let again = payloads.enter("k", shared(1, 60), plan(40), &memory);
        tokio::pin!(other, again);
        assert!(poll!(&mut other).is_pending() && poll!(&mut again).is_pending());
        drop(first);
        drop(other.await.unwrap());
        assert!(again.await.is_ok());
    }

    #[tokio::test]
    async fn one_prepares_and_the_next_takes_over_if_it_is_given_up() {
        let (payloads, memory) = (SharedPayloads::new(0), Memory::new(100 << 10));
        let (first, _memory) = payloads.enter("k", shared(1, 10), plan(10), &memory).await.unwrap();
        let (second, _memory) = payloads.enter("k", shared(1, 10), plan(10), &memory).await.unwrap();
        {
            let stuck = first.prepared(std::future::pending::<Result<Prepared, Infallible>>());
            tokio::pin!(stuck);
            assert!(poll!(&mut stuck).is_pending());
            let waits = second.prepared(async { Ok::<_, Infallible>(made(7)) });
            tokio::pin!(waits);
            assert!(poll!(&mut waits).is_pending() && !payloads.has("k", shared(1, 10)), "it may never come");
        }
        assert_eq!(second.prepared(async { Ok::<_, Infallible>(made(7)) }).await.unwrap().prepared.bytes, 7);
        assert!(payloads.has("k", shared(1, 10)) && !payloads.has("k", shared(2, 10)));
        let again = first.prepared(async { Err(()) }).await;
        assert_eq!(again.unwrap().prepared.bytes, 7, "it is there, and nobody prepares it again");
    }

    #[tokio::test]
    async fn those_used_last_are_kept_and_those_in_use_are_not_touched() {
        let (payloads, memory) = (SharedPayloads::new(50), Memory::new(100 << 10));
        let used = {
            let (lease, _memory) = payloads.enter("k", shared(9, 1), plan(1), &memory).await.unwrap();
            lease.prepared(async { Ok::<_, Infallible>(made(1000)) }).await.unwrap()
        };
        for name in [1, 2, 3, 1] {
            let (lease, _memory) = payloads.enter("k", shared(name, 1), plan(1), &memory).await.unwrap();
            lease.prepared(async { Ok::<_, Infallible>(made(20)) }).await.unwrap();
        }
        {
            let (failed, _memory) = payloads.enter("k", shared(4, 1), plan(1), &memory).await.unwrap();
            assert!(failed.prepared(async { Err(()) }).await.is_err());
        }
        payloads.trim();
        let mut names: Vec<u8> = payloads.entries().by_key.keys().map(|(_, shared)| shared.hash.0[0]).collect();
        names.sort_unstable();
        assert_eq!(names, [1, 3, 9]);
        drop(used);
        payloads.trim();
        assert_eq!(payloads.entries().by_key.len(), 2);
    }
}
