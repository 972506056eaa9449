//! What came of a picture: figures for people, and the same for scripts.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::Plan;
use super::{Request, State};
use crate::task::WorkerRef;

/// The summary of a picture; its fields are the object that `--json` prints.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct Report {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Samples of each pixel that were asked for.
    pub spp: u32,
    /// BLAKE3 of the scene as it travels.
    pub scene: String,
    /// Whether all of it is there.
    pub complete: bool,
    /// From the first tile asked for to the last one there.
    pub seconds: f64,
    /// Tiles times passes,
    pub pieces: usize,
    /// of which so many are done,
    pub pieces_done: usize,
    /// of which so many by an earlier run.
    pub pieces_resumed: usize,
    /// Samples of all pixels a second.
    pub samples_per_second: f64,
    /// Rays traced by this run, doubles included.
    pub rays: u64,
    /// Rays a second of computing time, in 1e6: what one core does.
    pub mrays_per_core_second: f64,
    /// Pieces that came twice; the first counts.
    pub doubles: u64,
    /// Of these, those that were not the same to the bit.
    pub doubles_different: u64,
    /// Who made how much.
    pub workers: Vec<WorkerShare>,
}

/// One worker's share.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct WorkerShare {
    /// Its id.
    pub id: String,
    /// Its host name.
    pub host: String,
    /// Pieces that it was first with.
    pub pieces: u64,
    /// Samples of these.
    pub samples: u64,
    /// Seconds it computed, all slots added up.
    pub compute_seconds: f64,
}

impl WorkerShare {
    pub(super) fn of(worker: &WorkerRef) -> Self {
        let WorkerRef { id, host } = worker.clone();
        WorkerShare { id, host, pieces: 0, samples: 0, compute_seconds: 0.0 }
    }
}

pub(super) fn of(request: &Request, plan: &Plan, state: &State) -> Report {
    let workers: Vec<WorkerShare> = state.workers.values().cloned().collect();
    let seconds = state.started.map_or(state.took, |started| started.elapsed()).as_secs_f64();
    let samples: u64 = workers.iter().map(|share| share.samples).sum();
    let computed: f64 = workers.iter().map(|share| share.compute_seconds).sum();
    let rate = |amount: f64, seconds: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
    Report {
        width: request.view.width,
        height: request.view.height,
        spp: request.samples,
        scene: request.scene.hash().to_string(),
        complete: state.canvas.taken() == plan.len(),
        seconds,
        pieces: plan.len(),
        pieces_done: state.canvas.taken(),
        pieces_resumed: state.resumed,
        samples_per_second: rate(samples as f64, seconds),
        rays: state.rays,
        mrays_per_core_second: rate(state.rays as f64 / 1e6, computed),
        doubles: state.doubles,
        doubles_different: state.different,
        workers,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.workers.len();
        let plural = if count == 1 { "" } else { "s" };
        let Report { width, height, spp, seconds, .. } = self;
        if self.complete {
            writeln!(f, "{width}x{height}, {spp} spp in {seconds:.1} s on {count} worker{plural}")?;
        } else {
            let share = 100.0 * self.pieces_done as f64 / self.pieces.max(1) as f64;
            writeln!(f, "{width}x{height}, {spp} spp: {share:.0} % in {seconds:.1} s on {count} worker{plural}")?;
        }
        writeln!(
            f,
            "speed           {:.2} Msamples/s, {:.2} Mrays/s per core",
            self.samples_per_second / 1e6,
            self.mrays_per_core_second
        )?;
        if self.pieces_resumed > 0 {
            writeln!(f, "resumed         {} of {} pieces were there already", self.pieces_resumed, self.pieces)?;
        }
        if self.doubles > 0 {
            writeln!(
                f,
                "doubles         {} pieces came twice, {} of them different",
                self.doubles, self.doubles_different
            )?;
        }
        let all: u64 = self.workers.iter().map(|share| share.samples).sum();
        for share in &self.workers {
            let percent = 100.0 * share.samples as f64 / all.max(1) as f64;
            let WorkerShare { id, pieces, compute_seconds, .. } = share;
            writeln!(f, "worker          {id}: {percent:.0} % ({pieces} pieces), {compute_seconds:.2} s computing")?;
        }
        Ok(())
    }
}
