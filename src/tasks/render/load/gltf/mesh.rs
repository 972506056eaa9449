//! Meshes, placed in the world.

use std::collections::HashMap;

use glam::{DMat3, DMat4, DVec3};
use gltf::json::Root;
use gltf::json::accessor::Type;
use gltf::json::mesh::{Mode, Primitive, Semantic};
use gltf::json::validation::Checked;

use super::super::super::scene::Triangle;
use super::super::{MAX_TRIANGLES, MAX_VERTICES, Warnings};
use super::data::{Data, missing};
use super::material::Materials;
use super::nodes::Placed;

/// The geometry of a scene as it grows.
#[derive(Default)]
pub(super) struct Meshes {
    pub positions: Vec<[f32; 3]>,
    /// Of the vertices so far, or none so far.
    pub normals: Vec<[f32; 3]>,
    /// Likewise.
    pub uvs: Vec<[f32; 2]>,
    pub triangles: Vec<Triangle>,
}

impl Meshes {
    /// Counts what the meshes of a scene come to, before any of it is made.
    ///
    /// # Errors
    /// One does not exist, or refers to what does not exist, or they are too much.
    pub(super) fn measure(root: &Root, placed: &[Placed], data: &Data<'_>) -> Result<Meshes, String> {
        let (mut vertices, mut triangles, mut primitives) = (0_usize, 0_usize, 0);
        let mut known: HashMap<usize, [usize; 2]> = HashMap::new();
        for (node, index, _) in placed {
            let mesh = root.meshes.get(*index).ok_or_else(|| missing("mesh", *index, root.meshes.len()));
            let mesh = mesh.map_err(|reason| format!("node {node}: {reason}"))?;
            let [more_vertices, more_triangles] = match known.get(index) {
                Some(known) => *known,
                None => {
                    let mut sum = [0_usize; 2];
                    for (place, primitive) in mesh.primitives.iter().enumerate() {
                        let size = size(primitive, data);
                        let size = size.map_err(|reason| format!("mesh {index}, primitive {place}: {reason}"))?;
                        sum = [sum[0].saturating_add(size[0]), sum[1].saturating_add(size[1])];
                    }
                    *known.entry(*index).or_insert(sum)
                }
            };
            vertices = vertices.saturating_add(more_vertices);
            triangles = triangles.saturating_add(more_triangles);
            // Those that are not shown cost time.
            primitives += mesh.primitives.len();
            if vertices > MAX_VERTICES || triangles.max(primitives) > MAX_TRIANGLES {
                return Err(format!(
                    "its meshes come to more than {MAX_TRIANGLES} triangles or vertices, those of a mesh counted each \
                     time it is placed (last by node {node}): place it less often, or make it coarser"
                ));
            }
        }
        let (positions, triangles) = (Vec::with_capacity(vertices), Vec::with_capacity(triangles));
        Ok(Meshes { positions, triangles, ..Meshes::default() })
    }

    /// Adds a mesh at a place.
    ///
    /// # Errors
    /// It does not exist, refers to what does not exist, or makes the scene too large.
    pub(super) fn add(
        &mut self,
        root: &Root,
        index: usize,
        world: &DMat4,
        data: &Data<'_>,
        materials: &mut Materials<'_>,
        warnings: &mut Warnings,
    ) -> Result<(), String> {
        let mesh = root.meshes.get(index).ok_or_else(|| missing("mesh", index, root.meshes.len()))?;
        for (place, primitive) in mesh.primitives.iter().enumerate() {
            let added = self.primitive(primitive, world, data, materials, warnings);
            added.map_err(|reason| format!("mesh {index}, primitive {place}: {reason}"))?;
        }
        Ok(())
    }

