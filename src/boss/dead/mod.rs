//! The desk of dead letters: what lies in `rabbitry.dead`, and what a person decides about it.
//!
//! Must not touch: the boss's own connection (a desk opens one for itself), kinds, workers.
//!
//! Invariants: looking loses nothing: letters are held unacked, and go back to their old places when they are dropped, or
//! the connection dies. A letter leaves the queue when it was published again and confirmed, or was to be dropped; never
//! before. Memory is bounded however long the queue: of a letter that is looked at the body is forgotten, at most
//! [`LETTERS_MAX`] letters and 64 MiB of them are held, and bodies are in memory a few at a time.
//!
//! Limits: letters that one desk holds are not there for another; two at a time see different ones.

mod choice;
mod letter;
mod scan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;

use super::Boss;
use crate::broker::{Broker, Connection, Delivery, Error, Message, Published, Route, Settle};
use crate::transport::dead;
pub use crate::transport::dead::Reasons;
use crate::transport::incoming::{self, Job};
use crate::transport::{self, names};
use crate::wire::{self, TaskHead};
pub use choice::{IdPrefix, Matches, Which};
pub use letter::{DeadTask, Letter};
use scan::Scan;

/// The most letters that are held at a time.
pub const LETTERS_MAX: usize = 10_000;

/// And what they may take in memory.
const KEPT_MAX_BYTES: usize = 64 << 20;

/// How long a letter that was given back may take to come again.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);

/// What a person decides about a letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Its tasks are published again, each alone, with their ids and no attempt counted.
    Retry {
        /// Even where an answer can hardly come of it: what [`Refusal::is_forcible`] says.
        force: bool,
    },
    /// It is thrown away.
    Drop,
}

/// Why a letter stays where it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// It would be back at once.
    #[error("no worker can compute it: {0}. If you know all of it that you need, drop it")]
    Unfit(String),
    /// A worker that meets it drops it unread.
    #[error(
        "nobody would read its answer: the queue {0} is not there. A worker drops such a task; --force publishes it all the \
         same, for a client that will declare the queue before"
    )]
    NoReader(String),
    /// A worker that asks for its payload drops it.
    #[error(
        "nobody has its payload any more: the queue {0} is not there. A worker drops such a task; --force publishes it all \
         the same, for a client that will declare the queue before"
    )]
    NoPayload(String),
    /// A worker answers that it is late.
    #[error("its deadline has passed: a worker would answer just that; --force publishes it all the same")]
    Late,
    /// No queue wanted it.
    #[error("there is no work queue for tasks of kind {0}: start a worker that computes them, then try again")]
    Unroutable(String),
    /// The broker does not take it.
    #[error("{0}")]
    Refused(String),
    /// Somebody else held it when its turn came.
    #[error("it was taken by somebody else meanwhile: look again")]
    Taken,
}

impl Refusal {
    /// Whether [`Action::Retry`] with `force` goes over it.
    pub fn is_forcible(&self) -> bool {
        matches!(self, Refusal::NoReader(_) | Refusal::NoPayload(_) | Refusal::Late)
    }
}

impl Boss {
    /// Opens a desk for the dead letters, on a connection of its own.
    ///
    /// # Errors
    /// The broker's.
    pub async fn dead_letter_desk(&self) -> Result<Desk, Error> {
        Desk::open(&*self.broker, self.shared.options.quorum).await
    }
}

/// A place to look at dead letters, and to decide about them.
pub struct Desk {
    connection: Arc<dyn Connection>,
    /// Queues that the broker was asked for, and whether they are there.
    asked: Mutex<HashMap<String, bool>>,
}

/// Letters as they lie in the queue, the oldest first, held while this lives. Once it is dropped the broker takes a moment
/// to have them back; [`Desk::close`] waits for that.
pub struct Letters {
    held: Vec<(Letter, Settle)>,
    unseen: u64,
}

impl Letters {
    /// What they are.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Letter> {
        self.held.iter().map(|(letter, _)| letter)
    }

    /// Letters that lie behind these and were not looked at.
    pub fn unseen(&self) -> u64 {
        self.unseen
    }

    /// What they take in memory, in bytes, whatever the length of their bodies.
    pub fn kept_bytes(&self) -> usize {
        self.iter().map(Letter::kept_bytes).sum()
    }
}

