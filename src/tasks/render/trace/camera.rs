//! Rays through pixels.

use glam::Vec3;

use super::super::scene::{Camera, Lens};
use super::View;
use super::bvh::Ray;
use super::geometry::unit;

/// A view, prepared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eye {
    position: Vec3,
    axes: [Vec3; 3],
    perspective: bool,
    /// Half the size of what is seen, at distance 1 or anywhere.
    half: [f32; 2],
    /// A pixel's size, there.
    pixel: [f32; 2],
}

impl Eye {
    /// `scale` is the number of the tracer's units in one of the scene's.
    pub(super) fn new(view: &View, scale: f32) -> Self {
        let Camera { position, axes, lens } = view.camera;
        let (half_height, perspective) = match lens {
            Lens::Perspective { tan_half_y } => (tan_half_y, true),
            Lens::Orthographic { half_height } => (half_height * scale, false),
        };
        let size = [view.width as f32, view.height as f32];
        let half = [half_height * size[0] / size[1], half_height];
        let pixel = [2.0 * half[0] / size[0], 2.0 * half[1] / size[1]];
        Eye { position: Vec3::from(position) * scale, axes: axes.map(Vec3::from), perspective, half, pixel }
    }

    /// Through a point of pixel (`x`, `y`), counted from the upper left, with `jitter` in 0..1 from its upper left
    /// corner.
    #[inline(always)]
    pub(super) fn ray(&self, x: u32, y: u32, jitter: [f32; 2]) -> Ray {
        let across = (x as f32 + jitter[0]) * self.pixel[0] - self.half[0];
        let up = self.half[1] - (y as f32 + jitter[1]) * self.pixel[1];
        let [right, above, back] = self.axes;
        let offset = right * across + above * up;
        if self.perspective {
            Ray::new(self.position, unit(offset - back))
        } else {
            Ray::new(self.position + offset, -back)
        }
    }
}
