//! What rays hit: triangles and spheres, a tree each, in the tracer's own units.
//!
//! A hit's point is exact but for rounding, which [`Surface::offset`] bounds: a ray that starts that far off the
//! surface does not meet it again. The bound is the error of the point and of the plane's distance, along the normal:
//! on an axis-aligned floor it stays small however far the floor reaches (after Wächter & Binder, "A Fast and Robust
//! Method for Avoiding Self-Intersection", Ray Tracing Gems 2019, with the bounds of Pharr et al., PBRT, 6.8).

use glam::{Vec3, Vec3A};
use obvhs::aabb::Aabb;

use super::super::scene::Scene;
use super::bvh::{Bvh, Ray, Stack};
use super::sphere::Ball;
use super::triangle::{TriangleHit, TrianglePacket};

/// Rounding, relative to the coordinates: 16 units in the last place.
const ROUNDING: f32 = 16.0 * f32::EPSILON;
/// No offset is less: 2^-24 of the scene's size, which is 2^10.
const LEAST_OFFSET: f32 = 1.0 / 16_384.0;
/// No sphere.
pub(super) const NO_SPHERE: u32 = u32::MAX;

/// The trees, and the vertices' attributes.
#[derive(Debug, Default)]
pub(super) struct Geometry {
    triangles: Bvh,
    packets: Vec<TrianglePacket>,
    spheres: Bvh,
    balls: Vec<Ball>,
    /// Balls of each leaf, and the number of leaves before.
    leaves: Vec<[u32; 2]>,
}

/// What a ray hits first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hit {
    Triangle(TriangleHit),
    /// Index of the ball, and the distance.
    Sphere(u32, f32),
}

/// A point on a surface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surface {
    pub(super) point: Vec3,
    /// Of the surface itself, of length 1, towards the viewer.
    pub(super) normal: Vec3,
    /// For shading, interpolated; on the viewer's side.
    pub(super) shading: Vec3,
    /// Whether the viewer is in front.
    pub(super) front: bool,
    /// Texture coordinates, if there are any.
    pub(super) uv: Option<[f32; 2]>,
    pub(super) material: u32,
    /// Where rays start and end: so far from the point, along the normal.
    pub(super) offset: f32,
    /// Index of the ball, or [`NO_SPHERE`].
    pub(super) ball: u32,
}

impl Geometry {
    /// Of a scene in the tracer's units.
    pub(super) fn new(scene: &Scene) -> Self {
        let mut geometry = Geometry::default();
        let solid: Vec<u32> = (0..scene.triangles.len() as u32).filter(|&i| is_solid(corners(scene, i))).collect();
        let boxes: Vec<Aabb> = solid
            .iter()
            .map(|&i| {
                let [a, b, c] = corners(scene, i).map(Vec3A::from);
                Aabb::new(a.min(b).min(c), a.max(b).max(c))
            })
            .collect();
        geometry.packets.reserve_exact(boxes.len() / 2);
        geometry.triangles = Bvh::new(&boxes, |leaf| {
            let lanes = leaf.iter().map(|&i| solid[i as usize]);
            let lanes = lanes.map(|i| (corners(scene, i), i, scene.triangles[i as usize].material));
            geometry.packets.push(TrianglePacket::new(lanes));
        });
        geometry.packets.shrink_to_fit();
        let boxes: Vec<Aabb> = scene
            .spheres
            .iter()
            .map(|s| Aabb::new(Vec3A::from(s.center) - s.radius, Vec3A::from(s.center) + s.radius))
            .collect();
        geometry.spheres = Bvh::new(&boxes, |leaf| {
            let first = geometry.balls.len() as u32;
            geometry.balls.extend(leaf.iter().map(|&i| {
                let sphere = &scene.spheres[i as usize];
                let center = Vec3::from(sphere.center);
                Ball { center, radius: sphere.radius, material: sphere.material }
            }));
            geometry.leaves.push([first, geometry.balls.len() as u32]);
        });
        geometry
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let own = size_of_val(self.packets.as_slice())
            + size_of_val(self.balls.as_slice())
            + size_of_val(self.leaves.as_slice());
        self.triangles.memory_bytes() + self.spheres.memory_bytes() + own as u64
    }

    fn leaf(&self, leaf: usize) -> std::ops::Range<usize> {
        let [from, to] = self.leaves[leaf];
        from as usize..to as usize
    }

    /// What the ray hits first.
    #[inline(always)]
    pub(super) fn closest(&self, ray: &Ray, stack: &mut Stack) -> Option<Hit> {
        let mut limit = f32::INFINITY;
        let mut triangle = None;
        self.triangles.closest(ray, &mut limit, stack, |packet, limit| {
            self.packets[packet].closest(packet, ray, limit, &mut triangle);
        });
        let mut hit = triangle.map(Hit::Triangle);
        if !self.spheres.is_empty() {
            self.spheres.closest(ray, &mut limit, stack, |leaf, limit| {
                for ball in self.leaf(leaf) {
                    if let Some(t) = self.balls[ball].hit(ray, *limit) {
                        *limit = t;
                        hit = Some(Hit::Sphere(ball as u32, t));
                    }
                }
            });
        }
        hit
    }

    /// Whether anything but the ball `except` is in the ray's way before `limit`.
    #[inline(always)]
    pub(super) fn occluded(&self, ray: &Ray, limit: f32, except: u32, stack: &mut Stack) -> bool {
        if self.triangles.any(ray, limit, stack, |packet| self.packets[packet].any(ray, limit)) {
            return true;
        }
        !self.spheres.is_empty()
            && self.spheres.any(ray, limit, stack, |leaf| {
                self.leaf(leaf).any(|ball| ball as u32 != except && self.balls[ball].hit(ray, limit).is_some())
            })
    }

