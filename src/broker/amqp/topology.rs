//! Exchanges, queues and bindings, on a channel of their own: whatever the broker refuses closes the channel, so it is
//! opened anew for the next operation.
//!
//! On the consuming connection: an exclusive queue belongs to the AMQP connection that declared it.

use std::future::Future;
use std::sync::Arc;

use lapin::Channel;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::Mutex;

use super::convert::short;
use super::{end_by, is_fatal, reason};
use crate::broker::life::Life;
use crate::broker::{Error, ExchangeKind, Queue, QueueStatus, Route};

/// The topology channel.
pub(super) struct Topology {
    life: Arc<Life>,
    connection: Arc<lapin::Connection>,
    channel: Mutex<Option<Channel>>,
}

impl Topology {
    pub(super) fn new(life: Arc<Life>, connection: Arc<lapin::Connection>) -> Self {
        Topology { life, connection, channel: Mutex::new(None) }
    }

    pub(super) async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        let lapin_kind = match kind {
            ExchangeKind::Direct => lapin::ExchangeKind::Direct,
            ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        };
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declare = |channel: Channel| async move {
            channel.exchange_declare(short(name), lapin_kind, options, FieldTable::default()).await
        };
        let refused = self.run(declare).await?;
        refused.map_err(|error| operation(format!("declare exchange {name:?}"), &error, Some("exchange")))
    }

    pub(super) async fn declare_queue(&self, queue: &Queue) -> Result<(), Error> {
        let name = &queue.name;
        let options = QueueDeclareOptions {
            durable: !queue.exclusive,
            exclusive: queue.exclusive,
            ..QueueDeclareOptions::default()
        };
        let arguments = arguments(queue);
        let declare = |channel: Channel| async move { channel.queue_declare(short(name), options, arguments).await };
        match self.run(declare).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(operation(format!("declare queue {name:?}"), &error, Some("queue"))),
        }
    }

    pub(super) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
        let bind = |channel: Channel| async move {
            let options = QueueBindOptions::default();
            channel.queue_bind(short(queue), short(exchange), short(key), options, FieldTable::default()).await
        };
        let refused = self.run(bind).await?;
        refused.map_err(|error| operation(format!("bind queue {queue:?} to exchange {exchange:?}"), &error, None))
    }

    pub(super) async fn delete_queue(&self, queue: &str) -> Result<(), Error> {
        let delete =
            |channel: Channel| async move { channel.queue_delete(short(queue), QueueDeleteOptions::default()).await };
        match self.run(delete).await? {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(operation(format!("delete queue {queue:?}"), &error, None)),
        }
    }

    pub(super) async fn queue_status(&self, queue: &str) -> Result<Option<QueueStatus>, Error> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declare =
            |channel: Channel| async move { channel.queue_declare(short(queue), options, FieldTable::default()).await };
        match self.run(declare).await? {
            Ok(found) => Ok(Some(QueueStatus {
                ready: u64::from(found.message_count()),
                consumers: u64::from(found.consumer_count()),
            })),
            Err(error) if code(&error) == Some(404) && !is_down(&error) => Ok(None),
            Err(error) => Err(operation(format!("look at queue {queue:?}"), &error, None)),
        }
    }

    /// Closes the channel, if it is there and free.
    pub(super) async fn close(&self) {
        if let Some(channel) = self.channel.lock().await.take() {
            // Best effort: the connection is closed next.
            let _ = channel.close(200, short("OK")).await;
        }
    }

    /// One operation. Outer error: the connection is dead. Inner: the broker refused, and closed the channel.
    async fn run<T, F>(&self, operation: impl FnOnce(Channel) -> F) -> Result<Result<T, lapin::Error>, Error>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        self.life.check()?;
        let mut slot = self.channel.lock().await;
        let attempt = async {
            let channel = match slot.take() {
                Some(channel) if channel.status().connected() => channel,
                _ => self.connection.create_channel().await?,
            };
            let done = operation(channel.clone()).await;
            if done.is_ok() {
                *slot = Some(channel);
            }
            done
        };
        let done = tokio::select! {
            done = attempt => done,
            lost = self.life.ended() => return Err(lost),
        };
        match done {
            Err(error) if is_fatal(self.connection.status(), &error) => Err(end_by(&self.life, &error).await),
            done => Ok(done),
        }
    }
}

/// Legal on RabbitMQ 3.10 to 4.3: `x-queue-type` only where it is not the default, no `x-queue-mode`.
fn arguments(queue: &Queue) -> FieldTable {
    let mut arguments = FieldTable::default();
    if queue.quorum {
        arguments.insert(short("x-queue-type"), AMQPValue::LongString("quorum".into()));
        if queue.dead_letter.is_none() {
            // Since 4.0 what is delivered more than 20 times is dropped, and here it would have nowhere to go.
            arguments.insert(short("x-delivery-limit"), AMQPValue::LongLongInt(1_000_000_000));
        }
    }
    for (argument, time) in [("x-expires", queue.expires), ("x-message-ttl", queue.message_ttl)] {
        if let Some(time) = time {
            let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
            arguments.insert(short(argument), AMQPValue::LongLongInt(ms.max(1)));
        }
    }
    if let Some(priority) = queue.max_priority {
        arguments.insert(short("x-max-priority"), AMQPValue::LongLongInt(i64::from(priority)));
    }
    if queue.single_active {
        arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
    }
    if let Some(Route { exchange, key }) = &queue.dead_letter {
        arguments.insert(short("x-dead-letter-exchange"), AMQPValue::LongString(exchange.as_str().into()));
        arguments.insert(short("x-dead-letter-routing-key"), AMQPValue::LongString(key.as_str().into()));
    }
    arguments
}

/// The AMQP reply code of an error.
fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

/// Whether it says, in the words of a queue that is missing, that the node which has it is.
fn is_down(error: &lapin::Error) -> bool {
    reason(error).contains("is down or inaccessible")
}

/// A refusal, with what to do about it. `declared` says what was being declared, if anything was.
pub(super) fn operation(operation: String, error: &lapin::Error, declared: Option<&str>) -> Error {
    let mut reason = reason(error);
    if is_down(error) {
        return Error::Down { operation, reason };
    }
    match (code(error), declared) {
        // A queue that somebody consumes from alone is no matter of rights.
        (Some(403), _) if !reason.contains("exclusive use") => return Error::Forbidden { operation, reason },
        (Some(406), Some(what)) => reason.push_str(&format!(
            "; it is there with other arguments: delete that {what} if nobody uses it, or ask for the ones it has"
        )),
        (Some(404), _) => reason.push_str("; declare it first"),
        (Some(405), _) => reason.push_str("; it is exclusive to another connection"),
        _ => {}
    }
    Error::Operation { operation, reason }
}
