//! The same bits, however the work is cut.

use super::super::fingerprint::{everything, fingerprint};
use super::*;

/// Sums of a view, from tiles of at most `size` pixels a side.
fn tiled(tracer: &Tracer, view: &View, size: u32, samples: Range<u32>) -> Vec<f32> {
    let mut all = vec![f32::NAN; view.width as usize * view.height as usize * 3];
    for y in (0..view.height).step_by(size as usize) {
        for x in (0..view.width).step_by(size as usize) {
            let tile = Tile { x, y, width: size.min(view.width - x), height: size.min(view.height - y) };
            let done = tracer.render(view, tile, samples.clone(), &mut |_| Ok::<(), ()>(())).unwrap();
            for row in 0..tile.height as usize {
                let from = row * tile.width as usize * 3;
                let to = ((y as usize + row) * view.width as usize + x as usize) * 3;
                let length = tile.width as usize * 3;
                all[to..to + length].copy_from_slice(&done.sums[from..from + length]);
            }
        }
    }
    all
}

fn hash(values: &[f32]) -> String {
    blake3::hash(bytemuck::cast_slice(values)).to_hex().to_string()
}

#[test]
fn tiles_of_any_size_come_to_the_same_image() {
    let (scene, view) = everything();
    let tracer = Tracer::new(scene);
    let view = View { width: 75, height: 65, ..view };
    let expected = tiled(&tracer, &view, 256, 0..20);
    for size in [64, 37, 16, 1] {
        assert_eq!(hash(&tiled(&tracer, &view, size, 0..20)), hash(&expected), "{size}");
    }
    assert_ne!(hash(&tiled(&tracer, &View { seed: view.seed + 1, ..view }, 256, 0..20)), hash(&expected));
}

#[test]
fn ranges_of_whole_blocks_add_up_to_the_sum_of_all() {
    let (scene, view) = everything();
    let tracer = Tracer::new(scene);
    let all = tiled(&tracer, &view, 256, 0..64);
    let parts: Vec<_> = [0..16, 16..48, 48..64].into_iter().map(|r| tiled(&tracer, &view, 256, r)).collect();
    for (i, &sum) in all.iter().enumerate() {
        let added: f64 = parts.iter().map(|p| f64::from(p[i])).sum();
        assert!((added - f64::from(sum)).abs() <= 1e-6 * f64::from(sum), "{added} {sum}");
    }
    // One block is one addition: what a single block comes to does not depend on what was asked for with it.
    let doubled = tiled(&tracer, &view, 256, 16..32);
    assert_eq!(hash(&doubled), hash(&tiled(&tracer, &view, 16, 16..32)));
}

#[test]
fn another_thread_computes_the_same_bits_and_so_did_this_build_s_predecessors() {
    let (scene, view) = everything();
    let tracer = Tracer::new(scene);
    let image = tiled(&tracer, &view, 256, 0..16);
    assert!(image.iter().all(|&v| v > 0.0 && v < 16.0 * 50.0) && mean(&image) > 16.0 * 0.2, "{image:?}");
    let here = hash(&image);
    let there = std::thread::scope(|s| s.spawn(|| hash(&tiled(&tracer, &view, 8, 0..16))).join().unwrap());
    assert_eq!(here, there);
    // Whoever changes this on purpose raises the crate's version, too: workers of two versions don't share pictures.
    assert_eq!(here, GOLDEN, "the bits have changed");
    assert_eq!(fingerprint(), fingerprint());
}

/// Computed with the instructions of every x86-64, and the same with those of any.
const GOLDEN: &str = "52b04551a60c47ab227836689d51504aab40bcdaf295e2871a346395239f9de6";

#[test]
fn a_scene_twice_as_large_has_the_same_bits() {
    let (scene, view) = everything();
    let expected = hash(&tiled(&Tracer::new(scene.clone()), &view, 256, 0..4));
    for factor in [0.5_f32, 1024.0, 1.0 / 1024.0] {
        let mut larger = scene.clone();
        let scaled = |v: &mut [f32; 3]| v.iter_mut().for_each(|x| *x *= factor);
        larger.positions.iter_mut().for_each(scaled);
        larger.spheres.iter_mut().for_each(|s| (scaled(&mut s.center), s.radius *= factor).0);
        for light in &mut larger.lights {
            if let Light::Point { position, intensity } | Light::Spot { position, intensity, .. } = light {
                scaled(position);
                intensity.iter_mut().for_each(|x| *x *= factor * factor);
            }
        }
        let mut view = view;
        scaled(&mut view.camera.position);
        assert_eq!(hash(&tiled(&Tracer::new(larger), &view, 256, 0..4)), expected, "{factor}");
    }
}

#[test]
fn the_caller_is_asked_often_and_can_stop() {
    let (scene, view) = everything();
    let tracer = Tracer::new(scene);
    let mut shares = Vec::new();
    let told = &mut |share| {
        shares.push(share);
        Ok::<(), ()>(())
    };
    let done = tracer.render(&view, whole(&view), 0..2000, told).unwrap();
    assert!(shares.is_sorted() && shares.last() == Some(&1.0));
    assert!(shares.len() as u64 > done.rays / 4096, "{} {}", shares.len(), done.rays);
    let mut calls = 0;
    let stopped = tracer.render(&view, whole(&view), 0..2000, &mut |_| {
        calls += 1;
        if calls == 3 { Err("stop") } else { Ok(()) }
    });
    assert_eq!((stopped, calls), (Err("stop"), 3));
    let nothing = tracer.render(&view, whole(&view), 5..5, &mut |_| Ok::<(), ()>(())).unwrap();
    assert!(nothing.sums.iter().all(|&v| v == 0.0) && nothing.rays == 0);
}
