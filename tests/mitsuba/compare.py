#!/usr/bin/env python3
"""Holds `boss render` to Mitsuba 3 (scalar_rgb): the same scenes, their colors, lights and cameras drawn, in both.

    compare.py BOSS [--seed S] [--spp N] [--size WxH] [--cases NAME,...] [--no-mesh] [--keep FOLDER]

Mitsuba comes from PyPI into target/mitsuba, once. Of each scene Mitsuba makes two pictures with two seeds, ours one;
all have the same number of samples. Two things are asked:

- the mean of each channel is within 0.5 % of Mitsuba's (that of its two pictures);
- the means of 8 x 8 pixels differ from Mitsuba's by no more than 1.5 times what its own two pictures differ by, as root
  mean squares. More is not noise, or much more noise than Mitsuba has.

And in the end that this would have found something: one of the materials, 2 % brighter for ours alone, must fail
(--no-wrong leaves it out). The seed is printed; --seed with it repeats a run.
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

# This folder is the repository's.
sys.dont_write_bytecode = True

import mitsuba_venv  # noqa: E402

MEAN_LIMIT = 0.005
RMSE_LIMIT = 1.5
BLOCK = 8
# What one material is brighter by, for ours alone, in the run that must fail.
WRONG = 1.02
CASES = ["box", "spheres", "metal", "mesh"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boss", type=pathlib.Path, help="the program to hold to Mitsuba")
    parser.add_argument("--seed", type=int, help="of what is drawn [default: a new one]")
    parser.add_argument("--spp", type=int, default=256, help="samples of each pixel [default: 256]")
    parser.add_argument("--size", default="128x128", help="of the pictures, in whole blocks [default: 128x128]")
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)} [default: all]")
    parser.add_argument("--no-mesh", action="store_true", help="without the case that needs Debian's furniture")
    parser.add_argument("--no-wrong", action="store_true", help="without the proof that a wrong material is found")
    parser.add_argument("--keep", type=pathlib.Path, help="leave scenes and pictures in this folder")
    return parser.parse_args()


def ours(boss: pathlib.Path, made, folder: pathlib.Path, spp: int, size: str, seed: int):
    import mitsuba as mi
    import numpy as np
    from scene import write_gltf

    write_gltf(made, folder / "scene.gltf")
    picture = folder / "ours.exr"
    command = [boss.resolve(), "render", folder / "scene.gltf", "-o", picture, "--size", size, "--spp", str(spp)]
    command += ["--depth", str(made.bounces), "--sky", ",".join(map(str, made.sky)), "--seed", str(seed), "--json"]
    # What a shell has set for its own pictures is not meant here.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RABBITRY_")}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit("compare.py: boss render has failed: " + " ".join(map(str, command)))
    bitmap = mi.Bitmap(str(picture)).convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, srgb_gamma=False)
    return np.array(bitmap, np.float64)


def theirs(loaded, spp: int, seed: int):
    import mitsuba as mi
    import numpy as np

    return np.array(mi.render(loaded, spp=spp, seed=seed), np.float64)


def figures(picture, first, second) -> tuple:
    """How far a picture is from Mitsuba's two: the worst channel's mean, relative, and the blocks' RMSE by the floor."""
    import numpy as np

    def blocks(image):
        height, width, _ = image.shape
        return image.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3).mean((1, 3))

    mean = (first.mean((0, 1)) + second.mean((0, 1))) / 2
    deviation = float(np.abs(picture.mean((0, 1)) / mean - 1.0).max())
    floor = np.sqrt(np.mean((blocks(first) - blocks(second)) ** 2))
    squares = [np.mean((blocks(picture) - blocks(other)) ** 2) for other in (first, second)]
    return deviation, float(np.sqrt(np.mean(squares)) / floor)


def passes(deviation: float, ratio: float) -> bool:
    return deviation <= MEAN_LIMIT and ratio <= RMSE_LIMIT


def compared(name: str, made, given: argparse.Namespace, seed: int, folder: pathlib.Path) -> bool:
    """Prints the figures of a case, and whether they are as they should be."""
    import mitsuba as mi
    from scene import mitsuba_scene, write_plys

    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    width, height = map(int, given.size.split("x"))
    loaded = mitsuba_scene(mi, made, write_plys(made, folder), width, height)
    # Pairs of seeds that no other case has.
    first, second = (theirs(loaded, given.spp, seed * 2 + place & 0x7FFF_FFFF) for place in range(2))
    between = time.monotonic()

    def row(name: str, seed: int, wanted: bool) -> bool:
        deviation, ratio = figures(ours(given.boss, made, folder, given.spp, given.size, seed), first, second)
        good = passes(deviation, ratio) == wanted
        verdict = "ok" if good else "FAILED"
        print(f"{name:<14} {100 * deviation:>12.3f} {ratio:>14.3f} {made.triangle_count():>10}  {verdict}", flush=True)
        return good

    good = row(name, seed, True)
    print(f"        {between - started:.1f} s Mitsuba, {time.monotonic() - between:.1f} s ours", file=sys.stderr)
    if given.keep:
        mi.Bitmap(first.astype("float32")).write(str(folder / "mitsuba.exr"))
    if name == "box" and not given.no_wrong:
        # Walls, floor and ceiling: what most of the light meets.
        material = made.meshes[0].material
        material.color = tuple(c * WRONG for c in material.color)
        good &= row("box, 2 % off", seed, False)
    return good


def main() -> int:
    given = options()
    wanted = [name for name in given.cases.split(",") if not (given.no_mesh and name == "mesh")]
    if unknown := [name for name in wanted if name not in CASES]:
        sys.exit(f"compare.py: there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if any(side % BLOCK or not side for side in map(int, given.size.split("x"))):
        sys.exit(f"compare.py: the sides of {given.size} are no multiples of {BLOCK}")
    python = mitsuba_venv.installed()
    if pathlib.Path(sys.prefix).resolve() != mitsuba_venv.VENV.resolve():
        os.execv(python, [python, "-B", __file__, *sys.argv[1:]])

    import mitsuba as mi

    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    import cases
    import furniture

    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"Mitsuba {mi.__version__}, {given.size}, {given.spp} spp, --seed {seed}")
    print(f"{'':<14} {'means, %':>12} {'blocks, floors':>14} {'triangles':>10}")
    print(f"{'at most':<14} {100 * MEAN_LIMIT:>12.3f} {RMSE_LIMIT:>14.3f}", flush=True)
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        for name in wanted:
            # Each case draws for itself: it is the same one, whichever others are asked for.
            draw = random.Random(f"{name} {seed}")
            try:
                if name == "mesh":
                    made = cases.furnished(draw, furniture.drawn(draw, cases.FURNITURE_TRIANGLES))
                else:
                    made = {"box": cases.box, "spheres": cases.spheres, "metal": cases.metal}[name](draw)
            except OSError as missing:
                print(f"compare.py: no mesh to compare with: {missing}\n(--no-mesh leaves it out)", file=sys.stderr)
                good = False
                continue
            folder = given.keep.resolve() if given.keep else pathlib.Path(temporary)
            good &= compared(name, made, given, draw.randrange(1 << 30), folder / name)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
