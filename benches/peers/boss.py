"""The boss of one peer. Started by run.py, which has the protocol, in the peer's venv; it has the systems, the clock
and the answers, and with_NAME.py the way there.

    boss.py NAME WORKERS        lines N COUNT SEED INFLIGHT on stdin, answers or {"error"} on stdout

A peer is a module with a class Pool:

    Pool(workers, broker)       starts it; when it returns, the workers are there
    .version, .detail           of the library; how it is used
    .run(tasks, inflight)       the X of each (A, B) in `tasks`, in their order
    .close()                    ends it
"""

import importlib
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# Isolated from the caller's environment, Python does not look beside the program. At the end, so that nothing here is
# taken for a library.
sys.path += [str(HERE), str(HERE.parent / "baselines")]

import numpy as np  # noqa: E402
import numpy_solve  # noqa: E402
import processes  # noqa: E402

DISTINCT = 8
DISTINCT_BYTES = 256 << 20
# Above this many unknowns, an answer takes long to check: a few say it as well.
CHECK_ALL = 1000
CHECK_SOME = 16
ENDS_WITHIN = 10.0

ending = threading.Lock()


def fitting(n, count):
    """How many different systems a job has. Memory is for the peers."""
    return max(1, min(count, DISTINCT, DISTINCT_BYTES // (8 * n * (n + 1))))


class Server:
    def __init__(self, name, pool, workers):
        self.pool = pool
        self.identity = {"peer": name, "version": pool.version, "detail": pool.detail, "workers": workers}
        self.identity["detail"] += f"; NumPy {np.__version__}"
        # The last systems: the rounds of a comparison ask for the same ones again and again.
        self.key = self.systems = None

    def prepared(self, n, distinct, seed):
        key = (n, distinct, seed)
        if self.key != key:
            self.key = self.systems = None
            seeds = ((seed + i) & numpy_solve.WORD for i in range(distinct))
            self.systems = [numpy_solve.system("random", n, 1, one) for one in seeds]
            self.key = key
        return self.systems

    def job(self, n, count, seed, inflight):
        distinct = fitting(n, count)
        systems = self.prepared(n, distinct, seed)
        tasks = [systems[i % distinct][:2] for i in range(count)]
        start = time.perf_counter()
        answers = self.pool.run(tasks, inflight)
        seconds = time.perf_counter() - start
        asked = {"n": n, "count": count, "seed": seed, "inflight": inflight, "distinct": distinct}
        found = {"seconds": seconds, "tasks_per_second": count / seconds, "backward_error": worst(tasks, answers)}
        return {**self.identity, **asked, **found, "fingerprint": systems[0][2]}


def worst(tasks, answers):
    """The largest backward error of all answers, or of some that lie evenly among them."""
    count, n = len(tasks), len(tasks[0][1])
    places = range(count)
    if n > CHECK_ALL and count > CHECK_SOME:
        places = sorted({i * (count - 1) // (CHECK_SOME - 1) for i in range(CHECK_SOME)})
    for i, x in enumerate(answers):
        if not isinstance(x, np.ndarray) or x.shape != (n,):
            raise ValueError(f"answer {i} is not a vector of {n} numbers")
    error = max(numpy_solve.backward_error(*tasks[i], answers[i]) for i in places)
    # Not `error >= 1`: a NaN is as wrong.
    if not error < 1.0:
        raise ValueError("an answer is not finite or no solution")
    return error


def told(error, broker):
    """An error in a line, without the password that a library may have put into it."""
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}"[:400] if text else type(error).__name__
    return re.sub(r"//[^/@\s]*@", "//", text.replace(broker, "the broker") if broker else text)


def read_requests(requests, idle):
    """The lines of stdin; None at its end. The runner asks one thing at a time: if stdin ends within a job, the runner
    has been killed."""
    for line in sys.stdin:
        idle.clear()
        requests.put(line)
    if idle.is_set():
        requests.put(None)
        time.sleep(ENDS_WITHIN)
    end()


def end():
    # Once: two threads can come here, and the first to be through would end the other within its work.
    ending.acquire()
    # Only what the runner has made for us.
    folder = os.environ.get("TMPDIR", "")
    ours = pathlib.Path(folder).name.startswith("peers-")
    # Before and after: Ray ends this process as soon as it misses its own, and until then they write.
    if ours:
        shutil.rmtree(folder, ignore_errors=True)
    # What tidies up behind us can do so only when we are gone.
    processes.end_descendants(patience=None)
    if ours:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def main():
    # What libraries print goes to stderr, also that of their processes: stdout is for the protocol.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def put(answer):
        print(json.dumps(answer), file=answers, flush=True)

    processes.adopt()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    name, workers, broker = sys.argv[1], int(sys.argv[2]), os.environ.pop("PEERS_BROKER", "")
    try:
        pool = importlib.import_module(f"with_{name}").Pool(workers, broker)
        server = Server(name, pool, workers)
        # Not for the clock: imports, first connections, first pages.
        server.job(20, 20 * workers, 1, 4 * workers)
        put({**server.identity, "ready": True})
        # Started last: some of the peers fork.
        requests, idle = queue.SimpleQueue(), threading.Event()
        idle.set()
        threading.Thread(target=read_requests, args=(requests, idle), daemon=True).start()
        while (line := requests.get()) is not None:
            try:
                answer = server.job(*map(int, line.split()))
            except Exception as error:
                answer = {"error": told(error, broker)}
            # Before the answer, after which stdin may end.
            idle.set()
            put(answer)
        pool.close()
    except Exception as error:
        put({"error": told(error, broker)})
    finally:
        end()


if __name__ == "__main__":
    main()