/// What came of a decision, beside what was told of each letter.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Acted {
    /// Names that fit no letter.
    pub missing: Vec<IdPrefix>,
    /// Names that fit several, and the ids of these.
    pub ambiguous: Vec<(IdPrefix, Vec<String>)>,
    /// Letters that nobody looked at: there were too many.
    pub unseen: u64,
}

impl Desk {
    async fn open(broker: &dyn Broker, quorum: bool) -> Result<Self, Error> {
        let connection = broker.connect().await?;
        transport::declare_shared(&*connection, &[], quorum).await?;
        Ok(Desk { connection, asked: Mutex::default() })
    }

    /// Looks at the letters that are there now, `limit` and [`LETTERS_MAX`] of them at most.
    ///
    /// # Errors
    /// The broker's.
    pub async fn look(&self, limit: usize) -> Result<Letters, Error> {
        let ready = scan::ready(&*self.connection).await?;
        let most = ready.min(limit.min(LETTERS_MAX) as u64);
        let (mut scan, mut held, mut bytes) = (Scan::new(&*self.connection, most), Vec::new(), 0);
        while bytes < KEPT_MAX_BYTES {
            let Some(Delivery { message, settle, .. }) = scan.next().await? else { break };
            let letter = Letter::of(&message);
            bytes += letter.kept_bytes();
            held.push((letter, settle));
        }
        Ok(Letters { held, unseen: ready - most + scan.left() })
    }

