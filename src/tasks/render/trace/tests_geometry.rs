//! Rays hit what is there, and nothing else.

use super::super::bvh::{Ray, Stack};
use super::super::geometry::{Geometry, Hit, NO_SPHERE, corners, is_solid};
use super::super::path::{Limits, Paths};
use super::*;

/// Triangles and spheres of all sizes, some of the triangles without area.
fn soup(draw: &mut Draw, triangles: u32, spheres: u32) -> Scene {
    let mut scene = physical(&[matte(0.5)]);
    for i in 0..triangles {
        let size = 2.0_f32.powf(draw.within(-8.0, 0.5));
        let (at, a, b) = (draw.point(1.0), draw.point(size), draw.point(size));
        let corners = match i % 16 {
            0 => [at, at, at],
            1 => [at, at + a, at + a * 2.0],
            2 => [at, at + a, at],
            _ => [at, at + a, at + b],
        };
        add_triangle(&mut scene, corners, 0);
    }
    for _ in 0..spheres {
        let radius = 2.0_f32.powf(draw.within(-8.0, -1.0));
        add_sphere(&mut scene, draw.point(1.0), radius, 0);
    }
    scene
}

/// Nearest hit in f64 by another algorithm: signs of the volumes a ray and the edges span. None for what is too close
/// to an edge to tell.
fn brute(scene: &Scene, origin: Vec3, direction: Vec3) -> Option<f64> {
    let (o, d) = (origin.as_dvec3(), direction.as_dvec3());
    let mut nearest = f64::INFINITY;
    for i in 0..scene.triangles.len() as u32 {
        let corners = corners(scene, i);
        if !is_solid(corners) {
            continue;
        }
        let [a, b, c] = corners.map(|v| v.as_dvec3() - o);
        let volumes = [d.dot(b.cross(c)), d.dot(c.cross(a)), d.dot(a.cross(b))];
        let sum: f64 = volumes.iter().sum();
        let least = volumes.iter().map(|v| v / sum).fold(f64::INFINITY, f64::min);
        if least.abs() < 1e-4 {
            return None;
        }
        let normal = (b - a).cross(c - a);
        let t = a.dot(normal) / d.dot(normal);
        if least > 0.0 && t > 0.0 {
            nearest = nearest.min(t);
        }
    }
    for sphere in &scene.spheres {
        let from = o - Vec3::from(sphere.center).as_dvec3();
        let (b, r) = (from.dot(d), f64::from(sphere.radius));
        let discriminant = b * b - from.length_squared() + r * r;
        if discriminant.abs() < 1e-4 * r * r {
            return None;
        }
        if discriminant > 0.0 {
            let roots = [-b - discriminant.sqrt(), -b + discriminant.sqrt()];
            roots.into_iter().filter(|&t| t > 0.0).for_each(|t| nearest = nearest.min(t));
        }
    }
    Some(nearest)
}

fn distance(geometry: &Geometry, scene: &Scene, ray: &Ray, hit: Hit) -> f64 {
    f64::from((geometry.surface(scene, ray, hit).point - ray.origin).length())
}

#[test]
fn the_tree_finds_the_hit_that_trying_everything_finds() {
    let mut draw = Draw::new();
    let mut stack = Stack::default();
    let (mut hits, mut told) = (0, 0);
    for count in [1, 2, 3, 4, 5, 9, 30, 300] {
        let scene = soup(&mut draw, count, count / 4);
        let geometry = Geometry::new(&scene);
        for i in 0..1500 {
            let mut direction = draw.direction();
            if i % 10 == 0 {
                direction = [Vec3::X, Vec3::NEG_Y, Vec3::Z][i / 10 % 3];
            }
            let origin = draw.point(1.5);
            let Some(expected) = brute(&scene, origin, direction) else { continue };
            told += 1;
            let ray = Ray::new(origin, direction);
            let hit = geometry.closest(&ray, &mut stack);
            let found = hit.map_or(f64::INFINITY, |hit| distance(&geometry, &scene, &ray, hit));
            let same = found == expected || (found / expected - 1.0).abs() < 1e-3 || (found - expected).abs() < 1e-4;
            assert!(same, "{count}: {origin} {direction}: {found} {expected}");
            hits += u32::from(expected.is_finite());
            for limit in [expected * 0.99, expected * 1.01] {
                let occluded = geometry.occluded(&ray, limit as f32, NO_SPHERE, &mut stack);
                assert_eq!(occluded, expected < limit, "{count}: {origin} {direction} {limit}");
            }
        }
    }
    assert!(hits > 300 && told > 8000, "{hits} {told}");
}

