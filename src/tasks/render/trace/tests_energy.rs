//! Light is neither made nor lost.

use super::*;

fn furnace(materials: &[Material]) -> Scene {
    Scene { environment: [1.0; 3], ..physical(materials) }
}

fn worst(values: &[f32]) -> f32 {
    values.iter().map(|v| (v - 1.0).abs()).fold(0.0, f32::max)
}

#[test]
fn a_white_convex_object_under_a_white_sky_can_not_be_seen_in_any_pixel() {
    for scale in [1e-3, 1.0, 1e4] {
        let mut sphere = furnace(&[matte(1.0)]);
        add_sphere(&mut sphere, Vec3::new(0.3, 0.1, -0.2) * scale, scale, 0);
        let mut cube = furnace(&[matte(1.0)]);
        add_cube(&mut cube, Vec3::splat(-0.7) * scale, Vec3::splat(1.4) * scale, 0);
        for scene in [sphere, cube] {
            let tracer = Tracer::new(scene);
            let mut view = look(Vec3::new(2.0, 1.5, 3.0) * scale, Vec3::ZERO, 0.4, [40, 30]);
            for depth in [1, 2] {
                view.depth = depth;
                let image = image(&tracer, &view, 16);
                assert!(worst(&image) <= 1e-5, "{scale} {depth}: {}", worst(&image));
            }
        }
    }
}

#[test]
fn a_white_hollow_under_a_white_sky_comes_to_white_but_for_paths_that_are_cut() {
    let mut scene = furnace(&[matte(1.0)]);
    add_cube(&mut scene, Vec3::new(-1.0, 0.0, -0.5), Vec3::ONE, 0);
    add_cube(&mut scene, Vec3::new(0.0, 0.0, -0.3), Vec3::new(1.0, 0.6, 1.5), 0);
    add_quad(&mut scene, Vec3::new(-9.0, 0.0, -9.0), Vec3::Z * 18.0, Vec3::X * 18.0, 0);
    let view = View { depth: 64, ..look(Vec3::new(1.5, 2.0, 3.0), Vec3::new(0.0, 0.3, 0.0), 0.4, [32, 24]) };
    let image = image(&Tracer::new(scene), &view, 64);
    assert!(image.iter().all(|&v| v <= 1.0 + 1e-5));
    assert!((0.9999..1.0 + 1e-6).contains(&mean(&image)), "{}", mean(&image));
}

#[test]
fn roulette_keeps_the_mean() {
    let mut scene = furnace(&[matte(0.8)]);
    add_cube(&mut scene, Vec3::new(-1.0, 0.0, -0.5), Vec3::ONE, 0);
    add_cube(&mut scene, Vec3::new(0.0, 0.0, -0.3), Vec3::new(1.0, 0.6, 1.5), 0);
    let tracer = Tracer::new(scene);
    let view = View { depth: 64, ..look(Vec3::new(1.5, 2.0, 3.0), Vec3::new(0.0, 0.3, 0.0), 0.3, [32, 24]) };
    let (all, some) = (image(&tracer, &view, 64), image(&tracer, &View { roulette: true, ..view }, 64));
    assert!((mean(&all) / mean(&some) - 1.0).abs() < 1e-3, "{} {}", mean(&all), mean(&some));
}

#[test]
fn a_grey_object_under_a_white_sky_takes_light_and_makes_none() {
    let mut scene = furnace(&[matte(0.5)]);
    add_sphere(&mut scene, Vec3::ZERO, 1.0, 0);
    add_cube(&mut scene, Vec3::new(0.5, 0.5, 0.5), Vec3::ONE, 0);
    let view = View { depth: 8, ..look(Vec3::new(1.0, 2.0, 5.0), Vec3::ZERO, 0.4, [40, 30]) };
    let image = image(&Tracer::new(scene), &view, 16);
    assert!(image.iter().all(|&v| v > 0.0 && v <= 1.0 + 1e-6));
    assert!(image.iter().any(|&v| v < 0.55));
}

#[test]
fn a_lamp_over_black_ground_is_seen_as_bright_as_it_is() {
    let mut scene = physical(&[lamp(3.0), matte(0.0)]);
    add_quad(&mut scene, Vec3::new(-1.0, -1.0, 0.0), Vec3::X * 2.0, Vec3::Y * 2.0, 0);
    let tracer = Tracer::new(scene);
    let front = image(&tracer, &look(Vec3::new(0.0, 0.0, 5.0), Vec3::ZERO, 0.1, [8, 8]), 4);
    let back = image(&tracer, &look(Vec3::new(0.0, 0.0, -5.0), Vec3::ZERO, 0.1, [8, 8]), 4);
    assert!(front.iter().all(|&v| v == 3.0) && back.iter().all(|&v| v == 0.0));
}
