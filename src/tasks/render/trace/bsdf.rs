//! How a surface scatters: glTF 2.0's metallic-roughness model (appendix B), or Lambert's law alone.
//!
//! A reflection of microfacets (GGX, height-correlated Smith: Heitz 2014, Schlick's Fresnel term) over, for what is not
//! metal, a diffuse base, which gets what the reflection leaves: 1 - F(v.h). Directions are local, z along the normal,
//! and point away from the surface.

use glam::Vec3;

use super::warp::{INV_PI, circle, cosine_hemisphere};

/// The least alpha: as good as a mirror, and its peak, 1 / (pi alpha^2), still far from f32's limits.
const LEAST_ALPHA: f32 = 1e-3;
/// Reflectance of glTF's dielectric (index 1.5) head on.
const DIELECTRIC: f32 = 0.04;

/// A point's material.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bsdf {
    base_color: Vec3,
    metallic: f32,
    roughness: f32,
    /// Strength of the dielectric's reflection.
    specular: f32,
    /// The diffuse part is all there is.
    lambert: bool,
}

/// A direction to go on in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scattered {
    /// Local.
    pub(super) direction: Vec3,
    /// BSDF times cosine by density.
    pub(super) weight: Vec3,
    /// Per solid angle.
    pub(super) density: f32,
}

impl Bsdf {
    /// `metallic`, `roughness` and `specular` are 0..=1.
    #[inline(always)]
    pub(super) fn new(base_color: Vec3, metallic: f32, roughness: f32, specular: f32) -> Self {
        Bsdf { base_color, metallic, roughness, specular, lambert: metallic == 0.0 && specular == 0.0 }
    }

    #[inline(always)]
    fn alpha(&self) -> f32 {
        (self.roughness * self.roughness).max(LEAST_ALPHA)
    }

    /// Albedo of the diffuse part.
    #[inline(always)]
    fn diffuse(&self) -> Vec3 {
        self.base_color * (1.0 - self.metallic)
    }

    /// BSDF times cosine towards `to`, and the density with which [`Bsdf::sample`] chooses it.
    #[inline(always)]
    pub(super) fn evaluate(&self, from: Vec3, to: Vec3) -> (Vec3, f32) {
        if to.z <= 0.0 || from.z <= 0.0 {
            return (Vec3::ZERO, 0.0);
        }
        let base = to.z * INV_PI;
        if self.lambert { (self.base_color * base, base) } else { self.evaluate_both(from, to) }
    }

    #[inline(always)]
    fn evaluate_both(&self, from: Vec3, to: Vec3) -> (Vec3, f32) {
        let half = from + to;
        let half = half / half.length();
        let cosine = from.dot(half).clamp(0.0, 1.0);
        let alpha = self.alpha();
        let a2 = alpha * alpha;
        let d = ggx(half, alpha);
        let smith_from = (a2 + (1.0 - a2) * from.z * from.z).sqrt();
        let smith_to = (a2 + (1.0 - a2) * to.z * to.z).sqrt();
        // G2 / (4 from.z to.z), and G1 / (4 from.z).
        let correlated = 0.5 / (to.z * smith_from + from.z * smith_to);
        let single = 0.5 / (from.z + smith_from);
        let chance = self.reflection_chance(from.z);
        let base = to.z * INV_PI;
        let value = self.fresnel(cosine) * (d * correlated * to.z) + self.base_under(cosine) * base;
        (value, chance * d * single + (1.0 - chance) * base)
    }

    /// The diffuse albedo under the dielectric's reflection.
    #[inline(always)]
    fn base_under(&self, cosine: f32) -> Vec3 {
        self.diffuse() * (1.0 - self.specular * (DIELECTRIC + (1.0 - DIELECTRIC) * schlick(cosine)))
    }

    #[inline(always)]
    fn fresnel(&self, cosine: f32) -> Vec3 {
        let dielectric = self.specular * (1.0 - self.metallic);
        let head_on = self.base_color * self.metallic + Vec3::splat(DIELECTRIC * dielectric);
        let grazing = Vec3::splat(self.metallic + dielectric);
        head_on + (grazing - head_on) * schlick(cosine)
    }

    /// How often the reflection is sampled, not the base: by their albedos, about.
    #[inline(always)]
    fn reflection_chance(&self, cosine: f32) -> f32 {
        let base = self.diffuse().max_element();
        if base == 0.0 {
            return 1.0;
        }
        let reflected = self.fresnel(cosine).max_element();
        (reflected / (reflected + base)).clamp(0.1, 0.9)
    }

    /// A direction for the light seen from `from`; `point` is uniform in the unit square. None if there is none.
    #[inline(always)]
    pub(super) fn sample(&self, from: Vec3, point: [f32; 2]) -> Option<Scattered> {
        if self.lambert {
            let direction = cosine_hemisphere(point);
            let scattered = Scattered { direction, weight: self.base_color, density: direction.z * INV_PI };
            return (direction.z > 0.0).then_some(scattered);
        }
        self.sample_both(from, point)
    }

    #[inline(always)]
    fn sample_both(&self, from: Vec3, [choice, v]: [f32; 2]) -> Option<Scattered> {
        if from.z <= 0.0 {
            return None;
        }
        let chance = self.reflection_chance(from.z);
        // The number that has chosen is uniform within the choice, and serves again.
        let direction = if choice < chance {
            let half = visible_normal(from, self.alpha(), [choice / chance, v]);
            half * (2.0 * from.dot(half)) - from
        } else {
            cosine_hemisphere([(choice - chance) / (1.0 - chance), v])
        };
        if direction.z <= 0.0 {
            return None;
        }
        let (value, density) = self.evaluate_both(from, direction);
        if density > 0.0 && density < f32::INFINITY {
            Some(Scattered { direction, weight: value / density, density })
        } else {
            None
        }
    }
}

/// (1 - cosine)^5.
#[inline(always)]
fn schlick(cosine: f32) -> f32 {
    let x = 1.0 - cosine;
    let square = x * x;
    square * square * x
}

/// The density of microfacets' normals.
#[inline(always)]
fn ggx(half: Vec3, alpha: f32) -> f32 {
    let (x, y) = (half.x / alpha, half.y / alpha);
    let s = x * x + y * y + half.z * half.z;
    INV_PI / (alpha * alpha * s * s)
}

/// A microfacet's normal, as seen from `from` (Dupuy & Benyoub, "Sampling Visible GGX Normals with Spherical Caps",
/// 2023).
#[inline(always)]
fn visible_normal(from: Vec3, alpha: f32, [u, v]: [f32; 2]) -> Vec3 {
    let stretched = Vec3::new(from.x * alpha, from.y * alpha, from.z);
    let stretched = stretched / stretched.length();
    let [x, y] = circle(u);
    let z = (1.0 - v) * (1.0 + stretched.z) - stretched.z;
    let r = (1.0 - z * z).max(0.0).sqrt();
    let cap = Vec3::new(x * r, y * r, z) + stretched;
    let normal = Vec3::new(cap.x * alpha, cap.y * alpha, cap.z.max(0.0));
    let length = normal.length();
    if length > 0.0 { normal / length } else { Vec3::Z }
}

#[cfg(test)]
#[path = "tests_bsdf.rs"]
mod tests;
