//! The worker's side: scenes made ready once, and their tiles rendered.

use std::sync::Arc;

use bytes::Bytes;

use super::TileTask;
use super::params::{AnswerParams, TileParams};
use super::scene::Scene;
use super::trace::{Tracer, fingerprint};
use crate::task::{Blob, Format, Handler, Kind, Plan, Prepared, Shared, Task, TaskError, Watch, numbers_into_bytes};

/// A scene takes so many times its payload while it is made ready: the payload, the scene that is read from it, and the
/// hierarchy over it with the triangles in its order. Measured by `a_scene_takes_no_more_than_planned`.
const MEMORY_PER_BYTE: u64 = 8;

/// And that in any case.
const MEMORY_BYTES: u64 = 1 << 20;

/// A pixel: its sum in the making, and in the answer.
const MEMORY_PER_PIXEL: u64 = 64;

/// Renders tiles.
#[derive(Debug, Default)]
pub struct RenderHandler;

impl Handler for RenderHandler {
    fn kind(&self) -> Kind {
        TileTask::KIND
    }

    /// Not measured: rays are no such operations.
    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, _: usize) -> Result<Plan, TaskError> {
        if format != Format::Binary {
            return Err(TaskError::Invalid("tiles are binary".into()));
        }
        let params = TileParams::from_bytes(params)?;
        let memory_bytes = payload_bytes.saturating_mul(MEMORY_PER_BYTE).saturating_add(MEMORY_BYTES);
        let shared = Some(Shared { hash: params.scene, memory_bytes });
        // Tiles are small: one thread each, and as many of them at a time as there are slots.
        Ok(Plan { memory_bytes: params.pixels() * MEMORY_PER_PIXEL, threads: 1, shared })
    }

    fn run(&self, _: Blob, _: usize, _: &Watch) -> Result<Blob, TaskError> {
        Err(TaskError::Invalid("a tile is rendered of a scene that others share".into()))
    }

    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        let scene = Scene::decode(&payload).map_err(|error| TaskError::Invalid(error.to_string()))?;
        drop(payload);
        let tracer = Tracer::new(scene);
        Ok(Prepared { bytes: tracer.memory_bytes(), made: Arc::new(tracer) })
    }

    fn run_on(&self, shared: &Prepared, task: Blob, _: usize, watch: &Watch) -> Result<Blob, TaskError> {
        let tracer = shared.made.downcast_ref::<Tracer>();
        let tracer = tracer.ok_or_else(|| TaskError::Invalid("no scene of this kind".into()))?;
        let TileParams { view, tile, samples, .. } = TileParams::from_bytes(&task.params)?;
        let radiance = tracer.render(&view, tile, samples, &mut |share| {
            watch.advance(f64::from(share));
            watch.check()
        })?;
        let params = AnswerParams { fingerprint: fingerprint(), rays: radiance.rays }.to_bytes();
        Ok(Blob { format: Format::Binary, params, payload: vec![numbers_into_bytes(radiance.sums)] })
    }
}
