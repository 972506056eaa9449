#!/bin/sh
# What the tests of clients/ need: NumPy and pika in target/clients/venv, and minion_eigen built. Safe to run again.
set -eu
cd -- "$(dirname -- "$0")/.."

python=${PYTHON:-python3}
kept=${CARGO_TARGET_DIR:-target}/clients
requirements=deploy/clients-requirements.txt

say() { printf 'setup-clients: %s\n' "$*"; }
fail() {
    printf 'setup-clients: %s\n' "$@" >&2
    exit 1
}

install() {
    command -v apt-get >/dev/null || fail "needs $* (Debian's names), and there is no apt-get to install them with"
    if [ "$(id -u)" -eq 0 ]; then
        as_root() { "$@"; }
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root() { sudo -n "$@"; }
    else
        fail "installing takes root. Run this once: sudo apt-get update && sudo apt-get install --no-install-recommends $*"
    fi
    say "installing $* from the system's packages"
    as_root apt-get update -qq || fail "apt-get update failed; its reason is above"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" ||
        fail "apt-get could not install $*; its reason is above"
}

# The stamp is what was installed: another list, or another Python, makes it anew.
stamp="$("$python" --version) $(cat "$requirements")"
if [ "$(cat "$kept/stamp" 2>/dev/null || true)" != "$stamp" ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install python3-venv
    rm -rf "$kept"
    mkdir -p "$kept"
    "$python" -m venv "$kept/venv"
    "$kept/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
        fail "pip could not install $(tr '\n' ' ' <"$requirements"); its reason is above"
    printf '%s' "$stamp" >"$kept/stamp"
fi

headers='#include <Eigen/Dense>
#include <curl/curl.h>
#include <nlohmann/json.hpp>'
compiles() { printf '%s\n' "$headers" | ${CXX:-c++} -std=c++17 -fsyntax-only -I/usr/include/eigen3 -x c++ - 2>/dev/null; }
command -v "${CXX:-c++}" >/dev/null || install g++
compiles || install libeigen3-dev libcurl4-openssl-dev nlohmann-json3-dev
compiles || fail "Eigen's, curl's and nlohmann-json's headers are installed, and ${CXX:-c++} still can't compile with them"
make -s -C clients minion_eigen
