//! The dead letters in their order, each once, without taking them from the queue.
//!
//! Invariant: at most [`AHEAD`] deliveries with their bodies are in memory, however many letters are held unacked: each
//! consumer has a small prefetch and serves no more than that. What was held of a consumer that is gone stays held.

use std::collections::VecDeque;
use std::time::Duration;

use crate::broker::{Connection, Consume, Consumer, Delivery, Error};
use crate::transport::names;

/// Deliveries taken ahead: 32 of the largest, 16 MiB each, are 512 MiB, and few are there at a time.
const AHEAD: u16 = 32;

/// After so long without a delivery it is time to ask whether any are left.
const SILENCE: Duration = Duration::from_millis(250);

/// So many silences in a row, with letters ready, and something is wrong.
const SILENCES_MAX: u32 = 40;

/// A walk along the queue.
pub(super) struct Scan<'a> {
    connection: &'a dyn Connection,
    /// And how many more it is to give.
    consumer: Option<(Consumer, u16)>,
    /// Given by a consumer that was cancelled.
    rest: VecDeque<Delivery>,
    /// How many more there are to be, in all.
    left: u64,
}

impl<'a> Scan<'a> {
    /// The first `most` letters.
    pub(super) fn new(connection: &'a dyn Connection, most: u64) -> Self {
        Scan { connection, consumer: None, rest: VecDeque::new(), left: most }
    }

    /// How many letters of those asked for have not been seen.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next letter; `None` when those asked for are through, or no more are there.
    ///
    /// # Errors
    /// The broker's.
    pub(super) async fn next(&mut self) -> Result<Option<Delivery>, Error> {
        let mut silences = 0;
        while self.left > 0 {
            if let Some(delivery) = self.rest.pop_front() {
                self.left -= 1;
                return Ok(Some(delivery));
            }
            let (mut consumer, room) = match self.consumer.take() {
                Some((spent, 0)) => {
                    // Where letters were acked meanwhile more have come, and these come first.
                    self.rest.extend(spent.cancel().await);
                    continue;
                }
                Some(current) => current,
                None => {
                    let prefetch = AHEAD.min(u16::try_from(self.left).unwrap_or(u16::MAX));
                    let consume = Consume { prefetch, no_ack: false };
                    (self.connection.consume(names::DEAD, consume).await?, prefetch)
                }
            };
            match tokio::time::timeout(SILENCE, consumer.next()).await {
                Ok(Some(delivery)) => {
                    self.consumer = Some((consumer, room - 1));
                    self.left -= 1;
                    return Ok(Some(delivery));
                }
                Ok(None) => return Err(Error::Lost(format!("the consumer of {} ended", names::DEAD))),
                Err(_) if self.ready().await? == 0 => {
                    // Somebody else has taken some. What is on its way is the last.
                    self.rest.extend(consumer.cancel().await);
                    self.left = self.left.min(self.rest.len() as u64);
                }
                Err(_) if silences == SILENCES_MAX => {
                    return Err(Error::Lost(format!("{} has letters and gives none", names::DEAD)));
                }
                Err(_) => {
                    silences += 1;
                    self.consumer = Some((consumer, room));
                }
            }
        }
        Ok(None)
    }

    async fn ready(&self) -> Result<u64, Error> {
        ready(self.connection).await
    }
}

/// Letters that nobody holds.
pub(super) async fn ready(connection: &dyn Connection) -> Result<u64, Error> {
    Ok(connection.queue_status(names::DEAD).await?.map_or(0, |status| status.ready))
}
