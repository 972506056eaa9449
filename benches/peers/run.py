#!/usr/bin/env python3
"""What people would use instead of the pool: the same job, done by four others. Sets them up and runs them, all with
one protocol.

    run.py setup [--broker URL] [NAME...]                             fetch what is missing; a small job as a proof
    run.py serve [--workers W] [--broker URL] [--no-setup] NAME       jobs on stdin, answers on stdout

    managers   queues of multiprocessing.managers and NumPy: what Python brings along
    celery     Celery on the RabbitMQ of --broker (or of RABBITRY_BROKER), as the pool
    dask       dask.distributed, a LocalCluster
    ray        Ray on this machine

with_NAME.py says how each is used and why so. Everything is kept in target/peers, a venv for each; nothing is installed
on the machine. It takes Linux. `setup` proves Celery with a job only if it is given a broker.

A job is a line

    job N COUNT SEED INFLIGHT [SECONDS]

COUNT systems of N unknowns with one right-hand side each. A boss has them all and hands them out, at most INFLIGHT at a
time; W worker processes solve them by `numpy.linalg.solve` with one thread; when the boss has the last X, the clock
stops. The systems are those of `System::random(N, 1, SEED + i)`, bit for bit, for i from 0; only the first few are
different ones (`distinct`, 8 and at most 256 MB of them), which come in turn. They are there before the clock starts.
Each task carries its own numbers all the same: nothing is sent once and used twice. A job that takes more than SECONDS
(300), its preparation among them, is given up.

An answer is a line, a JSON object:

    {"peer": "dask", "version": "2026.8.0", "detail": "LocalCluster ...", "workers": 2, "n": 100, "count": 2000,
     "seed": 1, "inflight": 64, "distinct": 8, "seconds": 3.1, "tasks_per_second": 645.2, "backward_error": 1e-16,
     "fingerprint": "..."}

`backward_error` is the worst of the answers, of all for N up to 1000 and of 16 for larger ones, and `fingerprint` that
of the first system, both as benches/baselines/run.py has them.

The first line, before any job, is `{"peer", "version", "detail", "workers", "ready": true}`. What can't be done is
`{"peer", "error"}`: for one job, the program goes on, with the peer started anew for the next; for a peer that can't be
had, the runner says the same on stderr and exits with 1.

The end of stdin, SIGTERM and SIGINT end the program and all it started: politely for up to 5 s if no job is running,
then by SIGKILL. A SIGKILL of this program has the same end, a moment later.

By hand, without a broker:

    printf 'job 100 200 1 8\\njob 10 1 1 0\\njob 3000 9 1 2 0.1\\njob 100 200 1 8\\n' | benches/peers/run.py serve dask

is the first line, an answer, two errors (a window of 0; the time is over) and an answer. `ps` shows nothing afterwards.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Nothing of Python's between the sources.
sys.dont_write_bytecode = True

import processes  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
STARTS_WITHIN = 180.0
ENDS_WITHIN = 5.0
JOB_WITHIN = 300.0
WORD = (1 << 64) - 1


def sibling():
    """The runner of the baselines. It is called as this one is, so its name can't be imported."""
    spec = importlib.util.spec_from_file_location("baselines", HERE.parent / "baselines" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


baselines = sibling()
Missing, tool = baselines.Missing, baselines.tool
KEPT = baselines.TARGET / "peers"


class Failed(Exception):
    """A job got no answer, and why."""


class Unread(Exception):
    """Whoever asked is gone."""


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def put(answer):
    try:
        print(json.dumps(answer), flush=True)
    except BrokenPipeError:
        raise Unread from None


class Peer:
    """A library in a venv of its own: one that can't be had is no obstacle to the others."""

    def __init__(self, name, *packages):
        self.name = name
        # The oldest versions that with_NAME.py may meet; pip takes the newest.
        self.packages = ["numpy>=2.0", *packages]
        self.folder = KEPT / name
        self.stamp = self.folder / "stamp"
        self.python = str(self.folder / "bin" / "python")

    def wanted(self):
        # A venv belongs to the Python that made it.
        return "\n".join([sys.version, os.path.realpath(sys.executable), *self.packages])

    def is_set_up(self):
        return self.stamp.is_file() and self.stamp.read_text() == self.wanted()

    def setup(self):
        say(f"{self.name}: making a venv and fetching {', '.join(self.packages)} with pip (once)")
        shutil.rmtree(self.folder, ignore_errors=True)
        # As the baselines do it: Debian's Python makes no venv with pip unless python3-venv is installed.
        tool([sys.executable, "-m", "venv", "--without-pip", self.folder], "this Python can't make a venv")
        paths = "import sysconfig; print(sysconfig.get_path('platlib'))"
        site = tool([self.python, "-I", "-c", paths], "the venv's Python does not run").strip()
        # Only wheels: what is built here would depend on this machine's compilers and BLAS.
        wheels = ["--only-binary", ":all:", "--target", site, *self.packages]
        tool(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels],
            "pip is missing (apt-get install python3-pip) or found no wheels for this Python",
        )
        self.stamp.write_text(self.wanted())

    def ensure(self):
        """Sets it up unless it is. Only one process does: the others wait and find it done."""
        KEPT.mkdir(parents=True, exist_ok=True)
        with open(KEPT / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.is_set_up():
                self.setup()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("managers"),
        Peer("celery", "celery>=5.5"),
        Peer("dask", "distributed>=2025.1"),
        Peer("ray", "ray>=2.40"),
    )
}


