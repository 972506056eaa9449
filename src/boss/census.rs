//! Asks who is there, and listens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::{Connection, Consume, Error, Message, Queue, Route};
use crate::directory::{Directory, Node};
use crate::transport::names;
use crate::wire::{self, Command, Control, Heartbeat};

/// Asks all workers for a heartbeat and collects what comes within `patience`.
pub(super) async fn take(connection: &Arc<dyn Connection>, boss: &str, patience: Duration) -> Result<Vec<Node>, Error> {
    let ear = names::ear(names::PRESENCE, &format!("{boss}-{:08x}", rand::random::<u32>()));
    connection.declare_queue(&Queue { name: ear.clone(), exclusive: true, ..Queue::default() }).await?;
    connection.bind_queue(&ear, names::PRESENCE, "").await?;
    let mut heartbeats = connection.consume(&ear, Consume { prefetch: 0, no_ack: true }).await?;
    let message =
        Message { head: wire::encode(&Control { command: Command::WhoIsThere }).into(), ..Message::default() };
    connection.publish(&Route::exchange(names::CONTROL, ""), message).await?;

    let mut directory = Directory::default();
    let until = tokio::time::Instant::now() + patience;
    while let Ok(Some(delivery)) = tokio::time::timeout_at(until, heartbeats.next()).await {
        match wire::decode::<Heartbeat>(&delivery.message.head) {
            Ok(heartbeat) => directory.heard(heartbeat, Instant::now()),
            Err(error) => tracing::warn!(%error, "ignored a heartbeat"),
        }
    }
    drop(heartbeats);
    connection.delete_queue(&ear).await?;
    Ok(directory.nodes(Instant::now()))
}
