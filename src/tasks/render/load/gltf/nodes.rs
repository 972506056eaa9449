//! The tree of nodes, and the cameras and lights in it.

use glam::{DMat4, DQuat, DVec3};
use gltf::json::camera::Type as CameraType;
use gltf::json::extensions::scene::khr_lights_punctual::Type as LightType;
use gltf::json::validation::Checked;
use gltf::json::{Node, Root};

use super::super::super::scene::{Camera, Lens, Light};
use super::super::Warnings;
use super::data::missing;

/// A node, what it has (an index), and where.
pub(super) type Placed = (usize, usize, DMat4);

/// What the nodes of the default scene have, in the order of the nodes.
#[derive(Default)]
pub(super) struct Found {
    pub meshes: Vec<Placed>,
    pub cameras: Vec<Placed>,
    pub lights: Vec<Placed>,
}

/// Follows the nodes of the default scene: the one that the file names, or else the first.
///
/// # Errors
/// There is none, or its nodes are not a tree.
pub(super) fn walk(root: &Root) -> Result<Found, String> {
    let (nodes, scenes) = (&root.nodes, &root.scenes);
    let scene = root.scene.map_or(0, |scene| scene.value());
    let scene = scenes.get(scene).ok_or_else(|| missing("scene", scene, scenes.len()))?;
    let mut found = Found::default();
    let mut is_reached = vec![false; nodes.len()];
    // Not by recursion: a chain of nodes may be longer than the stack. Each node is put here once.
    let mut next: Vec<(usize, DMat4)> = Vec::new();
    let mut reach = |node: usize, world: DMat4, next: &mut Vec<(usize, DMat4)>| match is_reached.get_mut(node) {
        None => Err(missing("node", node, nodes.len())),
        Some(true) => Err(format!("node {node} has two parents, or is its own ancestor: nodes must be a tree")),
        Some(is_reached) => {
            *is_reached = true;
            next.push((node, world));
            Ok(())
        }
    };
    scene.nodes.iter().try_for_each(|node| reach(node.value(), DMat4::IDENTITY, &mut next))?;
    while let Some((index, parent)) = next.pop() {
        let node = &nodes[index];
        let world = parent * local(node);
        found.meshes.extend(node.mesh.map(|mesh| (index, mesh.value(), world)));
        found.cameras.extend(node.camera.map(|camera| (index, camera.value(), world)));
        let light = node.extensions.as_ref().and_then(|extensions| extensions.khr_lights_punctual.as_ref());
        found.lights.extend(light.map(|light| (index, light.light.value(), world)));
        node.children.iter().flatten().try_for_each(|child| reach(child.value(), world, &mut next))?;
    }
    for placed in [&mut found.meshes, &mut found.cameras, &mut found.lights] {
        placed.sort_by_key(|(node, ..)| *node);
    }
    Ok(found)
}

/// From a node's coordinates to those of its parent.
fn local(node: &Node) -> DMat4 {
    if let Some(matrix) = node.matrix {
        return DMat4::from_cols_array(&matrix.map(f64::from));
    }
    let rotation = node.rotation.unwrap_or_default().0.map(f64::from);
    let rotation = DQuat::from_array(rotation);
    let rotation = if rotation.length() > 0.0 { rotation.normalize() } else { DQuat::IDENTITY };
    let vector = |vector: [f32; 3]| DVec3::from_array(vector.map(f64::from));
    let (scale, translation) = (node.scale.unwrap_or([1.0; 3]), node.translation.unwrap_or([0.0; 3]));
    DMat4::from_scale_rotation_translation(vector(scale), rotation, vector(translation))
}

/// Right, up and back of what looks down its own -z, of length 1 and at right angles: what scales it is left out.
fn axes(world: &DMat4) -> Option<[DVec3; 3]> {
    let back = world.z_axis.truncate().try_normalize()?;
    let right = world.y_axis.truncate().cross(back).try_normalize()?;
    Some([right, back.cross(right), back])
}

