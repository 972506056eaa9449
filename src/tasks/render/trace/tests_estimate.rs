//! What is computed is what the formulas say, and the noise is noise.

use super::*;

/// White ground, looked at in one point.
fn ground(lamps: &[Material]) -> (Scene, View) {
    let mut scene = physical(&[&[matte(0.8)], lamps].concat());
    add_quad(&mut scene, Vec3::new(-20.0, 0.0, -20.0), Vec3::Z * 40.0, Vec3::X * 40.0, 0);
    (scene, look(Vec3::new(6.0, 0.7, 0.0), Vec3::ZERO, 1e-7, [1, 1]))
}

/// Irradiance at the origin, facing up, of a polygon of radiance 1 (Lambert 1760).
fn polygon_irradiance(corners: &[Vec3]) -> f64 {
    let unit: Vec<_> = corners.iter().map(|c| c.as_dvec3().normalize()).collect();
    let edge = |i: usize| {
        let (a, b) = (unit[i], unit[(i + 1) % unit.len()]);
        a.dot(b).clamp(-1.0, 1.0).acos() * a.cross(b).normalize().y
    };
    (0..unit.len()).map(edge).sum::<f64>().abs() * 0.5
}

#[test]
fn a_rectangle_shines_as_lambert_computed() {
    let mut draw = Draw::new();
    for _ in 0..6 {
        let (mut scene, view) = ground(&[lamp(2.0)]);
        let middle = Vec3::new(draw.within(-0.5, 0.5), draw.within(1.5, 3.0), draw.within(-0.5, 0.5));
        let normal = (Vec3::NEG_Y + draw.point(0.3)).normalize();
        let a = normal.cross(draw.direction()).normalize();
        let b = normal.cross(a) * draw.within(0.2, 2.0);
        let a = a * draw.within(0.2, 2.0);
        let corner = middle - a * 0.5 - b * 0.5;
        add_quad(&mut scene, corner, a, b, 1);
        let expected = polygon_irradiance(&[corner, corner + a, corner + a + b, corner + b]);
        let expected = expected * 2.0 * 0.8 / std::f64::consts::PI;
        let seen = mean(&image(&Tracer::new(scene), &view, 1 << 14));
        assert!((seen / expected - 1.0).abs() < 1e-3, "{middle} {a} {b}: {seen} {expected}");
    }
}

#[test]
fn a_sphere_shines_as_its_solid_angle_says() {
    let mut draw = Draw::new();
    for double_sided in [0, 1, 0, 1] {
        let (mut scene, view) = ground(&[Material { double_sided, ..lamp(2.0) }]);
        let radius = draw.within(0.01, 0.6);
        let center = Vec3::new(draw.within(-1.0, 1.0), draw.within(1.6, 3.0), draw.within(-1.0, 1.0));
        add_sphere(&mut scene, center, radius, 1);
        let d = f64::from(center.length());
        let expected = 2.0 * 0.8 * (f64::from(radius) / d).powi(2) * f64::from(center.y) / d;
        let seen = mean(&image(&Tracer::new(scene), &view, 1 << 14));
        assert!((seen / expected - 1.0).abs() < 1e-3, "{center} {radius}: {seen} {expected}");
    }
}

