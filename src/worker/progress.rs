//! Tells bosses how far their tasks are.

use std::time::Duration;

use super::running::Running;
use crate::broker::{Connection, Error, Message, Route};
use crate::wire::{self, Progress, SHARES_MAX};

/// Between reports, at least: four a second are smooth enough for a bar.
const PERIOD: Duration = Duration::from_millis(250);

/// Reports until the connection ends. It waits without a timer while there is nothing to report on.
pub(super) async fn run(connection: &dyn Connection, running: &Running) -> Result<(), Error> {
    loop {
        running.until_reporting().await;
        tokio::time::sleep(PERIOD).await;
        for (queue, shares) in running.moved() {
            for shares in shares.chunks(SHARES_MAX) {
                let head = wire::encode(&Progress { tasks: shares.to_vec() }).into();
                // The next report makes up for one that is lost, so the confirm is not awaited.
                match connection.publish(&Route::queue(&queue), Message { head, ..Message::default() }).await {
                    Err(error) if error.is_transient() => return Err(error),
                    // The queue's name comes from outside.
                    Err(error) => tracing::debug!(%error, queue, "could not report progress"),
                    Ok(_) => {}
                }
            }
        }
    }
}