#[test]
fn triangles_without_area_are_never_hit() {
    let mut draw = Draw::new();
    let mut scene = physical(&[lamp(5.0)]);
    for _ in 0..50 {
        let (at, a) = (draw.point(1.0), draw.point(1.0));
        add_triangle(&mut scene, [at, at, at], 0);
        add_triangle(&mut scene, [at, at + a, at], 0);
    }
    let tracer = Tracer::new(scene);
    let image = image(&tracer, &look(Vec3::new(0.0, 0.0, 4.0), Vec3::ZERO, 0.4, [32, 32]), 16);
    assert!(image.iter().all(|&v| v == 0.0));
    assert_eq!(Tracer::new(Scene::default()).memory_bytes(), 0);
}

#[test]
fn a_chain_of_ever_smaller_triangles_is_rendered_like_any_other() {
    let mut scene = physical(&[matte(0.5)]);
    let mut size = 1.0;
    for i in 0..400 {
        let at = Vec3::X * size;
        add_triangle(&mut scene, [at, at + Vec3::Y * size, at + Vec3::Z * size], 0);
        size *= if i % 3 == 0 { 0.5 } else { 0.8 };
    }
    scene.environment = [1.0; 3];
    let view = look(Vec3::new(2.0, 0.3, 0.3), Vec3::new(0.0, 0.1, 0.1), 0.4, [16, 16]);
    assert!(image(&Tracer::new(scene), &view, 4).iter().all(|&v| v > 0.0));
}

#[test]
fn a_closed_mesh_lets_next_to_no_ray_through_even_at_its_edges() {
    let mut scene = physical(&[matte(0.5)]);
    let (rings, spokes) = (40, 80);
    let at = |i: i32, j: i32| {
        let (t, p) = (i as f32 / rings as f32 * std::f32::consts::PI, j as f32 / spokes as f32 * std::f32::consts::TAU);
        scene_point(t, if i == 0 || i == rings { 0.0 } else { p })
    };
    fn scene_point(t: f32, p: f32) -> Vec3 {
        Vec3::new(t.sin() * p.cos(), t.cos(), t.sin() * p.sin()) * 300.0
    }
    let mut edges = Vec::new();
    for i in 0..rings {
        for j in 0..spokes {
            let next = (j + 1) % spokes;
            let corners = [at(i, j), at(i + 1, j), at(i + 1, next), at(i, next)];
            add_triangle(&mut scene, [corners[0], corners[2], corners[1]], 0);
            add_triangle(&mut scene, [corners[0], corners[3], corners[2]], 0);
            edges.extend([(corners[0], corners[1]), (corners[0], corners[2]), (corners[0], corners[3])]);
        }
    }
    let geometry = Geometry::new(&scene);
    let (mut draw, mut stack) = (Draw::new(), Stack::default());
    let (mut leaks, mut rays) = (0, 0);
    for _ in 0..20 {
        let origin = draw.point(100.0);
        for (a, b) in &edges {
            let target = *a + (*b - *a) * draw.within(0.0, 1.0);
            let ray = Ray::new(origin, (target - origin).normalize());
            rays += 1;
            leaks += u32::from(geometry.closest(&ray, &mut stack).is_none());
        }
    }
    // Aimed as exactly at edges as f32 can; of rays that are not, none in 10^6 is expected.
    assert!(f64::from(leaks) < 5e-3 * f64::from(rays), "{leaks} of {rays}");
    for _ in 0..100_000 {
        let ray = Ray::new(draw.point(100.0), draw.direction());
        assert!(geometry.closest(&ray, &mut stack).is_some());
    }
}

