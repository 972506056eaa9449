//! What is rendered: triangles, spheres, materials, textures and lights, in world space and in flat arrays.
//!
//! Right-handed, y up, as in glTF. Radiance is linear RGB with the primaries of sRGB. A scene holds no camera and no file
//! names: the same scene seen from elsewhere is the same scene.

mod blob;
mod check;

use bytemuck::{Pod, Zeroable};

/// No texture.
pub const NO_TEXTURE: u32 = u32::MAX;

/// A scene. [`Scene::check`] says whether its parts fit together; everything else may rely on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Vertices, world space.
    pub positions: Vec<[f32; 3]>,
    /// Of each vertex, of length 1; or none at all, and the triangles are flat. One of length 0 makes its triangles flat.
    pub normals: Vec<[f32; 3]>,
    /// Texture coordinates of each vertex, (0, 0) is the upper left corner of the image; or none at all.
    pub uvs: Vec<[f32; 2]>,
    /// Triangles.
    pub triangles: Vec<Triangle>,
    /// Spheres.
    pub spheres: Vec<Sphere>,
    /// What they are made of.
    pub surfaces: Surfaces,
    /// Images that materials refer to.
    pub textures: Vec<Texture>,
    /// Lights without extent. Whatever has an emission is a light, too.
    pub lights: Vec<Light>,
    /// Radiance that comes from where nothing is.
    pub environment: [f32; 3],
}

/// How light is followed, and the materials it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Surfaces {
    /// Path tracing.
    Physical(Vec<Material>),
    /// Phong's model with shadows, light from [`Light`]s alone, no reflections.
    Phong(Vec<PhongMaterial>),
}

impl Default for Surfaces {
    fn default() -> Self {
        Surfaces::Physical(Vec::new())
    }
}

/// Three vertices, counter-clockwise from the front, and a material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Triangle {
    /// Indices of its vertices.
    pub vertices: [u32; 3],
    /// Index of its material.
    pub material: u32,
}

/// A sphere, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Sphere {
    /// World space.
    pub center: [f32; 3],
    /// Above 0.
    pub radius: f32,
    /// Index of its material. Spheres have no texture coordinates: textures count with their average there.
    pub material: u32,
}

/// Metallic-roughness as in glTF 2.0 (appendix B), emission on the front side only unless it is double-sided.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Material {
    /// Linear albedo, 0..=1, times the texture.
    pub base_color: [f32; 3],
    /// sRGB, or [`NO_TEXTURE`].
    pub base_color_texture: u32,
    /// Radiance, times the texture.
    pub emission: [f32; 3],
    /// sRGB, or [`NO_TEXTURE`].
    pub emission_texture: u32,
    /// 0 dielectric, 1 metal; times the texture's blue.
    pub metallic: f32,
    /// Perceptual, 0..=1: GGX's alpha is its square; times the texture's green.
    pub roughness: f32,
    /// Linear, or [`NO_TEXTURE`].
    pub metallic_roughness_texture: u32,
    /// Strength of the dielectric's reflection, 0..=1: 1 reflects 4 % head on, 0 is Lambert's pure diffuse surface.
    pub specular: f32,
    /// Not 0: seen and emitting from behind, too, with the normal turned round. 0: from behind it is black, and opaque.
    pub double_sided: u32,
}

impl Default for Material {
    /// White Lambert on both sides.
    fn default() -> Self {
        Material {
            base_color: [1.0; 3],
            base_color_texture: NO_TEXTURE,
            emission: [0.0; 3],
            emission_texture: NO_TEXTURE,
            metallic: 0.0,
            roughness: 1.0,
            metallic_roughness_texture: NO_TEXTURE,
            specular: 0.0,
            double_sided: 1,
        }
    }
}

/// The `materiau` of `simple.txt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct PhongMaterial {
    /// Seen without any light.
    pub ambient: [f32; 3],
    /// Times the cosine of the light's direction.
    pub diffuse: [f32; 3],
    /// Times the cosine of the mirrored light's direction to the power of `shininess`.
    pub specular: [f32; 3],
    /// At least 0.
    pub shininess: f32,
}

/// An image of 8 bits a channel, looked up bilinearly.
#[derive(Clone, Debug, PartialEq)]
pub struct Texture {
    /// Texels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What is beyond the edges, across and down.
    pub wrap: [Wrap; 2],
    /// Rows from above; RGBA.
    pub texels: Vec<[u8; 4]>,
}

/// What is beyond the edge of a texture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrap {
    /// The texture again.
    #[default]
    Repeat,
    /// The texture in a mirror, then again.
    Mirror,
    /// The edge.
    Clamp,
}

/// A light without extent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Light {
    /// In all directions.
    Point {
        /// World space.
        position: [f32; 3],
        /// W/sr per channel; with [`Surfaces::Phong`] plain brightness, which does not fall with distance.
        intensity: [f32; 3],
    },
    /// In a cone.
    Spot {
        /// World space.
        position: [f32; 3],
        /// The axis, of length 1, away from the light.
        direction: [f32; 3],
        /// W/sr per channel on the axis.
        intensity: [f32; 3],
        /// Full up to this cosine,
        cos_inner: f32,
        /// none from this one on.
        cos_outer: f32,
    },
    /// From infinitely far.
    Directional {
        /// Where it goes, of length 1.
        direction: [f32; 3],
        /// W/m^2 per channel on a surface that faces it.
        irradiance: [f32; 3],
    },
}

/// Where it is seen from. Looks down its own -z with y up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// World space.
    pub position: [f32; 3],
    /// Its x, y and z axes in world space, of length 1 and at right angles.
    pub axes: [[f32; 3]; 3],
    /// What it sees.
    pub lens: Lens,
}

/// A camera's projection. The height is given; the width follows from the image's shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lens {
    /// A pinhole; the tangent of half the vertical angle of view.
    Perspective {
        /// Above 0.
        tan_half_y: f32,
    },
    /// Parallel rays; half the height that is seen.
    Orthographic {
        /// Above 0.
        half_height: f32,
    },
}
