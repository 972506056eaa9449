//! A camera for a scene that came without one.

use glam::DVec3;

use super::super::scene::{Camera, Lens, Scene};

/// Vertical angle of view, degrees: that of a normal lens.
const ANGLE: f64 = 40.0;
/// From the scene to the camera: from the front (+z), somewhat from the right and from above.
const DIRECTION: DVec3 = DVec3::new(0.5, 0.4, 1.0);
/// Some air round the scene.
const MARGIN: f64 = 1.05;

/// A camera that sees a whole scene: a sphere round it fits an image that is at least as wide as high.
pub fn framing(scene: &Scene) -> Camera {
    let (low, high) = bounds(scene);
    let center = (low + high) / 2.0;
    let radius = (high - low).length() / 2.0;
    let radius = if radius > 0.0 && radius.is_finite() { radius } else { 1.0 };
    let half = (ANGLE / 2.0).to_radians();
    let back = DIRECTION.normalize();
    let right = DVec3::Y.cross(back).normalize();
    // Positions near the largest f32 cannot be seen from farther away.
    let limit = f64::from(f32::MAX);
    let position =
        (center + back * (radius * MARGIN / libm::sin(half))).clamp(DVec3::splat(-limit), DVec3::splat(limit));
    Camera {
        position: position.as_vec3().to_array(),
        axes: [right, back.cross(right), back].map(|axis| axis.as_vec3().to_array()),
        lens: Lens::Perspective { tan_half_y: libm::tan(half) as f32 },
    }
}

/// The corners of a box round everything; of vertices, those that triangles use.
fn bounds(scene: &Scene) -> (DVec3, DVec3) {
    let used = scene.triangles.iter().flat_map(|triangle| triangle.vertices);
    let vertices = used.filter_map(|vertex| scene.positions.get(vertex as usize)).map(|position| (position, 0.0));
    let spheres = scene.spheres.iter().map(|sphere| (&sphere.center, f64::from(sphere.radius)));
    let none = (DVec3::INFINITY, DVec3::NEG_INFINITY);
    let (low, high) = vertices.chain(spheres).fold(none, |(low, high), (center, radius)| {
        let center = DVec3::from_array(center.map(f64::from));
        (low.min(center - radius), high.max(center + radius))
    });
    if low.is_finite() && high.is_finite() { (low, high) } else { (DVec3::ZERO, DVec3::ZERO) }
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::Sphere;
    use super::*;

    fn sphere(center: [f32; 3], radius: f32) -> Scene {
        Scene { spheres: vec![Sphere { center, radius, material: 0 }], ..Scene::default() }
    }

    #[test]
    fn the_sphere_round_a_scene_fits_the_image() {
        for (center, size) in [([0.0; 3], 1.0), ([100.0, -20.0, 3.0], 1e-3), ([1.0, 2.0, 3.0], 1e6)] {
            let camera = framing(&sphere(center, size));
            let [right, up, back] = camera.axes.map(|axis| DVec3::from_array(axis.map(f64::from)));
            let to = DVec3::from_array(camera.position.map(f64::from)) - DVec3::from_array(center.map(f64::from));
            assert!(
                to.normalize().distance(back) < 1e-2
                    && right.dot(up).abs() < 1e-6
                    && right.cross(up).distance(back) < 1e-6
            );
            let Lens::Perspective { tan_half_y } = camera.lens else { panic!("{:?}", camera.lens) };
            let around = f64::from(size) * 3_f64.sqrt();
            let seen = to.length() * libm::sin(libm::atan(f64::from(tan_half_y)));
            assert!(seen >= around && seen < 1.2 * around, "{seen} for {around}");
        }
    }

    #[test]
    fn it_looks_from_the_front_the_right_and_above() {
        let camera = framing(&sphere([0.0; 3], 1.0));
        let [x, y, z] = camera.position;
        assert!(z > x && x > y && y > 0.0, "{:?}", camera.position);
    }

    #[test]
    fn any_scene_has_a_finite_camera() {
        for scene in [Scene::default(), sphere([f32::MAX; 3], f32::MAX), sphere([f32::NAN; 3], 1.0)] {
            let camera = framing(&scene);
            assert!(camera.position.iter().chain(camera.axes.iter().flatten()).all(|x| x.is_finite()), "{camera:?}");
        }
    }
}