#[test]
fn no_light_leaks_into_a_closed_box_whatever_its_normals() {
    for scale in [1e-3, 1.0, 1e4] {
        let mut scene = Scene { environment: [1e6; 3], ..physical(&[matte(0.9)]) };
        add_cube(&mut scene, Vec3::new(-1.0, -1.0, -1.0) * scale, Vec3::splat(2.0) * scale, 0);
        let outwards = scene.positions.iter().map(|p| Vec3::from(*p).normalize().to_array());
        scene.normals = outwards.collect();
        add_sphere(&mut scene, Vec3::new(0.0, -0.5, 0.0) * scale, 0.5 * scale, 0);
        let view = View { depth: 12, ..look(Vec3::new(0.9, 0.9, 0.9) * scale, Vec3::ZERO, 1.0, [64, 64]) };
        let image = image(&Tracer::new(scene), &view, 16);
        assert!(image.iter().all(|&v| v == 0.0), "{scale}");
    }
}

#[test]
fn spheres_are_seen_from_outside_and_from_inside() {
    let one_sided = Material { double_sided: 0, ..matte(1.0) };
    for (material, from, expected) in [
        (matte(1.0), Vec3::new(0.0, 0.0, 5.0), 1.0),
        (one_sided, Vec3::new(0.0, 0.0, 5.0), 1.0),
        (matte(1.0), Vec3::new(0.0, 0.0, 0.5), 0.0),
        (one_sided, Vec3::new(0.0, 0.0, 0.5), 0.0),
    ] {
        let mut scene = Scene { environment: [1.0; 3], ..physical(&[material]) };
        add_sphere(&mut scene, Vec3::ZERO, 1.0, 0);
        let view = look(from, Vec3::ZERO, 0.1, [8, 8]);
        assert!(image(&Tracer::new(scene), &view, 8).iter().all(|&v| (v - expected).abs() < 1e-6), "{from}");
    }
}

#[test]
fn no_sample_of_a_scene_of_extremes_is_anything_but_finite_and_positive() {
    let mut draw = Draw::new();
    for _ in 0..4 {
        let mut scene = soup(&mut draw, 200, 30);
        let mut materials = vec![matte(1.0), lamp(1e6)];
        for i in 0..14_u8 {
            materials.push(Material {
                base_color: [f32::from(i % 2), 1.0, 0.5],
                metallic: f32::from(i % 3) * 0.5,
                roughness: [0.0, 0.03, 0.3, 1.0][usize::from(i % 4)],
                specular: f32::from(i % 5) * 0.25,
                emission: [if i == 3 { 7.0 } else { 0.0 }; 3],
                double_sided: u32::from(i % 7 != 0),
                ..matte(0.0)
            });
        }
        let n = materials.len() as f32;
        scene.triangles.iter_mut().for_each(|t| t.material = draw.within(0.0, n) as u32);
        scene.spheres.iter_mut().for_each(|s| s.material = draw.within(0.0, n) as u32);
        scene.surfaces = Surfaces::Physical(materials);
        // Normals that have nothing to do with the surface.
        scene.normals = scene.positions.iter().map(|_| draw.direction().to_array()).collect();
        let (position, intensity) = (scene.positions[7], [1.0; 3]);
        scene.lights.push(Light::Point { position, intensity });
        scene.environment = [0.1; 3];
        let tracer = Tracer::new(scene);
        let Shading::Physical { materials, lights } = &tracer.shading else { panic!("physical") };
        let limits = Limits { depth: 20, roulette: false, strategy: Strategy::Both };
        let paths = Paths { scene: &tracer.scene, geometry: &tracer.geometry, materials, lights, limits };
        let view = look(Vec3::new(1.0, 1.2, 2.5), Vec3::ZERO, 0.5, [48, 48]);
        let (eye, mut stack, mut rays) = (Eye::new(&view, tracer.scale), Stack::default(), 0);
        for (x, y) in (0..48).flat_map(|y| (0..48).map(move |x| (x, y))) {
            for index in 0..8 {
                let sampler = Sampler::new(Sampler::key(3, x, y), index);
                let value = paths.radiance(eye.ray(x, y, sampler.pair(0)), &sampler, &mut stack, &mut rays);
                assert!(value.is_finite() && value.min_element() >= 0.0, "{x} {y} {index}: {value}");
            }
        }
    }
}
