"""Mitsuba, timed, for `cargo bench --bench render`. Started with the Python of tests/mitsuba/mitsuba_venv.py.

    mitsuba_render.py VARIANT FOLDER        requests on stdin, answers on stdout, until stdin ends

FOLDER has a file NAME.json for each scene, which the bench has written: `eye`, `target`, `yfov`, `bounces`, and
`meshes`, each a `ply` with a `color` and an `emission` or null. A request is a line

    NAME SIDE SPP SEED

for a picture of SIDE x SIDE pixels, and its answer a JSON object: `seconds`, the CPU time of all threads of this
process from the scene loaded to the picture there, and `mean`, the picture's. What the compiler of an llvm variant
takes is in the first answer for a scene. The first line, before any request, is {"version", "ready"}; what can't be
done is {"error"}.

All surfaces have one side, and one thread renders: what speaks for Mitsuba.
"""

import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "mitsuba"))

import drjit as dr  # noqa: E402
import mitsuba as mi  # noqa: E402
import numpy as np  # noqa: E402
from scene import Material, Mesh, Scene, mitsuba_scene  # noqa: E402


def loaded(folder: pathlib.Path, name: str, side: int):
    written = json.loads((folder / f"{name}.json").read_text())
    meshes, plys = [], []
    for mesh in written["meshes"]:
        material = Material(mesh["color"], mesh["emission"], one_sided=True)
        meshes.append(Mesh(None, None, material))
        plys.append(folder / mesh["ply"])
    scene = Scene(meshes, written["eye"], written["target"], written["yfov"], (0.0, 0.0, 0.0), written["bounces"])
    return mitsuba_scene(mi, scene, plys, side, side)


def main() -> None:
    variant, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    known = {}

    def answer(name: str, side: str, spp: str, seed: str) -> dict:
        if (name, side) not in known:
            known[name, side] = loaded(folder, name, int(side))
        start = time.process_time()
        # An array of NumPy is there when all of it is computed, whatever a variant puts off.
        picture = np.array(mi.render(known[name, side], spp=int(spp), seed=int(seed)))
        seconds = time.process_time() - start
        return {"seconds": seconds, "mean": picture.mean((0, 1), dtype=np.float64).tolist()}

    def put(line: dict) -> None:
        print(json.dumps(line), flush=True)

    try:
        mi.set_variant(variant)
        mi.set_log_level(mi.LogLevel.Error)
        dr.set_thread_count(1)
        # An llvm variant finds out only now whether there is an LLVM.
        np.array(mi.Float(1.0) + 1.0)
    except Exception as error:
        put({"error": f"{variant}: {' '.join(str(error).split())}"})
        sys.exit(1)
    put({"version": mi.__version__, "ready": True})
    for line in sys.stdin:
        try:
            put(answer(*line.split()))
        except Exception as error:
            put({"error": f"{variant}, {line.strip()}: {' '.join(str(error).split())}"})


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
