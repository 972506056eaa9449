//! Whether two builds compute the same bits: a picture of a bit of everything, hashed.

use std::sync::OnceLock;

use super::super::scene::{Camera, Lens, Light, Material, Scene, Sphere, Surfaces, Texture, Triangle, Wrap};
use super::{Tile, Tracer, View};

/// Samples a pixel.
const SAMPLES: u32 = 4;

/// Of the bits that this build computes: builds that compute other bits, or have another version, have another one.
/// Takes a few milliseconds, once.
pub fn fingerprint() -> u64 {
    static FINGERPRINT: OnceLock<u64> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| {
        let (scene, view) = everything();
        let tile = Tile { x: 0, y: 0, width: view.width, height: view.height };
        let rendered = Tracer::new(scene).render(&view, tile, 0..SAMPLES, &mut |_| Ok::<(), ()>(()));
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        for sum in rendered.iter().flat_map(|r| &r.sums) {
            hasher.update(&sum.to_le_bytes());
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    })
}

/// A scene that takes most ways through the tracer, and a small view of it.
pub(super) fn everything() -> (Scene, View) {
    let mut scene = Scene::default();
    let plain = Material::default();
    scene.surfaces = Surfaces::Physical(vec![
        Material { base_color_texture: 0, base_color: [0.9, 0.8, 0.7], specular: 1.0, roughness: 0.4, ..plain },
        Material { base_color: [0.9, 0.6, 0.3], metallic: 1.0, roughness: 0.25, ..plain },
        Material { metallic: 0.5, roughness: 0.9, metallic_roughness_texture: 1, specular: 0.5, ..plain },
        Material { base_color: [0.0; 3], emission: [9.0, 7.0, 5.0], emission_texture: 0, ..plain },
        Material { base_color: [0.2; 3], emission: [20.0, 30.0, 40.0], double_sided: 0, ..plain },
        Material { base_color: [0.3, 0.7, 0.4], ..plain },
    ]);
    quad(&mut scene, [[-3.0, 0.0, 3.0], [3.0, 0.0, 3.0], [3.0, 0.1, -3.0], [-3.0, 0.0, -3.0]], 0);
    quad(&mut scene, [[-0.5, 2.5, -0.5], [0.5, 2.5, -0.5], [0.5, 2.4, 0.5], [-0.5, 2.5, 0.5]], 3);
    quad(&mut scene, [[-1.5, 0.1, -1.0], [1.5, 0.2, -1.2], [1.4, 1.9, -1.1], [-1.5, 2.0, -1.3]], 2);
    let sphere = |center, radius, material| Sphere { center, radius, material };
    scene.spheres.push(sphere([-0.6, 0.55, 0.2], 0.5, 1));
    scene.spheres.push(sphere([0.7, 0.4, 0.5], 0.35, 5));
    scene.spheres.push(sphere([0.3, 1.4, 0.7], 0.1, 4));
    for (wrap, shift) in [(Wrap::Repeat, 0), (Wrap::Mirror, 90)] {
        let texels = (0..12_u8).map(|i| [i * 20, 255 - i * 13, shift + i * 11, 255]).collect();
        scene.textures.push(Texture { width: 4, height: 3, wrap: [wrap, Wrap::Clamp], texels });
    }
    scene.lights = vec![
        Light::Point { position: [-2.0, 2.0, 2.0], intensity: [3.0, 2.0, 1.0] },
        Light::Spot {
            position: [2.0, 3.0, 1.0],
            direction: [-0.6, -0.8, 0.0],
            intensity: [9.0; 3],
            cos_inner: 0.95,
            cos_outer: 0.6,
        },
        Light::Directional { direction: [0.0, -0.6, -0.8], irradiance: [0.3, 0.4, 0.5] },
    ];
    scene.environment = [0.2, 0.3, 0.4];
    let axes = [[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]];
    let camera = Camera { position: [0.1, 2.0, 4.0], axes, lens: Lens::Perspective { tan_half_y: 0.5 } };
    (scene, View { camera, width: 8, height: 8, seed: 7, depth: 6, roulette: true })
}

/// Two triangles, with smooth normals and texture coordinates beyond the texture.
fn quad(scene: &mut Scene, corners: [[f32; 3]; 4], material: u32) {
    let first = scene.positions.len() as u32;
    scene.positions.extend(corners);
    // None at one corner, which makes one of the triangles flat.
    scene.normals.extend([[0.0, 1.0, 0.0], [0.28, 0.96, 0.0], [0.0, 0.8, 0.6], [0.0; 3]]);
    scene.uvs.extend([[-0.5, 0.1], [2.5, 0.0], [2.4, 1.5], [-0.3, 1.2]]);
    scene.triangles.push(Triangle { vertices: [first, first + 1, first + 2], material });
    scene.triangles.push(Triangle { vertices: [first, first + 2, first + 3], material });
}
