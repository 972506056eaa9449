//! The scattering model against its own formulas, integrated another way.

use super::*;
use crate::tasks::render::trace::warp::uniform_cone;

const ROUGHNESSES: [f32; 6] = [0.1, 0.25, 0.4, 0.6, 0.8, 1.0];
const COSINES: [f32; 4] = [0.1, 0.4, 0.75, 1.0];

fn from(cosine: f32) -> Vec3 {
    Vec3::new((1.0 - cosine * cosine).sqrt() * 0.6, (1.0 - cosine * cosine).sqrt() * 0.8, cosine)
}

/// The reflected share of light seen at a cosine, without multiple scattering: the midpoint rule in f64 over
/// microfacets' normals, by the textbook's formulas. The substitution tan = alpha * sqrt(s / (1 - s)) makes D cos
/// uniform in s.
fn single_scattering(alpha: f64, cosine: f64) -> f64 {
    let v = [(1.0 - cosine * cosine).sqrt(), 0.0, cosine];
    let lambda = |z: f64| 0.5 * ((1.0 + alpha * alpha * (1.0 - z * z) / (z * z)).sqrt() - 1.0);
    let (rings, spokes) = (600, 300);
    let mut sum = 0.0;
    for i in 0..rings {
        let s = (f64::from(i) + 0.5) / f64::from(rings);
        let tan = alpha * (s / (1.0 - s)).sqrt();
        let (z, r) = (1.0 / (1.0 + tan * tan).sqrt(), tan / (1.0 + tan * tan).sqrt());
        for j in 0..spokes {
            let phi = (f64::from(j) + 0.5) / f64::from(spokes) * std::f64::consts::TAU;
            let h = [r * phi.cos(), r * phi.sin(), z];
            let vh = v[0] * h[0] + v[2] * h[2];
            let to = 2.0 * vh * z - cosine;
            if vh > 0.0 && to > 0.0 {
                // f cos(to) dw(to), where dw(to) = 4 vh dw(h) and D z dw(h) is the weight of a cell.
                sum += vh / (z * cosine * (1.0 + lambda(cosine) + lambda(to)));
            }
        }
    }
    sum / f64::from(rings * spokes)
}

/// Points of the unit square, well spread.
fn points(n: u32) -> impl Iterator<Item = [f32; 2]> {
    let key = crate::tasks::render::trace::sampler::Sampler::key(9, 8, 7);
    (0..n).map(move |i| crate::tasks::render::trace::sampler::Sampler::new(key, i).pair(3))
}

#[test]
fn white_metal_loses_what_single_scattering_loses_and_gains_nothing() {
    for roughness in ROUGHNESSES {
        for cosine in COSINES {
            let bsdf = Bsdf::new(Vec3::ONE, 1.0, roughness, 1.0);
            let n = 1 << 15;
            let weights = points(n).filter_map(|p| bsdf.sample(from(cosine), p)).map(|s| f64::from(s.weight.x));
            let (mut sum, mut most) = (0.0, 0.0_f64);
            weights.for_each(|w| (sum, most) = (sum + w, most.max(w)));
            let (albedo, expected) =
                (sum / f64::from(n), single_scattering(f64::from(roughness).powi(2), f64::from(cosine)));
            assert!((albedo - expected).abs() < 3e-3, "{roughness} {cosine}: {albedo} {expected}");
            assert!(albedo <= 1.0 + 1e-5 && most <= 1.0 + 1e-3, "{roughness} {cosine}: {albedo} {most}");
        }
    }
}

#[test]
fn a_smooth_metal_is_a_mirror() {
    let bsdf = Bsdf::new(Vec3::new(0.9, 0.5, 0.1), 1.0, 0.0, 1.0);
    for point in points(100) {
        let Some(scattered) = bsdf.sample(from(0.6), point) else { panic!("nothing reflected") };
        let mirrored = from(0.6) * Vec3::new(-1.0, -1.0, 1.0);
        assert!(scattered.direction.dot(mirrored) > 0.999, "{:?}", scattered.direction);
        let fresnel = 0.9 + 0.1 * 0.4_f32.powi(5);
        assert!((scattered.weight.x - fresnel).abs() < 5e-3, "{}", scattered.weight);
    }
}

#[test]
fn light_goes_both_ways_alike() {
    let mut worst = 0.0_f32;
    for (a, b) in points(2000).zip(points(4000).skip(2000)) {
        let (a, b) = (uniform_cone(a, 0.95), uniform_cone(b, 0.95));
        for roughness in ROUGHNESSES {
            let bsdf = Bsdf::new(Vec3::new(0.8, 0.4, 0.1), 0.5, roughness, 1.0);
            let (there, back) = (bsdf.evaluate(a, b).0 / b.z, bsdf.evaluate(b, a).0 / a.z);
            worst = worst.max(((there - back) / there).abs().max_element());
        }
    }
    assert!(worst < 1e-4, "{worst}");
}

