//! Phong's model with shadows: ambient light, and of each light that is seen a diffuse and a mirrored part. Its sums are
//! colours of a screen; what is given on is the light that a screen makes of them, as of everything else.

use glam::Vec3;

use super::super::scene::{PhongMaterial, Scene};
use super::bvh::{Ray, Stack};
use super::geometry::{Geometry, NO_SPHERE};
use super::light::{Falloff, delta};
use super::texture::from_srgb;

/// The colour a ray from the camera finds; adds the rays it takes.
pub(super) fn shade(
    (scene, geometry, materials): (&Scene, &Geometry, &[PhongMaterial]),
    ray: &Ray,
    stack: &mut Stack,
    rays: &mut u64,
) -> Vec3 {
    *rays += 1;
    let Some(hit) = geometry.closest(ray, stack) else { return Vec3::from(scene.environment) };
    let surface = geometry.surface(scene, ray, hit);
    let material = &materials[surface.material as usize];
    let start = surface.point + surface.normal * surface.offset;
    let mut sum = Vec3::from(material.ambient);
    for light in &scene.lights {
        let Some(arrival) = delta(light, Falloff::None, 1.0, surface.point) else { continue };
        let cosine = arrival.direction.dot(surface.shading);
        if cosine <= 0.0 || arrival.direction.dot(surface.normal) <= 0.0 {
            continue;
        }
        *rays += 1;
        let (way, limit) = arrival.way(start);
        if geometry.occluded(&way, limit, NO_SPHERE, stack) {
            continue;
        }
        let mirrored = surface.shading * (2.0 * cosine) - arrival.direction;
        let highlight = libm::powf((-mirrored.dot(ray.direction)).max(0.0), material.shininess);
        let value = Vec3::from(material.diffuse) * cosine + Vec3::from(material.specular) * highlight;
        sum += value * arrival.radiance;
    }
    // The model's numbers went to the screen as they were, and were cut off at 1 there: its look is in them, not in light.
    Vec3::from(sum.to_array().map(|shown| from_srgb(f64::from(shown.clamp(0.0, 1.0))) as f32))
}
