//! Listens to heartbeats, progress and control messages: who is there, how far the tasks are, which of them to end.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::{Shared, Word};
use crate::broker::{Connection, Consume, Consumer, Error, Message, Queue, Route};
use crate::task::{TaskError, TaskId, ambient};
use crate::transport::{incoming, names};
use crate::wire::{self, Cancelled, Command, Control, Heartbeat, Progress, Share};

/// How long a boss has to say that it has cancelled a task; a live one takes milliseconds.
const CANCEL_PATIENCE: Duration = Duration::from_secs(2);

/// Declares the ear of `boss`, on this connection, on both exchanges that speak to bosses, and asks everybody for a
/// heartbeat. Workers report progress straight to it: what it says may be lost, and is not worth an ack.
pub(super) async fn open(connection: &dyn Connection, boss: &str) -> Result<Consumer, Error> {
    let ear = names::ear(names::PRESENCE, boss);
    connection.declare_queue(&Queue { name: ear.clone(), exclusive: true, ..Queue::default() }).await?;
    connection.bind_queue(&ear, names::PRESENCE, "").await?;
    connection.bind_queue(&ear, names::CONTROL, "").await?;
    let heard = connection.consume(&ear, Consume { prefetch: 0, no_ack: true }).await?;
    ask(connection).await?;
    Ok(heard)
}

/// Asks everybody for a heartbeat.
pub(super) async fn ask(connection: &dyn Connection) -> Result<(), Error> {
    let head = wire::encode(&Control { command: Command::WhoIsThere }).into();
    connection.publish(&Route::exchange(names::CONTROL, ""), Message { head, ..Message::default() }).await?;
    Ok(())
}

/// Asks everybody to end a task that is not this boss's; whether its boss said so in time.
pub(super) async fn cancel(shared: &Shared, connection: &dyn Connection, task: TaskId) -> Result<bool, Error> {
    let mut cancelled = shared.cancelled.subscribe();
    let head = wire::encode(&Control { command: Command::Cancel { task } }).into();
    let message = Message { head, ..Message::default() };
    connection.publish(&Route::exchange(names::CONTROL, ""), message).await?.0.await?;
    let said = async {
        loop {
            match cancelled.recv().await {
                Ok(other) if other == task => return true,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return false,
            }
        }
    };
    Ok(tokio::time::timeout(CANCEL_PATIENCE, said).await.unwrap_or(false))
}

/// Keeps the directory and the progress up to date until the connection ends.
pub(super) async fn listen(shared: &Shared, heard: &mut Consumer) -> Error {
    while let Some(delivery) = heard.next().await {
        match hear(shared, &delivery.message.head) {
            Ok(None) => {}
            // A new link publishes again what was in it.
            Ok(Some((queue, was_there)))
                if shared.pending().has_published(incoming::kind_of(&queue))
                    && (was_there || !shared.has_just_seen(&queue)) =>
            {
                return Error::Lost(format!("the queue {queue} was deleted"));
            }
            Ok(Some(_)) => {}
            Err(error) => tracing::warn!(%error, "ignored a message from the presence queue"),
        }
    }
    Error::Lost("the presence queue ended".into())
}

/// The name of a work queue that was lost, if it says that, and whether it was there before.
fn hear(shared: &Shared, head: &[u8]) -> Result<Option<(String, bool)>, wire::Error> {
    let mut lost = None;
    if wire::is::<Progress>(head) {
        let Progress { tasks } = wire::decode(head)?;
        let mut pending = shared.pending();
        tasks.into_iter().for_each(|Share { task, permille }| pending.advance(task, permille));
    } else if wire::is::<Control>(head) {
        for Control { command } in wire::decode_all(head)? {
            match command {
                // The workers have heard of it as this boss has, so nobody else need be told to stop.
                Command::Cancel { task } => {
                    if shared.fail(task, TaskError::Cancelled) {
                        shared.say(Word::Cancelled(task));
                    }
                }
                Command::QueueLost { queue, was_there } => lost = Some((queue, was_there)),
                // For workers.
                Command::WhoIsThere | Command::BossGone { .. } | Command::Answered { .. } => {}
            }
        }
    } else if wire::is::<Cancelled>(head) {
        let Cancelled { task, .. } = wire::decode(head)?;
        // Nobody here may have asked.
        let _ = shared.cancelled.send(task);
    } else {
        let is_new = shared.directory().heard(wire::decode::<Heartbeat>(head)?, ambient::now());
        if is_new {
            shared.called_off().iter().for_each(|task| shared.say(Word::Cancel(*task)));
        }
    }
    Ok(lost)
}