    fn primitive(
        &mut self,
        primitive: &Primitive,
        world: &DMat4,
        data: &Data<'_>,
        materials: &mut Materials<'_>,
        warnings: &mut Warnings,
    ) -> Result<(), String> {
        let Some(mode) = solid(primitive)? else {
            warnings.say("points and lines are not shown");
            return Ok(());
        };
        let attribute = |semantic| primitive.attributes.get(&Checked::Valid(semantic)).map(|index| index.value());
        let is_colored = primitive.attributes.keys().any(|key| matches!(key, Checked::Valid(Semantic::Colors(_))));
        warnings.say_if(is_colored, "colors of vertices are ignored");
        let is_morphed = primitive.targets.as_ref().is_some_and(|targets| !targets.is_empty());
        warnings.say_if(is_morphed, "morph targets are ignored");
        let accessor = attribute(Semantic::Positions).ok_or("it has no POSITION")?;
        let (material, coordinates) = materials.get(primitive.material.map(|index| index.value()), data, warnings)?;
        let first = self.positions.len() as u32;
        let (normals, uvs) = (attribute(Semantic::Normals), attribute(Semantic::TexCoords(coordinates.set)));
        let positions = data.vectors::<3>(accessor, Type::Vec3)?;
        let place =
            |[x, y, z]: [f32; 3]| world.transform_point3(DVec3::new(x.into(), y.into(), z.into())).as_vec3().to_array();
        let count = positions.len();
        self.positions.extend(positions.into_iter().map(place));
        if let Some(accessor) = normals {
            self.normals.resize(first as usize, [0.0; 3]);
            let turn = Turn::of(world);
            self.normals.extend(data.vectors::<3>(accessor, Type::Vec3)?.into_iter().map(|normal| turn.apply(normal)));
            same(self.normals.len(), self.positions.len(), "NORMAL")?;
        } else if !self.normals.is_empty() {
            self.normals.resize(self.positions.len(), [0.0; 3]);
        }
        if let Some(accessor) = uvs {
            self.uvs.resize(first as usize, [0.0; 2]);
            self.uvs.extend(data.vectors::<2>(accessor, Type::Vec2)?.into_iter().map(|uv| coordinates.apply(uv)));
            same(self.uvs.len(), self.positions.len(), "TEXCOORD")?;
        } else if !self.uvs.is_empty() {
            self.uvs.resize(self.positions.len(), [0.0; 2]);
        }
        let indices = match primitive.indices {
            Some(accessor) => data.indices(accessor.value(), count)?,
            None => (0..count as u32).collect(),
        };
        self.connect(&indices, mode, first, material, DMat3::from_mat4(*world).determinant() < 0.0);
        Ok(())
    }

    /// Adds triangles; in a mirror, their corners go round the other way, and their front is still the front.
    fn connect(&mut self, indices: &[u32], mode: Mode, first: u32, material: u32, is_mirrored: bool) {
        let corners = |place: usize| match mode {
            Mode::TriangleStrip => [indices[place], indices[place + 1 + place % 2], indices[place + 2 - place % 2]],
            Mode::TriangleFan => [indices[place + 1], indices[place + 2], indices[0]],
            _ => [indices[3 * place], indices[3 * place + 1], indices[3 * place + 2]],
        };
        let triangles = (0..faces(mode, indices.len())).map(corners).filter(|[a, b, c]| a != b && b != c && c != a);
        self.triangles.extend(triangles.map(|[a, b, c]| {
            let [b, c] = if is_mirrored { [c, b] } else { [b, c] };
            Triangle { vertices: [first + a, first + b, first + c], material }
        }));
    }
}

/// The mode of a primitive of triangles; `None` for points and lines.
fn solid(primitive: &Primitive) -> Result<Option<Mode>, String> {
    match primitive.mode {
        Checked::Valid(mode @ (Mode::Triangles | Mode::TriangleStrip | Mode::TriangleFan)) => Ok(Some(mode)),
        Checked::Valid(_) => Ok(None),
        Checked::Invalid => Err("its mode is not one of glTF's".to_owned()),
    }
}

fn faces(mode: Mode, corners: usize) -> usize {
    if mode == Mode::Triangles { corners / 3 } else { corners.saturating_sub(2) }
}

/// Vertices and triangles of a primitive, all of them there.
fn size(primitive: &Primitive, data: &Data<'_>) -> Result<[usize; 2], String> {
    let Some(mode) = solid(primitive)? else {
        return Ok([0, 0]);
    };
    let positions = primitive.attributes.get(&Checked::Valid(Semantic::Positions)).ok_or("it has no POSITION")?;
    let vertices = data.count(positions.value())?;
    let corners = primitive.indices.map_or(Ok(vertices), |indices| data.count(indices.value()))?;
    Ok([vertices, faces(mode, corners)])
}

fn same(found: usize, expected: usize, name: &str) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("its {name} and POSITION are not equally many")),
    }
}

/// How normals are turned: by the inverse transpose, as its cofactors, which a singular transform has, too.
struct Turn {
    cofactors: DMat3,
}

impl Turn {
    fn of(world: &DMat4) -> Turn {
        let m = DMat3::from_mat4(*world);
        let cofactors = DMat3::from_cols(m.y_axis.cross(m.z_axis), m.z_axis.cross(m.x_axis), m.x_axis.cross(m.y_axis));
        Turn { cofactors: if m.determinant() < 0.0 { cofactors * -1.0 } else { cofactors } }
    }

    fn apply(&self, [x, y, z]: [f32; 3]) -> [f32; 3] {
        let normal = self.cofactors * DVec3::new(x.into(), y.into(), z.into());
        normal.normalize_or_zero().as_vec3().to_array()
    }
}
