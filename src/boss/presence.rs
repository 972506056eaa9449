//! Listens to heartbeats, so that the boss knows who is there and how much they can take at a time.

use std::time::Instant;

use super::Shared;
use crate::broker::{Connection, Consume, Consumer, Error, Message, Queue, Route};
use crate::transport::names;
use crate::wire::{self, Command, Control, Heartbeat};

/// Declares the ear of `boss`, on this connection, on the presence exchange and asks everybody for a heartbeat.
pub(super) async fn open(connection: &dyn Connection, boss: &str) -> Result<Consumer, Error> {
    let ear = names::ear(names::PRESENCE, boss);
    connection.declare_queue(&Queue { name: ear.clone(), exclusive: true, ..Queue::default() }).await?;
    connection.bind_queue(&ear, names::PRESENCE, "").await?;
    let heartbeats = connection.consume(&ear, Consume { prefetch: 0, no_ack: true }).await?;
    ask(connection).await?;
    Ok(heartbeats)
}

/// Asks everybody for a heartbeat.
pub(super) async fn ask(connection: &dyn Connection) -> Result<(), Error> {
    let head = wire::encode(&Control { command: Command::WhoIsThere }).into();
    connection.publish(&Route::exchange(names::CONTROL, ""), Message { head, ..Message::default() }).await?;
    Ok(())
}

/// Keeps the directory up to date until the connection ends.
pub(super) async fn listen(shared: &Shared, heartbeats: &mut Consumer) -> Error {
    while let Some(delivery) = heartbeats.next().await {
        match wire::decode::<Heartbeat>(&delivery.message.head) {
            Ok(heartbeat) => shared.directory().heard(heartbeat, Instant::now()),
            Err(error) => tracing::warn!(%error, "ignored a heartbeat"),
        }
    }
    Error::Lost("the presence queue ended".into())
}
