"""A scene, for both renderers from the same numbers: glTF 2.0 for ours, a dictionary and PLY files for Mitsuba.

What one calls what, in the other's words:

| here, and in glTF | in Mitsuba |
|---|---|
| `yfov` in radians | `fov` in degrees, with `fov_axis` y |
| double-sided | `twosided`; without it both are black, and emit nothing, from behind |
| no normals | `face_normals` |
| Lambert: metallic 0, KHR_materials_specular 0 | `diffuse` |
| metallic 1: GGX with alpha = roughness^2, Schlick's Fresnel term from the base color on | `principled`, metallic 1 |
| bounces | `max_depth` counts one more: it is 1 where only what shines is seen |

In the metal one thing differs: glTF's Smith term is the height-correlated one, `principled` multiplies two that know
nothing of each other (as `roughconductor` does). A ball of roughness 0.4, lit from all around, is brighter by 0.2 % with
the former, one of 0.9 by 5 %: so metals are compared up to a roughness of 0.4.
"""

import dataclasses
import json
import math
import pathlib

import numpy as np


@dataclasses.dataclass
class Material:
    color: tuple
    # Radiance; what shines has one side.
    emission: tuple | None = None
    # Of a metal; Lambert without it.
    roughness: float | None = None
    one_sided: bool = False

    def two_sided(self) -> bool:
        return self.emission is None and not self.one_sided


@dataclasses.dataclass
class Mesh:
    # None where they are in a file only.
    positions: np.ndarray | None
    triangles: np.ndarray | None
    material: Material
    normals: np.ndarray | None = None


@dataclasses.dataclass
class Scene:
    meshes: list
    eye: tuple
    target: tuple
    yfov: float
    sky: tuple
    bounces: int

    def triangle_count(self) -> int:
        return sum(len(mesh.triangles) for mesh in self.meshes)


def camera_axes(eye, target):
    """Right, up and back of a camera that is held upright, y being up."""
    back = np.subtract(eye, target, dtype=np.float64)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 1.0, 0.0], back)
    right /= np.linalg.norm(right)
    return right, np.cross(back, right), back


def gltf_material(material: Material) -> dict:
    color = [float(c) for c in material.color]
    metal = material.roughness is not None
    pbr = {"baseColorFactor": [*color, 1.0], "metallicFactor": float(metal)}
    pbr["roughnessFactor"] = material.roughness if metal else 1.0
    made = {"pbrMetallicRoughness": pbr, "doubleSided": material.two_sided()}
    made["extensions"] = {"KHR_materials_specular": {"specularFactor": 0.0}}
    if material.emission is not None:
        # Factors are at most 1; the rest is their strength.
        strength = max(material.emission)
        made["emissiveFactor"] = [float(c / strength) for c in material.emission]
        made["extensions"]["KHR_materials_emissive_strength"] = {"emissiveStrength": float(strength)}
    return made


def write_gltf(scene: Scene, path: pathlib.Path) -> None:
    views, accessors, blob = [], [], bytearray()

    def accessor(array: np.ndarray, component: int, kind: str, **more) -> int:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": array.nbytes})
        blob.extend(array.tobytes())
        described = {"componentType": component, "count": len(array), "type": kind, **more}
        accessors.append({"bufferView": len(views) - 1, **described})
        return len(accessors) - 1

    meshes = []
    for number, mesh in enumerate(scene.meshes):
        corners = {"min": mesh.positions.min(0).tolist(), "max": mesh.positions.max(0).tolist()}
        attributes = {"POSITION": accessor(mesh.positions.astype("<f4"), 5126, "VEC3", **corners)}
        if mesh.normals is not None:
            attributes["NORMAL"] = accessor(mesh.normals.astype("<f4"), 5126, "VEC3")
        indices = accessor(mesh.triangles.astype("<u4").reshape(-1), 5125, "SCALAR")
        meshes.append({"primitives": [{"attributes": attributes, "indices": indices, "material": number}]})
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack(camera_axes(scene.eye, scene.target))
    matrix[:3, 3] = scene.eye
    nodes = [{"mesh": number} for number in range(len(meshes))]
    nodes.append({"camera": 0, "matrix": matrix.T.reshape(-1).tolist()})
    document = {
        "asset": {"version": "2.0"},
        "extensionsUsed": ["KHR_materials_specular", "KHR_materials_emissive_strength"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "cameras": [{"type": "perspective", "perspective": {"yfov": scene.yfov, "znear": 0.01}}],
        "meshes": meshes,
        "materials": [gltf_material(mesh.material) for mesh in scene.meshes],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"uri": path.with_suffix(".bin").name, "byteLength": len(blob)}],
    }
    path.with_suffix(".bin").write_bytes(blob)
    path.write_text(json.dumps(document))


def write_plys(scene: Scene, folder: pathlib.Path) -> list:
    paths = [folder / f"{number}.ply" for number in range(len(scene.meshes))]
    for mesh, path in zip(scene.meshes, paths):
        write_ply(mesh, path)
    return paths


def write_ply(mesh: Mesh, path: pathlib.Path) -> None:
    names = ["x", "y", "z"] + (["nx", "ny", "nz"] if mesh.normals is not None else [])
    vertices = mesh.positions if mesh.normals is None else np.hstack([mesh.positions, mesh.normals])
    faces = np.zeros(len(mesh.triangles), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    faces["count"], faces["corners"] = 3, mesh.triangles
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    head += [f"property float {name}" for name in names]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    path.write_bytes("\n".join(head).encode() + vertices.astype("<f4").tobytes() + faces.tobytes())


def mitsuba_material(material: Material) -> dict:
    color = {"type": "rgb", "value": [float(c) for c in material.color]}
    if material.roughness is not None:
        made = {"type": "principled", "base_color": color, "metallic": 1.0, "roughness": material.roughness}
    else:
        made = {"type": "diffuse", "reflectance": color}
    return {"type": "twosided", "material": made} if material.two_sided() else made


def mitsuba_scene(mi, scene: Scene, plys: list, width: int, height: int):
    """Loads the scene into the variant of Mitsuba that is set; `plys` are its meshes' files."""
    look = mi.ScalarTransform4f().look_at(origin=list(scene.eye), target=list(scene.target), up=[0.0, 1.0, 0.0])
    film = {"type": "hdrfilm", "width": width, "height": height, "component_format": "float32"}
    film["rfilter"] = {"type": "box"}
    made = {
        "type": "scene",
        # As many bounces as are allowed, in all paths: roulette from a depth on that none has.
        "integrator": {"type": "path", "max_depth": scene.bounces + 1, "rr_depth": 1000, "hide_emitters": False},
        "sensor": {
            "type": "perspective",
            "fov": math.degrees(scene.yfov),
            "fov_axis": "y",
            "near_clip": 0.01,
            "far_clip": 1000.0,
            "to_world": look,
            "film": film,
            "sampler": {"type": "independent"},
        },
    }
    for number, (mesh, path) in enumerate(zip(scene.meshes, plys, strict=True)):
        shape = {"type": "ply", "filename": str(path), "face_normals": mesh.normals is None}
        shape["bsdf"] = mitsuba_material(mesh.material)
        if mesh.material.emission is not None:
            radiance = {"type": "rgb", "value": [float(c) for c in mesh.material.emission]}
            shape["emitter"] = {"type": "area", "radiance": radiance}
        made[f"shape{number}"] = shape
    if any(scene.sky):
        made["sky"] = {"type": "constant", "radiance": {"type": "rgb", "value": [float(c) for c in scene.sky]}}
    return mi.load_dict(made)
