//! One connection's worth of a worker: consumes until told to stop or until the connection dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Worker, delivery, presence};
use crate::broker::{Broker, Connection, Consume, Consumer, Error};
use crate::transport::fetch::Inbox;
use crate::transport::{self, names};

/// A connected worker.
pub(super) struct Session {
    /// In its exclusive queues.
    name: String,
    /// Among the sessions of this worker, from 1.
    pub(super) number: u64,
    pub(super) worker: Arc<Worker>,
    pub(super) connection: Arc<dyn Connection>,
    pub(super) inbox: Inbox,
    /// Cancelled: what has not got its slots yet goes back.
    pub(super) draining: CancellationToken,
    /// Cancelled: it ended in disorder. What is answered from now on has no worth, even if it could be sent.
    pub(super) lost: CancellationToken,
}

impl Session {
    pub(super) async fn open(broker: &dyn Broker, worker: Arc<Worker>) -> Result<Self, Error> {
        let connection = broker.connect().await?;
        let kinds = worker.registry.kinds();
        transport::declare_shared(&*connection, &kinds, worker.options.quorum).await?;
        let number = worker.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let name = names::on_connection(worker.identity.id(), number);
        let inbox = Inbox::open(connection.clone(), &name).await?;
        let (draining, lost) = (CancellationToken::new(), CancellationToken::new());
        Ok(Session { name, number, worker, connection, inbox, draining, lost })
    }

    /// Works until `shutdown`, then drains and says goodbye.
    ///
    /// # Errors
    /// Why the connection, or a consumer, ended by itself. What was unacked will be redelivered.
    pub(super) async fn run(self, shutdown: &CancellationToken) -> Result<(), Error> {
        let session = Arc::new(self);
        let ended = session.work(shutdown).await;
        if ended.is_err() {
            // What still computes has no way back, and is redelivered: its slots are better used for that. First the
            // word that its outcome is none, then the word to stop.
            session.draining.cancel();
            session.lost.cancel();
            session.worker.running.stop_session(session.number);
        }
        session.connection.close().await;
        ended
    }

    async fn work(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), Error> {
        let control = presence::listen(&*self.connection, &self.name).await?;
        let running = TaskTracker::new();
        let presence = presence::run(&*self.connection, &self.worker, control);
        tokio::pin!(presence);
        tokio::select! {
            () = shutdown.cancelled() => {}
            error = self.connection.closed() => return Err(error),
            // A queue deleted or a consumer cancelled: open everything again.
            Err(error) = self.consume(&running) => return Err(error),
            Err(error) = &mut presence => return Err(error),
        };
        self.draining.cancel();
        running.close();
        tracing::info!(running = running.len(), "draining: finishing what runs, handing back the rest");
        tokio::select! {
            () = running.wait() => {}
            error = self.connection.closed() => return Err(error),
            // What runs can still be cancelled, and is still reported.
            Err(error) = &mut presence => return Err(error),
        }
        if let Err(error) = presence::beat(&*self.connection, &self.worker, true).await {
            tracing::debug!(%error, "could not say goodbye");
        }
        Ok(())
    }

    /// Takes deliveries until one of the consumers ends, which is an error.
    async fn consume(self: &Arc<Self>, running: &TaskTracker) -> Result<(), Error> {
        let queues = self.worker.registry.kinds().into_iter().map(|kind| names::work_queue(kind.as_str()));
        if self.worker.options.one_by_one {
            return one_by_one(self, queues.map(|queue| (queue, None)).collect(), running).await;
        }
        let mut consumers = Vec::new();
        for queue in queues {
            let consume = Consume { prefetch: self.worker.options.prefetch, no_ack: false };
            consumers.push(self.connection.consume(&queue, consume).await?);
        }
        let all = consumers.into_iter().map(|consumer| Box::pin(consume(self.clone(), consumer, running)));
        Err(futures_util::future::select_all(all).await.0)
    }
}

/// Gives each delivery a task of its own; how much of that runs is decided by memory, slots and the prefetch.
async fn consume(session: Arc<Session>, mut consumer: Consumer, running: &TaskTracker) -> Error {
    while let Some(delivery) = consumer.next().await {
        running.spawn(delivery::process(session.clone(), delivery));
    }
    ended()
}

/// Takes one delivery at a time, from whichever queue it comes first. The prefetch of 1 holds the others of its queue
/// back; the consumers of the other queues are cancelled until it has its end.
async fn one_by_one(
    session: &Arc<Session>,
    mut queues: Vec<(String, Option<Consumer>)>,
    running: &TaskTracker,
) -> Result<(), Error> {
    loop {
        // What came on a connection that is lost may still have the slot.
        drop(session.worker.slots.acquire().await);
        for (queue, consumer) in queues.iter_mut().filter(|(_, consumer)| consumer.is_none()) {
            *consumer = Some(session.connection.consume(queue, Consume { prefetch: 1, no_ack: false }).await?);
        }
        let open = queues.iter_mut().filter_map(|(_, consumer)| consumer.as_mut());
        let (first, from, _) = futures_util::future::select_all(open.map(|open| Box::pin(open.next()))).await;
        let first = first.ok_or_else(ended)?;
        let others = queues.iter_mut().enumerate().filter(|(index, _)| *index != from);
        for consumer in others.filter_map(|(_, (_, consumer))| consumer.take()) {
            for other in consumer.cancel().await {
                running.spawn(delivery::put_back(session.clone(), other));
            }
        }
        // On its own: it goes on when this ends.
        if running.spawn(delivery::process(session.clone(), first)).await.is_err() {
            return Err(Error::Lost("a task of the runtime's ended in disorder".into()));
        }
    }
}

fn ended() -> Error {
    Error::Lost("the broker ended a consumer (was its queue deleted?)".into())
}
