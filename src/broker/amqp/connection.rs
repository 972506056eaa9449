//! One [`Connection`]: a lapin connection that publishes, one that does the rest, and the tasks that watch them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use lapin::{ConnectionStatus, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::convert::short;
use super::publisher::Publisher;
use super::topology::Topology;
use super::{INLINE_MAX, consumer, is_fatal, reason};
use crate::broker::life::Life;
use crate::broker::{
    Confirm, Connection, Consume, Consumer, Error, ExchangeKind, Message, Queue, QueueStatus, Route, limits,
};

/// No step of [`Connection::close`] takes longer: lapin's own close has been seen to hang.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct AmqpConnection {
    life: Arc<Life>,
    publishing: Arc<lapin::Connection>,
    consuming: Arc<lapin::Connection>,
    publisher: Publisher,
    topology: Topology,
    /// Dropped with the connection, which ends them.
    consumers: Mutex<JoinSet<()>>,
    closing: CancellationToken,
    blocked: watch::Receiver<Option<String>>,
}

impl AmqpConnection {
    pub(super) async fn start(publishing: lapin::Connection, consuming: lapin::Connection) -> Result<Self, Error> {
        let (publishing, consuming) = (Arc::new(publishing), Arc::new(consuming));
        let life = Arc::new(Life::default());
        let (blocked_in, blocked) = watch::channel(None);
        watch_events(&publishing, Arc::clone(&life), Some(blocked_in));
        watch_events(&consuming, Arc::clone(&life), None);
        let publisher = Publisher::start(Arc::clone(&publishing), Arc::clone(&life), blocked.clone()).await;
        let publisher = publisher.map_err(|error| Error::Lost(reason(&error)))?;
        let topology = Topology::new(Arc::clone(&life), Arc::clone(&consuming));
        let (consumers, closing) = (Mutex::default(), CancellationToken::new());
        Ok(AmqpConnection { life, publishing, consuming, publisher, topology, consumers, closing, blocked })
    }
}

impl Drop for AmqpConnection {
    fn drop(&mut self) {
        self.life.end("its last handle was dropped");
    }
}

/// Follows what happens to one lapin connection until the end. There may be one listener per connection only: lapin
/// gives each event to one of them.
fn watch_events(connection: &lapin::Connection, life: Arc<Life>, blocked: Option<watch::Sender<Option<String>>>) {
    let events = connection.events_listener();
    let status = connection.status().clone();
    tokio::spawn(async move {
        tokio::select! {
            lost = follow(events, status, blocked.as_ref()) => life.end(lost),
            _ = life.ended() => {}
        }
        // Nobody waits for the end of an alarm on a dead connection.
        blocked.inspect(|blocked| drop(blocked.send_replace(None)));
    });
}

async fn follow(
    events: impl Stream<Item = Event>,
    status: ConnectionStatus,
    blocked: Option<&watch::Sender<Option<String>>>,
) -> String {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match (event, blocked) {
            (Event::ConnectionBlocked(reason), Some(blocked)) => drop(blocked.send_replace(Some(reason))),
            (Event::ConnectionUnblocked, Some(blocked)) => drop(blocked.send_replace(None)),
            // Errors of channels come here, too.
            (Event::Error(error), _) if is_fatal(&status, &error) => return reason(&error),
            _ => {}
        }
    }
    "the client stopped".to_owned()
}

#[async_trait]
impl Connection for AmqpConnection {
    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        limits::check_name("declare an exchange", name)?;
        self.topology.declare_exchange(name, kind).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), Error> {
        limits::check_queue(queue)?;
        self.topology.declare_queue(queue).await
    }

    async fn bind_queue(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error> {
        for name in [queue, exchange, routing_key] {
            limits::check_name("bind a queue", name)?;
        }
        self.topology.bind(queue, exchange, routing_key).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), Error> {
        limits::check_name("delete a queue", queue)?;
        self.topology.delete_queue(queue).await
    }

    async fn queue_status(&self, queue: &str) -> Result<Option<QueueStatus>, Error> {
        limits::check_name("look at a queue", queue)?;
        self.topology.queue_status(queue).await
    }

    async fn publish(&self, route: &Route, message: Message) -> Result<Confirm, Error> {
        limits::check_message(route, &message)?;
        self.publisher.publish(route, message).await
    }

    async fn consume(&self, queue: &str, options: Consume) -> Result<Consumer, Error> {
        limits::check_name("consume from a queue", queue)?;
        self.life.check()?;
        let (life, closing) = (Arc::clone(&self.life), self.closing.clone());
        let (consumer, work) = consumer::consume(&self.consuming, life, closing, queue, options).await?;
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        while consumers.try_join_next().is_some() {}
        consumers.spawn(work);
        Ok(consumer)
    }

    fn inline_max_bytes(&self) -> usize {
        INLINE_MAX
    }

    fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.blocked.clone()
    }

    async fn closed(&self) -> Error {
        self.life.ended().await
    }

    async fn close(&self) {
        // Channels first, connections last: the other way round lapin's close fails now and then, or hangs.
        self.closing.cancel();
        let mut consumers = std::mem::take(&mut *self.consumers.lock().unwrap_or_else(PoisonError::into_inner));
        let consumers = async { while consumers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, consumers).await;
        self.publisher.close().await;
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.topology.close()).await;
        let close = |connection: Arc<lapin::Connection>| async move {
            // It may be dead already, and it is dropped in any case.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, short("OK"))).await;
        };
        tokio::join!(close(Arc::clone(&self.publishing)), close(Arc::clone(&self.consuming)));
        self.life.end("it was closed");
    }
}