def known(name):
    if name not in PEERS:
        raise Missing(f"there is no such peer; there are {', '.join(PEERS)}")
    return PEERS[name]


class Boss:
    """boss.py, running: the peer's side of the protocol. Whatever is wrong with it, it can be ended."""

    def __init__(self, peer, workers, broker):
        # Sockets and logs of the libraries. In /tmp: the path of a socket has 107 characters at most, Ray's are long.
        self.folder = tempfile.mkdtemp(prefix="peers-", dir="/tmp")
        environment = baselines.environment(1)
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(name, None)
        # By the environment: the arguments of a program are for all to read, and the address has a password.
        environment |= {"TMPDIR": self.folder, "PEERS_BROKER": broker or ""}
        command = [peer.python, "-I", "-B", str(HERE / "boss.py"), peer.name, str(workers)]
        # A session of its own: a Ctrl-C is for the runner, which ends this in order.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
        self.child = subprocess.Popen(command, env=environment, **pipes)
        self.read = b""
        # Between a question and its answer: nothing polite can be said to it then.
        self.busy = True

    def answer(self, seconds):
        """Its next line."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.child.stdout, select.POLLIN)
        # Only errors are of interest here: a pipe has one as soon as nobody reads it.
        poll.register(sys.stdout.fileno(), 0)
        while b"\n" not in self.read:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"no answer within {seconds:g} s; the peer is started anew for the next job")
            for file, _ in poll.poll(left * 1000):
                if file != self.child.stdout.fileno():
                    raise Unread
                part = os.read(file, 1 << 16)
                if not part:
                    raise Failed(f"its boss has ended ({self.ending()}); why is on stderr")
                self.read += part
        line, self.read = self.read.split(b"\n", 1)
        self.busy = False
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def ending(self):
        try:
            code = self.child.wait(1)
        except subprocess.TimeoutExpired:
            return "its stdout is closed"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def ask(self, request, seconds):
        self.busy = True
        try:
            self.child.stdin.write(f"{request}\n".encode())
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # That it has ended, the missing answer says better.
        return self.answer(seconds)

    def end(self):
        """Ends it and all it has started."""
        politely = not self.busy
        try:
            self.child.stdin.close()
        except BrokenPipeError:
            pass
        if politely:
            try:
                self.child.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                say("it does not end by itself and is killed")
        processes.end_descendants()
        self.child.wait()
        self.child.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Runner:
    """A peer that is there for every job, whatever became of it in the last one."""

    def __init__(self, peer, workers, broker):
        self.peer, self.workers, self.broker = peer, workers, broker
        self.boss = None

    def start(self):
        self.boss = Boss(self.peer, self.workers, self.broker)
        return self.boss.answer(STARTS_WITHIN)

    def run(self, request):
        """One job. After an error nothing of the peer is trusted: not its queues, not its workers."""
        try:
            numbers, seconds = parsed(request)
            if self.boss is None:
                self.start()
            return self.boss.ask(" ".join(map(str, numbers)), seconds)
        except ValueError as error:
            return {"peer": self.peer.name, "error": str(error)}
        except Failed as error:
            self.end()
            return {"peer": self.peer.name, "error": str(error)}

    def end(self):
        boss, self.boss = self.boss, None
        if boss is not None:
            boss.end()


def parsed(request):
    fields = request.split()
    if len(fields) not in (5, 6) or fields[0] != "job":
        raise ValueError(f"not a request: {request.strip()!r}; it is: job N COUNT SEED INFLIGHT [SECONDS]")
    n, count, seed, inflight = map(int, fields[1:5])
    seconds = float(fields[5]) if len(fields) == 6 else JOB_WITHIN
    if min(n, count, inflight) < 1 or not 0 <= seed <= WORD or not 0.0 < seconds < 1e6:
        raise ValueError(f"out of range: {request.strip()!r}; N, COUNT, INFLIGHT are at least 1, SECONDS more than 0")
    return (n, count, seed, inflight), seconds


def setup(names, broker):
    """All that are asked for, even if one can't be had. Each proves itself with a small job."""
    failed = False
    for name in names or PEERS:
        try:
            peer = known(name)
            peer.ensure()
            if name == "celery" and not broker:
                imports = "import celery; print(celery.__version__)"
                version = tool([peer.python, "-I", "-c", imports], "the venv is broken; remove it and try again")
                say(f"celery {version.strip()} is set up; a job needs a broker: --broker URL")
                continue
            say(f"{name} {proved(peer, broker)} is set up")
        except Missing as missing:
            refuse(name, missing)
            failed = True
    return 1 if failed else 0


