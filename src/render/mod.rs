//! A picture made on a pool: split into pieces, rendered by whoever is there, put together.
//!
//! Over the public [`Boss`] and the kind `render`, for the command line and for the bridge. Invariants: the picture depends
//! on what is asked for alone, not on the tiles, the workers or their order (up to workers that compute other bits, which
//! is noticed and said); each piece counts once.

mod canvas;
mod partial;
mod plan;
mod report;
mod run;
pub mod setting;
pub mod tone;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use canvas::{Canvas, Taken};
use partial::Settings;
use plan::{Piece, Plan};
pub use report::{Report, WorkerShare};
pub use run::Failed;

use crate::task::{TaskError, WorkerRef};
use crate::tasks::render::trace::{Tile, View};
use crate::tasks::render::{EncodedScene, Rendered};

/// A picture to be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is seen.
    pub scene: EncodedScene,
    /// From where, and how large.
    pub view: View,
    /// Of each pixel.
    pub samples: u32,
    /// Pixels across and down a tile.
    pub tile: u32,
}

impl Request {
    fn check(&self) -> Result<(), TaskError> {
        let View { width, height, depth, .. } = self.view;
        let checked = setting::check(width, height, self.samples, self.tile, depth);
        checked.map_err(|wrong| TaskError::Invalid(wrong.to_string()))
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let View { camera, width, height, seed, depth, roulette } = &self.view;
        [
            ("scene", self.scene.hash().to_string()),
            ("size", format!("{width}x{height}")),
            ("spp", self.samples.to_string()),
            ("tile", self.tile.to_string()),
            ("seed", seed.to_string()),
            ("depth", depth.to_string()),
            ("roulette", roulette.to_string()),
            ("camera", format!("{camera:?}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// A picture in the making. [`Render::run`] makes it; everything else may be asked meanwhile, from other threads, too.
#[derive(Debug)]
pub struct Render {
    request: Request,
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    canvas: Canvas,
    started: Option<Instant>,
    took: Duration,
    /// Pieces of an earlier run.
    resumed: usize,
    samples: u64,
    rays: u64,
    workers: BTreeMap<String, WorkerShare>,
    doubles: u64,
    different: u64,
    /// By fingerprint, a worker of each.
    builds: BTreeMap<u64, String>,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Tiles times passes that are done,
    pub pieces: usize,
    /// of so many.
    pub pieces_all: usize,
    /// Samples of all pixels that are done, by this run or an earlier one,
    pub samples: u64,
    /// of so many.
    pub samples_all: u64,
}

impl Render {
    /// Nothing is begun yet.
    ///
    /// # Errors
    /// [`TaskError::Invalid`] for a picture that can't be made.
    pub fn new(request: Request) -> Result<Self, TaskError> {
        request.check()?;
        let View { width, height, .. } = request.view;
        let plan = Plan::new(width, height, request.tile, request.samples);
        let state = State {
            canvas: Canvas::new(width, height, &plan),
            started: None,
            took: Duration::ZERO,
            resumed: 0,
            samples: 0,
            rays: 0,
            workers: BTreeMap::new(),
            doubles: 0,
            different: 0,
            builds: BTreeMap::new(),
        };
        Ok(Render { request, plan, state: Mutex::new(state) })
    }

    /// Goes on with what [`Render::partial`] gave in an earlier run.
    ///
    /// # Errors
    /// In words, if that is damaged or was another picture.
    pub fn resume(&self, partial: &[u8]) -> Result<(), String> {
        let View { width, height, .. } = self.request.view;
        let wanted = Settings { of_picture: self.request.settings(), builds: BTreeMap::new() };
        let pixels = width as usize * height as usize;
        let partial = partial::read(partial, &wanted, self.plan.tiles.len(), pixels)?;
        if partial.added.iter().any(|added| *added > self.plan.passes.len()) {
            return Err("it is damaged: it has more passes than there are".into());
        }
        let mut state = self.state();
        let pieces = partial.added.iter().enumerate();
        let pieces = pieces.flat_map(|(tile, added)| (0..*added).map(move |pass| Piece { tile, pass }));
        state.samples = pieces.map(|piece| self.plan.samples(&piece)).sum();
        state.resumed = partial.added.iter().sum();
        state.builds = partial.settings.builds;
        state.canvas.restore(partial.sums, partial.added);
        Ok(())
    }

    /// What is done so far, to be gone on with by [`Render::resume`].
    pub fn partial(&self) -> Vec<u8> {
        let state = self.state();
        let settings = Settings { of_picture: self.request.settings(), builds: state.builds.clone() };
        let (sums, added) = state.canvas.parts();
        partial::write(&settings, added, sums)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let View { width, height, .. } = self.request.view;
        let state = self.state();
        Progress {
            pieces: state.canvas.taken(),
            pieces_all: self.plan.len(),
            samples: state.samples,
            samples_all: u64::from(width) * u64::from(height) * u64::from(self.request.samples),
        }
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.state().canvas.taken() == self.plan.len()
    }

    /// The mean radiance of each pixel, linear RGB, rows from above; black where nothing is yet.
    pub fn means(&self) -> Vec<f32> {
        self.state().canvas.means(&self.plan)
    }

    /// What came of it so far.
    pub fn report(&self) -> Report {
        report::of(&self.request, &self.plan, &self.state())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Its methods leave it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pieces that are missing, in order.
    fn missing(&self) -> Vec<Piece> {
        let state = self.state();
        self.plan.pieces().into_iter().filter(|piece| !state.canvas.has(piece)).collect()
    }

    fn tile(&self, piece: &Piece) -> Tile {
        self.plan.tiles[piece.tile]
    }

    /// Puts a piece in its place; says what there is to be said of who made it.
    fn take(&self, piece: &Piece, rendered: Rendered, by: &WorkerRef, compute_seconds: f64) -> Option<String> {
        let mut state = self.state();
        let state = &mut *state;
        let Rendered { sums, fingerprint, rays } = rendered;
        let taken = state.canvas.take(&self.plan, piece, sums);
        let share = state.workers.entry(by.id.clone()).or_insert_with(|| WorkerShare::of(by));
        share.compute_seconds += compute_seconds;
        state.rays = state.rays.saturating_add(rays);
        match taken {
            Taken::New => {
                let samples = self.plan.samples(piece);
                state.samples += samples;
                share.pieces += 1;
                share.samples += samples;
            }
            Taken::Double => state.doubles += 1,
            Taken::Different => (state.doubles, state.different) = (state.doubles + 1, state.different + 1),
        }
        let first = state.builds.iter().next().map(|(fingerprint, worker)| (*fingerprint, worker.clone()));
        let known = state.builds.insert(fingerprint, by.id.clone()).is_some();
        match first {
            Some((other, worker)) if other != fingerprint && !known => Some(format!(
                "{} computes other bits than {worker} (builds {fingerprint:016x} and {other:016x}): the picture is right, \
                 but not the same to the bit as that of one build",
                by.id
            )),
            _ if taken == Taken::Different => Some(format!(
                "{} gave another tile {} than the worker before: a build or a machine is at fault, and the picture may be",
                by.id, piece.tile
            )),
            _ => None,
        }
    }
}