#[test]
fn lights_without_extent_shine_as_their_formulas_say_without_noise() {
    let position = [0.7_f32, 2.0, -0.4];
    let (point, d2) = (Vec3::from(position), Vec3::from(position).length_squared());
    let (down, cosine) = (-point / d2.sqrt(), point.y / d2.sqrt());
    let intensity = [3.0, 2.0, 1.0];
    let tilted = Vec3::new(down.x + 0.3, down.y, down.z).normalize();
    let angle = tilted.dot(down);
    let spot =
        |cos_inner, cos_outer| Light::Spot { position, direction: tilted.to_array(), intensity, cos_inner, cos_outer };
    let half = ((angle - (angle - 0.02)) / 0.05_f32).powi(2);
    // The ramp is a ratio of differences of cosines: two digits of f32 are lost.
    for (light, expected, rounding) in [
        (Light::Point { position, intensity }, cosine / d2, 1e-5),
        (spot(angle - 0.01, angle - 0.02), cosine / d2, 1e-5),
        (spot(angle + 0.03, angle - 0.02), cosine / d2 * half, 5e-5),
        (spot(angle + 0.02, angle + 0.01), 0.0, 0.0),
        (Light::Directional { direction: down.to_array(), irradiance: intensity }, cosine, 1e-5),
    ] {
        let (mut scene, view) = ground(&[]);
        scene.lights.push(light);
        let image = image(&Tracer::new(scene), &view, 16);
        for c in 0..3 {
            let expected = expected * intensity[c] * 0.8 * std::f32::consts::FRAC_1_PI;
            assert!((image[c] - expected).abs() <= rounding * expected, "{light:?}: {} {expected}", image[c]);
        }
    }
}

/// A room with an open side, two lamps, and whatever else.
fn room(materials: &[Material]) -> Scene {
    let mut scene = physical(&[&[matte(0.6), lamp(10.0), lamp(400.0)], materials].concat());
    let (x, y, z) = (Vec3::X * 2.0, Vec3::Y * 2.0, Vec3::Z * 2.0);
    let low = Vec3::NEG_ONE;
    for (corner, a, b) in [(low, z, x), (low + y, x, z), (low, x, y), (low, y, z), (low + x, z, y)] {
        add_quad(&mut scene, corner, a, b, 0);
    }
    add_quad(&mut scene, Vec3::new(-0.4, 0.9, -0.4), Vec3::X * 0.8, Vec3::Z * 0.8, 1);
    add_sphere(&mut scene, Vec3::new(-0.7, 0.2, 0.3), 0.04, 2);
    scene
}

const FRONT: Vec3 = Vec3::new(0.1, 0.2, 3.6);

#[test]
fn noise_falls_at_least_as_one_over_the_number_of_samples() {
    let tracer = Tracer::new(room(&[]));
    let view = View { depth: 4, ..look(FRONT, Vec3::ZERO, 0.33, [24, 24]) };
    let variance = |samples: u32| {
        let seeds = 8;
        let (mut sum, mut square) = (vec![0.0; 24 * 24 * 3], vec![0.0; 24 * 24 * 3]);
        for seed in 0..seeds {
            let image = image(&tracer, &View { seed: seed + 100, ..view }, samples);
            for (i, v) in image.iter().map(|&v| f64::from(v)).enumerate() {
                (sum[i], square[i]) = (sum[i] + v, square[i] + v * v);
            }
        }
        let n = seeds as f64;
        let one = |i: usize| (square[i] - sum[i] * sum[i] / n) / (n - 1.0);
        (0..sum.len()).map(one).sum::<f64>()
    };
    let variances = [16, 64, 256].map(variance);
    // 576 pixels and 7 degrees of freedom each: a ratio of two such sums is known to about 2 sqrt(2 / 4032), were they
    // normal; with the tails they have, to some four times that.
    let tolerance = 4.0 * 2.0 * (2.0_f64 / 4032.0).sqrt();
    for (few, many) in [(variances[0], variances[1]), (variances[1], variances[2])] {
        assert!(few / many > 4.0 * (1.0 - tolerance), "{variances:?}");
    }
}

