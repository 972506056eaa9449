//! Queues of opaque messages, behind one trait: RabbitMQ ([`amqp`]) or this process itself ([`embedded`]).
//!
//! The semantics are AMQP 0-9-1's: publish with confirm, prefetch, ack, requeue, redelivered flag, exclusive queues
//! that go with their connection. `tests/it/conformance` holds both brokers to them. Must not touch: what the bytes mean.
//!
//! Reconnecting is not done here. A [`Connection`] that dies says so ([`Connection::closed`]) and stays dead; who uses
//! it opens another through [`Broker::connect`] and declares its topology again.

pub mod amqp;
pub mod embedded;
mod life;
mod limits;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

/// Where messages go through: an address one can connect to, again and again.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`] or [`Error::Address`].
    async fn connect(&self) -> Result<Arc<dyn Connection>, Error>;

    /// The address without its password, for messages.
    fn address(&self) -> String;

    /// The address this machine reaches the broker from, for the directory.
    fn local_address(&self) -> String;

    /// Its name and version, as in `RabbitMQ 3.10.8`, for reports; `None` if it can't be had.
    async fn product(&self) -> Option<String> {
        None
    }
}

/// One live link to a broker.
#[async_trait]
pub trait Connection: Send + Sync + 'static {
    /// Declares a durable exchange; declaring it again is no error.
    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Error>;

    /// Declares a queue; declaring it again with the same arguments is no error.
    async fn declare_queue(&self, queue: &Queue) -> Result<(), Error>;

    /// Lets messages of an exchange with this routing key into a queue.
    async fn bind_queue(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error>;

    /// Deletes a queue and what is in it; a queue that is not there is no error. Its consumers end.
    async fn delete_queue(&self, queue: &str) -> Result<(), Error>;

    /// Messages ready and consumers, or `None` if there is no such queue.
    async fn queue_status(&self, queue: &str) -> Result<Option<QueueStatus>, Error>;

    /// Hands a message over and returns; the [`Confirm`] resolves when the broker has it in its queues.
    /// Waits while the broker has blocked the connection. Messages published by one task to one queue keep their order.
    async fn publish(&self, route: &Route, message: Message) -> Result<Confirm, Error>;

    /// Starts consuming. Deliveries stop coming when `prefetch` of them are neither acked nor requeued.
    async fn consume(&self, queue: &str, options: Consume) -> Result<Consumer, Error>;

    /// The longest message worth sending in one piece, in bytes of body. `usize::MAX` for the embedded broker.
    fn inline_max_bytes(&self) -> usize;

    /// The reason while the broker has blocked this connection (a memory or disk alarm), else `None`.
    fn blocked(&self) -> watch::Receiver<Option<String>>;

    /// Resolves with the reason when the connection is dead, at once if it already is.
    async fn closed(&self) -> Error;

    /// Says goodbye: settles what was acked, requeues what was not, deletes exclusive queues. Bounded in time.
    async fn close(&self);
}

/// How an exchange routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExchangeKind {
    /// To the queues bound with the message's routing key.
    Direct,
    /// To every queue bound.
    Fanout,
}

/// A queue to declare.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Only for this connection, deleted with it, and not durable. All others are durable (RabbitMQ 4.3 allows no
    /// transient queue that is not exclusive).
    pub exclusive: bool,
    /// Replicated (`x-queue-type: quorum`). Never exclusive, no `max_priority`.
    pub quorum: bool,
    /// Deleted when it has had no consumer for so long.
    pub expires: Option<Duration>,
    /// Messages of higher priority are delivered first, up to this priority.
    pub max_priority: Option<u8>,
    /// How long a message may be in it without an ack. After that it is dead-lettered: at once if it is ready, and when it is
    /// requeued if it is not.
    pub message_ttl: Option<Duration>,
    /// Where rejected and expired messages go. The broker asks for no confirm: one that no queue takes there is lost.
    pub dead_letter: Option<Route>,
    /// Of several consumers the oldest gets everything, and the next only once that one has ended: messages keep their order,
    /// also while the broker has not noticed that a consumer is dead (`x-single-active-consumer`).
    pub single_active: bool,
}

/// What a broker says of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueStatus {
    /// Messages ready for delivery; those unacked are not counted.
    pub ready: u64,
    /// Consumers.
    pub consumers: u64,
}

/// Where a message is published to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The exchange; empty for the default exchange, which routes to the queue named by the key.
    pub exchange: String,
    /// The routing key.
    pub key: String,
}

impl Route {
    /// Straight to a queue, through the default exchange.
    pub fn queue(name: impl Into<String>) -> Self {
        Route { exchange: String::new(), key: name.into() }
    }

    /// To an exchange.
    pub fn exchange(name: impl Into<String>, key: impl Into<String>) -> Self {
        Route { exchange: name.into(), key: key.into() }
    }
}

/// The AMQP header that carries [`Message::head`].
pub const HEAD_HEADER: &str = "rabbitry";

/// A message. The head is apart from the body so that the body is the payload and nothing else: it goes from the
/// sender's memory to the socket, and from the socket to LAPACK, without being put together with a prefix first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Small, opaque; the AMQP header [`HEAD_HEADER`] (a byte array). At most 64 KiB. Empty if there is none.
    pub head: Bytes,
    /// The payload, as pieces that stand for their concatenation.
    pub body: Vec<Bytes>,
    /// AMQP `content_type`.
    pub content_type: Option<String>,
    /// AMQP `reply_to`: the queue for the answer.
    pub reply_to: Option<String>,
    /// AMQP `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP `priority`; higher goes first in a queue with `max_priority`.
    pub priority: u8,
    /// Survives a restart of the broker in a durable queue.
    pub persistent: bool,
    /// Further text headers (the reasons on a dead letter).
    pub headers: Vec<(String, String)>,
}

