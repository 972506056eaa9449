//! One connection's worth of a worker: consumes until told to stop or until the connection dies.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alone::Alone;
use super::{Worker, intake, presence};
use crate::broker::{Broker, Connection, Error};
use crate::transport::fetch::Inbox;
use crate::transport::{self, names};

/// A connected worker.
pub(super) struct Session {
    /// In its exclusive queues.
    name: String,
    /// Among the sessions of this worker, from 1.
    pub(super) number: u64,
    /// The broker's address.
    address: String,
    pub(super) worker: Arc<Worker>,
    pub(super) connection: Arc<dyn Connection>,
    pub(super) inbox: Inbox,
    pub(super) alone: Alone,
    /// Cancelled: what has not got its slots yet goes back.
    pub(super) draining: CancellationToken,
    /// Cancelled: it ended in disorder. What is answered from now on has no worth, even if it could be sent.
    pub(super) lost: CancellationToken,
    /// An error that no message is to blame for, and no other connection would heal.
    fatal: watch::Sender<Option<Error>>,
}

impl Session {
    pub(super) async fn open(broker: &dyn Broker, worker: Arc<Worker>) -> Result<Self, Error> {
        let connection = broker.connect().await?;
        let kinds = worker.registry.kinds();
        for queue in kinds.iter().map(|kind| names::work_queue(kind.as_str())) {
            presence::look_for(&*connection, &worker, &queue, false).await?;
        }
        transport::declare_shared(&*connection, &kinds, worker.options.quorum).await?;
        presence::tell_lost(&*connection, &worker).await?;
        let number = worker.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let name = names::on_connection(worker.identity.id(), number);
        let inbox = Inbox::open(connection.clone(), &name).await?;
        let (draining, lost) = (CancellationToken::new(), CancellationToken::new());
        let fatal = watch::Sender::default();
        let address = broker.address();
        let alone = Alone::default();
        Ok(Session { name, number, address, worker, connection, inbox, alone, draining, lost, fatal })
    }

    /// It takes tasks from now on.
    pub(super) fn is_consuming(&self) {
        let worker = &self.worker;
        worker.health(|health| (health.consuming, health.reason) = (health.queues, None));
        tracing::info!(
            worker = worker.identity.id(),
            broker = self.address,
            kinds = worker.registry.names(),
            slots = worker.options.slots,
            "consuming"
        );
    }

    /// Ends the session, and the worker: this would happen to every task.
    pub(super) fn fail(&self, error: Error) {
        self.fatal.send_replace(Some(error));
    }

    /// Resolves when there is no going on: the connection is dead, or the inbox, or the broker forbids what a worker does.
    async fn ended(&self) -> Error {
        let mut fatal = self.fatal.subscribe();
        tokio::select! {
            biased;
            error = self.connection.closed() => error,
            () = self.inbox.ended() => Error::Lost("the inbox ended (was it deleted?)".into()),
            // The sender is in `self`.
            Ok(error) = fatal.wait_for(Option::is_some) => error.clone().unwrap_or_else(|| Error::Lost("no reason".into())),
        }
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
        // Polled in one order here and below, so that a simulation repeats itself. Nobody starves: what is taken is bounded by
        // the prefetch, what is heard by those who speak.
        tokio::select! {
            biased;
            taken = intake::run(self, shutdown, &running) => taken?,
            error = self.ended() => return Err(error),
            Err(error) = &mut presence => return Err(error),
        };
        running.close();
        tracing::info!(running = running.len(), "draining: finishing what runs, handing back the rest");
        tokio::select! {
            biased;
            () = running.wait() => {}
            error = self.ended() => return Err(error),
            // What runs can still be cancelled, and is still reported.
            Err(error) = &mut presence => return Err(error),
        }
        if let Err(error) = presence::beat(&*self.connection, &self.worker, true).await {
            tracing::debug!(%error, "could not say goodbye");
        }
        Ok(())
    }
}
