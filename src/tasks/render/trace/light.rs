//! Lights: which one to sample, and where on it.
//!
//! One is chosen in proportion to its power, in constant time (Walker's alias method, with Vose's construction),
//! however many emissive triangles there are. A point of an emissive surface is thus chosen with a density by area that
//! depends on its material alone: the weight for a ray that finds it by chance needs no look-up of the light.

use glam::Vec3;

use super::super::scene::{Light, Scene, Surfaces};
use super::bvh::Ray;
use super::geometry::{
    Geometry, NO_SPHERE, Surface, ball_offset, corners, interpolate, is_solid, triangle_offset, unit,
};
use super::material::Materials;
use super::sampler;
use super::sphere::Ball;
use super::warp::{Frame, uniform_cone};

/// What a light is.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Index into the lights' own triangles.
    Triangle(u32),
    /// Index into the geometry's balls.
    Ball(u32),
    /// Index into the scene's lights.
    Delta(u32),
}

/// A column of the alias table.
#[derive(Clone, Copy, Debug)]
struct Column {
    source: Source,
    /// Of being chosen, over the whole table.
    probability: f32,
    /// Up to here, of 2^32, the column stands for itself; wholly if it is the largest number;
    threshold: u32,
    /// from here on for this one.
    alias: u32,
}

/// A triangle that emits light.
#[derive(Clone, Copy, Debug)]
struct Shining {
    corner: Vec3,
    edge1: Vec3,
    edge2: Vec3,
    /// In front, of length 1.
    normal: Vec3,
    /// [`Surface::offset`] of any point of it.
    offset: f32,
    material: u32,
    /// Index into the scene's triangles.
    triangle: u32,
}

/// The lights of a scene.
#[derive(Debug, Default)]
pub(super) struct Lights {
    table: Vec<Column>,
    triangles: Vec<Shining>,
    /// Of each material: density by area with which a point of it is chosen.
    density: Vec<f32>,
}

/// Light that arrives at a point, if nothing is in its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// To the light, of length 1.
    pub(super) direction: Vec3,
    /// Radiance; of a delta light, irradiance on a surface that faces it.
    pub(super) radiance: Vec3,
    /// Per solid angle; of a delta light, the probability of its choice.
    pub(super) density: f32,
    pub(super) delta: bool,
    /// Where the way ends: a point off the light's surface, or nothing for a light infinitely far.
    pub(super) end: Option<Vec3>,
    /// The ball that is the light itself.
    pub(super) ball: u32,
}

impl Lights {
    /// Of a scene in the tracer's units, whose radius is `radius`.
    pub(super) fn new(scene: &Scene, geometry: &Geometry, materials: &Materials, radius: f64) -> Self {
        let power: Vec<f64> = match &scene.surfaces {
            Surfaces::Physical(list) => (0..list.len() as u32).map(|m| materials.power(m)).collect(),
            Surfaces::Phong(_) => return Lights::default(),
        };
        let (mut weights, mut triangles) = (Vec::new(), Vec::new());
        for (i, triangle) in scene.triangles.iter().enumerate() {
            let power = power[triangle.material as usize];
            let corners = corners(scene, i as u32);
            if power > 0.0 && is_solid(corners) {
                let [a, b, c] = corners;
                let (corner, edge1, edge2) = (a, b - a, c - a);
                let area = 0.5 * edge1.as_dvec3().cross(edge2.as_dvec3()).length();
                weights.push((Source::Triangle(triangles.len() as u32), area * power));
                let (normal, material) = (unit(edge1.cross(edge2)), triangle.material);
                let offset = triangle_offset(normal, a.abs().max(b.abs()).max(c.abs()), edge1, edge2);
                triangles.push(Shining { corner, edge1, edge2, normal, offset, material, triangle: i as u32 });
            }
        }
        for (i, ball) in geometry.balls().iter().enumerate() {
            let radius = f64::from(ball.radius);
            let area = 4.0 * std::f64::consts::PI * radius * radius;
            let power = power[ball.material as usize];
            if power > 0.0 {
                weights.push((Source::Ball(i as u32), area * power));
            }
        }
        for (i, light) in scene.lights.iter().enumerate() {
            weights.push((Source::Delta(i as u32), delta_power(light, radius)));
        }
        weights.retain(|(_, weight)| *weight > 0.0);
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let density = power.iter().map(|p| (p / total) as f32).collect();
        Lights { table: alias_table(&weights, total), triangles, density }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        (size_of_val(self.table.as_slice()) + size_of_val(self.triangles.as_slice())) as u64
    }