impl Message {
    /// Bytes of body.
    pub fn body_bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }
}

/// The pieces as one; no copy if there is only one.
pub fn concat(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

/// Resolves when the broker has taken responsibility for a message.
pub struct Confirm(pub BoxFuture<'static, Result<Published, Error>>);

/// What became of a published message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// It is in at least one queue.
    Routed,
    /// No queue wanted it: the queue is gone, or nothing is bound. The message is dropped.
    Unroutable,
}

/// How to consume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consume {
    /// Deliveries outstanding at a time. Ignored with `no_ack`.
    pub prefetch: u16,
    /// Deliveries count as acked when sent.
    pub no_ack: bool,
}

/// A stream of deliveries. Dropping it cancels the consumer; deliveries already handed out can still be acked.
pub struct Consumer {
    pub(crate) deliveries: mpsc::UnboundedReceiver<Delivery>,
    /// Set before the last delivery is gone.
    pub(crate) ended: Arc<OnceLock<String>>,
    /// Dropped with the consumer: tells the broker's side to cancel.
    pub(crate) _cancel: tokio::sync::oneshot::Sender<()>,
}

impl Consumer {
    /// The next delivery; `None` when the connection is dead, the queue deleted, or the consumer cancelled by the broker.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// Why there are no more deliveries, after [`Consumer::next`] gave `None`.
    pub fn reason(&self) -> String {
        self.ended.get().cloned().unwrap_or_else(|| "the broker ended it; was its queue deleted?".to_owned())
    }

    /// Ends it, and waits until the broker has taken note. Gives what was on its way: unlike what a dropped consumer gives
    /// back, that can still be put back without a mark of redelivery, by publishing it anew.
    pub async fn cancel(self) -> Vec<Delivery> {
        let Consumer { mut deliveries, _cancel, .. } = self;
        drop(_cancel);
        let mut left = Vec::new();
        while let Some(delivery) = deliveries.recv().await {
            left.push(delivery);
        }
        left
    }
}

/// A message on its way to us.
#[derive(Debug)]
pub struct Delivery {
    /// What was published.
    pub message: Message,
    /// The routing key it was published with.
    pub routing_key: String,
    /// It was delivered before, and requeued or its consumer died.
    pub redelivered: bool,
    /// How to settle it.
    pub settle: Settle,
}

/// What to do with a delivery in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Done with: the broker forgets it.
    Ack,
    /// Back into the queue.
    Requeue,
}

/// Settles one delivery. Dropped unsettled, it requeues: nothing is lost on an early return.
#[derive(Debug)]
pub struct Settle {
    pub(crate) tag: u64,
    /// `None` with `no_ack`, or once settled.
    pub(crate) to: Option<mpsc::UnboundedSender<(u64, Verdict)>>,
}

impl Settle {
    /// Done with. Never waits; verdicts are sent in bulk behind the scenes. On a dead connection it does nothing: the
    /// broker has requeued the message already.
    pub fn ack(mut self) {
        self.send(Verdict::Ack);
    }

    /// Back into the queue, marked redelivered.
    pub fn requeue(mut self) {
        self.send(Verdict::Requeue);
    }

    fn send(&mut self, verdict: Verdict) {
        if let Some(to) = self.to.take() {
            // A closed channel means a dead connection, which requeues by itself.
            let _ = to.send((self.tag, verdict));
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.send(Verdict::Requeue);
    }
}

/// What can go wrong with a broker.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address itself is wrong.
    #[error("{address:?} is not a broker address: {reason}; write amqp://user:password@host:5672/vhost")]
    Address {
        /// As given, password hidden.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers.
    #[error(
        "no broker answers at {address}: {reason}; is RabbitMQ running there? Start one with: docker run -d -p 5672:5672 rabbitmq:4"
    )]
    Unreachable {
        /// Where, password hidden.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The broker is there and says no.
    #[error("the broker at {address} refused the connection: {reason}; check user, password and vhost in --broker")]
    Refused {
        /// Where, password hidden.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The connection died; what was not confirmed may be lost, what was not acked will be redelivered.
    #[error("the connection to the broker was lost: {0}")]
    Lost(String),
    /// A message is longer than the broker takes.
    #[error("the broker refused a message of {bytes} bytes: {reason}; raise max_message_size in rabbitmq.conf")]
    MessageTooLarge {
        /// Its body.
        bytes: usize,
        /// What the broker said.
        reason: String,
    },
    /// The broker did not take a message (`basic.nack`); it may take the next.
    #[error(
        "the broker did not {operation} (basic.nack): the queue is full, or was deleted just then, or its node is in trouble"
    )]
    Nacked {
        /// What was tried, with the name of the queue or exchange.
        operation: String,
    },
    /// The node of the cluster that has the queue is not there. It may come back, without what was not persistent.
    #[error("the broker can't {operation} now: {reason}")]
    Down {
        /// What was tried, with the name of the queue or exchange.
        operation: String,
        /// What it said.
        reason: String,
    },
    /// The user may not do this. No message is to blame, and all of them would fail.
    #[error(
        "the broker does not let this user {operation}: {reason}; give it the right: rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'"
    )]
    Forbidden {
        /// What was tried, with the name of the queue or exchange.
        operation: String,
        /// What it said.
        reason: String,
    },
    /// The broker refused an operation (a queue declared with other arguments).
    #[error("the broker refused to {operation}: {reason}")]
    Operation {
        /// What was tried, with the name of the queue or exchange.
        operation: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Whether connecting again may help: the same thing may succeed later, with no change by a person.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Lost(_) | Error::Nacked { .. } | Error::Down { .. })
    }
}
