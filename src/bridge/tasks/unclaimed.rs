//! Answers that came for detached tasks while there was no bridge, or before theirs were sent again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Tasks;
use super::entry::Phase;
use crate::boss::{Receipt, Unclaimed};
use crate::task::{Blob, Outcome};

/// Nothing is sent before what waits at the broker is read, so that it is not computed again; but for no longer than this: the
/// broker may take a dead connection of an earlier bridge for alive, and give it what there is.
const CATCH_UP: Duration = Duration::from_secs(10);

impl Tasks {
    /// Finishes tasks with the answers that the broker kept, until the bridge stops. One after another: in memory are the one
    /// being written and what the prefetch of the boss allows, and the others are with the broker.
    pub(in super::super) async fn claim_all(self: Arc<Self>, mut unclaimed: mpsc::Receiver<Unclaimed>) {
        let mut finished = 0_u64;
        while let Some(unclaimed) = unclaimed.recv().await {
            match unclaimed {
                Unclaimed::Outcome(outcome, receipt) => finished += u64::from(self.claim(*outcome, receipt).await),
                Unclaimed::CaughtUp => {
                    if finished > 0 && !self.caught_up.is_cancelled() {
                        tracing::info!(finished, "read the answers that came while there was no bridge");
                    }
                    self.caught_up.cancel();
                }
            }
        }
        // The boss keeps nothing.
        self.caught_up.cancel();
    }

    /// Waits until what the broker kept is read.
    pub(super) async fn caught_up(&self) {
        if tokio::time::timeout(CATCH_UP, self.caught_up.cancelled()).await.is_err() {
            tracing::warn!("answers of an earlier bridge are still to be read; tasks are sent again meanwhile");
        }
    }

    /// Finishes the task of an outcome if it waits to be sent; whether it did.
    async fn claim(&self, outcome: Outcome<Blob>, receipt: Receipt) -> bool {
        // Of one that was sent the first outcome is on its way to the spool, and this is another.
        let Some(entry) = self.find(outcome.task).filter(|entry| entry.claim()) else {
            receipt.not_written();
            return false;
        };
        self.table().taken(&entry);
        self.waiting.notify_one();
        self.finish_kept(&entry, outcome, receipt).await;
        true
    }

    /// Whether answers to detached tasks may come when there is no bridge.
    pub(in super::super) fn await_answers(&self) -> bool {
        self.table().all().any(|entry| entry.is_kept() && !matches!(entry.phase(), Phase::Ended(_)))
    }
}