def proved(peer, broker):
    runner = Runner(peer, 2, broker)
    try:
        runner.start()
        answer = runner.boss.ask("100 8 1 4", STARTS_WITHIN)
    except Failed as error:
        raise Missing(str(error)) from None
    finally:
        runner.end()
    if not answer["backward_error"] < 1e-12:
        raise Missing(f"its answers are wrong: backward error {answer['backward_error']}")
    return answer["version"]


def refuse(name, why):
    put({"peer": name, "error": str(why)})
    say(f"{name} can't be had: {why}")


def serve(name, workers, broker, may_set_up):
    runner = None
    try:
        peer = known(name)
        if name == "celery" and not broker:
            raise Missing("it needs the address of a RabbitMQ: --broker amqp://USER:PASSWORD@HOST:PORT")
        if may_set_up:
            peer.ensure()
        elif not peer.is_set_up():
            raise Missing(f"not set up on this machine; run: python3 benches/peers/run.py setup {name}")
        runner = Runner(peer, workers, broker)
        put(runner.start())
        for line in sys.stdin:
            if line.strip():
                put(runner.run(line))
        return 0
    except (Missing, Failed, OSError) as why:
        refuse(name, why)
        return 1
    except Unread:
        return 1
    finally:
        if runner is not None:
            # A second signal would leave half of it behind.
            quietly(signal.SIG_IGN)
            runner.end()


def quietly(handler):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def leave(number, _):
    sys.exit(128 + number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("setup", help="fetch what is missing")
    one.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PEERS))
    two = commands.add_parser("serve", help="start one")
    # Not `choices`: whoever reads the answers should find the refusal among them.
    two.add_argument("name", metavar="NAME")
    two.add_argument("--workers", type=int, default=2)
    two.add_argument("--no-setup", action="store_true", help="refuse rather than fetch anything")
    for command in (one, two):
        # Not as the default, which the help would show.
        command.add_argument("--broker", metavar="URL", help="for celery; or RABBITRY_BROKER")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        parser.error("the peers are ended by ways that only Linux has; run them there")
    processes.adopt()
    quietly(leave)
    broker = arguments.broker or os.environ.get("RABBITRY_BROKER")
    if arguments.command == "setup":
        return setup(arguments.names, broker)
    if arguments.workers < 1:
        parser.error("--workers is at least 1")
    return serve(arguments.name, arguments.workers, broker, not arguments.no_setup)


if __name__ == "__main__":
    sys.exit(main())