    /// The material where a ray hits.
    #[inline(always)]
    pub(super) fn material(&self, hit: Hit) -> u32 {
        match hit {
            Hit::Triangle(hit) => self.packets[hit.packet as usize].material[hit.lane as usize & 3],
            Hit::Sphere(ball, _) => self.balls[ball as usize].material,
        }
    }

    /// The surface where a ray hits.
    #[inline(always)]
    pub(super) fn surface(&self, scene: &Scene, ray: &Ray, hit: Hit) -> Surface {
        match hit {
            Hit::Triangle(hit) => self.triangle_surface(scene, ray, hit),
            Hit::Sphere(ball, t) => self.sphere_surface(ray, ball, t),
        }
    }

    #[inline(always)]
    fn triangle_surface(&self, scene: &Scene, ray: &Ray, hit: TriangleHit) -> Surface {
        let packet = &self.packets[hit.packet as usize];
        let [corner, edge1, edge2] = packet.lane(hit.lane as usize);
        let point = corner + edge1 * hit.u + edge2 * hit.v;
        let outward = unit(edge1.cross(edge2));
        let front = outward.dot(ray.direction) < 0.0;
        let normal = if front { outward } else { -outward };
        let offset = triangle_offset(normal, point, edge1, edge2);
        let triangle = packet.triangle[hit.lane as usize & 3];
        let (mut shading, mut uv) = (normal, None);
        if !(scene.normals.is_empty() && scene.uvs.is_empty()) {
            let [a, b, c] = scene.triangles[triangle as usize].vertices.map(|i| i as usize);
            let weights = [1.0 - hit.u - hit.v, hit.u, hit.v];
            if !scene.normals.is_empty() {
                let corners = [a, b, c].map(|i| Vec3::from(scene.normals[i]));
                shading = smooth_normal(corners, weights, if front { 1.0 } else { -1.0 }, normal, ray.direction);
            }
            if !scene.uvs.is_empty() {
                uv = Some(interpolate([a, b, c].map(|i| scene.uvs[i]), weights));
            }
        }
        let material = packet.material[hit.lane as usize & 3];
        Surface { point, normal, shading, front, uv, material, offset, ball: NO_SPHERE }
    }

    #[inline(always)]
    fn sphere_surface(&self, ray: &Ray, index: u32, t: f32) -> Surface {
        let ball = &self.balls[index as usize];
        let outward = unit(ray.origin + ray.direction * t - ball.center);
        let front = outward.dot(ray.direction) < 0.0;
        let normal = if front { outward } else { -outward };
        let point = ball.center + outward * ball.radius;
        let offset = ball_offset(ball);
        Surface { point, normal, shading: normal, front, uv: None, material: ball.material, offset, ball: index }
    }

    pub(super) fn balls(&self) -> &[Ball] {
        &self.balls
    }
}

/// The corners of a triangle.
#[inline(always)]
pub(super) fn corners(scene: &Scene, triangle: u32) -> [Vec3; 3] {
    scene.triangles[triangle as usize].vertices.map(|v| Vec3::from(scene.positions[v as usize]))
}

/// Whether a triangle has an area, and a normal that f32 can hold.
pub(super) fn is_solid([a, b, c]: [Vec3; 3]) -> bool {
    let square = (b - a).cross(c - a).length_squared();
    square >= f32::MIN_POSITIVE && square.is_finite()
}

/// [`Surface::offset`] of a point of a triangle.
#[inline(always)]
pub(super) fn triangle_offset(normal: Vec3, point: Vec3, edge1: Vec3, edge2: Vec3) -> f32 {
    let extent = point.abs() + edge1.abs() + edge2.abs();
    normal.abs().dot(extent) * ROUNDING + LEAST_OFFSET
}

/// [`Surface::offset`] of a point of a sphere.
#[inline(always)]
pub(super) fn ball_offset(ball: &Ball) -> f32 {
    (ball.center.abs().max_element() + ball.radius) * (2.0 * ROUNDING) + LEAST_OFFSET
}

/// Texture coordinates within a triangle.
#[inline(always)]
pub(super) fn interpolate(uv: [[f32; 2]; 3], weights: [f32; 3]) -> [f32; 2] {
    [0, 1].map(|i| uv[0][i] * weights[0] + uv[1][i] * weights[1] + uv[2][i] * weights[2])
}

/// The interpolated normal, turned as little as it takes for the viewer to be above it; `normal` if a corner has none.
#[inline(always)]
fn smooth_normal(corners: [Vec3; 3], weights: [f32; 3], side: f32, normal: Vec3, direction: Vec3) -> Vec3 {
    let [a, b, c] = corners;
    let sum = (a * weights[0] + b * weights[1] + c * weights[2]) * side;
    let square = sum.length_squared();
    if square < 1e-12 || corners.contains(&Vec3::ZERO) {
        return normal;
    }
    let shading = sum / square.sqrt();
    // The viewer is above the surface itself, so between the two normals there is one that it is above of.
    let above = -shading.dot(direction);
    let least = 1e-3 * -normal.dot(direction);
    if above >= least {
        return shading;
    }
    let turned = shading + normal * ((least - above) / (-normal.dot(direction)).max(1e-6));
    let length = turned.length();
    if length > 1e-6 { turned / length } else { normal }
}

/// Of length 1; not zero.
#[inline(always)]
pub(super) fn unit(v: Vec3) -> Vec3 {
    v * (1.0 / v.length())
}
