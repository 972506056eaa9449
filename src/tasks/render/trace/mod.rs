//! The light that reaches the pixels of a tile.
//!
//! Invariant: a pixel's sum is a function of the scene, the view, its place in the whole image and the indices of its
//! samples, to the bit, on every machine: random numbers are hashes of those, sums have a fixed order, nothing is a
//! fused product, and what IEEE 754 leaves open comes from libm, not from the platform.
//!
//! Inside, the scene is scaled by a power of two, which is exact, to a size of 2^9 to 2^10: thresholds are relative to
//! it, and a scene four times as large is rendered to the same bits.

mod bsdf;
mod bvh;
mod camera;
mod fingerprint;
mod geometry;
mod light;
mod material;
mod path;
mod phong;
mod sampler;
mod sphere;
#[cfg(test)]
mod tests;
mod texture;
mod triangle;
mod warp;

use std::ops::Range;

use glam::Vec3;

use super::scene::{Camera, Light, PhongMaterial, Scene, Surfaces};
use bvh::Stack;
use camera::Eye;
pub use fingerprint::fingerprint;
use geometry::Geometry;
use light::Lights;
use material::Materials;
use path::{Limits, Paths, Strategy};
use sampler::Sampler;

/// Samples whose sum is rounded on its own, counted from sample 0: ranges that begin and end at multiples of it are
/// sums of the same blocks, however they are cut.
pub const BLOCK: u32 = 16;
/// Rays between two calls of `go_on`: 2 to 5 ms.
const RAYS_BETWEEN: u64 = 2048;
/// The scene's size in the tracer's units: this power of two, up to twice as much.
const SIZE_EXPONENT: i32 = 9;
/// Bound of the scale's exponent, so that its square, which intensities are multiplied by, is far from f32's limits.
const MOST_EXPONENT: i32 = 48;

/// How a scene is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// From where.
    pub camera: Camera,
    /// Pixels across the whole image.
    pub width: u32,
    /// Pixels down the whole image.
    pub height: u32,
    /// Of the random numbers.
    pub seed: u64,
    /// Bounces at most: with 0 only what shines itself is seen, with 1 light that comes directly from there to what is
    /// seen, too. [`Surfaces::Phong`] has no bounces. `go_on` is not asked within a path: a thousand bounces take less
    /// than a millisecond, a million are for the caller to refuse.
    pub depth: u32,
    /// Whether paths that carry little may be ended by chance, which costs noise and saves time.
    pub roulette: bool,
}

/// A part of the image, in pixels from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What a tile's samples come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Radiance {
    /// RGB sums over the samples, rows from above: `width * height * 3` numbers.
    pub sums: Vec<f32>,
    /// Rays that were followed: to the next surface, and to lights.
    pub rays: u64,
}

/// A scene, ready to be looked at from anywhere, by any number of threads.
#[derive(Debug)]
pub struct Tracer {
    /// In the tracer's units; what the other fields hold has been taken out.
    scene: Scene,
    geometry: Geometry,
    shading: Shading,
    scale: f32,
}

/// What is seen where a ray ends.
#[derive(Debug)]
enum Shading {
    Physical { materials: Materials, lights: Lights },
    Phong(Vec<PhongMaterial>),
}

impl Tracer {
    /// Of a scene that has passed its check. Builds the trees and the tables of lights.
    pub fn new(mut scene: Scene) -> Tracer {
        let scale = rescale(&mut scene);
        let geometry = Geometry::new(&scene);
        let textures = std::mem::take(&mut scene.textures);
        let shading = match &scene.surfaces {
            Surfaces::Physical(list) => {
                let materials = Materials::new(list.clone(), textures);
                let radius = f64::from(extent(&scene)) * 0.5 * 3_f64.sqrt();
                let lights = Lights::new(&scene, &geometry, &materials, radius);
                Shading::Physical { materials, lights }
            }
            Surfaces::Phong(list) => Shading::Phong(list.clone()),
        };
        scene.surfaces = Surfaces::default();
        scene.spheres = Vec::new();
        Tracer { scene, geometry, shading, scale }
    }

    /// What it holds, about.
    pub fn memory_bytes(&self) -> u64 {
        let Scene { positions, normals, uvs, triangles, .. } = &self.scene;
        let vertices =
            size_of_val(positions.as_slice()) + size_of_val(normals.as_slice()) + size_of_val(uvs.as_slice());
        let shading = match &self.shading {
            Shading::Physical { materials, lights } => materials.memory_bytes() + lights.memory_bytes(),
            Shading::Phong(materials) => size_of_val(materials.as_slice()) as u64,
        };
        (vertices + size_of_val(triangles.as_slice())) as u64 + self.geometry.memory_bytes() + shading
    }

    /// Sums of the samples `samples` of each pixel of a tile. `go_on` is told how much is done, 0..=1, every few
    /// milliseconds.
    ///
    /// # Errors
    /// What `go_on` returns.
    pub fn render<E>(
        &self,
        view: &View,
        tile: Tile,
        samples: Range<u32>,
        go_on: &mut dyn FnMut(f32) -> Result<(), E>,
    ) -> Result<Radiance, E> {
        self.render_with(view, tile, samples, Strategy::Both, go_on)
    }

