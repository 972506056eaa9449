//! A tile of a picture: path tracing of a scene that many tasks share.
//!
//! The one who asks reads a scene from a file ([`load`]), writes it as one payload ([`EncodedScene`]) and asks for tiles of
//! it ([`TileTask`]); a worker makes a [`trace::Tracer`] of the payload once and renders every tile of that scene with it.
//!
//! Invariant: what a tile comes to depends on its parameters and its scene alone, to the bit: not on the size of the tile,
//! the number of threads, the worker, or the attempt.

mod handler;
pub mod load;
mod params;
pub mod scene;
pub mod trace;

use std::ops::Range;

use bytes::Bytes;

pub use handler::RenderHandler;
use params::{AnswerParams, TileParams};
pub use params::{DEPTH_MAX, SAMPLES_MAX, SIDE_MAX, TILE_PIXELS_MAX};
use scene::Scene;
use trace::{Tile, View};

use crate::task::{Blob, ContentHash, Encoded, Format, Kind, Task, TaskError, numbers_from_bytes};

/// Of one sample, roughly: enough to tell a tile that takes long from one that does not.
const FLOPS_PER_SAMPLE: u64 = 10_000;

/// A task of this kind in a few words, from its parameters; `None` if they are not right.
pub(super) fn describe(format: Format, params: &[u8]) -> Option<String> {
    let params = TileParams::from_bytes(params).ok().filter(|_| format == Format::Binary)?;
    let TileParams { scene, view, tile, samples } = params;
    let scene: String = scene.to_string().chars().take(8).collect();
    Some(format!(
        "tile {} x {} at ({}, {}) of {} x {}, samples {} to {}, scene {scene}",
        tile.width, tile.height, tile.x, tile.y, view.width, view.height, samples.start, samples.end
    ))
}

/// A scene as it travels, and its name.
#[derive(Clone, Debug)]
pub struct EncodedScene {
    bytes: Bytes,
    hash: ContentHash,
}

impl EncodedScene {
    /// Writes a scene.
    pub fn new(scene: &Scene) -> Self {
        let bytes = Bytes::from(scene.encode());
        let hash = ContentHash::of(&bytes);
        EncodedScene { bytes, hash }
    }

    /// Its name.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// How many bytes a worker pulls.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Some samples of a tile of a picture.
#[derive(Clone, Debug)]
pub struct TileTask {
    /// What is seen.
    pub scene: EncodedScene,
    /// From where, and the whole picture.
    pub view: View,
    /// Which pixels.
    pub tile: Tile,
    /// Which samples of each.
    pub samples: Range<u32>,
}

/// A rendered tile.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The sum of the samples of each pixel, linear RGB, rows from above: `width * height * 3` numbers.
    pub sums: Vec<f32>,
    /// Of the build that computed it: two with different fingerprints may differ in the last bits.
    pub fingerprint: u64,
    /// How many rays were traced.
    pub rays: u64,
}

impl Task for TileTask {
    const KIND: Kind = Kind::from_static("render");
    type Answer = Rendered;

    fn encode(self, format: Format) -> Result<Encoded, TaskError> {
        if format != Format::Binary {
            return Err(TaskError::Invalid("tiles are binary".into()));
        }
        let TileTask { scene, view, tile, samples } = self;
        let params = TileParams { scene: scene.hash, view, tile, samples };
        params.check()?;
        let count = u64::from(params.samples.end - params.samples.start);
        let flops = params.pixels().saturating_mul(count).saturating_mul(FLOPS_PER_SAMPLE);
        let blob = Blob { format, params: params.to_bytes(), payload: vec![scene.bytes] };
        Ok(Encoded { blob, shared: true, flops, answer_bytes: params.pixels() * 12 })
    }

    fn decode_answer(task: &[u8], answer: Blob) -> Result<Rendered, TaskError> {
        let pixels = TileParams::from_bytes(task)?.pixels();
        let AnswerParams { fingerprint, rays } = AnswerParams::from_bytes(&answer.params)?;
        let payload = answer.payload.concat();
        if payload.len() as u64 != pixels * 12 {
            let reason = format!("a tile of {pixels} pixels came back as {} bytes", payload.len());
            return Err(TaskError::Invalid(reason));
        }
        let sums = numbers_from_bytes::<f32>(&payload)?.into_owned();
        if let Some(at) = sums.iter().position(|sum| !(sum.is_finite() && *sum >= 0.0)) {
            return Err(TaskError::Invalid(format!("pixel {} of a tile came back as {}", at / 3, sums[at])));
        }
        Ok(Rendered { sums, fingerprint, rays })
    }
}
