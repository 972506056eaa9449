"""`numpy.linalg.solve`, timed. Started by run.py, which has the protocol and sets the threads before NumPy is imported.

A lies in C order and B too, as NumPy's users have them. What `solve` allocates and copies inside is in its time: its
users pay for it.
"""

import ctypes
import json
import math
import os
import sys
import time

import numpy as np

WORD = (1 << 64) - 1
# More calls of a tiny system than anyone wants to read the seconds of.
CALLS_MAX = 100_000


def rotated(word, by):
    return (word << by | word >> 64 - by) & WORD


def seeded(seed):
    """SplitMix64, four times: the state of xoshiro256++, word 0 lowest."""
    state = 0
    for place in range(4):
        seed = (seed + 0x9E3779B97F4A7C15) & WORD
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & WORD
        z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
        state |= (z ^ z >> 31) << 64 * place
    return state


def stepped(state):
    """xoshiro256++, one step further."""
    s0, s1, s2, s3 = (state >> 64 * place & WORD for place in range(4))
    shifted = s1 << 17 & WORD
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    return s0 | s1 << 64 | s2 << 128 | rotated(s3, 45) << 192


def applied(columns, state):
    """A linear map of the state, given by what becomes of each of its bits."""
    image = 0
    while state:
        lowest = state & -state
        image ^= columns[lowest.bit_length() - 1]
        state ^= lowest
    return image


def words(count, seed):
    """The first words of xoshiro256++. A loop of Python would take half a minute for N = 5000, so many lanes go side by
    side, each `length` words long. A step is linear over the bits: repeated squaring gives the map from the start of
    one lane to that of the next."""
    doublings = max(0, (max(count, 1).bit_length() - 1) // 2)
    length, jump = 1 << doublings, [stepped(1 << bit) for bit in range(256)]
    for _ in range(doublings):
        jump = [applied(jump, column) for column in jump]
    lanes = [seeded(seed)]
    while len(lanes) * length < count:
        lanes.append(applied(jump, lanes[-1]))
    s0, s1, s2, s3 = (np.array([lane >> 64 * place & WORD for lane in lanes], np.uint64) for place in range(4))
    by = {bits: np.uint64(bits) for bits in (17, 19, 23, 41, 45)}
    out = np.empty((length, len(lanes)), np.uint64)
    for row in out:
        total = s0 + s3
        row[:] = (total << by[23] | total >> by[41]) + s0
        shifted = s1 << by[17]
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        s3 = s3 << by[45] | s3 >> by[19]
    return out.T.reshape(-1)[:count]


def system(matrix, n, nrhs, seed):
    """A and B as run.py describes them, in C order, and their fingerprint."""
    count = n * (n + nrhs)
    # Two numbers from each word, the lower half first: the bits of a float in [2, 4), less 3.
    bits = words((count + 1) // 2, seed).view(np.uint32)[:count].astype(np.uint64)
    bits <<= np.uint64(20)
    bits |= np.uint64(0x400 << 52)
    numbers = bits.view(np.float64)
    numbers -= 3.0
    a = np.ascontiguousarray(numbers[: n * n].reshape(n, n).T)
    b = np.ascontiguousarray(numbers[n * n :].reshape(nrhs, n).T)
    if matrix == "spd":
        diagonal = a.diagonal() + float(n)
        a = np.tril(a, -1)
        a += a.T.copy()
        np.fill_diagonal(a, diagonal)
    bits = sum(int(part.view(np.uint64).sum(dtype=np.uint64)) for part in (a, b)) & WORD
    return a, b[:, 0].copy() if nrhs == 1 else b, f"{bits:016x}"


def backward_error(a, b, x):
    a_norm = float(np.abs(a).sum(axis=1).max())
    r_norm, x_norm, b_norm = (np.abs(part).reshape(len(a), -1).max(axis=0) for part in (b - a @ x, x, b))
    return float((r_norm / (a_norm * x_norm + b_norm)).max())


def openblas():
    """What the loaded OpenBLAS says of itself (the kernels it chose are in it) and its threads; None where NumPy has
    another BLAS. The functions have the names that the wheels give them."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[5].strip() for line in maps if "openblas" in line}
    except OSError:
        return None
    for path in paths:
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        for prefix, suffix in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
            config = getattr(library, f"{prefix}openblas_get_config{suffix}", None)
            threads = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
            if config and threads:
                config.restype, threads.restype = ctypes.c_char_p, ctypes.c_int
                return " ".join(config().decode().split()), threads()
    return None


def identity():
    found = openblas()
    if found is None:
        blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
        asked = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
        found = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(), int(asked)
    return {"baseline": "numpy", "version": np.__version__, "blas": found[0], "threads": found[1]}


class Server:
    def __init__(self):
        self.identity = identity()
        # The last system: the rounds of a comparison ask for the same one again and again.
        self.key = self.system = None

    def answer(self, request):
        try:
            return {**self.identity, **self.solve(*parsed(request))}
        except (ValueError, MemoryError, np.linalg.LinAlgError) as error:
            return {"baseline": "numpy", "error": str(error) or type(error).__name__}

    def solve(self, matrix, n, nrhs, seed, repeats, at_least):
        key = (matrix, n, nrhs, seed)
        if self.key != key:
            self.key = self.system = None
            self.system = system(*key)
            self.key = key
        a, b, fingerprint = self.system
        seconds, total = [], 0.0
        while len(seconds) < repeats or (total < at_least and len(seconds) < CALLS_MAX):
            start = time.perf_counter()
            x = np.linalg.solve(a, b)
            seconds.append(time.perf_counter() - start)
            total += seconds[-1]
        error = backward_error(a, b, x)
        if not math.isfinite(error):
            raise ValueError("the answer is not finite")
        shape = {"n": n, "nrhs": nrhs, "matrix": matrix, "seed": seed, "repeats": len(seconds)}
        return {**shape, "seconds": seconds, "backward_error": error, "fingerprint": fingerprint}


def parsed(request):
    fields = request.split()
    if len(fields) not in (5, 6) or fields[0] not in ("solve", "spd"):
        raise ValueError(f"not a request: {request!r}; it is: solve|spd N NRHS SEED REPEATS [SECONDS]")
    n, nrhs, seed, repeats = map(int, fields[1:5])
    at_least = float(fields[5]) if len(fields) == 6 else 0.0
    if min(n, nrhs, repeats) < 1 or repeats > CALLS_MAX or not 0 <= seed <= WORD or not at_least >= 0.0:
        raise ValueError(f"out of range: {request!r}")
    return "random" if fields[0] == "solve" else "spd", n, nrhs, seed, repeats, at_least


def main():
    def put(answer):
        print(json.dumps(answer), flush=True)

    server = Server()
    if len(sys.argv) > 1:
        answer = server.answer(" ".join(sys.argv[1:]))
        put(answer)
        if "error" in answer:
            sys.exit(f"numpy_solve: {answer['error']}")
        return
    put({**server.identity, "ready": True})
    for line in sys.stdin:
        if line.strip():
            put(server.answer(line))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
