#!/usr/bin/env python3
"""The solvers that ours is compared with: NumPy and Eigen. Sets them up and starts them, all with one protocol.

    run.py setup [numpy] [eigen]                        fetch and build what is missing; one solution as a proof
    run.py serve [--threads T] [--no-setup] NAME        requests on stdin, answers on stdout, until stdin ends
    run.py serve [--threads T] NAME REQUEST             one request, one answer

Everything is kept in target/baselines; nothing is installed on the machine.

A request is a line

    solve|spd N NRHS SEED REPEATS [SECONDS]

`solve` is a random system, by LU; `spd` a symmetric positive definite one, by Cholesky where the library has a solver
with it (NumPy has none and solves by LU). The call is repeated REPEATS times, and on until the calls have taken SECONDS
in all. The numbers of `solve` are those of `System::random(N, NRHS, SEED)`, bit for bit. Those of `spd` are made from
them: the strict lower triangle of A on both sides, and N added to the diagonal. (A row's other numbers are below 1 in
size, and N - 1 of them: by Gershgorin no eigenvalue is below 0.)

An answer is a line, a JSON object:

    {"baseline": "numpy", "version": "2.4.6", "blas": "OpenBLAS ...", "threads": 1, "n": 1000, "nrhs": 1,
     "matrix": "random", "seed": 1, "repeats": 3, "seconds": [...], "backward_error": 1e-17, "fingerprint": "..."}

`seconds` are those of the calls alone, A and B being there. `backward_error` is that of the last X: the largest over
its columns of |b - A x| / (|A| |x| + |b|) in the infinity norm. `fingerprint`, in hex, is the sum of the bits of all
numbers of A and B, 64 each, modulo 2^64: it says that two programs solved the same system.

`serve http PORT` starts NumPy behind HTTP instead, which http_solve.py describes.

The first line, before any request, is `{"baseline", "version", "blas", "threads", "ready": true}`. What can't be done
is `{"baseline", "error"}`: for one request, the program goes on; for a baseline that can't be had, the runner says the
same on stderr and exits with 1.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
# Where cargo puts what it builds; a relative CARGO_TARGET_DIR is relative to where cargo, and so this, is called.
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or HERE.parent.parent / "target").resolve()
KEPT = TARGET / "baselines"
CXX_FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-DNDEBUG"]


class Missing(Exception):
    """A baseline can't be had, and why."""


def say(text):
    print(f"baselines: {text}", file=sys.stderr, flush=True)


def tool(command, otherwise):
    """Runs a tool and gives its output; if that fails, the last line it said and `otherwise` are the reason."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}; {otherwise}") from None
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        words = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise Missing(f"{words[-1].strip()}; {otherwise}")
    return done.stdout


class Numpy:
    """NumPy as most people have it: the wheel from PyPI, which brings its OpenBLAS along, in a venv of its own."""

    name = "numpy"
    folder = KEPT / "numpy"
    stamp = folder / "stamp"

    @staticmethod
    def wanted():
        # A venv belongs to the Python that made it.
        return f"{sys.version}\n{os.path.realpath(sys.executable)}\n"

    @classmethod
    def setup(cls):
        say("numpy: making a venv and fetching the wheel with pip (once)")
        shutil.rmtree(cls.folder, ignore_errors=True)
        # Without pip, because Debian's Python makes no venv with pip unless python3-venv is installed; the pip that is
        # there can put a wheel into it just as well.
        tool([sys.executable, "-m", "venv", "--without-pip", cls.folder], "this Python can't make a venv")
        paths = "import sysconfig; print(sysconfig.get_path('platlib'))"
        site = tool([cls.python(), "-I", "-c", paths], "the venv's Python does not run").strip()
        # Only the wheel: a NumPy built here would take whatever BLAS it finds, or none.
        wheel = ["--only-binary", ":all:", "--no-deps", "--target", site, "numpy"]
        tool(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheel],
            "pip is missing (apt-get install python3-pip) or found no wheel",
        )
        cls.stamp.write_text(cls.wanted())

    @classmethod
    def python(cls):
        return str(cls.folder / "bin" / "python")

    @classmethod
    def command(cls):
        # Isolated: another NumPy in PYTHONPATH or the user's site is not the one we mean.
        return [cls.python(), "-I", str(HERE / "numpy_solve.py")]


class Http(Numpy):
    """The same NumPy behind an HTTP server, for `cargo bench --bench bridge`. REQUEST is its port."""

    name = "http"

    @classmethod
    def command(cls):
        return [cls.python(), "-I", str(HERE / "http_solve.py")]


class Eigen:
    """Eigen 3, headers only, compiled for this processor."""

    name = "eigen"
    folder = KEPT / "eigen"
    stamp = folder / "stamp"
    source = HERE / "eigen_solve.cpp"

    @staticmethod
    def compiler():
        for name in [os.environ.get("CXX"), "g++", "c++"]:
            if name and shutil.which(name):
                return name
        raise Missing("there is no C++ compiler; Debian and Ubuntu: apt-get install g++")

    @classmethod
    def wanted(cls):
        # The processor is in it because of -march=native: a target folder may have come from another machine.
        processor = platform.processor() or platform.machine()
        with contextlib.suppress(OSError):
            lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
            processor = "\n".join(next((l for l in lines if l.startswith(k)), "") for k in ("model name", "flags"))
        version = tool([cls.compiler(), "--version"], "the C++ compiler does not run").splitlines()[0]
        parts = [version, " ".join(CXX_FLAGS), os.environ.get("EIGEN_INCLUDE", ""), processor, cls.source.read_text()]
        return "\n".join(parts)

    @classmethod
    def headers(cls):
        """The folder that has Eigen/Dense: the caller's, the system's, or that of Debian's package, unpacked here."""
        named = os.environ.get("EIGEN_INCLUDE")
        unpacked = cls.folder / "deb" / "usr" / "include" / "eigen3"
        places = [named] if named else ["/usr/local/include/eigen3", "/usr/include/eigen3", unpacked]
        for place in map(pathlib.Path, places):
            if (place / "Eigen" / "Dense").is_file():
                return place
        if named:
            raise Missing(f"EIGEN_INCLUDE={named} has no Eigen/Dense")
        by_hand = "install libeigen3-dev, or name a folder that has Eigen/Dense in EIGEN_INCLUDE"
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Missing(f"Eigen's headers are not here, and there is no apt-get to fetch them with; {by_hand}")
        say("eigen: fetching the headers with apt-get (once)")
        # Downloaded and unpacked, not installed: that takes no root and leaves the system as it was.
        fetched = cls.folder / "fetched"
        shutil.rmtree(fetched, ignore_errors=True)
        fetched.mkdir(parents=True)
        # As root apt would drop to a user who may not write here, and complain.
        fetch = 'cd -- "$1" && apt-get -qq -o APT::Sandbox::User=root download libeigen3-dev'
        download = ["sh", "-c", fetch, "sh", fetched]
        try:
            tool(download, by_hand)
        except Missing:
            if os.geteuid() != 0:
                raise
            # A fresh container has no package lists.
            tool(["apt-get", "-qq", "update"], by_hand)
            tool(download, by_hand)
        for package in fetched.glob("*.deb"):
            tool(["dpkg-deb", "-x", package, cls.folder / "deb"], by_hand)
        if not (unpacked / "Eigen" / "Dense").is_file():
            raise Missing(f"the package libeigen3-dev has no Eigen/Dense; {by_hand}")
        return unpacked

    @classmethod
    def setup(cls):
        wanted = cls.wanted()
        cls.folder.mkdir(parents=True, exist_ok=True)
        cls.stamp.unlink(missing_ok=True)
        include = cls.headers()
        say("eigen: compiling (once)")
        # -isystem: warnings in Eigen's headers are not ours to mend.
        files = ["-isystem", include, cls.source, "-o", cls.folder / "eigen_solve"]
        tool([cls.compiler(), *CXX_FLAGS, *files], "the C++ compiler could not build eigen_solve.cpp (it needs OpenMP)")
        cls.stamp.write_text(wanted)

    @classmethod
    def command(cls):
        return [str(cls.folder / "eigen_solve")]


