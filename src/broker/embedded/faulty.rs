//! A connection to an embedded broker over a network with faults.
//!
//! Must not touch: what befalls it, which is the line's. Invariant: nothing here reaches the broker but over the line.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use super::ferry::Ferry;
use super::network::{Line, Sent};
use super::state::State;
use super::{
    Confirm, Connection, Consume, Consumer, Error, ExchangeKind, Message, Queue, QueueStatus, Route, expire_later,
    limits,
};

/// The program's end of a line; dropped, it takes the line along.
pub(super) struct FaultyConnection {
    pub(super) line: Arc<Line>,
}

impl FaultyConnection {
    /// A question to the broker and its answer, each on its way.
    async fn call<T: Send>(
        &self,
        what: &str,
        name: &str,
        operation: impl FnOnce(&mut State) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        self.line.travel().await?;
        let result = operation(&mut self.line.network.broker.state());
        let refused = if result.is_err() { ", which is refused" } else { "" };
        self.line.network.note(format_args!("{} {what} {name}{refused}", self.line));
        self.line.travel().await?;
        result
    }
}

impl Drop for FaultyConnection {
    fn drop(&mut self) {
        self.line.cut("its last handle was dropped", Duration::ZERO, Duration::ZERO);
    }
}

#[async_trait]
impl Connection for FaultyConnection {
    async fn declare_exchange(&self, name: &str, kind: ExchangeKind) -> Result<(), Error> {
        limits::check_name("declare an exchange", name)?;
        self.call("declares", name, |state| state.declare_exchange(name, kind)).await
    }

    async fn declare_queue(&self, queue: &Queue) -> Result<(), Error> {
        limits::check_queue(queue)?;
        let id = self.line.id;
        let declare = |state: &mut State| {
            state.declare_queue(id, queue)?;
            Ok(state.idle(&queue.name))
        };
        if let Some(idle) = self.call("declares", &queue.name, declare).await? {
            expire_later(&self.line.runtime, &self.line.network.broker, idle);
        }
        Ok(())
    }

    async fn bind_queue(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), Error> {
        limits::check_name("bind a queue", routing_key)?;
        let id = self.line.id;
        self.call("binds", queue, |state| state.bind(id, queue, exchange, routing_key)).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), Error> {
        let id = self.line.id;
        self.call("deletes", queue, |state| state.delete_queue(id, queue)).await
    }

    async fn queue_status(&self, queue: &str) -> Result<Option<QueueStatus>, Error> {
        let id = self.line.id;
        self.call("looks at", queue, |state| state.status(id, queue)).await
    }

    async fn publish(&self, route: &Route, message: Message) -> Result<Confirm, Error> {
        limits::check_message(route, &message)?;
        self.line.unblocked().await?;
        let (answer, answered) = oneshot::channel();
        self.line.send(Sent { route: route.clone(), message, answer });
        Ok(Confirm(Box::pin(self.line.clone().confirmed(answered))))
    }

    async fn consume(&self, queue: &str, options: Consume) -> Result<Consumer, Error> {
        let (deliveries_in, deliveries) = mpsc::unbounded_channel();
        let (verdicts_in, verdicts) = mpsc::unbounded_channel();
        let (line, queue_name) = (self.line.clone(), queue.to_owned());
        let open = move |state: &mut State| {
            let id = state.consume(line.id, &queue_name, options, deliveries_in, verdicts_in)?;
            Ok(Ferry::start(line, id, options, deliveries, verdicts))
        };
        self.call("consumes from", queue, open).await
    }

    fn inline_max_bytes(&self) -> usize {
        self.line.network.dice(|dice| dice.inline_max_bytes())
    }

    fn blocked(&self) -> watch::Receiver<Option<String>> {
        self.line.network.broker.blocked.subscribe()
    }

    async fn closed(&self) -> Error {
        self.line.life.ended().await
    }

    async fn close(&self) {
        self.line.close().await;
    }
}
