//! Materials where they are hit: factors times textures.

use glam::Vec3;

use super::super::scene::{Material, NO_TEXTURE, Texture};
use super::bsdf::Bsdf;
use super::geometry::Surface;
use super::texture::{Encoding, average, look_up};

/// Materials and textures of a scene for path tracing.
#[derive(Debug)]
pub(super) struct Materials {
    materials: Vec<Material>,
    textures: Vec<Texture>,
    /// Of each texture: as colour, and as numbers. For spheres, and for the power of lights.
    averages: Vec<[Vec3; 2]>,
}

impl Materials {
    pub(super) fn new(materials: Vec<Material>, textures: Vec<Texture>) -> Self {
        let averages = textures.iter().map(|t| [Encoding::Srgb, Encoding::Linear].map(|e| average(t, e))).collect();
        Materials { materials, textures, averages }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let texels = self.textures.iter().map(|t| size_of_val(t.texels.as_slice()));
        (texels.sum::<usize>() + size_of_val(self.materials.as_slice())) as u64
    }

    #[inline(always)]
    fn texel(&self, texture: u32, encoding: Encoding, uv: Option<[f32; 2]>) -> Vec3 {
        match (texture, uv) {
            (NO_TEXTURE, _) => Vec3::ONE,
            (_, Some(uv)) => look_up(&self.textures[texture as usize], encoding, uv),
            (_, None) => self.averages[texture as usize][usize::from(encoding == Encoding::Linear)],
        }
    }

    /// Whether a material emits light.
    #[inline(always)]
    pub(super) fn shines(&self, material: u32) -> bool {
        self.materials[material as usize].emission != [0.0; 3]
    }

    /// Radiance emitted towards a viewer in front of the surface, or behind it.
    #[inline(always)]
    pub(super) fn emission(&self, material: u32, front: bool, uv: Option<[f32; 2]>) -> Vec3 {
        if !self.shines(material) {
            return Vec3::ZERO;
        }
        let material = &self.materials[material as usize];
        if !front && material.double_sided == 0 {
            return Vec3::ZERO;
        }
        Vec3::from(material.emission) * self.texel(material.emission_texture, Encoding::Srgb, uv)
    }

    /// The emission's average over a triangle's texture, front and back added.
    pub(super) fn power(&self, material: u32) -> f64 {
        let sides = if self.materials[material as usize].double_sided != 0 { 2.0 } else { 1.0 };
        let [r, g, b] = self.emission(material, true, None).to_array().map(f64::from);
        sides * (r + g + b)
    }

    /// How the surface scatters; None if it is black, as one-sided ones are from behind.
    #[inline(always)]
    pub(super) fn bsdf(&self, surface: &Surface) -> Option<Bsdf> {
        let material = &self.materials[surface.material as usize];
        if !surface.front && material.double_sided == 0 {
            return None;
        }
        let mut base = Vec3::from(material.base_color);
        if material.base_color_texture != NO_TEXTURE {
            base *= self.texel(material.base_color_texture, Encoding::Srgb, surface.uv);
        }
        let (mut metallic, mut roughness) = (material.metallic, material.roughness);
        if material.metallic_roughness_texture != NO_TEXTURE {
            let texel = self.texel(material.metallic_roughness_texture, Encoding::Linear, surface.uv);
            roughness *= texel.y;
            metallic *= texel.z;
        }
        Some(Bsdf::new(base, metallic, roughness, material.specular))
    }
}
