#!/usr/bin/env python3
"""A Rabbitry worker in NumPy: leases systems A X = B from the HTTP bridge and solves them.

    python3 minion_numpy.py --bridge http://127.0.0.1:8080

Written to be read by people who want a worker in another language: the lease calls are in README.md beside it, the
binary layouts in docs/protocol.md. Python 3.9 or later and NumPy, nothing else.

The first Ctrl-C (or SIGTERM) gives the task in hand back, and another worker gets it. Exit codes: 0 after --count
tasks or SIGTERM; 1 if the bridge refuses this worker; 2 usage; 130 after Ctrl-C.
"""
from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import platform
import random
import signal
import struct
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import numpy as np

# One wait for a task, and the silence of a bridge that is more than slowness.
WAIT_SECONDS = 30.0
SILENCE_SECONDS = 60.0
# The longest pause before a bridge that is not there is asked again.
BACKOFF_SECONDS_MAX = 15.0
# Random columns that go along with B to measure A^-1.
PROBES = 8

METHODS = ["auto", "lu", "mixed", "cholesky", "triangular", "lstsq"]  # by their codes in a task
METHOD_CODES = {"lu": 1, "lstsq": 5}                                  # in an answer


class System(NamedTuple):
    """A leased system A X = B."""

    a: np.ndarray
    b: np.ndarray
    method: str
    reproducible: bool


class Certificate(NamedTuple):
    """As docs/protocol.md has it."""

    method: str
    backward_error: float
    rcond: float
    forward_error_bound: float | None
    threads: int
    factor_seconds: float
    solve_seconds: float


class TaskError(Exception):
    """A task that has no answer; the arguments are the document for its caller."""

    def __init__(self, **document: Any) -> None:
        super().__init__(document)
        self.document = document


# -- Numbers ----------------------------------------------------------------------------------------------------------


def solve(system: System, threads: int) -> tuple[np.ndarray, Certificate]:
    """X in the shape of B, and its certificate."""
    a, b = system.a, system.b
    started = time.perf_counter()
    check(system)
    columns = b.reshape(len(b), -1)
    method, factor = ("lstsq", least_squares) if system.method == "lstsq" else ("lu", lu)
    # What overflows is infinite, and refused below.
    with np.errstate(all="ignore"):
        norm_a = norm(a)
        try:
            x, rcond = factor(a, columns, norm_a)
        except np.linalg.LinAlgError as reason:
            if "Singular" not in str(reason):  # the SVD did not converge
                raise
            raise TaskError(code="singular", pivot=first_zero_pivot(a)) from None
        solved = time.perf_counter()
        error = backward_error(a, norm_a, x, columns)
    if not (np.isfinite(x).all() and np.isfinite([norm_a, error]).all()):
        raise TaskError(code="invalid", message="a row of A or the answer exceeds the range of f64: scale A and B")
    bound = forward_error_bound(len(a), error, rcond) if method == "lu" else None
    # NumPy factors and solves in one call: the first figure has both, the second is the certificate's.
    certificate = Certificate(method, error, rcond, bound, threads, solved - started, time.perf_counter() - solved)
    return x.reshape(a.shape[1:] + b.shape[1:]), certificate


def check(system: System) -> None:
    """Refuses what other workers refuse: a caller must not see which of them has its task."""
    a, b, method, reproducible = system
    (m, n), rows = a.shape, len(b)
    if reproducible:
        raise TaskError(code="invalid", message="this worker can't promise bits")
    if m != n and method != "lstsq":
        raise TaskError(code="invalid", message=f"A is {m} x {n}; it must be square, or the method lstsq")
    if rows != m:
        raise TaskError(code="invalid", message=f"A has {m} rows and B has {rows}")
    for name, matrix in (("A", a), ("B", b)):
        at = first(~np.isfinite(matrix))
        if at is not None:
            where = ", ".join(map(str, (*at, 0)[:2]))
            raise TaskError(code="invalid", message=f"{name}[{where}] is {matrix[at]} (rows and columns from 0): "
                                                    "remove or replace it")
    if method == "cholesky":
        at = first(a != a.T)
        if at is not None:
            refuse_form("symmetric", a, at, at[::-1])
    elif method == "triangular":
        above, below = first(np.triu(a, 1) != 0.0), first(np.tril(a, -1) != 0.0)
        if above is not None and below is not None:
            refuse_form("triangular", a, above, below)


