//! The tasks that are not answered yet. A pure state machine: no I/O, no clock of its own, no waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::task::TaskId;
use crate::transport::outgoing::Outgoing;

/// Pending tasks with what their callers wait on (`C`).
#[derive(Debug)]
pub(super) struct Pending<C> {
    tasks: HashMap<TaskId, Entry<C>>,
    /// In the order they were submitted, which is the order they are published in again.
    order: BTreeMap<u64, TaskId>,
    deadlines: BTreeSet<(Instant, TaskId)>,
    next_place: u64,
    /// What is done of all of them, in thousandths of a task.
    permille: u64,
}

#[derive(Debug)]
struct Entry<C> {
    outgoing: Arc<Outgoing>,
    answer_bytes: u64,
    deadline: Option<Instant>,
    caller: C,
    place: u64,
    /// The link it was last published on; 0 for none.
    link: u64,
    /// How often it was published, as far as it may still be with the broker.
    copies: u32,
    /// What is done of it, in thousandths, as its worker says.
    permille: u16,
}

impl<C> Default for Pending<C> {
    fn default() -> Self {
        let (order, deadlines) = (BTreeMap::new(), BTreeSet::new());
        Pending { tasks: HashMap::new(), order, deadlines, next_place: 0, permille: 0 }
    }
}

impl<C> Pending<C> {
    /// Enters a task, before it is published.
    pub(super) fn insert(&mut self, task: Arc<Outgoing>, answer_bytes: u64, deadline: Option<Instant>, caller: C) {
        let (id, place) = (task.head.id, self.next_place);
        self.next_place += 1;
        self.order.insert(place, id);
        self.deadlines.extend(deadline.map(|at| (at, id)));
        let entry = Entry { outgoing: task, answer_bytes, deadline, caller, place, link: 0, copies: 0, permille: 0 };
        self.tasks.insert(id, entry);
    }

