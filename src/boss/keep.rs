//! Kept tasks: their answers outlive the boss that submitted them.
//!
//! Their results and pull queues are durable, have a name that the next boss has again, and go when nobody has read them for a
//! day. What comes for a task of an earlier boss is given to whoever keeps the tasks ([`Unclaimed`]). The messages are transient:
//! the tasks themselves are on a disk (the bridge's), so a broker that restarts loses copies and nothing else.
//!
//! Invariants: an outcome is acked when its [`Receipt`] says that it is on the disk, so a death in between reads it again; only
//! then the workers are told to drop what copies there are. Its queue has one active consumer, so that parts and their head stay
//! in order while the broker has not noticed that the last connection is dead. Must not touch: disks, what an answer means.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Word;
use crate::broker::{Connection, Consume, Consumer, Error, Queue, Settle};
use crate::task::{Blob, Outcome, TaskId, ambient};
use crate::transport::collect::Collector;
use crate::transport::names;
use crate::wire::{self, Part};

/// Kept queues that nobody has read for so long go, and what is in them.
const EXPIRES: Duration = Duration::from_secs(24 * 3600);

/// Outcome messages taken ahead of their ack.
const PREFETCH: u16 = 64;

/// Of these, parts of answers that are not whole yet. Later ones are acked at once, or the prefetch would hold back the rest:
/// of an answer of more than 192 MB a death at the wrong moment loses parts, and its task is computed again.
const PARTS_HELD: usize = 48;

/// Parts whose head does not come are held no longer: their worker has died. RabbitMQ closes a channel where an ack is missing for
/// half an hour.
pub(super) const PARTS_HELD_FOR: Duration = Duration::from_secs(300);

/// Outcomes of earlier bosses that wait to be taken.
const UNCLAIMED: usize = 4;

/// A name that a boss can have again: legal in the names of queues, and short enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptName(String);

impl KeptName {
    /// One that nobody else has.
    pub fn fresh() -> Self {
        KeptName(names::process_id())
    }

    /// The name in a text from outside; `None` if it is none.
    pub fn read(text: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        ((1..=128).contains(&text.len()) && text.chars().all(legal)).then(|| KeptName(text.to_owned()))
    }

    /// As it was read.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

type AnswerBytes = dyn Fn(TaskId) -> Option<u64> + Send + Sync;

/// Makes a boss keep tasks.
#[derive(Clone)]
pub struct Keep {
    name: KeptName,
    answer_bytes: Arc<AnswerBytes>,
    unclaimed: mpsc::Sender<Unclaimed>,
}

/// What came for a task that this boss has not submitted, or whose first outcome it has given away.
#[derive(Debug)]
pub enum Unclaimed {
    /// An outcome, whole.
    Outcome(Box<Outcome<Blob>>, Receipt),
    /// What waited when the link was opened has been read. Once for each link.
    CaughtUp,
}

impl Keep {
    /// Under this name. `answer_bytes` says how long the answer to a task may be that waits for one, and `None` of every other
    /// task: nothing is taken for it. Take what comes out of the receiver, or no outcome of a kept task comes any more.
    pub fn new(
        name: KeptName,
        answer_bytes: impl Fn(TaskId) -> Option<u64> + Send + Sync + 'static,
    ) -> (Self, mpsc::Receiver<Unclaimed>) {
        let (unclaimed, receiver) = mpsc::channel(UNCLAIMED);
        (Keep { name, answer_bytes: Arc::new(answer_bytes), unclaimed }, receiver)
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn answer_bytes(&self, task: TaskId) -> Option<u64> {
        (self.answer_bytes)(task)
    }

    /// Waits until it is taken. If nobody will, it stays with the broker, as does what comes after it.
    pub(super) async fn give(&self, unclaimed: Unclaimed) {
        if let Err(untaken) = self.unclaimed.send(unclaimed).await {
            let _held = untaken;
            std::future::pending::<()>().await;
        }
    }

    /// Deletes the queues.
    pub(super) async fn let_go(&self, connection: &dyn Connection) -> Result<(), Error> {
        connection.delete_queue(&names::results_queue(self.name())).await?;
        connection.delete_queue(&names::pull_queue(self.name())).await
    }
}

/// The kept queues on a connection.
pub(super) struct Queues {
    pub(super) outcomes: Consumer,
    pub(super) pulls: Consumer,
    /// Outcome messages that waited.
    pub(super) waited: u64,
}

impl Queues {
    pub(super) async fn open(connection: &dyn Connection, keep: &Keep, quorum: bool) -> Result<Self, Error> {
        let (results, pull) = (names::results_queue(keep.name()), names::pull_queue(keep.name()));
        let kept = |name: &str| Queue { name: name.to_owned(), quorum, expires: Some(EXPIRES), ..Queue::default() };
        connection.declare_queue(&Queue { single_active: true, ..kept(&results) }).await?;
        connection.declare_queue(&kept(&pull)).await?;
        let waited = connection.queue_status(&results).await?.map_or(0, |status| status.ready);
        let outcomes = connection.consume(&results, Consume { prefetch: PREFETCH, no_ack: false }).await?;
        let pulls = connection.consume(&pull, Consume { prefetch: 0, no_ack: true }).await?;
        Ok(Queues { outcomes, pulls, waited })
    }
}

/// Says what became of an outcome. Dropped without a word it leaves the outcome with the broker, which delivers it again.
#[derive(Debug, Default)]
#[must_use = "dropped, it has the outcome delivered again"]
pub struct Receipt {
    /// `None` of an outcome that was acked when it came.
    message: Option<Arc<Unsettled>>,
    /// Who tells the workers that copies of this task may be dropped, if there may be any.
    copies: Option<(TaskId, mpsc::UnboundedSender<Word>)>,
}

impl Receipt {
    pub(super) fn new(message: &Arc<Unsettled>, copies: Option<(TaskId, mpsc::UnboundedSender<Word>)>) -> Self {
        Receipt { message: Some(message.clone()), copies }
    }