/// Bins of the hemisphere: by cosine and by angle.
const BINS: [usize; 2] = [12, 24];

fn bin(direction: Vec3) -> usize {
    let across = (f64::from(direction.y).atan2(f64::from(direction.x)) / std::f64::consts::TAU + 1.0).fract();
    let up = (direction.z * BINS[0] as f32) as usize;
    up.min(BINS[0] - 1) * BINS[1] + ((across * BINS[1] as f64) as usize).min(BINS[1] - 1)
}

#[test]
fn directions_come_as_often_as_their_density_says() {
    for (metallic, specular, roughness) in [(1.0, 1.0, 0.5), (1.0, 1.0, 1.0), (0.0, 1.0, 0.6), (0.5, 0.5, 0.4)] {
        for cosine in COSINES {
            let bsdf = Bsdf::new(Vec3::splat(0.7), metallic, roughness, specular);
            let n = 40_000_u32;
            // Not the stratified points: the statistic is one of independent samples.
            let mut seen = vec![0_u32; BINS[0] * BINS[1]];
            for i in 0..n {
                use crate::tasks::render::trace::sampler::Sampler;
                let random = Sampler::new(Sampler::key(u64::from(i), 3, 4), 5);
                let point = [random.independent(0), random.independent(1)];
                if let Some(scattered) = bsdf.sample(from(cosine), point) {
                    seen[bin(scattered.direction)] += 1;
                }
            }
            let mut expected = vec![0.0_f64; seen.len()];
            let fine = [BINS[0] * 40, BINS[1] * 20];
            for i in 0..fine[0] {
                let z = (i as f32 + 0.5) / fine[0] as f32;
                for j in 0..fine[1] {
                    let phi = (j as f32 + 0.5) / fine[1] as f32 * std::f32::consts::TAU;
                    let r = (1.0 - z * z).sqrt();
                    let to = Vec3::new(r * phi.cos(), r * phi.sin(), z);
                    let cell = std::f64::consts::TAU / (fine[0] * fine[1]) as f64;
                    expected[bin(to)] += f64::from(bsdf.evaluate(from(cosine), to).1) * cell * f64::from(n);
                }
            }
            let total = expected.iter().sum::<f64>() / f64::from(n);
            let share = f64::from(seen.iter().sum::<u32>()) / f64::from(n);
            assert!((total - share).abs() < 0.01, "{metallic} {roughness} {cosine}: {total} {share}");
            let (mut statistic, mut freedom) = (0.0, 0.0);
            for (&seen, &expected) in seen.iter().zip(&expected).filter(|(_, e)| **e > 8.0) {
                statistic += (f64::from(seen) - expected).powi(2) / expected;
                freedom += 1.0;
            }
            let most = freedom + 6.0 * (2.0_f64 * freedom).sqrt();
            assert!(statistic < most, "{metallic} {roughness} {cosine}: {statistic} of {freedom}");
        }
    }
}

#[test]
fn a_surface_without_reflection_is_exactly_lambert() {
    let base = Vec3::new(0.3, 1.0, 0.7);
    let bsdf = Bsdf::new(base, 0.0, 0.2, 0.0);
    for point in points(1000) {
        let Some(scattered) = bsdf.sample(from(0.3), point) else { panic!("nothing reflected") };
        assert_eq!(scattered.weight, base);
        assert!((scattered.direction.length() - 1.0).abs() < 1e-6);
        let (value, density) = bsdf.evaluate(from(0.3), scattered.direction);
        assert_eq!((density, value), (scattered.density, base * density));
    }
}

#[test]
fn nothing_is_ever_not_finite() {
    let edge = [0.0, 1e-30, 1e-7, 1e-3, 0.5, 1.0 - f32::EPSILON];
    for cosine in [1e-20_f32, 1e-6, 1e-3, 0.5, 1.0] {
        for roughness in [0.0, 0.01, 0.03, 0.3, 1.0] {
            for metallic in [0.0, 0.5, 1.0] {
                for base in [0.0, 1.0] {
                    let bsdf = Bsdf::new(Vec3::splat(base), metallic, roughness, 1.0);
                    for point in edge.iter().flat_map(|&u| edge.map(|v| [u, v])) {
                        if let Some(s) = bsdf.sample(from(cosine), point) {
                            assert!(s.weight.is_finite() && s.density.is_finite() && s.direction.is_finite());
                            assert!(s.weight.max_element() < 20.0, "{cosine} {roughness} {metallic}: {}", s.weight);
                        }
                    }
                }
            }
        }
    }
}
