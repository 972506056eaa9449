//! The tasks in hand, so that they can be stopped and asked how far they are. No I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::recent::Recent;
use crate::broker::Message;
use crate::task::{TaskId, Watch};
use crate::wire::{Share, TaskHead};

/// Every task from its delivery until its handler has ended.
#[derive(Default)]
pub(super) struct Running {
    state: Mutex<State>,
    /// Some were told to stop.
    stopped: Notify,
    /// One came that is to be reported.
    reporting: Notify,
    /// One has left.
    left: Notify,
}

#[derive(Default)]
struct State {
    /// By a number of their own: a task may be here twice, once for a dead connection.
    tasks: BTreeMap<u64, Entry>,
    entered: u64,
    /// How many of them are to be reported.
    reporting: usize,
    cancelled: Recent<TaskId, RECENT>,
    /// Those that are answered, or whose answer nobody reads, and that may be delivered once more.
    answered: Recent<Publication, RECENT>,
}

/// A task, the queue that its outcome goes to, and when it was sent there: whoever publishes it again, under a time of its own,
/// has lost the first outcome, and wants to hear again.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Publication {
    task: TaskId,
    reply_to: Arc<str>,
    sent_unix_ms: u64,
}

struct Entry {
    publication: Publication,
    session: u64,
    progress_to: Option<String>,
    reported: u16,
    watch: Watch,
}

/// How many are remembered: one may still come from its queue.
const RECENT: usize = 4096;

impl Running {
    /// Enters a task that came on a session; it leaves when the result is dropped. One that was cancelled before it came
    /// is stopped from the start.
    pub(super) fn enter(
        self: &Arc<Self>,
        head: &TaskHead,
        reply_to: &Arc<str>,
        session: u64,
        deadline: Option<Instant>,
    ) -> Entered {
        let watch = Watch::over(head.id, head.attempt, deadline);
        let entry = Entry {
            publication: Publication { task: head.id, reply_to: reply_to.clone(), sent_unix_ms: head.sent_unix_ms },
            session,
            progress_to: head.progress_to.clone(),
            reported: 0,
            watch: watch.clone(),
        };
        let mut state = self.state();
        if state.cancelled.contains(&head.id) {
            watch.cancel();
        }
        state.entered += 1;
        let key = state.entered;
        if entry.progress_to.is_some() {
            state.reporting += 1;
            self.reporting.notify_one();
        }
        state.tasks.insert(key, entry);
        Entered { running: self.clone(), key, watch }
    }

    /// Stops a task, and any copy of it that comes later.
    pub(super) fn cancel(&self, task: TaskId) {
        self.state().cancelled.add(task);
        self.stop(|entry| entry.publication.task == task);
    }

    /// A task has its answer, here or at another worker: copies of it stop, and are dropped when they come.
    pub(super) fn answered(&self, task: TaskId, reply_to: &str, sent_unix_ms: u64) {
        let publication = Publication { task, reply_to: Arc::from(reply_to), sent_unix_ms };
        self.state().answered.add(publication.clone());
        self.stop(|entry| entry.publication == publication);
    }

    /// Whether a task that comes once more was cancelled, or has its answer.
    pub(super) fn is_over(&self, copy: &TaskHead, message: &Message) -> bool {
        let answered = |reply_to: &String| self.is_answered(copy.id, reply_to, copy.sent_unix_ms);
        self.state().cancelled.contains(&copy.id) || message.reply_to.as_ref().is_some_and(answered)
    }

    /// Whether somebody said so lately.
    pub(super) fn is_answered(&self, task: TaskId, reply_to: &str, sent_unix_ms: u64) -> bool {
        let publication = Publication { task, reply_to: Arc::from(reply_to), sent_unix_ms };
        self.state().answered.contains(&publication)
    }

    /// Waits until this task is not in hand, or was told to stop.
    pub(super) async fn until_left(&self, task: TaskId) {
        let goes_on = |entry: &Entry| entry.publication.task == task && entry.watch.check().is_ok();
        loop {
            let (left, stopped) = (self.left.notified(), self.stopped.notified());
            tokio::pin!(left, stopped);
            // From here on nothing is missed.
            left.as_mut().enable();
            stopped.as_mut().enable();
            if !self.state().tasks.values().any(goes_on) {
                return;
            }
            tokio::select! { biased; () = left => {} () = stopped => {} }
        }
    }