    fn render_with<E>(
        &self,
        view: &View,
        tile: Tile,
        samples: Range<u32>,
        strategy: Strategy,
        go_on: &mut dyn FnMut(f32) -> Result<(), E>,
    ) -> Result<Radiance, E> {
        let eye = Eye::new(view, self.scale);
        let limits = Limits { depth: view.depth, roulette: view.roulette, strategy };
        let mut stack = Stack::default();
        let mut rays = 0;
        match &self.shading {
            Shading::Physical { materials, lights } => {
                let paths = Paths { scene: &self.scene, geometry: &self.geometry, materials, lights, limits };
                let sample = |x, y, sampler: &Sampler| {
                    let ray = eye.ray(x, y, sampler.pair(0));
                    (paths.radiance(ray, sampler, &mut stack, &mut rays), rays)
                };
                pulp::Arch::new().dispatch(Dispatch { view, tile, samples, sample, go_on })
            }
            Shading::Phong(materials) => {
                let mut sample = |x, y, sampler: &Sampler| {
                    let ray = eye.ray(x, y, sampler.pair(0));
                    let all = (&self.scene, &self.geometry, materials.as_slice());
                    (phong::shade(all, &ray, &mut stack, &mut rays), rays)
                };
                each_pixel(view, tile, samples, &mut sample, go_on)
            }
        }
    }
}

/// All samples of a tile, by the best instructions of this machine: an eighth faster with AVX2, and the same bits, because
/// Rust fuses no multiplication with an addition by itself. `inline(always)` along the way is what makes a function use
/// them.
struct Dispatch<'a, E, F> {
    view: &'a View,
    tile: Tile,
    samples: Range<u32>,
    sample: F,
    go_on: &'a mut dyn FnMut(f32) -> Result<(), E>,
}

impl<E, F: FnMut(u32, u32, &Sampler) -> (Vec3, u64)> pulp::WithSimd for Dispatch<'_, E, F> {
    type Output = Result<Radiance, E>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(mut self, _: S) -> Self::Output {
        each_pixel(self.view, self.tile, self.samples, &mut self.sample, self.go_on)
    }
}

/// Sums what `sample` returns for column, row and random numbers of each sample, together with the rays so far.
#[inline(always)]
fn each_pixel<E>(
    view: &View,
    tile: Tile,
    samples: Range<u32>,
    sample: &mut impl FnMut(u32, u32, &Sampler) -> (Vec3, u64),
    go_on: &mut dyn FnMut(f32) -> Result<(), E>,
) -> Result<Radiance, E> {
    let total = (f64::from(tile.width) * f64::from(tile.height) * samples.len() as f64).max(1.0);
    let mut sums = Vec::with_capacity(tile.width as usize * tile.height as usize * 3);
    let (mut rays, mut told, mut done) = (0, 0, 0_u64);
    go_on(0.0)?;
    for row in 0..tile.height {
        for column in 0..tile.width {
            let (x, y) = (tile.x + column, tile.y + row);
            let key = Sampler::key(view.seed, x, y);
            let (mut sum, mut block) = ([0.0_f64; 3], [0.0_f64; 3]);
            for index in samples.clone() {
                let (radiance, now) = sample(x, y, &Sampler::new(key, index));
                // Counted as black, not as what spoils the pixel.
                if radiance.is_finite() {
                    (0..3).for_each(|c| block[c] += f64::from(radiance[c]));
                }
                if index % BLOCK == BLOCK - 1 || index == samples.end - 1 {
                    (0..3).for_each(|c| sum[c] += block[c]);
                    block = [0.0; 3];
                }
                (rays, done) = (now, done + 1);
                if rays - told >= RAYS_BETWEEN {
                    told = rays;
                    go_on((done as f64 / total) as f32)?;
                }
            }
            sums.extend(sum.map(|v| v.min(f64::from(f32::MAX)) as f32));
        }
    }
    go_on(1.0)?;
    Ok(Radiance { sums, rays })
}

/// The longest side of a scene's bounding box.
fn extent(scene: &Scene) -> f32 {
    let used = scene.triangles.iter().flat_map(|t| t.vertices).map(|v| Vec3::from(scene.positions[v as usize]));
    let points = used.map(|p| (p, p));
    let spheres = scene.spheres.iter().map(|s| {
        let (center, radius) = (Vec3::from(s.center), Vec3::splat(s.radius));
        (center - radius, center + radius)
    });
    let start = (Vec3::INFINITY, Vec3::NEG_INFINITY);
    let (low, high) = points.chain(spheres).fold(start, |(low, high), (a, b)| (low.min(a), high.max(b)));
    (high - low).max_element().max(0.0)
}

/// Scales a scene by a power of two to a size of 2^9 to 2^10, and returns the factor.
fn rescale(scene: &mut Scene) -> f32 {
    let extent = extent(scene);
    if !(extent.is_finite() && extent >= f32::MIN_POSITIVE) {
        return 1.0;
    }
    let exponent = (extent.to_bits() >> 23) as i32 - 127;
    let exponent = (SIZE_EXPONENT - exponent).clamp(-MOST_EXPONENT, MOST_EXPONENT);
    let scale = f32::from_bits(((exponent + 127) as u32) << 23);
    let scaled = |v: &mut [f32; 3]| v.iter_mut().for_each(|x| *x *= scale);
    scene.positions.iter_mut().for_each(scaled);
    for sphere in &mut scene.spheres {
        scaled(&mut sphere.center);
        sphere.radius *= scale;
    }
    // Irradiance stays as it is; Phong's lights know no distance.
    let brighter = if matches!(scene.surfaces, Surfaces::Phong(_)) { 1.0 } else { scale * scale };
    for light in &mut scene.lights {
        if let Light::Point { position, intensity } | Light::Spot { position, intensity, .. } = light {
            scaled(position);
            intensity.iter_mut().for_each(|x| *x *= brighter);
        }
    }
    scale
}
