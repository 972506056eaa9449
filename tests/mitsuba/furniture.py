"""Large meshes to test with: the models of Debian's `sweethome3d-furniture`, fetched once, kept in target/mitsuba."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import zipfile

import numpy as np
from mitsuba_venv import TARGET

FOLDER = TARGET / "furniture"
PACKAGE = "sweethome3d-furniture"
# Of the largest models so many are drawn from: all have 40,000 triangles and more.
LARGEST = 24


def fetched() -> list:
    """The libraries of the package: archives of OBJ files. Downloaded and unpacked, not installed: that takes no root."""
    libraries = FOLDER / "usr" / "share" / "sweethome3d" / "furniture"
    if not list(libraries.glob("*.sh3f")):
        for program in ("apt-get", "dpkg-deb"):
            if not shutil.which(program):
                raise OSError(f"there is no {program}: the furniture is Debian's package {PACKAGE}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        # As root apt would drop to a user who may not write here, and complain.
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
        if subprocess.run(download, cwd=FOLDER, capture_output=True).returncode != 0:
            # A fresh container has no package lists.
            if os.geteuid() == 0:
                subprocess.run(["apt-get", "-qq", "update"], check=False)
            done = subprocess.run(download, cwd=FOLDER, capture_output=True, text=True)
            if done.returncode != 0:
                raise OSError(f"apt-get can't download {PACKAGE}, which Debian and Ubuntu have:\n{done.stderr.strip()}")
        for package in FOLDER.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, FOLDER], check=True)
            package.unlink()
    return sorted(libraries.glob("*.sh3f"))


def parsed(text: str):
    """Positions and triangles of an OBJ, its polygons cut into fans. Triangles without an area are left out."""
    points, triangles = [], []
    for line in text.splitlines():
        if line.startswith("v "):
            points.append([float(word) for word in line.split()[1:4]])
        elif line.startswith("f "):
            corners = [int(word.split("/")[0]) for word in line.split()[1:]]
            corners = [c - 1 if c > 0 else c + len(points) for c in corners]
            triangles += [[corners[0], b, c] for b, c in zip(corners[1:], corners[2:])]
    points, triangles = np.array(points), np.array(triangles)
    points = points.astype(np.float32).astype(np.float64)
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    size = (points.max(0) - points.min(0)).max()
    return points, triangles[area > 1e-10 * size * size].astype(np.uint32)


def drawn(draw: random.Random, triangles: int, at_least: int = 3) -> list:
    """Models that have so many triangles together, as (positions, triangles), and their names on stderr."""
    found = []
    for library in fetched():
        with zipfile.ZipFile(library) as archive:
            objs = [info for info in archive.infolist() if info.filename.lower().endswith(".obj")]
            found += [(info.file_size, info.filename, library) for info in objs]
    largest = sorted(found, reverse=True)[:LARGEST]
    draw.shuffle(largest)
    models, count = [], 0
    for _, name, library in largest:
        if count >= triangles and len(models) >= at_least:
            break
        with zipfile.ZipFile(library) as archive:
            models.append(parsed(archive.read(name).decode("latin-1")))
        count += len(models[-1][1])
        print(f"        {pathlib.Path(name).stem}, {len(models[-1][1])} triangles", file=sys.stderr)
    if count < triangles:
        raise OSError(f"the models of {PACKAGE} have {count} triangles together, {triangles} are needed")
    return models
