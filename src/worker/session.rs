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
    pub(super) worker: Arc<Worker>,
    pub(super) connection: Arc<dyn Connection>,
    pub(super) inbox: Inbox,
    /// Cancelled: what has not got its slots yet goes back.
    pub(super) draining: CancellationToken,
}

impl Session {
    pub(super) async fn open(broker: &dyn Broker, worker: Arc<Worker>) -> Result<Self, Error> {
        let connection = broker.connect().await?;
        let kinds = worker.registry.kinds();
        transport::declare_shared(&*connection, &kinds, worker.options.quorum).await?;
        let number = worker.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let name = names::on_connection(&worker.identity.id, number);
        let inbox = Inbox::open(connection.clone(), &name).await?;
        Ok(Session { name, worker, connection, inbox, draining: CancellationToken::new() })
    }

    /// Works until `shutdown`, then drains and says goodbye.
    ///
    /// # Errors
    /// Why the connection, or a consumer, ended by itself. What was unacked will be redelivered.
    pub(super) async fn run(self, shutdown: &CancellationToken) -> Result<(), Error> {
        let session = Arc::new(self);
        let control = presence::listen(&*session.connection, &session.name).await?;
        let mut consumers = Vec::new();
        for kind in session.worker.registry.kinds() {
            let consume = Consume { prefetch: session.worker.options.prefetch, no_ack: false };
            consumers.push(session.connection.consume(&names::work_queue(kind.as_str()), consume).await?);
        }
        let running = TaskTracker::new();
        let consume_all = consumers.into_iter().map(|consumer| Box::pin(consume(session.clone(), consumer, &running)));
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            error = session.connection.closed() => Err(error),
            // A queue deleted or a consumer cancelled: open everything again.
            (error, ..) = futures_util::future::select_all(consume_all) => Err(error),
            Err(error) = presence::run(&*session.connection, &session.worker, control) => Err(error),
        };
        session.draining.cancel();
        running.close();
        if ended.is_ok() {
            tracing::info!(running = running.len(), "draining: finishing what runs, handing back the rest");
            tokio::select! {
                () = running.wait() => {}
                error = session.connection.closed() => return Err(error),
            }
            if let Err(error) = presence::beat(&*session.connection, &session.worker, true).await {
                tracing::debug!(%error, "could not say goodbye");
            }
        }
        session.connection.close().await;
        // What still computes for a dead connection ends on its own; its answer has no way back and the task is redelivered.
        ended
    }
}

/// Gives each delivery a task of its own; how much of that runs is decided by memory, slots and the prefetch.
async fn consume(session: Arc<Session>, mut consumer: Consumer, running: &TaskTracker) -> Error {
    while let Some(delivery) = consumer.next().await {
        running.spawn(delivery::process(session.clone(), delivery));
    }
    Error::Lost("the broker ended a consumer (was its queue deleted?)".into())
}
