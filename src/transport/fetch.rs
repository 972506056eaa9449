//! The worker's half of a pull: asks for the parts of a payload and writes them into a pooled buffer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::assembly::{Accepted, Assembly, Cut};
use super::buffers::{Buffer, Buffers};
use super::{names, part_bytes};
use crate::broker::{Connection, Consume, Error, Message, Published, Queue, Route, concat};
use crate::task::{TaskId, ambient};
use crate::wire::{self, Gone, Part, PullRequest, TaskHead};

/// Parts asked for and not yet here, at most: 16 MB keep the broker busy, and small. Twice as many moved the same 200 MB
/// no faster on two busy cores, and cost 40 MB of the worker's memory.
pub const CREDIT: u32 = 4;

/// Parts per request.
const STEP: u32 = 2;

/// A boss that sends nothing for so long is asked again,
const PATIENCE: Duration = Duration::from_secs(5);

/// so many times in a row.
const ASKED_AGAIN_MAX: u32 = 3;

/// Why a payload did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody waits for the task any more: drop it.
    #[error("the boss no longer waits for the task")]
    Gone,
    /// The boss is away, and may come back to its queue: the task can wait without anything that others need.
    #[error("the boss is away: nobody consumes from its queue")]
    Away,
    /// The parts stopped coming: another worker may have more luck.
    #[error("no part came for {} s, asked {ASKED_AGAIN_MAX} times again", PATIENCE.as_secs() * u64::from(ASKED_AGAIN_MAX + 1))]
    Stalled,
    /// The head says something that can't be.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// The connection.
    #[error(transparent)]
    Broker(#[from] Error),
}

/// What the broker says of a pull queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// Somebody consumes from it; or it is gone, which the first request hears.
    Yes,
    /// The connection that owns it has locked it: it goes with that connection, and nobody is ever away.
    Locked,
    /// It is there, or the node that has it is not, and nobody consumes from it.
    No,
}

/// Looks whether payloads can be asked for at a pull queue. A request to a boss that is away would wait there, and be served
/// when nobody wants it any more.
///
/// # Errors
/// The connection's; a queue of which the broker will not say is as good as locked.
pub async fn served(connection: &dyn Connection, queue: &str) -> Result<Served, Error> {
    match connection.queue_status(queue).await {
        Ok(Some(status)) if status.consumers == 0 => Ok(Served::No),
        Ok(_) => Ok(Served::Yes),
        Err(Error::Down { .. }) => Ok(Served::No),
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(Served::Locked),
    }
}

enum Reply {
    Part(Part, Bytes),
    Gone,
}

type Waiting = Arc<Mutex<HashMap<(TaskId, u64), mpsc::UnboundedSender<Reply>>>>;

/// The queue a worker gets its parts in. Exclusive: it vanishes with the connection, and the parts with it.
pub struct Inbox {
    connection: Arc<dyn Connection>,
    name: String,
    waiting: Waiting,
    reader: tokio::task::JoinHandle<()>,
    ended: CancellationToken,
}

impl Inbox {
    /// Declares the inbox of `worker` and starts reading it.
    ///
    /// # Errors
    /// The broker's.
    pub async fn open(connection: Arc<dyn Connection>, worker: &str) -> Result<Self, Error> {
        let name = names::inbox(worker);
        connection.declare_queue(&Queue { name: name.clone(), exclusive: true, ..Queue::default() }).await?;
        // No acks: a part that is lost is asked for again, and the credit bounds what is on the way.
        let mut consumer = connection.consume(&name, Consume { prefetch: 0, no_ack: true }).await?;
        let waiting = Waiting::default();
        let (routes, ended) = (waiting.clone(), CancellationToken::new());
        let end = ended.clone().drop_guard();
        let reader = tokio::spawn(async move {
            let _end = end;
            while let Some(delivery) = consumer.next().await {
                if let Err(error) = hand_over(&routes, delivery.message) {
                    tracing::warn!(%error, "dropped a message from the inbox");
                }
            }
        });
        Ok(Inbox { connection, name, waiting, reader, ended })
    }