#[test]
fn lights_are_found_by_sampling_them_as_by_chance() {
    let metal = |roughness| Material { metallic: 1.0, roughness, base_color: [0.9, 0.7, 0.5], ..matte(0.0) };
    let glossy = Material { specular: 1.0, roughness: 0.2, ..matte(0.5) };
    let mut scene = room(&[metal(0.1), metal(0.5), glossy]);
    scene.spheres[0].radius = 0.15;
    add_sphere(&mut scene, Vec3::new(0.5, -0.6, 0.0), 0.4, 3);
    add_cube(&mut scene, Vec3::new(-0.8, -1.0, -0.6), Vec3::splat(0.6), 4);
    add_quad(&mut scene, Vec3::new(-1.0, -0.98, 0.4), Vec3::Z * 0.6, Vec3::X * 2.0, 5);
    let tracer = Tracer::new(scene);
    let view = View { depth: 3, ..look(FRONT, Vec3::ZERO, 0.33, [16, 16]) };
    let estimate = |strategy, samples: u32| {
        let seeds = 10;
        let means: Vec<f64> = (0..seeds)
            .map(|seed| {
                let view = View { seed, ..view };
                let go_on = &mut |_| Ok::<(), ()>(());
                let done = tracer.render_with(&view, whole(&view), 0..samples, strategy, go_on).unwrap();
                mean(&done.sums) / f64::from(samples)
            })
            .collect();
        let n = seeds as f64;
        let mean = means.iter().sum::<f64>() / n;
        let square = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, square / n)
    };
    let (both, error) = estimate(Strategy::Both, 256);
    let (scattering, other) = estimate(Strategy::Scattering, 2048);
    let sigma = (error + other).sqrt();
    assert!((both - scattering).abs() < 3.0 * sigma, "{both} {scattering} {sigma}");
    assert!(sigma < 0.01 * both, "{both} {sigma}: says too little");
}

#[test]
fn a_sphere_lights_itself_from_inside() {
    // Radiance everywhere inside a closed lamp of albedo a is L (1 + a + a^2 + ...).
    let mut scene = physical(&[Material { emission: [1.0; 3], ..matte(0.5) }]);
    add_sphere(&mut scene, Vec3::new(0.3, 0.2, 0.1), 2.0, 0);
    let view = View { depth: 3, ..look(Vec3::ZERO, Vec3::X, 0.5, [16, 16]) };
    let seen = mean(&image(&Tracer::new(scene), &view, 256));
    assert!((seen - 1.875).abs() < 5e-3, "{seen}");
}

#[test]
fn phongs_model_is_ambient_plus_what_each_unshadowed_light_adds() {
    let material = PhongMaterial { ambient: [0.1; 3], diffuse: [0.5; 3], specular: [0.4; 3], shininess: 5.0 };
    let mut scene = Scene { surfaces: Surfaces::Phong(vec![material]), environment: [0.7; 3], ..Scene::default() };
    add_quad(&mut scene, Vec3::new(-20.0, 0.0, -20.0), Vec3::X * 40.0, Vec3::Z * 40.0, 0);
    add_sphere(&mut scene, Vec3::new(0.0, 5.0, 0.0), 1.0, 0);
    let seen = Vec3::new(-3.0, 4.0, 0.0);
    scene.lights.push(Light::Point { position: [0.0, 9.0, 0.0], intensity: [100.0; 3] });
    scene.lights.push(Light::Point { position: (seen * 100.0).to_array(), intensity: [0.5, 1.0, 2.0] });
    let tracer = Tracer::new(scene);
    let view = look(Vec3::new(6.0, 3.0, 0.0), Vec3::ZERO, 1e-6, [1, 1]);
    let from = Vec3::new(6.0, 3.0, 0.0).normalize();
    let to = seen.normalize();
    let mirrored = Vec3::new(-to.x, to.y, 0.0).dot(from).powi(5);
    for (c, value) in image(&tracer, &view, 4).into_iter().enumerate() {
        let shown: f32 = 0.1 + (0.5 * to.y + 0.4 * mirrored) * [0.5, 1.0, 2.0][c];
        // The light of that colour on a screen.
        let expected = ((shown.min(1.0) + 0.055) / 1.055).powf(2.4);
        assert!((value / expected - 1.0).abs() < 1e-5, "{value} {expected}");
    }
    let away = look(Vec3::new(6.0, 3.0, 0.0), Vec3::new(12.0, 6.0, 0.0), 1e-6, [1, 1]);
    assert!(image(&tracer, &away, 4).iter().all(|&v| v == 0.7));
}
