"""The scenes: what they hold is fixed, their colors, lights, places and cameras are drawn.

Normals are those of the triangles, but for the spheres: with interpolated ones the two renderers agree only where these
are close to the triangles' own, which of a fine sphere they are. (Ours ends a path that goes below the triangle itself;
Mitsuba goes on with it.)
"""

import math
import random

import numpy as np
from scene import Material, Mesh, Scene

# So many triangles are asked of the furniture at least.
FURNITURE_TRIANGLES = 50_000


def color(draw: random.Random, low=0.2, high=0.8) -> tuple:
    return tuple(draw.uniform(low, high) for _ in range(3))


def quad(a, b, c, d, material: Material) -> Mesh:
    """Counter-clockwise from the front."""
    return Mesh(np.array([a, b, c, d], np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.uint32), material)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """About the y axis."""
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])


def block(center, half, angle: float, material: Material) -> Mesh:
    """On the floor. Without its bottom, which would lie in the floor: who is in front there is left to rounding."""
    (x, z), (w, h, d) = center, half
    corners = np.array([[sx * w, y, sz * d] for y in (0.0, 2.0 * h) for sx, sz in ((-1, 1), (1, 1), (1, -1), (-1, -1))])
    points = turned(corners, angle) + [x, 0.0, z]
    sides = [[i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4] for i in range(4)] + [[4, 5, 6, 7]]
    triangles = [t for a, b, c, d in sides for t in ([a, b, c], [a, c, d])]
    return Mesh(points.astype(np.float32), np.array(triangles, np.uint32), material)


def sphere(center, radius: float, material: Material, across: int = 160) -> Mesh:
    """With its true normals, of triangles fine enough that these are close to their own."""
    theta = np.linspace(0.0, math.pi, across // 2 + 1)[:, None]
    phi = np.linspace(0.0, 2.0 * math.pi, across, endpoint=False)[None, :]
    unit = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta) + 0.0 * phi, np.sin(theta) * np.cos(phi)], -1)
    rows, columns = np.meshgrid(np.arange(across // 2), np.arange(across), indexing="ij")
    a, b = rows * across + columns, rows * across + (columns + 1) % across
    c, d = a + across, b + across
    upper, lower = np.stack([a, c, b], -1)[1:], np.stack([b, c, d], -1)[:-1]
    triangles = np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)])
    normals = unit.reshape(-1, 3)
    points = normals * radius + np.array(center)
    return Mesh(points.astype(np.float32), triangles.astype(np.uint32), material, normals.astype(np.float32))


def lamp(draw: random.Random, half: float, height: float, brightness: float) -> Mesh:
    """A square that shines down."""
    x, z = draw.uniform(-0.3, 0.3), draw.uniform(-0.3, 0.3)
    emission = tuple(brightness * c for c in color(draw, 0.6, 1.0))
    corners = [[x - half, height, z - half], [x + half, height, z - half], [x + half, height, z + half]]
    return quad(*corners, [x - half, height, z + half], Material(color(draw), emission))


def room(draw: random.Random) -> list:
    """A box of 2 x 2 x 2, open towards +z. All but two walls are of one material: the first mesh's."""
    # Bright, so that light goes to and fro in it.
    common = Material(color(draw, 0.55, 0.8))
    left, right = (Material(color(draw)) for _ in range(2))
    inner = np.array([[-1, 0, 1], [1, 0, 1], [1, 0, -1], [-1, 0, -1], [-1, 2, 1], [1, 2, 1], [1, 2, -1], [-1, 2, -1]])
    sides = [[0, 1, 2, 3], [4, 7, 6, 5], [3, 2, 6, 7]]
    triangles = [t for a, b, c, d in sides for t in ([a, b, c], [a, c, d])]
    walls = Mesh(inner.astype(np.float32), np.array(triangles, np.uint32), common)
    return [walls, quad(*inner[[0, 3, 7, 4]], left), quad(*inner[[2, 1, 5, 6]], right)]


