//! The worker's side: scenes made ready once, and their tiles rendered.

use std::sync::Arc;

use bytes::Bytes;

use super::TileTask;
use super::params::{AnswerParams, TileParams};
use super::scene::Scene;
use super::trace::{Tracer, fingerprint};
use crate::task::{Blob, Format, Handler, Kind, Plan, Prepared, Shared, Task, TaskError, Watch, numbers_into_bytes};

/// A scene takes so many times its payload while it is made ready: the payload, the scene that is read from it, the tree
/// over it, the triangles in the order of the tree, and a table of those that shine. `make memory` measures it.
const MEMORY_PER_BYTE: u64 = 20;

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

#[cfg(test)]
mod tests {
    use super::super::scene::{Material, Scene, Surfaces, Triangle};
    use super::*;

    /// Hills of `side` squares each way, two triangles to a square.
    fn hills(side: u32) -> Scene {
        let height = |x: u32, z: u32| (x as f32 * 0.3).sin() * (z as f32 * 0.2).cos();
        let points = (0..=side).flat_map(|z| (0..=side).map(move |x| [x as f32, height(x, z), z as f32]));
        let row = side + 1;
        let squares = (0..side).flat_map(|z| (0..side).map(move |x| z * row + x));
        let triangle = |vertices| Triangle { vertices, material: 0 };
        let halves = squares.flat_map(|at| [[at, at + row, at + 1], [at + 1, at + row, at + row + 1]]);
        Scene {
            positions: points.collect(),
            triangles: halves.map(triangle).collect(),
            surfaces: Surfaces::Physical(vec![Material::default()]),
            ..Scene::default()
        }
    }

    #[test]
    fn what_is_kept_of_a_scene_is_below_what_was_planned() {
        for side in [1, 20, 100] {
            let payload = Bytes::from(hills(side).encode());
            let planned = payload.len() as u64 * MEMORY_PER_BYTE + MEMORY_BYTES;
            let kept = RenderHandler.prepare(payload).unwrap().bytes;
            assert!(kept > 0 && kept < planned, "{side}: {kept} of {planned}");
        }
    }

    #[test]
    fn a_payload_that_is_no_scene_is_an_outcome() {
        for bytes in [&b""[..], b"RBSC", &[0; 100]] {
            let error = RenderHandler.prepare(Bytes::copy_from_slice(bytes)).unwrap_err();
            assert!(matches!(error, TaskError::Invalid(_)), "{error:?}");
        }
    }

    /// By `make memory`, and alone, for the peak is the process's.
    #[cfg(target_os = "linux")]
    #[test]
    #[ignore = "reads the peak memory of the whole process, so it must run alone"]
    fn peak_memory_of_a_scene_of_250000_triangles() {
        let status = |field: &str| -> f64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let kilobytes = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            kilobytes.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
        };
        let payload = Bytes::from(hills(353).encode());
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (len, before) = (payload.len() as f64, status("VmRSS:"));
        let kept = RenderHandler.prepare(payload).unwrap().bytes as f64;
        // The payload was there before.
        let peak = 1.0 + (status("VmHWM:") - before) / len;
        println!("peak {peak:.1} times the payload of {:.1} MB, kept {:.1} times", len / 1e6, kept / len);
        assert!(peak <= MEMORY_PER_BYTE as f64, "{peak}");
    }
}
