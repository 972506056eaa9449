#!/bin/sh
# Puts Intel MKL where .cargo/config.toml points the build: static libraries and headers in .mkl/.
#
#   deploy/setup-mkl.sh [FOLDER]      FOLDER is .mkl in the repository unless given
#
# Safe to run again: it does nothing when the folder holds the versions of mkl-requirements.txt. Everything is made in a
# folder beside it and renamed at the end, so an interrupted run changes nothing.
set -eu

say() { printf 'setup-mkl: %s\n' "$*"; }
fail() {
    printf 'setup-mkl: %s\n' "$@" >&2
    exit 1
}

case $(uname -s)/$(uname -m) in
Linux/x86_64) ;;
*)
    fail "Intel MKL is for Linux on x86-64 only; this is $(uname -s) on $(uname -m)." \
        "Build with the pure-Rust kernel instead: cargo build --release --no-default-features --features faer"
    ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
requirements=$here/mkl-requirements.txt
dest=$(readlink -m -- "${1:-$here/../.mkl}")
python=${PYTHON:-python3}

# A MKLROOT of the caller's wins over the one in .cargo/config.toml, so respect it here as well.
if [ -n "${MKLROOT:-}" ] && [ $# -eq 0 ] && [ "$(readlink -m -- "$MKLROOT")" != "$dest" ]; then
    if [ -f "$MKLROOT/include/mkl.h" ]; then
        say "MKLROOT=$MKLROOT is set: the build uses that MKL, nothing to do"
        exit 0
    fi
    fail "MKLROOT=$MKLROOT is set, but there is no include/mkl.h in it." \
        "Unset it to use the MKL that this script fetches, or point it at an installed MKL."
fi

# Raise `layout` when this script keeps other files than before: it makes older folders stale.
layout=1
wanted=$(printf 'layout %s\n' "$layout" && sed -n 's/^\([a-z-]*==[^ ]*\) .*/\1/p' "$requirements")
if [ -f "$dest/stamp" ] && [ "$(cat "$dest/stamp")" = "$wanted" ]; then
    exit 0
fi

if ! "$python" -c '' 2>/dev/null; then
    fail "$python is not there. Debian and Ubuntu: apt-get install python3 python3-pip"
fi
if ! "$python" -m pip --version >/dev/null 2>&1; then
    fail "$python has no pip. Debian and Ubuntu: apt-get install python3-pip (others: $python -m ensurepip)"
fi

mkdir -p "$(dirname -- "$dest")"
work=$(mktemp -d "$dest.tmp.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "fetching Intel MKL with pip (about 200 MB, once)"
# `pip download` installs nothing, so an externally managed Python (PEP 668) does not mind.
if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$requirements" --dest "$work/wheels"; then
    fail "pip could not fetch the wheels of $requirements; its reason is above." \
        "No network? Put the three wheels in a folder and run: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER $0" \
        "Or build without MKL: cargo build --release --no-default-features --features faer"
fi

say "unpacking"
"$python" - "$work/wheels" "$work/mkl" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheels, out = map(pathlib.Path, sys.argv[1:])
# The static libraries that `mkl-static-lp64-iomp` links, and no .so: a libiomp5.so beside libiomp5.a would be linked
# in its place, and the binaries would need LD_LIBRARY_PATH.
libs = {"libmkl_core.a", "libmkl_intel_lp64.a", "libmkl_intel_thread.a", "libiomp5.a"}
for wheel in sorted(wheels.glob("*.whl")):
    package = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = pathlib.PurePosixPath(info.filename)
            if info.is_dir():
                continue
            if path.name in libs and path.parent.name == "lib":
                target = out / "lib" / path.name
            elif "/data/include/" in info.filename and package == "mkl_include":
                target = out / "include" / info.filename.split("/data/include/", 1)[1]
            elif path.name == "LICENSE.txt" or path.name.startswith("third-party-programs"):
                target = out / "licensing" / package / path.name
            else:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
missing = [name for name in sorted(libs) if not (out / "lib" / name).is_file()]
if not (out / "include" / "mkl.h").is_file():
    missing.append("mkl.h")
if missing:
    sys.exit("setup-mkl: the wheels do not hold " + ", ".join(missing))
PYTHON
printf '%s\n' "$wanted" >"$work/mkl/stamp"

# Two renames; whoever reads the folder finds the old one, none, or the whole new one.
if [ -e "$dest" ]; then
    mv -T -- "$dest" "$work/old"
fi
if ! mv -T -- "$work/mkl" "$dest"; then
    [ ! -e "$work/old" ] || mv -T -- "$work/old" "$dest" || true
    fail "could not move the new folder to $dest (is another set-up running?)"
fi
say "Intel MKL is in $dest ($(du -sh "$dest" | cut -f1))"
say "it is under the Intel Simplified Software License (texts in $dest/licensing): free to use and to redistribute"
say "unmodified; programs built with it carry that notice"
