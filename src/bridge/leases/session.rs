//! The life of a session: begun by a request, ended by its clock or by its worker.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::front::Front;
use super::lease::Key;
use super::table::{Asked, Due, Number, Over, Table};
use super::{LeaseError, Minion, Shared};
use crate::broker::Error;
use crate::task::{Handler, Kind};
use crate::worker::{self, Claim, Identity, Summary};

pub(super) type Woken = oneshot::Receiver<Result<(), LeaseError>>;

impl Shared {
    /// Puts a request into its worker's session, which is begun if need be.
    pub(super) fn ask(self: &Arc<Self>, minion: &Minion, kinds: &[Kind]) -> Result<(Waiting<'_>, Woken), LeaseError> {
        let claim = &minion.claim;
        let key = (claim.name.clone(), claim.host.clone(), claim.pid);
        let mut table = self.table();
        let mut begun = false;
        loop {
            match table.ask(&key, kinds, Instant::now())? {
                Asked::Waiting { session, turn, woken } => {
                    return Ok((Waiting { shared: self, session, turn }, woken));
                }
                Asked::Nobody if begun => return Err(LeaseError::Closing),
                Asked::Nobody => self.begin(&mut table, key.clone(), claim, kinds)?,
            }
            begun = true;
        }
    }

    fn begin(self: &Arc<Self>, table: &mut Table, key: Key, claim: &Claim, kinds: &[Kind]) -> Result<(), LeaseError> {
        let full = |_| LeaseError::Full { max: self.sessions_max };
        let room = self.room.clone().try_acquire_owned().map_err(full)?;
        let (stop, changed) = (CancellationToken::new(), Arc::new(Notify::new()));
        let session = table.begin(key, kinds.to_vec(), stop.clone(), changed.clone(), Instant::now());
        let offers = self.offers.iter().map(|offer| &offer.handler).filter(|kind| kinds.contains(&kind.kind()));
        let front = |kind: &Arc<dyn Handler>| Arc::new(Front { kind: kind.clone(), session, shared: self.clone() });
        let options = worker::Options { identity: Some(Identity::outside(claim)), ..self.worker.clone() };
        let worker = (self.start)(offers.map(front).collect(), options, stop);
        self.sessions.spawn(attend(self.clone(), session, changed, worker, room));
        Ok(())
    }
}

/// A session's clock: ends it when its time is over, or when its worker has come to an end by itself.
async fn attend(
    shared: Arc<Shared>,
    session: Number,
    changed: Arc<Notify>,
    mut worker: JoinHandle<Result<Summary, Error>>,
    _room: OwnedSemaphorePermit,
) {
    loop {
        let due = shared.table().due(session, Instant::now());
        let time = async {
            match due {
                Due::At(at) => tokio::time::sleep_until(at).await,
                Due::Changed => std::future::pending().await,
                Due::Over => {}
            }
        };
        tokio::select! {
            biased;
            ended = &mut worker => {
                let error = match ended {
                    Ok(Err(error)) => error,
                    Ok(Ok(_)) => Error::Lost("the worker of the session stopped".into()),
                    Err(panicked) => Error::Lost(panicked.to_string()),
                };
                return shared.table().end(session, Over::Broken(error));
            }
            () = time => {}
            () = changed.notified() => {}
        }
        if due == Due::Over {
            break;
        }
    }
    // It drains: its task has its verdict, and goes back.
    if let Ok(Err(error)) = worker.await {
        tracing::warn!(%error, "the session of an outside worker did not end in good order");
    }
}

/// A request that waits; dropped, it has gone.
pub(super) struct Waiting<'a> {
    shared: &'a Shared,
    pub(super) session: Number,
    pub(super) turn: Number,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Nothing to do for one that has taken its task.
        self.shared.table().leave(self.session, self.turn, Instant::now());
    }
}
