//! Wavefront OBJ with MTL, by the crate `tobj`, which is given only lines that have been checked.

mod mtl;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;
use std::path::PathBuf;

use glam::Vec3;
use tobj::{LoadOptions, Model};

use super::super::scene::{Material, Scene, Surfaces, Texture, Triangle, Wrap};
use super::folder::{Folder, Unread};
use super::image::{self, Budget};
use super::{Loaded, Warnings, shown};

/// Reads an OBJ, its material libraries and their textures.
///
/// # Errors
/// The line, or the file it refers to, and what is wrong with it.
pub(super) fn parse(bytes: &[u8], folder: &Folder) -> Result<Loaded, String> {
    let mut warnings = Warnings::default();
    // Comments and names of objects may be in Latin-1.
    let mut prepared = text::prepare(&String::from_utf8_lossy(bytes), &mut warnings)?;
    let mut library = String::new();
    for name in &prepared.libraries {
        match folder.read(&name.replace('\\', "/")) {
            Ok(mtl) => {
                library += &mtl::prepare(name, &String::from_utf8_lossy(&mtl), &mut prepared.materials, &mut warnings)?
            }
            Err(Unread::Missing(reason)) => warnings.say(format!("{reason}; without it, its materials are white")),
            Err(refused) => return Err(refused.into()),
        }
    }
    let options = LoadOptions { single_index: true, triangulate: true, ignore_points: true, ignore_lines: true };
    let loaded =
        tobj::load_obj_buf(&mut prepared.lines.as_bytes(), &options, |_| tobj::load_mtl_buf(&mut library.as_bytes()));
    let refused = |error: tobj::LoadError| format!("it is not understood ({error})");
    let (models, materials) = loaded.map_err(refused)?;
    drop(prepared.lines);
    let mut building = Building {
        mtl: materials.map_err(refused)?,
        folder,
        warnings,
        budget: Budget::new(),
        scene: Scene::default(),
        materials: Vec::new(),
        material_of: HashMap::new(),
        texture_of: HashMap::new(),
    };
    for model in models {
        building.add(model)?;
    }
    let Building { mut scene, materials, warnings, .. } = building;
    scene.surfaces = Surfaces::Physical(materials);
    if !prepared.has_normals {
        scene.normals = Vec::new();
    }
    if !prepared.has_uvs {
        scene.uvs = Vec::new();
    }
    Ok(Loaded { scene, cameras: Vec::new(), warnings: warnings.list })
}

/// The first word of a line of an OBJ or MTL, and the rest, without a comment. Names may hold a `#`: `Material #25`.
fn words(line: &str) -> (&str, &str) {
    let (keyword, rest) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    match keyword {
        _ if keyword.starts_with('#') => ("", ""),
        "usemtl" | "mtllib" | "newmtl" | "map_Kd" => (keyword, rest.trim()),
        _ => (keyword, rest.split('#').next().unwrap_or("").trim()),
    }
}

/// A scene as it is put together.
struct Building<'a> {
    mtl: Vec<tobj::Material>,
    folder: &'a Folder,
    warnings: Warnings,
    budget: Budget,
    scene: Scene,
    materials: Vec<Material>,
    /// By their index in `mtl`; `None` is white.
    material_of: HashMap<Option<usize>, u32>,
    texture_of: HashMap<(PathBuf, bool), u32>,
}

impl Building<'_> {
    /// Adds the faces of one material.
    fn add(&mut self, model: Model) -> Result<(), String> {
        let mesh = model.mesh;
        if mesh.indices.is_empty() {
            return Ok(());
        }
        let material = self.material(mesh.material_id)?;
        let first = self.scene.positions.len() as u32;
        self.scene.positions.extend_from_slice(mesh.positions.as_chunks().0);
        let unit = |normal: &[f32; 3]| Vec3::from_array(*normal).normalize_or_zero().to_array();
        self.scene.normals.extend(mesh.normals.as_chunks().0.iter().map(unit));
        // Upwards there, downwards here.
        self.scene.uvs.extend(mesh.texcoords.as_chunks().0.iter().map(|[u, v]| [*u, 1.0 - v]));
        let triangle = |corners: &[u32; 3]| Triangle { vertices: corners.map(|corner| first + corner), material };
        self.scene.triangles.extend(mesh.indices.as_chunks().0.iter().map(triangle));
        Ok(())
    }

    fn material(&mut self, id: Option<usize>) -> Result<u32, String> {
        if let Some(known) = self.material_of.get(&id) {
            return Ok(*known);
        }
        let material = match id.and_then(|id| self.mtl.get(id)) {
            None => {
                self.warnings.say("faces without a material, or whose material is in no library, are white");
                Material::default()
            }
            Some(mtl) => {
                let mut material = mtl::material(mtl);
                if let Some(words) = mtl.diffuse_texture.clone() {
                    material.base_color_texture = self.texture(&words)?;
                }
                material
            }
        };
        let index = self.materials.len() as u32;
        self.materials.push(material);
        self.material_of.insert(id, index);
        Ok(index)
    }

    fn texture(&mut self, words: &str) -> Result<u32, String> {
        let mtl::Map { name, wrap } = mtl::map(words, &mut self.warnings);
        let key = (self.folder.find(&name)?, wrap == Wrap::Clamp);
        if let Some(known) = self.texture_of.get(&key) {
            return Ok(*known);
        }
        let image = image::decode(&self.folder.read(&name)?, &mut self.budget);
        let image = image.map_err(|reason| format!("its texture {}: {reason}", shown(&name)))?;
        let index = self.scene.textures.len() as u32;
        let image::Image { width, height, texels } = image;
        self.scene.textures.push(Texture { width, height, wrap: [wrap; 2], texels });
        self.texture_of.insert(key, index);
        Ok(index)
    }
}
