//! The scenes that are rendered, for us in memory, for Mitsuba in files.

use std::f32::consts::PI;
use std::path::Path;

use glam::Vec3;
use rabbitry::tasks::render::scene::{Camera, Lens, Material, Scene, Surfaces, Triangle};
use serde_json::json;

pub const BOUNCES: u32 = 8;

const EYE: Vec3 = Vec3::new(0.0, 1.0, 3.8);
const TARGET: Vec3 = Vec3::new(0.0, 1.0, 0.0);
/// Radians.
const YFOV: f32 = 0.7;

const WHITE: [f32; 3] = [0.73; 3];
const RED: [f32; 3] = [0.63, 0.07, 0.05];
const GREEN: [f32; 3] = [0.14, 0.45, 0.09];

/// Triangles of one material, seen from their front.
struct Part {
    positions: Vec<Vec3>,
    triangles: Vec<[u32; 3]>,
    color: [f32; 3],
    emission: Option<[f32; 3]>,
}

/// A scene and its name.
pub struct Case {
    pub name: &'static str,
    parts: Vec<Part>,
}

impl Case {
    /// A room with a lamp, open to the viewer, and two blocks in it: 32 triangles.
    pub fn cornell_box() -> Case {
        let mut parts = room();
        parts.push(block(Vec3::new(0.33, 0.0, 0.35), Vec3::new(0.3, 0.6, 0.3), 0.3));
        parts.push(block(Vec3::new(-0.33, 0.0, -0.3), Vec3::new(0.3, 1.2, 0.3), -0.3));
        Case { name: "box", parts }
    }

    /// The same room with a bumpy ball of 250,000 triangles in it.
    pub fn mesh() -> Case {
        let mut parts = room();
        parts.push(bumpy_ball(Vec3::new(0.0, 0.9, 0.0), 0.65, 250));
        Case { name: "mesh", parts }
    }

    pub fn triangles(&self) -> usize {
        self.parts.iter().map(|part| part.triangles.len()).sum()
    }

    pub fn camera(&self) -> Camera {
        let back = (EYE - TARGET).normalize();
        let right = Vec3::Y.cross(back).normalize();
        let axes = [right, back.cross(right), back].map(|axis| axis.to_array());
        Camera { position: EYE.to_array(), axes, lens: Lens::Perspective { tan_half_y: (YFOV / 2.0).tan() } }
    }

    pub fn scene(&self) -> Scene {
        let mut scene = Scene::default();
        let mut materials = Vec::new();
        for part in &self.parts {
            let (first, material) = (scene.positions.len() as u32, materials.len() as u32);
            scene.positions.extend(part.positions.iter().map(|point| point.to_array()));
            let triangle = |t: &[u32; 3]| Triangle { vertices: t.map(|vertex| first + vertex), material };
            scene.triangles.extend(part.triangles.iter().map(triangle));
            let emission = part.emission.unwrap_or_default();
            materials.push(Material { base_color: part.color, emission, double_sided: 0, ..Material::default() });
        }
        scene.surfaces = Surfaces::Physical(materials);
        scene.check().expect("a scene");
        scene
    }

    /// Writes what `mitsuba_render.py` reads.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let mut meshes = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            let ply = format!("{}{number}.ply", self.name);
            std::fs::write(folder.join(&ply), part.ply())?;
            meshes.push(json!({ "ply": ply, "color": part.color, "emission": part.emission }));
        }
        let (eye, target) = (EYE.to_array(), TARGET.to_array());
        let all = json!({ "eye": eye, "target": target, "yfov": YFOV, "bounces": BOUNCES, "meshes": meshes });
        std::fs::write(folder.join(format!("{}.json", self.name)), all.to_string())
    }
}