    /// Resolves when no part can come any more: the queue was deleted, or the connection is lost.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Pulls the payload of `head`.
    ///
    /// # Errors
    /// [`FetchError`]; nothing is kept then.
    pub async fn fetch(&self, head: &TaskHead, buffers: &Arc<Buffers>) -> Result<Bytes, FetchError> {
        let Some(queue) = &head.pull_from else { return Err(FetchError::Gone) };
        let cut = Cut::new(head.payload_bytes, part_bytes(&*self.connection))?;
        let run = ambient::random();
        let (sender, mut replies) = mpsc::unbounded_channel();
        lock(&self.waiting).insert((head.id, run), sender);
        let _leave = Leave { waiting: &self.waiting, key: (head.id, run) };
        let mut pull = Pull { inbox: self, queue, id: head.id, run, cut, asked: 0, assembly: None };
        pull.ask_ahead(CREDIT).await?;
        let mut silences = 0;
        loop {
            match tokio::time::timeout(PATIENCE, replies.recv()).await {
                Ok(Some(Reply::Part(part, body))) => {
                    silences = 0;
                    if pull.accept(&part, &body, buffers)? {
                        return pull.finish().ok_or(FetchError::Stalled);
                    }
                    pull.ask_ahead(CREDIT).await?;
                }
                Ok(Some(Reply::Gone)) => return Err(FetchError::Gone),
                Ok(None) => return Err(Error::Lost("the inbox ended".into()).into()),
                Err(_) if served(&*self.connection, queue).await? == Served::No => return Err(FetchError::Away),
                Err(_) if silences == ASKED_AGAIN_MAX => return Err(FetchError::Stalled),
                Err(_) => {
                    silences += 1;
                    pull.ask_again().await?;
                }
            }
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// One payload on its way.
struct Pull<'a> {
    inbox: &'a Inbox,
    queue: &'a str,
    id: TaskId,
    run: u64,
    cut: Cut,
    /// Parts below this have been asked for.
    asked: u32,
    /// From the first part on: the head's word alone earns no memory.
    assembly: Option<Assembly<Buffer>>,
}

impl Pull<'_> {
    /// Asks for more if there is room for a whole step below `credit` outstanding parts.
    async fn ask_ahead(&mut self, credit: u32) -> Result<(), FetchError> {
        let outstanding = match &self.assembly {
            Some(assembly) => assembly.missing_before(self.asked).count() as u32,
            None => self.asked,
        };
        let room = credit.saturating_sub(outstanding).min(self.cut.count() - self.asked);
        if room >= STEP || (room > 0 && self.asked + room == self.cut.count()) {
            let first = self.asked;
            self.asked += room;
            // The first request waits to hear whether the boss is there; the others ride behind it.
            self.request(first, room, first == 0).await?;
        }
        Ok(())
    }

    async fn ask_again(&mut self) -> Result<(), FetchError> {
        let missing: Vec<u32> = match &self.assembly {
            Some(assembly) => assembly.missing_before(self.asked).collect(),
            None => (0..self.asked).collect(),
        };
        for index in missing.into_iter().take(CREDIT as usize) {
            // Silence may mean that the boss has died meanwhile, and its queue with it.
            self.request(index, 1, true).await?;
        }
        Ok(())
    }

    /// Asks for parts; `heard` waits until the broker has said whether the boss's queue is there.
    async fn request(&self, first: u32, count: u32, heard: bool) -> Result<(), FetchError> {
        let part_bytes = part_bytes(&*self.inbox.connection);
        let request = PullRequest { id: self.id, run: self.run, first, count, part_bytes };
        let message = Message {
            head: wire::encode(&request).into(),
            reply_to: Some(self.inbox.name.clone()),
            ..Message::default()
        };
        let confirm = self.inbox.connection.publish(&Route::queue(self.queue), message).await?;
        if heard && confirm.0.await? == Published::Unroutable {
            return Err(FetchError::Gone);
        }
        Ok(())
    }

    /// Writes a part; true when the payload is complete. A part that does not fit is dropped and asked for again later.
    fn accept(&mut self, part: &Part, body: &[u8], buffers: &Arc<Buffers>) -> Result<bool, FetchError> {
        let cut = self.cut;
        let total = cut.range(u32::MAX).end;
        let (id, run) = (self.id, self.run);
        let assembly = self.assembly.get_or_insert_with(|| Assembly::new(id, run, cut, buffers.take(total)));
        match assembly.accept(part, body) {
            Ok(Accepted::New | Accepted::Double) => {}
            Err(error) => tracing::warn!(%error, task = %id, "dropped a part"),
        }
        Ok(assembly.is_complete())
    }

    fn finish(self) -> Option<Bytes> {
        self.assembly?.finish().map(Buffer::into_bytes)
    }
}

struct Leave<'a> {
    waiting: &'a Waiting,
    key: (TaskId, u64),
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.key);
    }
}

fn hand_over(waiting: &Waiting, message: Message) -> Result<(), wire::Error> {
    let (key, reply) = if wire::is::<Gone>(&message.head) {
        let gone: Gone = wire::decode(&message.head)?;
        ((gone.id, gone.run), Reply::Gone)
    } else {
        let part: Part = wire::decode(&message.head)?;
        ((part.id, part.run), Reply::Part(part, concat(message.body)))
    };
    // Nobody waiting: a part of a fetch that was given up.
    if let Some(sender) = lock(waiting).get(&key) {
        let _ = sender.send(reply);
    }
    Ok(())
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<(TaskId, u64), mpsc::UnboundedSender<Reply>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
