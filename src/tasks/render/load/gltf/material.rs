//! Materials and their textures.

use std::collections::HashMap;

use gltf::json::Root;
use gltf::json::material::{AlphaMode, Material as Json};
use gltf::json::texture::{Info, WrappingMode};
use gltf::json::validation::Checked;

use super::super::super::scene::{Material, NO_TEXTURE, Texture, Wrap};
use super::super::Warnings;
use super::super::folder::Folder;
use super::super::image::{self, Budget};
use super::data::{Data, missing};

/// Which texture coordinates a material looks its textures up at, and how they are moved before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Coordinates {
    /// `TEXCOORD_n`.
    pub set: u32,
    offset: [f32; 2],
    rotation: f32,
    scale: [f32; 2],
}

impl Coordinates {
    const PLAIN: Coordinates = Coordinates { set: 0, offset: [0.0; 2], rotation: 0.0, scale: [1.0; 2] };

    fn of(info: &Info) -> Coordinates {
        let transform = info.extensions.as_ref().and_then(|extensions| extensions.texture_transform.as_ref());
        transform.map_or(Coordinates { set: info.tex_coord, ..Coordinates::PLAIN }, |transform| Coordinates {
            set: transform.tex_coord.unwrap_or(info.tex_coord),
            offset: transform.offset.0,
            rotation: transform.rotation.0,
            scale: transform.scale.0,
        })
    }

    /// Scaled, then turned counter-clockwise (v points down), then moved: `KHR_texture_transform`.
    pub(super) fn apply(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let (u, v) = (u * self.scale[0], v * self.scale[1]);
        let (sin, cos) = (libm::sinf(self.rotation), libm::cosf(self.rotation));
        [cos * u + sin * v + self.offset[0], cos * v - sin * u + self.offset[1]]
    }
}

/// The materials that triangles use, each converted once.
pub(super) struct Materials<'a> {
    root: &'a Root,
    folder: &'a Folder,
    budget: Budget,
    /// By their index in the file; `None` is the default.
    known: HashMap<Option<usize>, (u32, Coordinates)>,
    known_textures: HashMap<(usize, [u8; 2]), u32>,
    pub list: Vec<Material>,
    pub textures: Vec<Texture>,
}

impl<'a> Materials<'a> {
    pub(super) fn new(root: &'a Root, folder: &'a Folder) -> Self {
        let (known, known_textures) = (HashMap::new(), HashMap::new());
        Materials { root, folder, budget: Budget::new(), known, known_textures, list: Vec::new(), textures: Vec::new() }
    }

    /// The index of a material in the scene, and its texture coordinates.
    ///
    /// # Errors
    /// It, or a texture of it, is not there, or damaged.
    pub(super) fn get(
        &mut self,
        index: Option<usize>,
        data: &Data<'_>,
        warnings: &mut Warnings,
    ) -> Result<(u32, Coordinates), String> {
        if let Some(known) = self.known.get(&index) {
            return Ok(*known);
        }
        let materials = &self.root.materials;
        let default = Json::default();
        let json = match index {
            Some(index) => materials.get(index).ok_or_else(|| missing("material", index, materials.len()))?,
            None => &default,
        };
        let name = index.map_or("its default material".to_owned(), |index| format!("material {index}"));
        let converted = self.convert(json, data, warnings);
        let (material, coordinates) = converted.map_err(|reason| format!("{name}: {reason}"))?;
        let known = (self.list.len() as u32, coordinates);
        self.list.push(material);
        self.known.insert(index, known);
        Ok(known)
    }