BASELINES = {baseline.name: baseline for baseline in (Numpy, Eigen)}
# What `serve` starts beside them: it needs what they need, and speaks another protocol.
SERVED = {**BASELINES, Http.name: Http}


def known(name, among=BASELINES):
    if name not in among:
        raise Missing(f"there is no such baseline; there are {', '.join(among)}")
    return among[name]


def is_set_up(baseline):
    return baseline.stamp.is_file() and baseline.stamp.read_text() == baseline.wanted()


def ensure(baseline):
    """Sets a baseline up unless it is. Only one process does: the others wait and find it done."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_set_up(baseline):
            baseline.setup()


def environment(threads):
    """This one's environment with a number of threads for whichever library reads it."""
    count = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    # A library that takes fewer threads when it finds the machine busy would not be compared at equal threads.
    return {**os.environ, **count, "OMP_DYNAMIC": "false"}


def setup(names):
    """All that are asked for, even if one can't be had. Each proves itself with a small system."""
    failed = False
    for name in names or BASELINES:
        try:
            ensure(known(name))
            command = [*BASELINES[name].command(), "solve", "100", "1", "1", "1"]
            done = subprocess.run(command, env=environment(1), stdout=subprocess.PIPE, text=True)
            answer = json.loads(done.stdout or "{}")
            if done.returncode != 0 or "error" in answer or not answer.get("backward_error", 1.0) < 1e-12:
                raise Missing(answer.get("error", f"exit code {done.returncode}: {done.stdout.strip()}"))
            say(f"{name} {answer['version']} is set up ({answer['blas']})")
        except Missing as missing:
            refuse(name, missing)
            failed = True
    return 1 if failed else 0


def refuse(name, why):
    print(json.dumps({"baseline": name, "error": str(why)}), flush=True)
    say(f"{name} can't be had: {why}")


def serve(name, threads, may_set_up, request):
    try:
        baseline = known(name, SERVED)
        if may_set_up:
            ensure(baseline)
        elif not is_set_up(baseline):
            raise Missing("not set up on this machine; run `make baselines`")
        command = baseline.command()
        # The program takes this one's place, and with it its pid: whoever started it can end it.
        os.execve(command[0], [*command, *request], environment(threads))
    except (Missing, OSError) as why:
        refuse(name, why)
        return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("setup", help="fetch and build what is missing")
    one.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BASELINES))
    two = commands.add_parser("serve", help="start one")
    # Not `choices`: whoever reads the answers should find the refusal among them.
    two.add_argument("name", metavar="NAME")
    two.add_argument("--threads", type=int, default=1)
    two.add_argument("--no-setup", action="store_true", help="refuse rather than fetch or build anything")
    two.add_argument("request", nargs="*", metavar="REQUEST")
    arguments = parser.parse_args()
    if arguments.command == "setup":
        return setup(arguments.names)
    if arguments.threads < 1:
        parser.error("--threads is at least 1")
    return serve(arguments.name, arguments.threads, not arguments.no_setup, arguments.request)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