    /// An earlier boss has published it.
    pub(super) fn came_before(&mut self, id: TaskId) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            entry.copies += 1;
        }
    }

    /// Whether there may be more than one copy of it in the pool.
    pub(super) fn has_copies(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|entry| entry.copies > 1)
    }

    /// Takes a task out with its first outcome; `None` for every later one.
    pub(super) fn take(&mut self, id: TaskId) -> Option<C> {
        let entry = self.tasks.remove(&id)?;
        self.order.remove(&entry.place);
        self.permille -= u64::from(entry.permille);
        if let Some(at) = entry.deadline {
            self.deadlines.remove(&(at, id));
        }
        Some(entry.caller)
    }

    /// The task, to be published on this link: once per link, and not once it is answered. Its work begins anew.
    pub(super) fn claim(&mut self, id: TaskId, link: u64) -> Option<Arc<Outgoing>> {
        let entry = self.tasks.get_mut(&id)?;
        if entry.link == link {
            return None;
        }
        entry.link = link;
        entry.copies = entry.copies.saturating_add(1);
        self.permille -= u64::from(std::mem::take(&mut entry.permille));
        Some(entry.outgoing.clone())
    }

    /// A worker says how far a task is. It never goes back: of two workers that compute it the faster one counts.
    pub(super) fn advance(&mut self, id: TaskId, permille: u16) {
        if let Some(entry) = self.tasks.get_mut(&id) {
            let further = permille.min(1000).max(entry.permille);
            self.permille += u64::from(further - entry.permille);
            entry.permille = further;
        }
    }

    /// What is done of a task, 0 to 1; `None` once it is answered.
    pub(super) fn share(&self, id: TaskId) -> Option<f64> {
        self.tasks.get(&id).map(|entry| f64::from(entry.permille) / 1000.0)
    }

    /// The sum of the shares of all of them.
    pub(super) fn shares(&self) -> f64 {
        self.permille as f64 / 1000.0
    }

    /// Whether a worker may have it.
    pub(super) fn is_published(&self, id: TaskId) -> bool {
        self.tasks.get(&id).is_some_and(|entry| entry.link != 0)
    }

    /// The task, to serve parts of.
    pub(super) fn get(&self, id: TaskId) -> Option<Arc<Outgoing>> {
        self.tasks.get(&id).map(|entry| entry.outgoing.clone())
    }

    /// Who waits for it.
    pub(super) fn caller(&mut self, id: TaskId) -> Option<&mut C> {
        self.tasks.get_mut(&id).map(|entry| &mut entry.caller)
    }

    /// The longest answer it may have.
    pub(super) fn answer_bytes(&self, id: TaskId) -> Option<u64> {
        self.tasks.get(&id).map(|entry| entry.answer_bytes)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// All of them, in the order they were submitted.
    pub(super) fn ids(&self) -> Vec<TaskId> {
        self.order.values().copied().collect()
    }

    /// The broker did not take these: they can be claimed again. Those that may be with it, and those with an outcome, are
    /// left out.
    pub(super) fn unclaim(&mut self, ids: &[TaskId], link: u64) {
        for id in ids {
            if let Some(entry) = self.tasks.get_mut(id).filter(|entry| entry.link == link) {
                entry.link = 0;
                entry.copies = entry.copies.saturating_sub(1);
            }
        }
    }

    /// Whether one of this kind is published.
    pub(super) fn has_published(&self, kind: &str) -> bool {
        self.tasks.values().any(|entry| entry.link != 0 && entry.outgoing.head.kind == kind)
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Those whose deadline has passed.
    pub(super) fn late(&self, now: Instant) -> Vec<TaskId> {
        self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::Format;
    use crate::wire::TaskHead;

    fn task(id: u128) -> Arc<Outgoing> {
        let head = TaskHead {
            id: TaskId(id),
            kind: "solve".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops: 0,
            payload_bytes: 0,
            checksum: None,
            pull_from: None,
            progress_to: None,
            params: vec![],
        };
        Arc::new(Outgoing { head, payload: vec![], shared: false, priority: 3, kept: false })
    }

    #[test]
    fn the_first_outcome_wins() {
        let mut pending = Pending::default();
        pending.insert(task(1), 8, None, "caller");
        assert_eq!(pending.take(TaskId(1)), Some("caller"));
        assert_eq!(pending.take(TaskId(1)), None);
        assert_eq!(pending.ids(), []);
    }

    #[test]
    fn a_task_is_published_once_per_link_and_never_after_its_outcome() {
        let mut pending = Pending::default();
        pending.insert(task(1), 8, None, ());
        assert!(pending.claim(TaskId(1), 1).is_some());
        assert!(pending.claim(TaskId(1), 1).is_none());
        assert!(pending.claim(TaskId(1), 2).is_some(), "again after a lost connection");
        pending.take(TaskId(1));
        assert!(pending.claim(TaskId(1), 3).is_none());
    }

    #[test]
    fn what_was_published_again_has_copies_and_what_the_broker_did_not_take_has_none() {
        let mut pending = Pending::default();
        for id in [1, 2, 3] {
            pending.insert(task(id), 8, None, ());
        }
        pending.came_before(TaskId(2));
        for id in [1, 2, 3] {
            pending.claim(TaskId(id), 1);
        }
        let copied = |pending: &Pending<()>| [1, 2, 3].map(|id| pending.has_copies(TaskId(id)));
        assert_eq!(copied(&pending), [false, true, false]);
        pending.unclaim(&[TaskId(3)], 1);
        pending.claim(TaskId(1), 2);
        pending.claim(TaskId(3), 1);
        assert_eq!(copied(&pending), [true, true, false]);
    }

    #[test]
    fn progress_adds_up_never_goes_back_and_begins_anew_on_another_link() {
        let mut pending = Pending::default();
        for id in [1, 2] {
            pending.insert(task(id), 8, None, ());
            assert!(!pending.is_published(TaskId(id)));
            pending.claim(TaskId(id), 1);
        }
        for (id, permille, share, sum) in
            [(1, 250, 0.25, 0.25), (1, 100, 0.25, 0.25), (2, 500, 0.5, 0.75), (1, u16::MAX, 1.0, 1.5)]
        {
            pending.advance(TaskId(id), permille);
            assert_eq!((pending.share(TaskId(id)), pending.shares()), (Some(share), sum));
        }
        pending.advance(TaskId(3), 900);
        assert_eq!((pending.share(TaskId(3)), pending.shares()), (None, 1.5), "nobody waits for it");
        pending.claim(TaskId(2), 2);
        assert_eq!((pending.share(TaskId(2)), pending.shares()), (Some(0.0), 1.0));
        pending.take(TaskId(1));
        assert_eq!((pending.share(TaskId(1)), pending.shares()), (None, 0.0));
        assert!(pending.is_published(TaskId(2)) && !pending.is_published(TaskId(1)));
    }

    #[test]
    fn unanswered_tasks_keep_their_order() {
        let mut pending = Pending::default();
        for id in [5, 3, 9, 1] {
            pending.insert(task(id), 8, None, ());
        }
        pending.take(TaskId(3));
        assert_eq!(pending.ids(), [TaskId(5), TaskId(9), TaskId(1)]);
    }

    #[test]
    fn deadlines_pass_in_their_order_and_leave_with_their_task() {
        let now = Instant::now();
        let later = |ms| Some(now + Duration::from_millis(ms));
        let mut pending = Pending::default();
        pending.insert(task(1), 8, later(20), ());
        pending.insert(task(2), 8, later(10), ());
        pending.insert(task(3), 8, None, ());
        assert_eq!(pending.next_deadline(), later(10));
        assert_eq!(pending.late(now + Duration::from_millis(15)), [TaskId(2)]);
        pending.take(TaskId(2));
        assert_eq!(pending.next_deadline(), later(20));
        pending.take(TaskId(1));
        assert_eq!(pending.next_deadline(), None);
    }
}