    /// Whether there is a queue of this name now.
    ///
    /// # Errors
    /// The broker's.
    pub async fn is_there(&self, queue: &str) -> Result<bool, Error> {
        let known = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(queue).copied();
        if let Some(is_there) = known {
            return Ok(is_there);
        }
        let is_there = transport::is_there(&*self.connection, queue).await?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned(), is_there);
        Ok(is_there)
    }

    /// Why a retry of this letter would come to nothing, as far as can be known.
    ///
    /// # Errors
    /// The broker's.
    pub async fn refusal(&self, letter: &Letter) -> Result<Option<Refusal>, Error> {
        if let Some(defect) = &letter.defect {
            return Ok(Some(Refusal::Unfit(defect.clone())));
        }
        if let Some(queue) = &letter.reply_to
            && !self.is_there(queue).await?
        {
            return Ok(Some(Refusal::NoReader(queue.clone())));
        }
        for queue in letter.pulls_from() {
            if !self.is_there(queue).await? {
                return Ok(Some(Refusal::NoPayload(queue.to_owned())));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let is_late = |task: &DeadTask| task.deadline_unix_ms != 0 && now > u128::from(task.deadline_unix_ms);
        Ok(letter.tasks.iter().any(is_late).then_some(Refusal::Late))
    }

    /// Does what was decided, and tells `each` of every letter that it is about: done, or why it stays.
    ///
    /// All of them are those that are there when this begins. Of named ones that are the same to the byte, or the same
    /// task, each is meant.
    ///
    /// # Errors
    /// The broker's. What was told to be done is.
    pub async fn act(
        &self,
        action: Action,
        which: &Which,
        mut each: impl FnMut(&Letter, Result<(), Refusal>),
    ) -> Result<Acted, Error> {
        match which {
            Which::All => self.act_on_all(action, &mut each).await,
            Which::These(names) => self.act_on_these(action, names, &mut each).await,
        }
    }

    async fn act_on_all(
        &self,
        action: Action,
        each: &mut impl FnMut(&Letter, Result<(), Refusal>),
    ) -> Result<Acted, Error> {
        let mut scan = Scan::new(&*self.connection, scan::ready(&*self.connection).await?);
        // They go back when this ends, not before: else they would come again.
        let mut staying = Vec::new();
        while staying.len() < LETTERS_MAX {
            let Some(Delivery { message, settle, .. }) = scan.next().await? else { break };
            let letter = Letter::of(&message);
            let done = self.decide(action, &letter, &message).await?;
            match done {
                Ok(()) => settle.ack(),
                Err(_) => staying.push(settle),
            }
            each(&letter, done);
        }
        Ok(Acted { unseen: scan.left(), ..Acted::default() })
    }

    async fn act_on_these(
        &self,
        action: Action,
        names: &[IdPrefix],
        each: &mut impl FnMut(&Letter, Result<(), Refusal>),
    ) -> Result<Acted, Error> {
        let Letters { held, unseen } = self.look(LETTERS_MAX).await?;
        let Matches { ids, missing, ambiguous } = choice::find(names, held.iter().map(|(letter, _)| letter));
        // The others are held until this ends, so that those given back are the first to come again.
        let (meant, _others): (Vec<_>, Vec<_>) = held.into_iter().partition(|(letter, _)| ids.contains(&letter.id));
        let mut staying = Vec::new();
        let mut wanted: Vec<Letter> = Vec::new();
        for (letter, settle) in meant {
            let Action::Retry { force } = action else {
                settle.ack();
                each(&letter, Ok(()));
                continue;
            };
            match self.refusal(&letter).await?.filter(|refusal| !(force && refusal.is_forcible())) {
                Some(refusal) => {
                    staying.push(settle);
                    each(&letter, Err(refusal));
                }
                None => {
                    // Its body was forgotten: it is to come once more.
                    settle.requeue();
                    wanted.push(letter);
                }
            }
        }
        self.take_again(action, wanted, each).await?;
        Ok(Acted { missing, ambiguous, unseen })
    }

    /// Waits for letters that were given back, and does what was decided.
    async fn take_again(
        &self,
        action: Action,
        mut wanted: Vec<Letter>,
        each: &mut impl FnMut(&Letter, Result<(), Refusal>),
    ) -> Result<(), Error> {
        let until = Instant::now() + RETURN_PATIENCE;
        // Letters that came meanwhile, and those that stay.
        let mut aside = Vec::new();
        while !wanted.is_empty() && Instant::now() < until && aside.len() < LETTERS_MAX {
            let mut scan = Scan::new(&*self.connection, wanted.len() as u64);
            while let Some(Delivery { message, settle, .. }) = scan.next().await? {
                let letter = Letter::of(&message);
                let Some(at) = wanted.iter().position(|wanted| *wanted == letter) else {
                    aside.push(settle);
                    continue;
                };
                wanted.swap_remove(at);
                let done = self.decide(action, &letter, &message).await?;
                match done {
                    Ok(()) => settle.ack(),
                    Err(_) => aside.push(settle),
                }
                each(&letter, done);
            }
        }
        wanted.iter().for_each(|letter| each(letter, Err(Refusal::Taken)));
        Ok(())
    }

    /// Whether the letter may leave the queue now.
    async fn decide(&self, action: Action, letter: &Letter, message: &Message) -> Result<Result<(), Refusal>, Error> {
        let Action::Retry { force } = action else { return Ok(Ok(())) };
        if let Some(refusal) = self.refusal(letter).await?.filter(|refusal| !(force && refusal.is_forcible())) {
            return Ok(Err(refusal));
        }
        let kind = letter.kind.clone().unwrap_or_default();
        match self.publish(&kind, message).await {
            Ok(Published::Routed) => Ok(Ok(())),
            Ok(Published::Unroutable) => Ok(Err(Refusal::Unroutable(kind))),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => Ok(Err(Refusal::Refused(error.to_string()))),
        }
    }

    /// Publishes the tasks of a letter again. Each alone: the one that kills its worker takes no other along.
    async fn publish(&self, kind: &str, message: &Message) -> Result<Published, Error> {
        let refused = |error: wire::Error| Error::Operation {
            operation: "publish a dead letter again".into(),
            reason: error.to_string(),
        };
        for job in incoming::unpack(message, kind).map_err(refused)? {
            // Published now, and not by the clock of whoever waits for it.
            let job = Job { head: TaskHead { sent_unix_ms: 0, ..job.head }, ..job };
            let mut again = incoming::repack(&job, 0, message);
            dead::forget(&mut again.headers);
            again.persistent = true;
            let confirm = self.connection.publish(&Route::exchange(names::WORK, kind), again).await?;
            if confirm.0.await? == Published::Unroutable {
                return Ok(Published::Unroutable);
            }
        }
        Ok(Published::Routed)
    }

    /// Gives back what is held, and waits until the broker knows what was decided.
    ///
    /// # Errors
    /// The connection died before: letters that were published again may still be in the queue, too.
    pub async fn close(self) -> Result<(), Error> {
        let lost = self.connection.closed().now_or_never();
        self.connection.close().await;
        lost.map_or(Ok(()), Err)
    }
}
