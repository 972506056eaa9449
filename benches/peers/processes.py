"""Processes that end: those of libraries that start more of them, and leave their session and their parent.

A process that is a subreaper inherits its descendants whose parents are gone, so that none can get away from it: what
it has started can be found by parents alone, by pid, and nothing else can be among it.
"""

import contextlib
import ctypes
import os
import pathlib
import signal
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option, value):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def adopt():
    """From now on, this process inherits what its descendants leave behind."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent():
    """This process goes when the one that started it does, however that ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants():
    """Those that still run. One that has ended and waits to be asked for its exit code is none."""
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # It has ended meanwhile.
        # The name, in parentheses, may have spaces and parentheses itself.
        state, parent = text.rpartition(")")[2].split()[:2]
        children.setdefault(int(parent), []).append((int(stat.parent.name), state))
    found, parents = [], [os.getpid()]
    while parents:
        for pid, state in children.get(parents.pop(), []):
            parents.append(pid)
            if state not in "ZX":
                found.append(pid)
    return found


def tidies_up(pid):
    """Whether it is the helper of multiprocessing that removes semaphores once all who use them are gone."""
    try:
        return b"multiprocessing.resource_tracker" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def reap():
    """Takes the exit codes of those that have ended, which nobody else will ask for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_descendants(within=5.0, patience=2.0):
    """Kills all that this process has started, and what they start meanwhile. True if nothing is left. Those that tidy
    up are given `patience`; with None, they are left to do it when this process has ended too."""
    start = time.monotonic()
    while True:
        passed, left = time.monotonic() - start, descendants()
        spared = []
        if patience is None or passed < patience:
            spared = [pid for pid in left if tidies_up(pid)]
        killed = [pid for pid in left if pid not in spared]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        waited_for = killed if patience is None else left
        if not waited_for or passed > within:
            return not waited_for
        time.sleep(0.02)