impl Part {
    fn ply(&self) -> Vec<u8> {
        let mut out = format!(
            "ply\nformat binary_little_endian 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float \
             z\nelement face {}\nproperty list uchar int vertex_indices\nend_header\n",
            self.positions.len(),
            self.triangles.len()
        )
        .into_bytes();
        out.extend(self.positions.iter().flat_map(|point| point.to_array()).flat_map(f32::to_le_bytes));
        for triangle in &self.triangles {
            out.push(3);
            out.extend(triangle.iter().flat_map(|vertex| vertex.to_le_bytes()));
        }
        out
    }
}

/// Squares, each counter-clockwise from its front.
fn quads(corners: &[[Vec3; 4]], color: [f32; 3], emission: Option<[f32; 3]>) -> Part {
    let triangles = (0..corners.len() as u32).flat_map(|i| [[0, 1, 2], [0, 2, 3]].map(|t| t.map(|v| 4 * i + v)));
    Part { positions: corners.concat(), triangles: triangles.collect(), color, emission }
}

/// 2 x 2 x 2, open towards +z, with a lamp under the ceiling.
fn room() -> Vec<Part> {
    let at = |x: f32, y: f32, z: f32| Vec3::new(x, y, z);
    let [a, b, c, d] = [at(-1.0, 0.0, 1.0), at(1.0, 0.0, 1.0), at(1.0, 0.0, -1.0), at(-1.0, 0.0, -1.0)];
    let [e, f, g, h] = [a, b, c, d].map(|corner| corner + 2.0 * Vec3::Y);
    let lamp = [at(-0.3, 1.98, -0.3), at(0.3, 1.98, -0.3), at(0.3, 1.98, 0.3), at(-0.3, 1.98, 0.3)];
    vec![
        quads(&[[a, b, c, d], [e, h, g, f], [d, c, g, h]], WHITE, None),
        quads(&[[a, d, h, e]], RED, None),
        quads(&[[c, b, f, g]], GREEN, None),
        quads(&[lamp], WHITE, Some([17.0, 12.0, 7.0])),
    ]
}

/// A block on the floor, without its bottom.
fn block(at: Vec3, size: Vec3, angle: f32) -> Part {
    let corner = |x: f32, y: f32, z: f32| at + glam::Quat::from_rotation_y(angle) * (Vec3::new(x, y, z) * size);
    let ring = |y: f32| [corner(-1.0, y, 1.0), corner(1.0, y, 1.0), corner(1.0, y, -1.0), corner(-1.0, y, -1.0)];
    let (low, high) = (ring(0.0), ring(1.0));
    let side = |i: usize| [low[i], low[(i + 1) % 4], high[(i + 1) % 4], high[i]];
    quads(&[side(0), side(1), side(2), side(3), high], WHITE, None)
}

/// `4 rows^2` triangles, some of no area at the poles left out.
fn bumpy_ball(center: Vec3, radius: f32, rows: u32) -> Part {
    let across = 2 * rows;
    let point = |row: u32, column: u32| {
        let (theta, phi) = (PI * row as f32 / rows as f32, 2.0 * PI * column as f32 / across as f32);
        let unit = Vec3::new(theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos());
        let bumps = (9.0 * unit.x).sin() * (9.0 * unit.y).sin() * (9.0 * unit.z).sin();
        let grain = (61.0 * unit.x).sin() * (67.0 * unit.y).sin() * (71.0 * unit.z).sin();
        center + unit * (radius * (1.0 + 0.12 * bumps + 0.015 * grain))
    };
    let positions = (0..=rows).flat_map(|row| (0..across).map(move |column| point(row, column))).collect();
    let mut triangles = Vec::new();
    for row in 0..rows {
        for column in 0..across {
            let (a, b) = (row * across + column, row * across + (column + 1) % across);
            let (c, d) = (a + across, b + across);
            triangles.extend((row > 0).then_some([a, c, b]));
            triangles.extend((row + 1 < rows).then_some([b, c, d]));
        }
    }
    Part { positions, triangles, color: WHITE, emission: None }
}
