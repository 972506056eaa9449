//! The tasks by id, by number and by key. Pure: no I/O, no clock, no waiting.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::entry::{Birth, Entry, Kept, Phase};
use crate::boss::Priority;
use crate::task::TaskId;

/// All tasks.
#[derive(Default)]
pub(super) struct Table {
    entries: HashMap<TaskId, Arc<Entry>>,
    /// By their numbers.
    order: BTreeMap<u64, Arc<Entry>>,
    /// Those that were not sent yet, in the order in which they will be.
    waiting: BTreeMap<(Reverse<u8>, u64), Arc<Entry>>,
    keys: HashMap<String, Key>,
    last_number: u64,
}

/// What an idempotency key stands for.
struct Key {
    task: TaskId,
    fingerprint: u64,
}

/// What is known of a key.
pub(super) enum Known {
    /// Nothing: it stands for this task from now on.
    New,
    /// The same submission came before.
    Task(Arc<Entry>),
    /// It is coming just now.
    Coming,
    /// Another submission came with it.
    Other(TaskId),
}

fn urgency(priority: Priority) -> u8 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

impl Table {
    /// Enters a task that comes now.
    pub(super) fn enter(&mut self, birth: Birth, phase: Phase, kept: Kept) -> Arc<Entry> {
        self.place(birth, phase, kept, false)
    }

    /// Enters a task of an earlier bridge.
    pub(super) fn enter_again(&mut self, birth: Birth, phase: Phase) {
        self.place(birth, phase, Kept::Yes, true);
    }

    fn place(&mut self, birth: Birth, phase: Phase, kept: Kept, came_before: bool) -> Arc<Entry> {
        self.last_number += 1;
        let waits = matches!(phase, Phase::Waiting);
        let entry = Arc::new(Entry::new(birth, self.last_number, phase, kept, came_before));
        self.entries.insert(entry.id(), entry.clone());
        self.order.insert(entry.number, entry.clone());
        if waits {
            self.waiting.insert(place(&entry), entry.clone());
        }
        entry
    }

    /// Claims a key for a submission.
    pub(super) fn claim(&mut self, key: &str, fingerprint: u64, task: TaskId) -> Known {
        match self.keys.get(key) {
            None => {
                self.keys.insert(key.to_owned(), Key { task, fingerprint });
                Known::New
            }
            Some(known) if known.fingerprint != fingerprint => Known::Other(known.task),
            Some(known) => self.entries.get(&known.task).cloned().map_or(Known::Coming, Known::Task),
        }
    }

    /// The submission with this key did not come about.
    pub(super) fn release(&mut self, key: &str, task: TaskId) {
        if self.keys.get(key).is_some_and(|known| known.task == task) {
            self.keys.remove(key);
        }
    }

    pub(super) fn find(&self, id: TaskId) -> Option<Arc<Entry>> {
        self.entries.get(&id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Which one to send next.
    pub(super) fn next_waiting(&self) -> Option<Arc<Entry>> {
        self.waiting.values().next().cloned()
    }

    /// One that could not be sent waits again, unless it has ended meanwhile.
    pub(super) fn waits_again(&mut self, entry: &Arc<Entry>) {
        if self.entries.contains_key(&entry.id()) && matches!(entry.phase(), Phase::Waiting) {
            self.waiting.insert(place(entry), entry.clone());
        }
    }

    /// It waits no longer.
    pub(super) fn taken(&mut self, entry: &Entry) {
        self.waiting.remove(&place(entry));
    }

    pub(super) fn recent(&self, before: Option<u64>, limit: usize, wanted: impl Fn(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let below = self.order.range(..before.unwrap_or(u64::MAX)).rev();
        below.map(|(_, entry)| entry).filter(|entry| wanted(entry)).take(limit).cloned().collect()
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.order.values()
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        self.entries.remove(&entry.id());
        self.order.remove(&entry.number);
        self.waiting.remove(&place(entry));
        if let Some(key) = &entry.birth.key {
            self.release(key, entry.id());
        }
    }
}

fn place(entry: &Entry) -> (Reverse<u8>, u64) {
    (Reverse(urgency(entry.birth.priority)), entry.number)
}