    /// Stops what would answer to this queue: should it come back, its boss asks anew.
    pub(super) fn stop_for(&self, reply_to: &str) {
        let is_for = |entry: &Entry| &*entry.publication.reply_to == reply_to;
        let mut state = self.state();
        let over: Vec<Publication> =
            state.tasks.values().filter(|entry| is_for(entry)).map(|entry| entry.publication.clone()).collect();
        over.into_iter().for_each(|publication| state.answered.add(publication));
        drop(state);
        self.stop(is_for);
    }

    /// Stops what came on this session. The same task may come again on another: what was answered may be lost with the broker,
    /// and not everybody says when a task was published.
    pub(super) fn stop_session(&self, session: u64) {
        self.state().answered = Recent::default();
        self.stop(|entry| entry.session == session);
    }

    fn stop(&self, which: impl Fn(&Entry) -> bool) {
        self.state().tasks.values().filter(|entry| which(entry)).for_each(|entry| entry.watch.cancel());
        self.stopped.notify_waiters();
    }

    /// Whether something in hand would answer to this queue.
    pub(super) fn answers_to(&self, reply_to: &str) -> bool {
        self.state().tasks.values().any(|entry| &*entry.publication.reply_to == reply_to)
    }

    /// Waits until all of these were told to stop.
    pub(super) async fn all_stopped(&self, watches: &[Watch]) {
        loop {
            let stopped = self.stopped.notified();
            tokio::pin!(stopped);
            // From here on nothing is missed.
            stopped.as_mut().enable();
            if watches.iter().all(|watch| watch.check().is_err()) {
                return;
            }
            stopped.await;
        }
    }

    /// Waits until there is something to report on; without a timer, so that an idle worker stays idle.
    pub(super) async fn until_reporting(&self) {
        while self.state().reporting == 0 {
            self.reporting.notified().await;
        }
    }

