//! One task of any size over a [`Connection`]: inline in its message, or pulled in parts by the worker that holds its head.
//!
//! Here, and only here, [`crate::wire`] and [`crate::broker`] meet. Must not touch: handlers, retries, windows. The boss's
//! half is [`outgoing`] (pack, serve parts) and [`collect`]; the worker's is [`incoming`], [`fetch`] and [`answer`]. [`dead`]
//! is what both know of dead letters.
//!
//! Invariants: no message above the broker's limit; at most [`fetch::CREDIT`] parts per fetch are with the broker.
//! A payload that travels outside the broker (a file in shared memory, straight TCP) would be one more variant beside
//! `pull_from` in the head and one more branch in [`fetch`]; nothing else would see it.

pub mod answer;
pub mod assembly;
pub mod backoff;
pub mod buffers;
pub mod collect;
pub mod dead;
pub mod fetch;
pub mod incoming;
pub mod names;
pub mod outgoing;

use std::time::Duration;

use crate::broker::{Connection, Error, ExchangeKind, Queue, Route};
use crate::task::Kind;
use crate::wire::PART_BYTES;

/// The most bytes of records in one message's head: the AMQP frame that carries it is 128 KiB.
pub const HEADS_MAX_BYTES: usize = 60 * 1024;

/// Priorities that a work queue tells apart, 0 to this. Quorum queues know two: 5 and above is high.
pub const PRIORITY_MAX: u8 = 5;

/// Declares the exchanges and queues that all bosses and workers share. Either may come first.
///
/// # Errors
/// [`Error::Operation`] if one of them exists with other arguments, or the broker's own.
pub async fn declare_shared(connection: &dyn Connection, kinds: &[Kind], quorum: bool) -> Result<(), Error> {
    connection.declare_exchange(names::WORK, ExchangeKind::Direct).await?;
    connection.declare_exchange(names::PRESENCE, ExchangeKind::Fanout).await?;
    connection.declare_exchange(names::CONTROL, ExchangeKind::Fanout).await?;
    connection.declare_queue(&Queue { name: names::DEAD.into(), quorum, ..Queue::default() }).await?;
    for kind in kinds {
        let name = names::work_queue(kind.as_str());
        let queue = Queue {
            name: name.clone(),
            quorum,
            max_priority: (!quorum).then_some(PRIORITY_MAX),
            dead_letter: Some(Route::queue(names::DEAD)),
            ..Queue::default()
        };
        connection.declare_queue(&queue).await?;
        connection.bind_queue(&name, names::WORK, kind.as_str()).await?;
    }
    Ok(())
}

/// A queue for tasks that wait is gone when nothing was put there for so long, and for what a task waits.
const LATER_EXPIRES: Duration = Duration::from_secs(3600);

/// Declares the queue from which tasks of a kind come back to their work queue after `wait`. Its name.
///
/// To be done whenever a task is put there, not once: a classic queue without a consumer goes when it was not declared for
/// longer than [`LATER_EXPIRES`], and would take along what is in it. A quorum queue does not count declarations, so it stays.
///
/// # Errors
/// The broker's. If the queue is there with other arguments, it is taken as it is: they are those of another version.
pub async fn declare_later(
    connection: &dyn Connection,
    kind: &str,
    quorum: bool,
    wait: Duration,
) -> Result<String, Error> {
    let name = names::later_queue(kind);
    let queue = Queue {
        name: name.clone(),
        quorum,
        expires: (!quorum).then(|| LATER_EXPIRES.saturating_add(wait)),
        message_ttl: Some(wait),
        dead_letter: Some(Route::exchange(names::WORK, kind)),
        ..Queue::default()
    };
    match connection.declare_queue(&queue).await {
        Err(error @ Error::Operation { .. }) => {
            tracing::warn!(%error, "tasks of a boss that is away wait there all the same")
        }
        declared => declared?,
    }
    Ok(name)
}

/// The length of every part of a payload but the last: no longer than what the broker takes in one piece.
fn part_bytes(connection: &dyn Connection) -> u32 {
    u32::try_from(connection.inline_max_bytes()).map_or(PART_BYTES, |inline_max| inline_max.min(PART_BYTES))
}

/// Whether there is a queue of this name, be it locked by the connection that owns it.
///
/// # Errors
/// The connection's; a broker that will not say counts as yes.
pub async fn is_there(connection: &dyn Connection, queue: &str) -> Result<bool, Error> {
    match connection.queue_status(queue).await {
        Ok(status) => Ok(status.is_some()),
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(true),
    }
}

/// Whether messages stay in this process, where a checksum would only cost.
fn in_process(connection: &dyn Connection) -> bool {
    connection.inline_max_bytes() == usize::MAX
}