    /// The outcome is on the disk: the task is never computed again.
    pub fn written(self) {
        if let Some((task, words)) = &self.copies {
            // Nobody is left to say it: the broker was given up.
            let _ = words.send(Word::Cancel(*task));
        }
        self.not_written();
    }

    /// Nobody wants the outcome, or it could not be written: its task may be submitted again.
    pub fn not_written(self) {
        if let Some(message) = &self.message {
            message.one_less();
        }
    }
}

/// A message of outcomes, and the parts before it, until each of them has its receipt.
#[derive(Debug)]
pub(super) struct Unsettled {
    settles: Mutex<Vec<Settle>>,
    left: AtomicUsize,
}

impl Unsettled {
    /// Acked at once if there are no outcomes in it.
    pub(super) fn new(settles: Vec<Settle>, outcomes: usize) -> Arc<Self> {
        let unsettled = Unsettled { settles: settles.into(), left: outcomes.max(1).into() };
        if outcomes == 0 {
            unsettled.one_less();
        }
        Arc::new(unsettled)
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let settles = std::mem::take(&mut *self.settles.lock().unwrap_or_else(PoisonError::into_inner));
            settles.into_iter().for_each(Settle::ack);
        }
    }
}

/// Parts of answers that are acked with their head.
#[derive(Default)]
pub(super) struct HeldParts {
    /// By run, with the time of the last one.
    parts: HashMap<(TaskId, u64), (Instant, Vec<Settle>)>,
    count: usize,
}

impl HeldParts {
    /// A message was a part, and is in the collector now unless it was refused.
    pub(super) fn add(&mut self, head: &[u8], settle: Settle, collector: &Collector) {
        let run = wire::decode::<Part>(head).ok().map(|part| (part.id, part.run));
        match run.filter(|run| collector.holds(*run) && self.count < PARTS_HELD) {
            Some(run) => {
                let now = ambient::now();
                let (last, settles) = self.parts.entry(run).or_insert_with(|| (now, Vec::new()));
                *last = now;
                settles.push(settle);
                self.count += 1;
            }
            None => settle.ack(),
        }
    }

    /// Those that the collector holds no more.
    pub(super) fn left(&mut self, collector: &Collector) -> Vec<Settle> {
        self.take(|run, _| !collector.holds(run))
    }

    /// Acks those that have waited too long for their head.
    pub(super) fn let_go_of_old(&mut self) {
        let now = ambient::now();
        self.take(|_, last| now.duration_since(last) >= PARTS_HELD_FOR).into_iter().for_each(Settle::ack);
    }

    fn take(&mut self, which: impl Fn((TaskId, u64), Instant) -> bool) -> Vec<Settle> {
        let taken = self.parts.extract_if(|run, (last, _)| which(*run, *last));
        let taken: Vec<Settle> = taken.flat_map(|(_, (_, settles))| settles).collect();
        self.count -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Message, Verdict};

    fn settles(count: u64) -> (Vec<Settle>, mpsc::UnboundedReceiver<(u64, Verdict)>) {
        let (to, verdicts) = mpsc::unbounded_channel();
        ((1..=count).map(|tag| Settle { tag, to: Some(to.clone()) }).collect(), verdicts)
    }