def first(mask: np.ndarray) -> tuple[int, ...] | None:
    """The first place that is true."""
    at = tuple(map(int, np.unravel_index(mask.argmax(), mask.shape)))
    return at if mask[at] else None


def refuse_form(form: str, a: np.ndarray, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    places = " and ".join(f"A[{i}, {j}] is {a[i, j]}" for i, j in (one, other))
    raise TaskError(code="invalid", message=f"A is not {form}: {places} (rows and columns from 0)")


def lu(a: np.ndarray, b: np.ndarray, norm_a: float) -> tuple[np.ndarray, float]:
    """Solves a square system; also an estimate of 1 / (||A|| ||A^-1||).

    NumPy gives no factors to estimate ||A^-1|| with as LAPACK does, and a second factorisation costs as much as the
    first. So columns r of random signs are solved along with B: ||A^-1 r|| <= ||A^-1|| bounds it from below.

    What it is worth: an element of A^-1 r is as large as the 2-norm of its row of A^-1 as a rule, and ||A^-1|| is the
    largest 1-norm of a row, up to sqrt(n) times that. So the rcond given is never too small but for rounding, and may
    be up to about sqrt(n) times too large; LAPACK's estimate is rarely off by more than 3.
    """
    n = len(a)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (n, PROBES))
    solution = np.linalg.solve(a, np.hstack([b, signs]))
    x, probes = solution[:, :b.shape[1]], solution[:, b.shape[1]:]
    rcond = float(1.0 / np.abs(probes).max() / norm_a)
    # An inverse beyond f64: singular to working precision.
    return x, min(rcond, 1.0) if np.isfinite(rcond) else 0.0


def least_squares(a: np.ndarray, b: np.ndarray, _norm_a: float) -> tuple[np.ndarray, float]:
    """The x of the least ||b - A x||, or the shortest x that solves; also the ratio of A's singular values."""
    # A has full rank, says its caller: nothing but zero is cut off.
    x, _, _, singular_values = np.linalg.lstsq(a, b, rcond=0.0)
    if singular_values[-1] == 0.0:
        raise np.linalg.LinAlgError("Singular matrix")
    return x, float(singular_values[-1] / singular_values[0])


def norm(a: np.ndarray) -> float:
    """The infinity norm, of a vector or a matrix."""
    return float(np.linalg.norm(a, np.inf))


def backward_error(a: np.ndarray, norm_a: float, x: np.ndarray, b: np.ndarray) -> float:
    """max over the columns of ||b - A x|| / (||A|| ||x|| + ||b||), infinity norm.

    For least squares with a residual of ||A' r|| / (||A'|| (||A|| ||x|| + ||b||)). Divided through by ||A||, so that no
    product overflows.
    """
    residuals = b - a @ x
    overdetermined = a.shape[0] > a.shape[1]
    norm_t = norm(a.T) if overdetermined else 0.0
    errors = [0.0]
    for r, x_column, b_column in zip(residuals.T, x.T, b.T):
        size = norm(r)
        if size != 0.0:
            if overdetermined:
                size *= norm(a.T @ (r / size)) / norm_t
            errors.append(size / norm_a / (norm(x_column) + norm(b_column) / norm_a))
    # Unlike max() this keeps NaN.
    return float(np.max(errors))


def forward_error_bound(n: int, error: float, rcond: float) -> float | None:
    """Bound of ||x - exact|| / ||x||, or `None` if A is singular to working precision.

    As src/tasks/solve/condition.rs has it: 2 (backward error + rounding of the residual) / rcond, where rounding is
    sqrt(n) units. Our rcond may be sqrt(n) times too large, and a bound should be one.
    """
    epsilon = float(np.finfo(float).eps)
    rcond /= n**0.5
    return 2.0 * (error + epsilon / 2.0 * n**0.5) / rcond if rcond >= epsilon else None


def first_zero_pivot(a: np.ndarray) -> int:
    """The first zero pivot of a singular A, from 1: the first column that depends on those before it.

    NumPy does not tell; QR does, up to rounding. A row instead of a column where A is stored by rows, as everywhere.
    """
    stored = a if a.flags.f_contiguous else a.T
    diagonal = np.abs(np.diagonal(np.linalg.qr(stored, mode="r")))
    small = diagonal <= diagonal.max() * max(a.shape) * np.finfo(float).eps
    return int(np.argmax(small) if small.any() else np.argmin(diagonal)) + 1


