#!/usr/bin/env python3
"""Holds a bridge to its own OpenAPI document: schemathesis asks what the document allows and what it does not, and
checks every answer against it.

    run.py BRIDGE [examples]

Installs schemathesis into target/schemathesis (once), starts BRIDGE on a free port with a spool of its own, and ends it.
`examples` (default 40) is how many requests of each sort each call gets at most; the seed is fixed.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
VENV = HERE.parent.parent / "target" / "schemathesis"
VERSION = "4.32.5"
SEED = "1"


def installed() -> pathlib.Path:
    program = VENV / "bin" / "schemathesis"
    if not program.exists():
        venv.create(VENV, with_pip=True)
        subprocess.run([VENV / "bin" / "pip", "-q", "install", f"schemathesis=={VERSION}"], check=True)
    return program


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def until(what: str, so, patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not so():
        if time.monotonic() > end:
            sys.exit(f"run.py: waited {patience} s for {what}")
        time.sleep(0.1)


def alive(url: str) -> bool:
    try:
        return bool(get(f"{url}/readyz"))
    except OSError:
        return False


def forget_all(url: str) -> None:
    """Deletes every task that is listed: once to end it, once to forget it."""
    while tasks := json.loads(get(f"{url}/v1/tasks?limit=1000"))["tasks"]:
        for task in tasks:
            request = urllib.request.Request(f"{url}/v1/tasks/{task['task']}", method="DELETE")
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise


def empty(url: str) -> bool:
    return "rabbitry_memory_bytes 0\n" in get(f"{url}/metrics")


def main() -> int:
    bridge, examples = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "40"
    program = installed()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        log = open(pathlib.Path(folder) / "log", "w+")
        arguments = ["--listen", f"127.0.0.1:{port}", "--spool", f"{folder}/spool", "--memory", "256MiB", "--slots", "1"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RABBITRY_")}
        served = subprocess.Popen([bridge, *arguments], env=environment, stderr=log)
        try:
            until("the bridge", lambda: alive(url) or served.poll() is not None)
            options = ["--checks", "all", "--seed", SEED, "--max-examples", examples, "--request-timeout", "60"]
            # DELETE cancels a task, which is then still there to be looked at; a second one forgets it.
            options += ["--exclude-checks", "use_after_free"]
            options += ["--suppress-health-check", "all", "--warnings", "off", "--continue-on-failure"]
            command = [program, "--config-file", HERE / "schemathesis.toml", "run", f"{url}/openapi.json", *options, *sys.argv[3:]]
            environment |= {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
            # What it keeps of a run, it keeps in the folder it is in.
            code = subprocess.run(command, env=environment, cwd=VENV).returncode
            forget_all(url)
            until("the memory of all requests to be given back", lambda: empty(url), 90)
            served.terminate()
            if served.wait(60) != 0:
                sys.exit(f"run.py: the bridge ended with {served.returncode}")
        finally:
            served.kill()
            log.seek(0)
            said = log.read()
        if "panicked" in said or "broke the bridge" in said:
            sys.exit(f"run.py: the bridge broke:\n{said}")
        return code


if __name__ == "__main__":
    sys.exit(main())