/// The camera of a node.
///
/// # Errors
/// It does not exist, or sees nothing.
pub(super) fn camera(root: &Root, node: usize, index: usize, world: &DMat4) -> Result<Camera, String> {
    let read = || {
        let json = root.cameras.get(index).ok_or_else(|| missing("camera", index, root.cameras.len()))?;
        let lens = match (json.type_, &json.perspective, &json.orthographic) {
            (Checked::Valid(CameraType::Perspective), Some(perspective), _) => {
                let angle = perspective.yfov;
                if !(angle > 0.0 && angle < std::f32::consts::PI) {
                    return Err(format!("camera {index}: its yfov is {angle}; it must be between 0 and pi"));
                }
                Lens::Perspective { tan_half_y: libm::tan(f64::from(angle) / 2.0) as f32 }
            }
            (Checked::Valid(CameraType::Orthographic), _, Some(orthographic)) => {
                let half_height = orthographic.ymag.abs();
                if !(half_height > 0.0 && half_height.is_finite()) {
                    return Err(format!("camera {index}: its ymag is {half_height}; it must not be 0"));
                }
                Lens::Orthographic { half_height }
            }
            _ => return Err(format!("camera {index} is neither perspective nor orthographic")),
        };
        let position = world.w_axis.truncate().as_vec3();
        let axes = axes(world).filter(|axes| axes.iter().all(|axis| axis.is_finite()) && position.is_finite());
        let axes = axes.ok_or("its camera has no direction: its transform is singular, or not finite")?;
        Ok(Camera { position: position.to_array(), axes: axes.map(|axis| axis.as_vec3().to_array()), lens })
    };
    read().map_err(|reason: String| format!("node {node}: {reason}"))
}

/// The light of a node, by `KHR_lights_punctual`. Its range is ignored: light goes on.
///
/// # Errors
/// It does not exist, or has numbers that a light cannot have.
pub(super) fn light(
    root: &Root,
    node: usize,
    index: usize,
    world: &DMat4,
    warnings: &mut Warnings,
) -> Result<Light, String> {
    let lights = root.extensions.as_ref().and_then(|extensions| extensions.khr_lights_punctual.as_ref());
    let lights = lights.map_or(&[][..], |lights| &lights.lights);
    let mut read = || {
        let json = lights.get(index).ok_or_else(|| missing("light", index, lights.len()))?;
        warnings.say_if(json.range.is_some(), "the range of lights is ignored: light goes on");
        let color = json.color.map(|channel| channel * json.intensity);
        if !color.iter().all(|channel| channel.is_finite() && *channel >= 0.0) {
            return Err(format!("light {index}: its color times its intensity is {color:?}; it must be at least 0"));
        }
        let position = world.w_axis.truncate().as_vec3().to_array();
        let direction = || {
            let direction = world.z_axis.truncate().try_normalize().map(|back| -back.as_vec3());
            direction.map(|direction| direction.to_array()).ok_or_else(|| format!("light {index} has no direction"))
        };
        match (json.type_, &json.spot) {
            (Checked::Valid(LightType::Point), _) => Ok(Light::Point { position, intensity: color }),
            (Checked::Valid(LightType::Directional), _) => {
                Ok(Light::Directional { direction: direction()?, irradiance: color })
            }
            (Checked::Valid(LightType::Spot), Some(spot)) => {
                let (inner, outer) = (spot.inner_cone_angle, spot.outer_cone_angle);
                if !(0.0 <= inner && inner <= outer && outer <= std::f32::consts::FRAC_PI_2 + 1e-6) {
                    return Err(format!(
                        "light {index}: its cone is from {inner} to {outer}; 0 <= inner <= outer <= pi/2 is needed"
                    ));
                }
                let (cos_inner, cos_outer) = (libm::cosf(inner), libm::cosf(outer));
                let direction = direction()?;
                Ok(Light::Spot {
                    position,
                    direction,
                    intensity: color,
                    cos_inner,
                    cos_outer: cos_outer.min(cos_inner),
                })
            }
            _ => Err(format!("light {index} is neither point, spot nor directional")),
        }
    };
    read().map_err(|reason: String| format!("node {node}: {reason}"))
}