# -- The forms of tasks and answers -----------------------------------------------------------------------------------


def read_binary(params: bytes, numbers: np.ndarray) -> System:
    m, n, nrhs, a_by_columns, b_by_columns, b_is_vector, method, reproducible = struct.unpack("<QQQBBBBB", params)
    a = numbers[:m * n].reshape(m, n, order="F" if a_by_columns else "C")
    b = numbers[m * n:].reshape(m, nrhs, order="F" if b_by_columns else "C")
    return System(a, b[:, 0] if b_is_vector else b, METHODS[method], bool(reproducible))


def write_binary(params: bytes, x: np.ndarray, certificate: Certificate) -> tuple[bytes, memoryview]:
    """Parameters and payload of an answer to the task with these parameters."""
    _, n, nrhs, _, b_by_columns, b_is_vector, _, _ = struct.unpack("<QQQBBBBB", params)
    method, error, rcond, bound, threads, factor_seconds, solve_seconds = certificate
    bound = float("inf") if bound is None else bound
    answer = struct.pack("<QQBBB3xdddIIddQ", n, nrhs, b_by_columns, b_is_vector, METHOD_CODES[method], error, rcond,
                         bound, 0, threads, factor_seconds, solve_seconds, 0)
    x = np.ascontiguousarray(x.T if b_by_columns else x, "<f8")
    return answer, memoryview(x.reshape(-1).view(np.uint8))


def read_json(payload: Mapping[str, Any]) -> System:
    try:
        a, b = (np.asarray(payload[name], float) for name in ("a", "b"))
    except ValueError as error:  # rows of different lengths
        raise TaskError(code="invalid", message=f"A and B are lists of rows of numbers: {error}") from None
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise TaskError(code="invalid", message=f"A has {a.ndim} dimensions and B {b.ndim}; 2, and 1 or 2, are read")
    return System(a, b, payload.get("method", "auto"), payload.get("reproducible", False))


def write_json(x: np.ndarray, certificate: Certificate) -> bytes:
    document = {**certificate._asdict(), "tried": [], "iterations": 0, "reproducible": None}
    return json.dumps({"x": x.tolist(), "certificate": document}).encode()


# -- The bridge -------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The bridge said no."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: np.ndarray  # bytes, where numbers may begin


class Bridge:
    """One connection to the bridge, opened anew when it is lost."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a bridge: write http://HOST:PORT")
        connection = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = connection(parts.hostname, parts.port, timeout=WAIT_SECONDS + SILENCE_SECONDS)
        self.path = parts.path.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, document: Any = None, body: Any = None, **headers: str) -> Response:
        """One request. Raises `Refused` for what the bridge refuses, and `OSError` or `HTTPException` for a connection
        that is lost."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if document is not None:
            body, headers["Content-Type"] = json.dumps(document).encode(), "application/json"
        request = method, self.path + path, body, {**self.headers, **headers}
        if self.connection.sock is not None:
            # The bridge closes connections that nobody has used for a while, which shows at their next use.
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
                return self.attempt(*request)
        return self.attempt(*request)

    def attempt(self, *request: Any) -> Response:
        try:
            # A bridge that refuses a body may close the connection before it has read it all: the answer is there.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.connection.request(*request)
            response = self.connection.getresponse()
            # In an array from the start: numbers are not copied.
            data = np.empty(int(response.headers.get("Content-Length", 0)), np.uint8)
            rest = memoryview(data)
            while rest:
                read = response.readinto(rest)
                if not read:
                    raise http.client.IncompleteRead(b"", len(rest))
                rest = rest[read:]
            response.read()
        except BaseException:
            self.connection.close()
            raise
        if response.status >= 400:
            text = data.tobytes().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError):
                text = json.loads(text)["detail"]
            raise Refused(response.status, text)
        return Response(response.status, response.headers, data)


class Lease(NamedTuple):
    id: str
    expires_in: float
    task: str
    params: bytes  # of a binary task
    payload: Any   # numbers, or the JSON form


