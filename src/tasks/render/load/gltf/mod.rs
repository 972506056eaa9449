//! glTF 2.0, as .gltf with its files or as .glb.
//!
//! Read are meshes of triangles (lists, strips, fans), the tree of nodes, cameras, materials in metallic-roughness with
//! their textures, and the extensions of [`EXTENSIONS`]. What else a file holds is named in a warning. A camera sees as
//! high as it says; how wide, the image decides. The numbers of lights, candela and lux, are taken for W/sr and W/m^2
//! of each channel: a conversion needs a spectrum that nobody gives.

mod container;
mod data;
#[cfg(test)]
mod hostile;
mod material;
mod mesh;
mod nodes;
#[cfg(test)]
mod tests;

use gltf::json::Root;

use super::super::scene::{Scene, Surfaces};
use super::folder::Folder;
use super::{Loaded, Warnings, shown};
use data::Data;
use material::Materials;
use mesh::Meshes;

/// What is understood; an extension that a file requires and that is not among these is an error.
const EXTENSIONS: [&str; 5] = [
    "KHR_lights_punctual",
    "KHR_materials_emissive_strength",
    "KHR_materials_specular",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
];

/// Reads a .gltf, its buffers and its images.
///
/// # Errors
/// What is wrong with it, where, and what to do.
pub(super) fn json(bytes: &[u8], folder: &Folder) -> Result<Loaded, String> {
    scene(bytes, None, folder)
}

/// Reads a .glb.
///
/// # Errors
/// What is wrong with it, where, and what to do.
pub(super) fn binary(bytes: &[u8], folder: &Folder) -> Result<Loaded, String> {
    let (json, chunk) = container::split(bytes)?;
    scene(json, chunk, folder)
}

fn scene(json: &[u8], chunk: Option<&[u8]>, folder: &Folder) -> Result<Loaded, String> {
    let root = container::root(json)?;
    let mut warnings = Warnings::default();
    unsupported(&root, &mut warnings)?;
    let found = nodes::walk(&root)?;
    let data = Data::read(&root, chunk, folder)?;
    let mut materials = Materials::new(&root, folder);
    let mut meshes = Meshes::measure(&root, &found.meshes, &data)?;
    for (node, mesh, world) in &found.meshes {
        let added = meshes.add(&root, *mesh, world, &data, &mut materials, &mut warnings);
        added.map_err(|reason| format!("node {node}: {reason}"))?;
    }
    let lights =
        found.lights.iter().map(|(node, light, world)| nodes::light(&root, *node, *light, world, &mut warnings));
    let lights = lights.collect::<Result<_, _>>()?;
    let cameras = found.cameras.iter().map(|(node, camera, world)| nodes::camera(&root, *node, *camera, world));
    let cameras = cameras.collect::<Result<_, _>>()?;
    let Meshes { positions, normals, uvs, triangles, .. } = meshes;
    let surfaces = Surfaces::Physical(materials.list);
    let textures = materials.textures;
    let scene = Scene { positions, normals, uvs, triangles, surfaces, textures, lights, ..Scene::default() };
    Ok(Loaded { scene, cameras, warnings: warnings.list })
}

/// Says what of the whole file is not supported.
fn unsupported(root: &Root, warnings: &mut Warnings) -> Result<(), String> {
    if let Some(name) = root.extensions_required.iter().find(|name| !EXTENSIONS.contains(&name.as_str())) {
        let name = shown(name);
        return Err(format!("it requires the extension {name}, which is not supported: save it without"));
    }
    for name in root.extensions_used.iter().filter(|name| !EXTENSIONS.contains(&name.as_str())) {
        warnings.say(format!("the extension {} is ignored", shown(name)));
    }
    warnings.say_if(!root.animations.is_empty(), "animations are ignored: everything stands where its nodes say");
    warnings.say_if(!root.skins.is_empty(), "skins are ignored: meshes stand as they were bound");
    Ok(())
}