    /// Density per solid angle at `from` with which [`Lights::sample`] chooses the point `surface`.
    #[inline(always)]
    pub(super) fn density(&self, geometry: &Geometry, from: Vec3, direction: Vec3, surface: &Surface) -> f32 {
        let by_area = self.density[surface.material as usize];
        if surface.ball != NO_SPHERE {
            let ball = &geometry.balls()[surface.ball as usize];
            if let Some(cap) = cap(ball, from) {
                return by_area * (2.0 * ball.radius * ball.radius / cap);
            }
        }
        let cosine = -direction.dot(surface.normal);
        by_area * (surface.point - from).length_squared() / cosine.max(1e-12)
    }

    /// Light at `from`; `x` and `y` are uniform. The first digits of `x` choose the light, the others a point of it.
    #[inline(always)]
    pub(super) fn sample(
        &self,
        (scene, geometry, materials): (&Scene, &Geometry, &Materials),
        from: Vec3,
        [x, y]: [u32; 2],
    ) -> Option<Arrival> {
        let at = u64::from(x) * self.table.len() as u64;
        let mut column = self.table.get((at >> 32) as usize)?;
        let mut rest = at as u32;
        if column.threshold != u32::MAX {
            if rest < column.threshold {
                rest = stretched(rest, column.threshold);
            } else {
                rest = stretched(rest - column.threshold, column.threshold.wrapping_neg());
                column = &self.table[column.alias as usize];
            }
        }
        let point = [rest, y].map(sampler::unit);
        match column.source {
            Source::Triangle(i) => self.triangle(scene, materials, i, from, point),
            Source::Ball(i) => self.ball(materials, (&geometry.balls()[i as usize], i), from, point),
            Source::Delta(i) => delta(&scene.lights[i as usize], Falloff::Squared, column.probability, from),
        }
    }

    #[inline(always)]
    fn triangle(&self, scene: &Scene, materials: &Materials, i: u32, from: Vec3, [u, v]: [f32; 2]) -> Option<Arrival> {
        let light = &self.triangles[i as usize];
        let &Shining { corner, edge1, edge2, normal, offset, material, triangle } = light;
        // Uniform by area.
        let root = u.sqrt();
        let (s, t) = (root * (1.0 - v), root * v);
        let point = corner + edge1 * s + edge2 * t;
        let way = point - from;
        let square = way.length_squared();
        if square == 0.0 {
            return None;
        }
        let direction = way * (1.0 / square.sqrt());
        let cosine = -direction.dot(normal);
        let uv = (!scene.uvs.is_empty()).then(|| {
            let corners = scene.triangles[triangle as usize].vertices.map(|v| scene.uvs[v as usize]);
            interpolate(corners, [1.0 - root, s, t])
        });
        let radiance = materials.emission(material, cosine > 0.0, uv);
        if radiance == Vec3::ZERO || cosine == 0.0 {
            return None;
        }
        let density = self.density[material as usize] * square / cosine.abs().max(1e-12);
        let end = point + normal * offset.copysign(cosine);
        Some(Arrival { direction, radiance, density, delta: false, end: Some(end), ball: NO_SPHERE })
    }

    fn ball(&self, materials: &Materials, (ball, i): (&Ball, u32), from: Vec3, uniform: [f32; 2]) -> Option<Arrival> {
        let by_area = self.density[ball.material as usize];
        let center = ball.center - from;
        let square = ball.radius * ball.radius;
        if let Some(cap) = cap(ball, from) {
            let radiance = materials.emission(ball.material, true, None);
            let local = uniform_cone(uniform, cap);
            let distance = center.length();
            let direction = Frame::new(center / distance).to_world(local);
            // To where the ray comes in, by the law of cosines.
            let sine2 = (1.0 - local.z * local.z).max(0.0);
            let t = distance * local.z - (square - distance * distance * sine2).max(0.0).sqrt();
            let (density, end) = (by_area * (2.0 * square / cap), from + direction * t);
            return Some(Arrival { direction, radiance, density, delta: false, end: Some(end), ball: i });
        }
        // From inside: uniform by area.
        let radiance = materials.emission(ball.material, false, None);
        if radiance == Vec3::ZERO {
            return None;
        }
        let outward = uniform_cone(uniform, 2.0);
        let way = center + outward * ball.radius;
        let distance = way.length_squared();
        let direction = if distance > 0.0 { way / distance.sqrt() } else { return None };
        let cosine = direction.dot(outward);
        if cosine <= 0.0 {
            return None;
        }
        let density = by_area * distance / cosine.max(1e-12);
        let end = ball.center + outward * (ball.radius - ball_offset(ball));
        Some(Arrival { direction, radiance, density, delta: false, end: Some(end), ball: i })
    }
}

