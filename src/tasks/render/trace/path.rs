//! Path tracing with next-event estimation (Kajiya 1986; multiple importance sampling: Veach & Guibas 1995).
//!
//! At each vertex one light is sampled, and the BSDF; emission found either way is weighted by the power heuristic. The
//! environment is found by the BSDF's rays alone: where nothing is absorbed and it shines alike from everywhere, every
//! path comes to exactly that, without noise.

use glam::Vec3;

use super::super::scene::Scene;
use super::bsdf::Bsdf;
use super::bvh::{Ray, Stack};
use super::geometry::{Geometry, Surface};
use super::light::Lights;
use super::material::Materials;
use super::sampler::Sampler;
use super::warp::Frame;

/// Bounces before paths may be ended by chance.
const ROULETTE_FROM: u32 = 3;
/// No path goes on with a probability above this, if by chance at all.
const MOST_SURVIVAL: f32 = 0.95;
/// Pairs of dimensions a bounce.
const PAIRS: u32 = 2;

/// How far paths are followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bounces at most.
    pub(super) depth: u32,
    /// Paths that carry little are ended by chance.
    pub(super) roulette: bool,
    /// How emission is found.
    pub(super) strategy: Strategy,
}

/// How emission is found. All have the same expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// By sampling the lights and the BSDF, each weighted.
    Both,
    /// By the BSDF's rays alone: to test the others against.
    #[cfg(test)]
    Scattering,
}

/// A scene for paths.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub(super) scene: &'a Scene,
    pub(super) geometry: &'a Geometry,
    pub(super) materials: &'a Materials,
    pub(super) lights: &'a Lights,
    pub(super) limits: Limits,
}

/// A point where a path bounces.
struct Vertex<'a> {
    surface: &'a Surface,
    bsdf: Bsdf,
    frame: Frame,
    /// To where the path came from, local.
    from: Vec3,
}

impl Paths<'_> {
    /// The radiance a path from the camera brings; adds the rays it takes.
    #[inline(always)]
    pub(super) fn radiance(&self, mut ray: Ray, sampler: &Sampler, stack: &mut Stack, rays: &mut u64) -> Vec3 {
        let mut sum = Vec3::ZERO;
        let mut throughput = Vec3::ONE;
        // Density of the last direction and where it was chosen; none from the camera.
        let mut last: Option<(f32, Vec3)> = None;
        for bounce in 0..=self.limits.depth {
            *rays += 1;
            let last_ray = bounce == self.limits.depth;
            // Before the ray, not when they are needed: the processor works on both at once.
            let pair = PAIRS.wrapping_mul(bounce).wrapping_add(1);
            let (for_light, for_bsdf) =
                if last_ray { Default::default() } else { (sampler.bits(pair), sampler.pair(pair.wrapping_add(1))) };
            let Some(hit) = self.geometry.closest(&ray, stack) else {
                return sum + throughput * Vec3::from(self.scene.environment);
            };
            if last_ray && !self.materials.shines(self.geometry.material(hit)) {
                break;
            }
            let surface = self.geometry.surface(self.scene, &ray, hit);
            sum += throughput * self.emission(&surface, ray.direction, last);
            if last_ray {
                break;
            }
            let Some(bsdf) = self.materials.bsdf(&surface) else { break };
            let frame = Frame::new(surface.shading);
            let vertex = Vertex { surface: &surface, bsdf, frame, from: frame.to_local(-ray.direction) };
            if self.strategy_samples_lights() && !self.lights.is_empty() {
                sum += throughput * self.direct(&vertex, for_light, stack, rays);
            }
            let Some(scattered) = vertex.bsdf.sample(vertex.from, for_bsdf) else { break };
            let direction = frame.to_world(scattered.direction);
            // Below the surface itself there is no light, whatever the interpolated normal says.
            if direction.dot(surface.normal) <= 0.0 {
                break;
            }
            throughput *= scattered.weight;
            if throughput == Vec3::ZERO || !self.survives(bounce, sampler, &mut throughput) {
                break;
            }
            last = Some((scattered.density, surface.point));
            ray = Ray::new(surface.point + surface.normal * surface.offset, direction);
        }
        sum
    }

    #[inline(always)]
    fn strategy_samples_lights(&self) -> bool {
        self.limits.strategy == Strategy::Both
    }

    /// Russian roulette: what goes on counts for those that don't.
    #[inline(always)]
    fn survives(&self, bounce: u32, sampler: &Sampler, throughput: &mut Vec3) -> bool {
        if !self.limits.roulette || bounce < ROULETTE_FROM {
            return true;
        }
        let probability = throughput.max_element().min(MOST_SURVIVAL);
        if sampler.independent(bounce) >= probability {
            return false;
        }
        *throughput /= probability;
        true
    }

    /// What a surface that a ray has found emits towards it, weighted if sampling the lights could have found it, too.
    #[inline(always)]
    fn emission(&self, surface: &Surface, direction: Vec3, last: Option<(f32, Vec3)>) -> Vec3 {
        let emission = self.materials.emission(surface.material, surface.front, surface.uv);
        if emission == Vec3::ZERO {
            return Vec3::ZERO;
        }
        match last {
            Some((density, from)) if self.strategy_samples_lights() => {
                emission * power_heuristic(density, self.lights.density(self.geometry, from, direction, surface))
            }
            _ => emission,
        }
    }

    /// Light of one of the lights that the vertex scatters back along the path.
    #[inline(always)]
    fn direct(&self, vertex: &Vertex<'_>, uniform: [u32; 2], stack: &mut Stack, rays: &mut u64) -> Vec3 {
        let surface = vertex.surface;
        let all = (self.scene, self.geometry, self.materials);
        let Some(light) = self.lights.sample(all, surface.point, uniform) else { return Vec3::ZERO };
        if light.direction.dot(surface.normal) <= 0.0 || light.density <= 0.0 {
            return Vec3::ZERO;
        }
        let (value, density) = vertex.bsdf.evaluate(vertex.from, vertex.frame.to_local(light.direction));
        if value == Vec3::ZERO {
            return Vec3::ZERO;
        }
        *rays += 1;
        let (ray, limit) = light.way(surface.point + surface.normal * surface.offset);
        if self.geometry.occluded(&ray, limit, light.ball, stack) {
            return Vec3::ZERO;
        }
        let weight = if light.delta { 1.0 } else { power_heuristic(light.density, density) };
        value * light.radiance * (weight / light.density)
    }
}

/// The weight of a sample of density `own` where another strategy has the density `other`. By the ratio: its square
/// overflows to the right limit, those of the densities might not.
#[inline(always)]
fn power_heuristic(own: f32, other: f32) -> f32 {
    let ratio = other / own;
    1.0 / (1.0 + ratio * ratio)
}
