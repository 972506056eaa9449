//! A ray against a sphere (Haines et al., "Precision Improvements for Ray/Sphere Intersection", Ray Tracing Gems 2019).

use glam::Vec3;

use super::bvh::Ray;

/// A sphere, in the tracer's units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ball {
    pub(super) center: Vec3,
    pub(super) radius: f32,
    /// Index of its material.
    pub(super) material: u32,
}

impl Ball {
    /// Distances at which the ray's line enters and leaves, in lengths of its direction.
    #[inline(always)]
    fn crossings(&self, ray: &Ray) -> Option<[f32; 2]> {
        let from = ray.origin - self.center;
        let square = ray.direction.dot(ray.direction);
        let along = -from.dot(ray.direction);
        // The line's distance to the center, not the difference of two large squares.
        let miss = from + ray.direction * (along / square);
        let discriminant = self.radius * self.radius - miss.dot(miss);
        if discriminant < 0.0 {
            return None;
        }
        let outside = from.dot(from) - self.radius * self.radius;
        let root = (square * discriminant).sqrt();
        if along > 0.0 {
            let q = along + root;
            Some([outside / q, q / square])
        } else {
            let q = along - root;
            Some([q / square, outside / q])
        }
    }

    /// The first hit between 0 and `limit`.
    #[inline(always)]
    pub(super) fn hit(&self, ray: &Ray, limit: f32) -> Option<f32> {
        let inside = |t: &f32| *t > 0.0 && *t < limit;
        self.crossings(ray)?.into_iter().find(inside)
    }
}
