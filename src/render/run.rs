//! Gives the pieces out and takes them in, until the picture is whole.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::Render;
use super::plan::Piece;
use crate::boss::{Boss, Handle, Room, Submit};
use crate::task::{Outcome, TaskError};
use crate::tasks::render::{Rendered, TileTask};

/// Pieces on their way: so many for each slot of the pool, and at least so many. Workers that come late find some, and one
/// that goes takes few with it.
const PER_SLOT: u64 = 4;
pub(super) const AT_LEAST: u64 = 64;

/// Between looks at who is late.
const LOOK: Duration = Duration::from_millis(100);

/// A piece is not late before this, nor before it has taken twice as long as the others did.
const LATE: Duration = Duration::from_secs(1);

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
#[error("tile {tile} can't be rendered: {error}")]
pub struct Failed {
    /// Number of the tile, from above and from the left.
    pub tile: usize,
    /// The outcome of its task.
    pub error: TaskError,
}

/// What is on its way.
#[derive(Default)]
struct Flights {
    outcomes: FuturesUnordered<BoxFuture<'static, (Piece, Outcome<Rendered>)>>,
    /// By tile and pass.
    open: HashMap<(usize, usize), Open>,
}

struct Open {
    since: Instant,
    handles: Vec<Handle>,
    /// One of them has failed: the other is the last.
    failed: bool,
}

impl Flights {
    /// Those on their way that are not late: who stands still with some does not keep the others from being sent.
    fn in_time(&self, late: Duration) -> u64 {
        self.open.values().filter(|open| open.since.elapsed() <= late).count() as u64
    }
}

impl Render {
    /// Makes it, as far as it is not there. What there is to be said goes to `say`. Returns when all is there, or at
    /// `stop`, or when a tile has failed.
    ///
    /// # Errors
    /// The first tile that failed; the others may be asked for again.
    pub async fn run(
        &self,
        boss: &Boss,
        how: Submit,
        stop: &CancellationToken,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Failed> {
        self.state().started = Some(Instant::now());
        let mut flights = Flights::default();
        let ended = self.work(boss, how, stop, say, &mut flights).await;
        // Of doubles that are no longer wanted, and of everything if it was stopped.
        for handle in flights.open.values().flat_map(|open| &open.handles) {
            handle.cancel();
        }
        let mut state = self.state();
        state.took = state.started.take().map_or(Duration::ZERO, |started| started.elapsed());
        ended
    }

    async fn work(
        &self,
        boss: &Boss,
        how: Submit,
        stop: &CancellationToken,
        say: &(dyn Fn(&str) + Sync),
        flights: &mut Flights,
    ) -> Result<(), Failed> {
        let mut missing = VecDeque::from(self.missing());
        while !missing.is_empty() || !self.is_complete() {
            let has_room = flights.in_time(self.late_after()) < AT_LEAST.max(boss.slots() * PER_SLOT);
            let answer_bytes = missing.front().map_or(0, |piece| self.answer_bytes(piece));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((piece, outcome)) = flights.outcomes.next() => self.landed(flights, &piece, outcome, say)?,
                room = boss.reserve(0, answer_bytes), if has_room && !missing.is_empty() => {
                    if let Some(piece) = missing.pop_front() {
                        self.send(room, how, flights, piece)?;
                    }
                }
                () = tokio::time::sleep(LOOK) => {
                    if !missing.is_empty() {
                        continue;
                    }
                    for piece in self.late(flights, boss.slots()) {
                        // Not worth waiting for.
                        let room = boss.reserve(0, self.answer_bytes(&piece)).now_or_never();
                        let Some(room) = room else { break };
                        self.send(room, how, flights, piece)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&self, room: Room<'_>, how: Submit, flights: &mut Flights, piece: Piece) -> Result<(), Failed> {
        let task = TileTask {
            scene: self.request.scene.clone(),
            view: self.request.view,
            tile: self.tile(&piece),
            samples: self.plan.passes[piece.pass].clone(),
        };
        let ticket = room.submit(task, how).map_err(|error| Failed { tile: piece.tile, error })?;
        let fresh = || Open { since: Instant::now(), handles: Vec::new(), failed: false };
        flights.open.entry((piece.tile, piece.pass)).or_insert_with(fresh).handles.push(ticket.handle());
        flights.outcomes.push(Box::pin(async move { (piece, ticket.outcome().await) }));
        Ok(())
    }

    fn landed(
        &self,
        flights: &mut Flights,
        piece: &Piece,
        outcome: Outcome<Rendered>,
        say: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Failed> {
        let key = (piece.tile, piece.pass);
        let rendered = outcome.result.and_then(|rendered| match outcome.worker {
            Some(worker) => Ok((rendered, worker)),
            None => Err(TaskError::Invalid("its answer came from nobody".into())),
        });
        match rendered {
            // A double goes on: it is compared, if it comes in time.
            Ok((rendered, worker)) => {
                if let Some(remark) = self.take(piece, rendered, &worker, outcome.compute_seconds) {
                    say(&remark);
                }
            }
            Err(error) if !self.state().canvas.has(piece) => {
                // As long as its double is on its way, nothing is lost.
                let others = flights.open.get_mut(&key).map_or(0, |open| {
                    open.failed = true;
                    open.handles.retain(|handle| handle.id() != outcome.task);
                    open.handles.len()
                });
                return if others > 0 { Ok(()) } else { Err(Failed { tile: piece.tile, error }) };
            }
            Err(_) => {}
        }
        if let Some(open) = flights.open.get_mut(&key) {
            open.handles.retain(|handle| handle.id() != outcome.task);
            if open.handles.is_empty() {
                flights.open.remove(&key);
            }
        }
        Ok(())
    }

    /// Pieces that take too long, those that have waited longest first. All were sent, so slots are idle or about to be:
    /// as many doubles as there are slots at a time. (Not as many as slots seem to be idle: a worker that stands still may
    /// have several pieces that came in one message.)
    fn late(&self, flights: &Flights, slots: u64) -> Vec<Piece> {
        let late = self.late_after();
        let state = self.state();
        let is_late = |(tile, pass): (usize, usize), open: &Open| {
            open.handles.len() == 1
                && !open.failed
                && open.since.elapsed() > late
                && !state.canvas.has(&Piece { tile, pass })
        };
        let alone = flights.open.iter().filter(|(key, open)| is_late(**key, open));
        let mut alone: Vec<_> = alone.map(|((tile, pass), open)| (open.since, *tile, *pass)).collect();
        alone.sort_unstable();
        let doubled = flights.open.values().filter(|open| open.handles.len() > 1).count();
        let more = usize::try_from(slots).unwrap_or(usize::MAX).saturating_sub(doubled);
        alone.into_iter().take(more).map(|(_, tile, pass)| Piece { tile, pass }).collect()
    }

    /// When a piece is late: after twice the time that the others took, which nobody knows before the first.
    fn late_after(&self) -> Duration {
        let state = self.state();
        let made = state.workers.values().map(|share| (share.pieces, share.compute_seconds));
        let (pieces, seconds) = made.fold((0, 0.0), |(n, sum), (pieces, seconds)| (n + pieces, sum + seconds));
        match pieces {
            0 => Duration::MAX,
            // What a worker says of itself may be anything.
            _ => LATE.max(Duration::try_from_secs_f64(2.0 * seconds / pieces as f64).unwrap_or(Duration::MAX)),
        }
    }

    fn answer_bytes(&self, piece: &Piece) -> u64 {
        let tile = self.tile(piece);
        u64::from(tile.width) * u64::from(tile.height) * 12
    }
}