    fn all(mut verdicts: mpsc::UnboundedReceiver<(u64, Verdict)>) -> Vec<(u64, Verdict)> {
        std::iter::from_fn(|| verdicts.try_recv().ok()).collect()
    }

    #[test]
    fn a_message_is_acked_with_its_parts_when_its_last_outcome_is_written() {
        let (two, verdicts) = settles(2);
        let message = Unsettled::new(two, 2);
        let [first, second] = [(), ()].map(|()| Receipt::new(&message, None));
        drop(message);
        first.written();
        assert!(verdicts.is_empty());
        second.not_written();
        assert_eq!(all(verdicts), [(1, Verdict::Ack), (2, Verdict::Ack)]);
    }

    #[test]
    fn a_message_goes_back_if_one_of_its_outcomes_was_dropped() {
        let (one, verdicts) = settles(1);
        let message = Unsettled::new(one, 2);
        let [first, second] = [(), ()].map(|()| Receipt::new(&message, None));
        drop(message);
        first.written();
        drop(second);
        assert_eq!(all(verdicts), [(1, Verdict::Requeue)]);
    }

    #[test]
    fn a_message_without_outcomes_is_acked_at_once() {
        let (one, verdicts) = settles(1);
        drop(Unsettled::new(one, 0));
        assert_eq!(all(verdicts), [(1, Verdict::Ack)]);
    }

    #[test]
    fn copies_are_called_off_once_the_outcome_is_written_and_not_before() {
        let (words, mut said) = mpsc::unbounded_channel();
        let (none, _verdicts) = settles(0);
        let message = Unsettled::new(none, 2);
        let [lost, written] = [1, 2].map(|id| Receipt::new(&message, Some((TaskId(id), words.clone()))));
        lost.not_written();
        assert!(said.try_recv().is_err());
        written.written();
        assert!(matches!(said.try_recv(), Ok(Word::Cancel(TaskId(2)))));
    }

    fn part(task: u128, index: u32) -> Message {
        let body = b"abcd";
        let checksum = wire::checksum(&[body.as_slice()]);
        let part = Part { id: TaskId(task), run: 7, index, part_bytes: 4, total_bytes: 400, checksum };
        Message { head: wire::encode(&part).into(), body: vec![body.as_slice().into()], ..Message::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_are_held_until_their_run_ends_or_is_too_old_and_no_more_than_so_many() {
        let (mut collector, mut held) = (Collector::default(), HeldParts::default());
        let (all_settles, verdicts) = settles(PARTS_HELD as u64 + 3);
        let mut settles = all_settles.into_iter();
        let mut add = |held: &mut HeldParts, collector: &mut Collector, task, index, wanted: bool| {
            let message = part(task, index);
            let head = message.head.clone();
            let whole = collector.accept(message, |_| wanted.then_some(400));
            assert!(whole.is_ok_and(|whole| whole.is_empty()));
            held.add(&head, settles.next().unwrap(), collector);
        };
        add(&mut held, &mut collector, 9, 0, false);
        assert_eq!(verdicts.len(), 1, "nobody waits for it");
        add(&mut held, &mut collector, 1, 0, true);
        (0..PARTS_HELD as u32).for_each(|index| add(&mut held, &mut collector, 2, index, true));
        assert_eq!((verdicts.len(), held.count), (2, PARTS_HELD), "one too many is acked at once");
        collector.keep_only(|task| task == TaskId(2));
        let left = held.left(&collector);
        assert_eq!((left.len(), held.count), (1, PARTS_HELD - 1));
        held.let_go_of_old();
        assert_eq!(held.count, PARTS_HELD - 1);
        tokio::time::advance(PARTS_HELD_FOR).await;
        add(&mut held, &mut collector, 3, 0, true);
        held.let_go_of_old();
        assert_eq!(held.count, 1, "the young one");
        left.into_iter().for_each(Settle::ack);
        assert!(all(verdicts).into_iter().all(|(_, verdict)| verdict == Verdict::Ack));
    }

    #[test]
    fn a_name_from_a_disk_is_legal_in_a_queue_or_none() {
        assert_eq!(KeptName::read(KeptName::fresh().as_str()).map(|name| name.0.len() <= 128), Some(true));
        for wrong in ["", "a b", "a\n", "\u{e4}", &"x".repeat(129)] {
            assert_eq!(KeptName::read(wrong), None, "{wrong:?}");
        }
    }
}