class Stop(BaseException):
    """Ctrl-C or SIGTERM, with the exit code."""


class Minion:
    """Leases one task after another.

    The main thread speaks to the bridge, and another one computes: signals come to the main thread alone, which NumPy
    would keep from them, and LAPACK can't be interrupted.
    """

    def __init__(self, options: argparse.Namespace, token: str | None) -> None:
        self.bridge = Bridge(options.bridge, token)
        self.options = options
        self.done = self.failed = self.dropped = 0
        self.compute_seconds = 0.0
        self.lease: Lease | None = None

    def say(self, text: str) -> None:
        if not self.options.quiet:
            print(f"minion_numpy: {text}", file=sys.stderr, flush=True)

    def run(self) -> int:
        backoff = 0.5
        try:
            while not self.options.count or self.done + self.failed < self.options.count:
                try:
                    self.lease = self.next()
                    if self.lease is not None:
                        self.work(self.lease)
                        self.lease = None
                    backoff = 0.5
                    continue
                except Refused as refused:
                    # Wrong in itself, and not only now: no token, an unknown kind, no bridge at this address.
                    if refused.status in (400, 401, 403, 404, 405, 406):
                        print(f"minion_numpy: the bridge refuses this worker: {refused}", file=sys.stderr)
                        return 1
                    reason = str(refused)
                except (OSError, http.client.HTTPException) as error:
                    reason = f"{type(error).__name__}: {error}"
                pause = random.uniform(0.5, 1.0) * backoff
                self.say(f"{reason}; asking again in {pause:.1f} s")
                time.sleep(pause)
                backoff = min(2.0 * backoff, BACKOFF_SECONDS_MAX)
            return 0
        except Stop as stop:
            if self.lease is not None:
                # It may be in the middle of something.
                self.bridge.connection.close()
                with contextlib.suppress(Refused, OSError, http.client.HTTPException):
                    self.bridge.call("DELETE", f"/v1/leases/{self.lease.id}")
                    self.say(f"gave the task {self.lease.task} back")
            return int(stop.args[0])
        finally:
            self.say(f"{self.done} solved, {self.failed} failed, {self.dropped} dropped, "
                     f"{self.compute_seconds:.2f} s of computation")

    def next(self) -> Lease | None:
        """The next task, or `None` if none came in time."""
        worker = {"name": self.options.name, "host": platform.node(), "pid": os.getpid(), "cores": os.cpu_count() or 1,
                  "version": f"numpy {np.__version__}"}
        wanted = "application/json" if self.options.json else "application/x-rabbitry"
        response = self.bridge.call("POST", "/v1/leases", {"kinds": ["solve"], "wait": WAIT_SECONDS, "worker": worker},
                                    Accept=wanted)
        if response.status == 204:
            return None
        if self.options.json:
            said = json.loads(response.body.tobytes())
            return Lease(said["lease"], said["expires_in"], said["task"], b"", said["payload"])
        said = response.headers
        return Lease(said["Rabbitry-Lease"], float(said["Rabbitry-Expires-In"]), said["Rabbitry-Task"],
                     base64.b64decode(said["Rabbitry-Params"]), response.body.view("<f8"))

    def work(self, lease: Lease) -> None:
        """Computes a task, renews its lease as long as that takes, and answers."""
        computation = Computation(lease, self.options.threads)
        stopped = None
        expires_in = lease.expires_in
        # What was stopped computes on, and keeps this worker from the next task: there is no way to end LAPACK.
        while not computation.ended.wait(None if stopped else expires_in / 3.0):
            try:
                expires_in = self.renew(lease)
            except Refused as refused:
                stopped = str(refused)
            except (OSError, http.client.HTTPException):
                # It is good for another attempt or two; whether it held shows with the answer.
                continue
        self.compute_seconds += computation.seconds
        if stopped is None:
            try:
                self.answer(lease, computation)
            except (Refused, OSError, http.client.HTTPException) as error:
                stopped = f"{type(error).__name__}: {error}"
        if stopped is not None:
            self.dropped += 1
        elif computation.error is None:
            self.done += 1
        else:
            self.failed += 1
        self.say(f"task {lease.task}: {computation.summary}, {computation.seconds:.3f} s"
                 + ("" if stopped is None else f"; dropped: {stopped}"))

    def renew(self, lease: Lease) -> float:
        """Seconds until it is over. Raises `Refused` if it is."""
        answer = json.loads(self.bridge.call("PATCH", f"/v1/leases/{lease.id}", {}).body.tobytes())
        if answer["stopped"] is not None:
            raise Refused(answer["stopped"]["status"], answer["stopped"]["detail"])
        return answer["expires_in"]

    def answer(self, lease: Lease, computation: Computation) -> None:
        """Ends the lease. Raises `Refused` if it had ended."""
        call: dict[str, Any] = {"method": "PUT", "path": f"/v1/leases/{lease.id}/result"}
        if computation.error is not None:
            call.update(path=f"/v1/leases/{lease.id}/error", document=computation.error)
        elif self.options.json:
            call.update(body=computation.answer[1], Content_Type="application/json")
        else:
            params, payload = computation.answer
            call.update(body=payload, Content_Type="application/x-rabbitry",
                        Rabbitry_Params=base64.b64encode(params).decode())
        while True:
            try:
                self.bridge.call(**call)
                return
            except Refused as refused:
                if refused.status == 503:
                    # No room for the answer at the moment.
                    time.sleep(2.0)
                    self.renew(lease)
                elif refused.status in (400, 413, 422):
                    # It will not do, and this worker has no better one. The lease is open.
                    message = f"the answer was refused: {refused}"
                    self.bridge.call("PUT", f"/v1/leases/{lease.id}/error", {"code": "failed", "message": message})
                    raise
                else:
                    raise