    fn convert(
        &mut self,
        json: &Json,
        data: &Data<'_>,
        warnings: &mut Warnings,
    ) -> Result<(Material, Coordinates), String> {
        warnings
            .say_if(json.alpha_mode != Checked::Valid(AlphaMode::Opaque), "alphaMode is ignored: everything is opaque");
        warnings.say_if(json.normal_texture.is_some(), "normalTexture is ignored");
        warnings.say_if(json.occlusion_texture.is_some(), "occlusionTexture is ignored: path tracing finds out itself");
        let pbr = &json.pbr_metallic_roughness;
        let extensions = json.extensions.as_ref();
        let strength = extensions.and_then(|all| all.emissive_strength.as_ref());
        let strength = strength.map_or(1.0, |strength| strength.emissive_strength.0);
        let specular = extensions.and_then(|all| all.specular.as_ref());
        let is_colored = specular.is_some_and(|specular| {
            let textures = [&specular.specular_texture, &specular.specular_color_texture];
            textures.into_iter().any(Option::is_some) || specular.specular_color_factor.0 != [1.0; 3]
        });
        warnings.say_if(is_colored, "KHR_materials_specular: only its specularFactor is used");
        let infos = [&pbr.base_color_texture, &json.emissive_texture, &pbr.metallic_roughness_texture];
        let used: Vec<Coordinates> = infos.into_iter().flatten().map(Coordinates::of).collect();
        let coordinates = used.first().copied().unwrap_or(Coordinates::PLAIN);
        if used.iter().any(|other| other.set != coordinates.set) {
            warnings.say("several UV sets: all textures of a material use that of the first");
        }
        if used.iter().any(|other| Coordinates { set: coordinates.set, ..*other } != coordinates) {
            warnings.say("KHR_texture_transform: all textures of a material use that of the first");
        }
        let mut texture =
            |info: &Option<Info>| info.as_ref().map_or(Ok(NO_TEXTURE), |info| self.texture(info.index.value(), data));
        let [r, g, b, _] = pbr.base_color_factor.0;
        let fraction = |factor: f32| if factor.is_nan() { 0.0 } else { factor.clamp(0.0, 1.0) };
        let material = Material {
            base_color: [r, g, b].map(fraction),
            base_color_texture: texture(&pbr.base_color_texture)?,
            emission: json.emissive_factor.0.map(|factor| factor * strength),
            emission_texture: texture(&json.emissive_texture)?,
            metallic: fraction(pbr.metallic_factor.0),
            roughness: fraction(pbr.roughness_factor.0),
            metallic_roughness_texture: texture(&pbr.metallic_roughness_texture)?,
            specular: specular.map_or(1.0, |specular| fraction(specular.specular_factor.0)),
            double_sided: json.double_sided.into(),
        };
        if !material.emission.iter().all(|radiance| radiance.is_finite() && *radiance >= 0.0) {
            return Err(format!("its emission is {:?}; it must be finite and at least 0", material.emission));
        }
        Ok((material, coordinates))
    }

    fn texture(&mut self, index: usize, data: &Data<'_>) -> Result<u32, String> {
        let textures = &self.root.textures;
        let texture = textures.get(index).ok_or_else(|| missing("texture", index, textures.len()))?;
        let samplers = &self.root.samplers;
        let wrap = match texture.sampler.map(|sampler| sampler.value()) {
            None => [Wrap::Repeat; 2],
            Some(sampler) => {
                let json = samplers.get(sampler).ok_or_else(|| missing("sampler", sampler, samplers.len()))?;
                [wrap(json.wrap_s)?, wrap(json.wrap_t)?]
            }
        };
        let source = texture.source.value();
        let key = (source, wrap.map(|wrap| wrap as u8));
        if let Some(known) = self.known_textures.get(&key) {
            return Ok(*known);
        }
        let image = data.image(source, self.folder).and_then(|bytes| image::decode(&bytes, &mut self.budget));
        let image::Image { width, height, texels } = image.map_err(|reason| format!("image {source}: {reason}"))?;
        let index = self.textures.len() as u32;
        self.textures.push(Texture { width, height, wrap, texels });
        self.known_textures.insert(key, index);
        Ok(index)
    }
}

fn wrap(mode: Checked<WrappingMode>) -> Result<Wrap, String> {
    match mode {
        Checked::Valid(WrappingMode::Repeat) => Ok(Wrap::Repeat),
        Checked::Valid(WrappingMode::MirroredRepeat) => Ok(Wrap::Mirror),
        Checked::Valid(WrappingMode::ClampToEdge) => Ok(Wrap::Clamp),
        Checked::Invalid => Err("a sampler wraps in a way that is not one of glTF's".to_owned()),
    }
}
