//! What the tracer promises: scenes for its tests, and what they have in common.

use glam::Vec3;

use super::super::scene::{Lens, Material, Sphere, Triangle};
use super::*;

#[path = "tests_energy.rs"]
mod energy;
#[path = "tests_estimate.rs"]
mod estimate;
#[path = "tests_geometry.rs"]
mod geometry_tests;
#[path = "tests_repeat.rs"]
mod repeat;

/// Lambert, on both sides.
pub(super) fn matte(albedo: f32) -> Material {
    Material { base_color: [albedo; 3], ..Material::default() }
}

/// Shines in front, reflects nothing.
pub(super) fn lamp(radiance: f32) -> Material {
    Material { base_color: [0.0; 3], emission: [radiance; 3], double_sided: 0, ..Material::default() }
}

pub(super) fn physical(materials: &[Material]) -> Scene {
    Scene { surfaces: Surfaces::Physical(materials.to_vec()), ..Scene::default() }
}

pub(super) fn add_triangle(scene: &mut Scene, corners: [Vec3; 3], material: u32) {
    let first = scene.positions.len() as u32;
    scene.positions.extend(corners.map(|c| c.to_array()));
    scene.triangles.push(Triangle { vertices: [first, first + 1, first + 2], material });
}

/// A parallelogram, seen from where its edges turn counter-clockwise.
pub(super) fn add_quad(scene: &mut Scene, corner: Vec3, a: Vec3, b: Vec3, material: u32) {
    add_triangle(scene, [corner, corner + a, corner + a + b], material);
    add_triangle(scene, [corner, corner + a + b, corner + b], material);
}

/// A box with its faces outwards.
pub(super) fn add_cube(scene: &mut Scene, low: Vec3, size: Vec3, material: u32) {
    let [x, y, z] = [Vec3::X * size.x, Vec3::Y * size.y, Vec3::Z * size.z];
    for (corner, a, b) in [(low, y, x), (low, x, z), (low, z, y), (low + z, x, y), (low + y, z, x), (low + x, y, z)] {
        add_quad(scene, corner, a, b, material);
    }
}

pub(super) fn add_sphere(scene: &mut Scene, center: Vec3, radius: f32, material: u32) {
    scene.spheres.push(Sphere { center: center.to_array(), radius, material });
}

/// A view of `width` x `height` pixels from `from` to `to`.
pub(super) fn look(from: Vec3, to: Vec3, tan_half_y: f32, [width, height]: [u32; 2]) -> View {
    let back = (from - to).normalize();
    let up = if back.x.abs() + back.z.abs() < 1e-3 { Vec3::Z } else { Vec3::Y };
    let right = up.cross(back).normalize();
    let axes = [right, back.cross(right), back].map(|v| v.to_array());
    let camera = Camera { position: from.to_array(), axes, lens: Lens::Perspective { tan_half_y } };
    View { camera, width, height, seed: 1, depth: 1, roulette: false }
}

pub(super) fn whole(view: &View) -> Tile {
    Tile { x: 0, y: 0, width: view.width, height: view.height }
}

/// The whole image, each pixel's mean.
pub(super) fn image(tracer: &Tracer, view: &View, samples: u32) -> Vec<f32> {
    let done = tracer.render(view, whole(view), 0..samples, &mut |_| Ok::<(), ()>(())).unwrap();
    done.sums.iter().map(|v| v / samples as f32).collect()
}

pub(super) fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64
}

/// A generator for what tests draw; its seed is printed and taken from the clock, or from `TRACE_TEST_SEED`.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new() -> Self {
        let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64);
        let seed = std::env::var("TRACE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock);
        println!("TRACE_TEST_SEED={seed}");
        Draw(seed)
    }

    /// Uniform in `from..to`.
    pub(super) fn within(&mut self, from: f32, to: f32) -> f32 {
        self.0 = self.0.wrapping_add(1);
        from + (to - from) * Sampler::new(Sampler::key(self.0, 1, 2), 0).independent(3)
    }

    pub(super) fn point(&mut self, half: f32) -> Vec3 {
        Vec3::new(self.within(-half, half), self.within(-half, half), self.within(-half, half))
    }

    pub(super) fn direction(&mut self) -> Vec3 {
        warp::uniform_cone([self.within(0.0, 1.0), self.within(0.0, 1.0)], 2.0).normalize()
    }
}