impl Arrival {
    /// The ray from `start` to the light, and its length.
    #[inline(always)]
    pub(super) fn way(&self, start: Vec3) -> (Ray, f32) {
        match self.end {
            Some(end) => (Ray::new(start, end - start), 1.0),
            None => (Ray::new(start, self.direction), f32::INFINITY),
        }
    }
}

/// 1 - the cosine of half the angle under which a sphere is seen; None from inside, and from too near to tell.
#[inline(always)]
fn cap(ball: &Ball, from: Vec3) -> Option<f32> {
    let distance = (ball.center - from).length_squared();
    let sine2 = ball.radius * ball.radius / distance;
    // Without the difference of two numbers near 1.
    if sine2 < 0.99999 { Some(sine2 / (1.0 + (1.0 - sine2).sqrt())) } else { None }
}

/// W, or as good as: what a scene of this radius gets.
fn delta_power(light: &Light, radius: f64) -> f64 {
    let sum = |rgb: &[f32; 3]| rgb.iter().map(|&v| f64::from(v)).sum::<f64>();
    let pi = std::f64::consts::PI;
    match light {
        Light::Point { intensity, .. } => 4.0 * pi * sum(intensity),
        Light::Spot { intensity, cos_inner, cos_outer, .. } => {
            2.0 * pi * sum(intensity) * (1.0 - 0.5 * f64::from(cos_inner + cos_outer)).max(1e-6)
        }
        Light::Directional { irradiance, .. } => pi * radius * radius * sum(irradiance),
    }
}

/// How a light's intensity falls with distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Falloff {
    /// As it does.
    Squared,
    /// Not at all, as in Phong's model.
    None,
}

/// What of a light without extent arrives at `from`.
pub(super) fn delta(light: &Light, falloff: Falloff, probability: f32, from: Vec3) -> Option<Arrival> {
    let (radiance, direction, end) = match light {
        Light::Directional { direction, irradiance } => (Vec3::from(*irradiance), -Vec3::from(*direction), None),
        Light::Point { position, intensity } => {
            let (direction, square) = towards(*position, falloff, from)?;
            (Vec3::from(*intensity) / square, direction, Some(Vec3::from(*position)))
        }
        Light::Spot { position, direction: axis, intensity, cos_inner, cos_outer } => {
            let (direction, square) = towards(*position, falloff, from)?;
            // KHR_lights_punctual: the square of a linear ramp of the cosine.
            let cosine = -direction.dot(Vec3::from(*axis));
            let ramp = ((cosine - cos_outer) / (cos_inner - cos_outer).max(1e-6)).clamp(0.0, 1.0);
            (Vec3::from(*intensity) * (ramp * ramp / square), direction, Some(Vec3::from(*position)))
        }
    };
    let arrival = Arrival { direction, radiance, density: probability, delta: true, end, ball: NO_SPHERE };
    (radiance != Vec3::ZERO).then_some(arrival)
}

/// The direction to a light, and what divides its intensity.
fn towards(position: [f32; 3], falloff: Falloff, from: Vec3) -> Option<(Vec3, f32)> {
    let way = Vec3::from(position) - from;
    let square = way.length_squared();
    let divisor = if falloff == Falloff::Squared { square } else { 1.0 };
    (square > 0.0).then(|| (way / square.sqrt(), divisor))
}

/// A uniform number below `of`, spread over 2^32.
#[inline(always)]
fn stretched(number: u32, of: u32) -> u32 {
    ((u64::from(number) << 32) / u64::from(of)) as u32
}

/// Vose, "A Linear Algorithm for Generating Random Numbers with a Given Distribution", 1991.
fn alias_table(weights: &[(Source, f64)], total: f64) -> Vec<Column> {
    let n = weights.len();
    let mut heights: Vec<f64> = weights.iter().map(|(_, weight)| weight / total * n as f64).collect();
    let column = |(i, &(source, weight)): (usize, &(Source, f64))| Column {
        source,
        probability: (weight / total) as f32,
        threshold: u32::MAX,
        alias: i as u32,
    };
    let mut table: Vec<Column> = weights.iter().enumerate().map(column).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| heights[i] < 1.0);
    while let (Some(low), Some(&high)) = (small.pop(), large.last()) {
        // At least 1, and never the number that means all of it.
        table[low].threshold = ((heights[low] * 4_294_967_296.0) as u32).clamp(1, u32::MAX - 1);
        table[low].alias = high as u32;
        heights[high] -= 1.0 - heights[low];
        if heights[high] < 1.0 {
            large.pop();
            small.push(high);
        }
    }
    table
}