    /// The tasks that got on since the last call, by the queue that wants to hear of them.
    pub(super) fn moved(&self) -> BTreeMap<String, Vec<Share>> {
        let mut moved: BTreeMap<String, Vec<Share>> = BTreeMap::new();
        for entry in self.state().tasks.values_mut() {
            let Some(queue) = &entry.progress_to else { continue };
            // Between 0 and 1000.
            let permille = (entry.watch.share() * 1000.0) as u16;
            if permille != entry.reported {
                entry.reported = permille;
                let share = Share { task: entry.publication.task, permille };
                match moved.get_mut(queue) {
                    Some(shares) => shares.push(share),
                    None => drop(moved.insert(queue.clone(), vec![share])),
                }
            }
        }
        moved
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task in hand.
pub(super) struct Entered {
    running: Arc<Running>,
    key: u64,
    pub(super) watch: Watch,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.running.state();
        if state.tasks.remove(&self.key).is_some_and(|entry| entry.progress_to.is_some()) {
            state.reporting -= 1;
        }
        drop(state);
        self.running.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::task::{Format, TaskError};

    fn head(id: u128, progress_to: Option<&str>) -> TaskHead {
        TaskHead {
            id: TaskId(id),
            kind: "probe".into(),
            attempt: 0,
            format: Format::Binary,
            deadline_unix_ms: 0,
            sent_unix_ms: 0,
            flops: 0,
            payload_bytes: 0,
            checksum: None,
            pull_from: None,
            progress_to: progress_to.map(str::to_owned),
            params: vec![],
        }
    }

    fn stopped(task: &Entered) -> bool {
        task.watch.check() == Err(TaskError::Cancelled)
    }

    #[test]
    fn a_cancelled_task_stops_and_so_does_its_copy_that_comes_later() {
        let (running, boss) = (Arc::new(Running::default()), Arc::from("boss"));
        let [one, other] = [1, 2].map(|id| running.enter(&head(id, None), &boss, 1, None));
        running.cancel(TaskId(1));
        running.cancel(TaskId(3));
        assert!(stopped(&one) && !stopped(&other));
        let [again, late] = [1, 3].map(|id| running.enter(&head(id, None), &boss, 1, None));
        assert!(stopped(&again) && stopped(&late));
    }

    #[test]
    fn a_boss_or_a_session_that_ends_stops_its_own_and_poisons_nothing() {
        let running = Arc::new(Running::default());
        let (gone, here) = (Arc::from("gone"), Arc::from("here"));
        let first = running.enter(&head(1, None), &gone, 1, None);
        let second = running.enter(&head(2, None), &here, 1, None);
        let third = running.enter(&head(3, None), &here, 2, None);
        assert!(running.answers_to("gone") && !running.answers_to("nobody"));
        running.stop_for("gone");
        assert!(stopped(&first) && !stopped(&second) && !stopped(&third));
        assert!(running.is_answered(TaskId(1), "gone", 0), "nobody reads an answer of it");
        running.stop_session(1);
        assert!(stopped(&second) && !stopped(&third));
        assert!(!running.is_answered(TaskId(1), "gone", 0), "whoever asks on the next may have lost it");
        assert!(!stopped(&running.enter(&head(2, None), &here, 2, None)), "delivered again on another connection");
        drop(first);
        assert!(!running.answers_to("gone"));
    }

    #[test]
    fn only_what_got_on_is_reported_and_only_to_who_asked() {
        let (running, boss) = (Arc::new(Running::default()), Arc::from("boss"));
        let tasks = [Some("a"), Some("b"), None, Some("a")].map(|to| running.enter(&head(7, to), &boss, 1, None));
        assert!(running.moved().is_empty(), "nothing has begun");
        tasks.iter().for_each(|task| task.watch.advance(0.25));
        let moved = running.moved();
        assert_eq!(
            moved.iter().map(|(queue, shares)| (queue.as_str(), shares.len())).collect::<Vec<_>>(),
            [("a", 2), ("b", 1)]
        );
        assert_eq!(moved["b"], [Share { task: TaskId(7), permille: 250 }]);
        assert!(running.moved().is_empty(), "nothing has moved");
        tasks[0].watch.advance(1.0);
        assert_eq!(running.moved()["a"], [Share { task: TaskId(7), permille: 1000 }]);
    }

    #[tokio::test]
    async fn a_copy_waits_for_the_task_in_hand_and_is_dropped_once_that_is_answered() {
        let (running, boss) = (Arc::new(Running::default()), Arc::from("boss"));
        let first = running.enter(&head(1, None), &boss, 1, None);
        let other = running.enter(&head(2, None), &boss, 1, None);
        let mut copy = pin!(running.until_left(TaskId(1)));
        assert!(poll!(&mut copy).is_pending());
        drop(other);
        assert!(poll!(&mut copy).is_pending() && !running.is_answered(TaskId(1), "boss", 5));
        running.answered(TaskId(1), "boss", 5);
        drop(first);
        assert!(poll!(&mut copy).is_ready() && running.is_answered(TaskId(1), "boss", 5));
        assert!(!running.is_answered(TaskId(1), "boss.2", 5), "it asks anew");
        assert!(!running.is_answered(TaskId(1), "boss", 6), "it asks anew, where its first answer was lost");
        let elsewhere = running.enter(&head(3, None), &boss, 1, None);
        running.answered(TaskId(3), "boss", 7);
        assert!(!stopped(&elsewhere), "that is answered which was sent before");
        running.answered(TaskId(3), "boss", 0);
        assert!(stopped(&elsewhere), "another worker was faster");
    }

    #[tokio::test]
    async fn an_idle_worker_waits_for_something_to_report() {
        let (running, boss) = (Arc::new(Running::default()), Arc::from("boss"));
        let mut waiting = pin!(running.until_reporting());
        assert!(poll!(&mut waiting).is_pending());
        let _silent = running.enter(&head(1, None), &boss, 1, None);
        assert!(poll!(&mut waiting).is_pending());
        let loud = running.enter(&head(2, Some("a")), &boss, 1, None);
        assert!(poll!(&mut waiting).is_ready());
        drop(loud);
        assert!(poll!(pin!(running.until_reporting())).is_pending(), "it has left");
    }

    #[tokio::test]
    async fn a_wait_ends_when_all_that_wait_are_stopped() {
        let (running, boss) = (Arc::new(Running::default()), Arc::from("boss"));
        let tasks = [1, 2].map(|id| running.enter(&head(id, None), &boss, 1, None));
        let watches = [0, 1].map(|i: usize| tasks[i].watch.clone());
        let mut stopped = pin!(running.all_stopped(&watches));
        assert!(poll!(&mut stopped).is_pending());
        running.cancel(TaskId(1));
        assert!(poll!(&mut stopped).is_pending(), "the other can run");
        running.cancel(TaskId(2));
        assert!(poll!(&mut stopped).is_ready());
    }
}