class Computation:
    """A task being computed in a thread of its own."""

    def __init__(self, lease: Lease, threads: int) -> None:
        self.lease, self.threads = lease, threads
        self.answer: tuple[bytes, Any] = (b"", b"")           # parameters and payload
        self.error: dict[str, Any] | None = None          # or why there is none
        self.summary = ""
        self.seconds = 0.0
        self.ended = threading.Event()
        # A daemon: the program may end while it computes.
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        started = time.perf_counter()
        try:
            self.compute()
        except TaskError as error:
            self.error = error.document
        except MemoryError:
            self.error = {"code": "failed", "message": "out of memory"}
        except Exception as error:
            self.error = {"code": "failed", "message": f"{type(error).__name__}: {error}"}
        if self.error is not None:
            self.summary += " ".join(str(value) for value in self.error.values())
        self.seconds = time.perf_counter() - started
        self.ended.set()

    def compute(self) -> None:
        lease = self.lease
        system = read_binary(lease.params, lease.payload) if lease.params else read_json(lease.payload)
        self.summary = f"{' x '.join(map(str, system.a.shape))}, "
        x, certificate = solve(system, self.threads)
        self.answer = write_binary(lease.params, x, certificate) if lease.params else (b"", write_json(x, certificate))
        self.summary += f"{certificate.method}, backward error {certificate.backward_error:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description="A Rabbitry worker in NumPy.")
    parser.add_argument("--bridge", metavar="URL", default="http://127.0.0.1:8080", help="default: %(default)s")
    parser.add_argument("--token-file", metavar="FILE", help="the bearer token, on its first line")
    parser.add_argument("--name", default="numpy", help="in the directory of workers (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="exchange tasks as JSON: slower, simpler")
    parser.add_argument("--count", metavar="K", type=int, default=0, help="end after K tasks")
    parser.add_argument("--threads", metavar="N", type=int, default=os.cpu_count() or 1,
                        help="threads of NumPy's BLAS (default: the cores)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no lines about tasks on stderr")
    options = parser.parse_args()
    if options.count < 0 or options.threads < 1:
        parser.error("--count is not negative and --threads is at least 1")

    # BLAS reads these as it is loaded.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    global np
    import numpy as np

    try:
        token = None
        if options.token_file:
            with open(options.token_file) as file:
                token = file.readline().strip()
        minion = Minion(options, token)
    except (OSError, ValueError) as error:
        parser.error(str(error))

    def stop(number: int, _frame: Any) -> None:
        # Once: the second signal ends the program at once.
        signal.signal(number, signal.SIG_DFL)
        raise Stop(130 if number == signal.SIGINT else 0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return minion.run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Not sys.exit: a thread may be within LAPACK, and BLAS would wait for it.
    os._exit(code)
