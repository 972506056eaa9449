"""Mitsuba 3 from PyPI in a venv in target/mitsuba: for compare.py, and for `cargo bench --bench render`.

    python3 mitsuba_venv.py         sets it up, once, and prints the Python that has it
"""

import pathlib
import shutil
import subprocess
import sys
import venv

TARGET = pathlib.Path(__file__).resolve().parent.parent.parent / "target" / "mitsuba"
VENV = TARGET / "venv"
# Pinned: a reference that moves is none. NumPy only carries its pictures, and which one there is depends on the Python.
PACKAGES = ["mitsuba==3.9.1", "numpy"]


def python() -> pathlib.Path:
    return VENV / "bin" / "python"


def is_there() -> bool:
    stamp = VENV / "stamp"
    return stamp.is_file() and stamp.read_text() == wanted() and python().exists()


def wanted() -> str:
    # A venv belongs to the Python that made it.
    return "\n".join([*PACKAGES, sys.version])


def installed() -> pathlib.Path:
    """The Python of the venv, which is made unless it is there."""
    if not is_there():
        shutil.rmtree(VENV, ignore_errors=True)
        venv.create(VENV, with_pip=True)
        # Only wheels: built here, Mitsuba would take an hour.
        pip = [python(), "-m", "pip", "-q", "--disable-pip-version-check", "install", "--only-binary", ":all:"]
        subprocess.run([*pip, *PACKAGES], check=True)
        (VENV / "stamp").write_text(wanted())
    return python()


if __name__ == "__main__":
    print(installed())