def before_room(draw: random.Random) -> dict:
    """A camera in front of the room, as high as leaves the lamp small in the picture: its light has no noise, and no
    error, and would make those of the rest look small."""
    eye = (draw.uniform(-0.5, 0.5), draw.uniform(1.2, 1.6), draw.uniform(3.3, 4.2))
    target = (draw.uniform(-0.1, 0.1), draw.uniform(0.9, 1.1), 0.0)
    return {"eye": eye, "target": target, "yfov": math.radians(draw.uniform(36.0, 46.0))}


def two_blocks(draw: random.Random, material) -> list:
    right, left = (draw.uniform(0.25, 0.4), draw.uniform(0.2, 0.4)), (draw.uniform(-0.4, -0.3), draw.uniform(-0.4, -0.2))
    low = block(right, (0.3, 0.3, 0.3), draw.uniform(0.1, 0.6), material())
    return [low, block(left, (0.3, 0.6, 0.3), draw.uniform(-0.6, -0.1), material())]


def box(draw: random.Random) -> Scene:
    """A Cornell box: Lambert, one light."""
    meshes = room(draw) + two_blocks(draw, lambda: Material(color(draw)))
    # Large rather than bright: the noise along its edge would be all there is.
    meshes.append(lamp(draw, draw.uniform(0.4, 0.55), 1.98, draw.uniform(4.0, 7.0)))
    return Scene(meshes, **before_room(draw), sky=(0.0, 0.0, 0.0), bounces=8)


def spheres(draw: random.Random) -> Scene:
    """Spheres in the box, and light from the environment as well."""
    meshes = room(draw)
    for x, z in ((-0.45, -0.3), (0.45, 0.3)):
        radius = draw.uniform(0.3, 0.42)
        # Above the floor: on it, who is in front where they touch would be left to rounding.
        meshes.append(sphere((x, radius + draw.uniform(0.05, 0.3), z), radius, Material(color(draw))))
    meshes.append(lamp(draw, draw.uniform(0.25, 0.4), 1.98, draw.uniform(4.0, 8.0)))
    return Scene(meshes, **before_room(draw), sky=color(draw, 0.3, 1.2), bounces=5)


def metal(draw: random.Random) -> Scene:
    """Blocks of rough metal in the box, and light from the environment as well."""
    meshes = room(draw) + two_blocks(draw, lambda: Material(color(draw, 0.4, 0.95), roughness=draw.uniform(0.3, 0.4)))
    meshes.append(lamp(draw, draw.uniform(0.35, 0.45), 1.98, draw.uniform(4.0, 8.0)))
    return Scene(meshes, **before_room(draw), sky=color(draw, 0.3, 1.2), bounces=5)


def furnished(draw: random.Random, models: list) -> Scene:
    """Models of `furniture.py` side by side on a floor, under a light and an environment."""
    floor = Material(color(draw))
    meshes = [quad([-4, 0, 4], [4, 0, 4], [4, 0, -4], [-4, 0, -4], floor)]
    for number, (positions, triangles) in enumerate(models):
        points = turned(positions, draw.uniform(0.0, 2.0 * math.pi))
        low, high = points.min(0), points.max(0)
        # Each in a cube of 1.2, a little above the floor.
        points = (points - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2]) * (1.2 / (high - low).max())
        points += [1.3 * (number - (len(models) - 1) / 2), 0.02, draw.uniform(-0.3, 0.3)]
        meshes.append(Mesh(points.astype(np.float32), triangles, Material(color(draw))))
    meshes.append(lamp(draw, draw.uniform(0.8, 1.2), 2.6, draw.uniform(3.0, 6.0)))
    eye = (draw.uniform(-0.6, 0.6), draw.uniform(1.0, 1.8), draw.uniform(3.2, 3.8))
    return Scene(meshes, eye, (0.0, 0.5, 0.0), math.radians(draw.uniform(36.0, 44.0)), color(draw, 0.2, 0.6), bounces=4)
