#!/usr/bin/env python3
"""Solve dense systems A X = B on a pool of Rabbitry workers, over its HTTP bridge.

One file, no dependency but NumPy (Python 3.9 or later): copy it to where it is needed.

    import numpy as np, rabbitry

    client = rabbitry.Client("http://127.0.0.1:8080")        # or RABBITRY_URL, RABBITRY_TOKEN
    solution = client.solve(np.random.rand(1000, 1000), np.random.rand(1000))
    solution.x, solution.certificate.forward_error_bound

    tasks = [client.submit(a, b) for a, b in systems]        # on the bridge's disk: they survive this program
    solutions = client.gather(tasks)

`rabbitry.solve`, `rabbitry.submit` and `rabbitry.gather` do the same with a client made of the environment.

    python3 rabbitry.py A.npy B.npy -o X.npy

Errors are `RabbitryError` (the bridge said no), `ConnectionError` (no bridge answers, after retries), `TimeoutError`,
and `TypeError` for arrays that hold no real numbers.
"""
from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import random
import selectors
import ssl
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Callable, TypeVar
from urllib.parse import urlsplit

import numpy as np

__all__ = ["Certificate", "Client", "RabbitryError", "Solution", "Task", "TaskState", "gather", "solve", "submit"]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
# Silence on a connection beyond what a request asked to wait.
SILENCE_SECONDS = 60.0
# One long poll. Proxies cut connections that are silent for longer than a minute, as a rule.
POLL_SECONDS = 30.0
# `gather` looks at so many tasks at a time, each for so long before it turns to the next.
GATHER_THREADS = 8
GATHER_POLL_SECONDS = 2.0
# Between pieces of this size an upload looks whether it was refused already.
PIECE_BYTES = 1 << 20


class RabbitryError(Exception):
    """The bridge said no: its problem document (RFC 9457)."""

    def __init__(self, status: int, code: str, title: str, detail: str, field: str | None = None,
                 task: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(detail or title)
        self.status = status            # of HTTP
        self.code = code                # "singular", "invalid", "busy", ...: a short name for programs
        self.title = title              # the code in words
        self.detail = detail            # what is wrong here, and what to do
        self.field = field              # what is at fault: a JSON pointer, a part, a header, a query parameter
        self.task = task                # id of the task that failed
        self.retry_after = retry_after  # seconds, if the bridge wants to be asked again

    @classmethod
    def from_problem(cls, problem: Mapping[str, Any], retry_after: float | None = None) -> RabbitryError:
        return cls(problem["status"], problem["code"], problem["title"], problem.get("detail", ""),
                   problem.get("field"), problem.get("task"), retry_after)


@dataclass(frozen=True)
class Certificate:
    """How a solution was computed and how good it is. Norms are infinity norms."""

    method: str                           # "lu", "mixed", "cholesky", "mixed-cholesky", "triangular" or "lstsq"
    tried: Sequence[str]                  # methods given up before it
    backward_error: float                 # max over the columns of ||b - A x|| / (||A|| ||x|| + ||b||)
    rcond: float                          # estimate of 1 / (||A|| ||A^-1||)
    forward_error_bound: float | None  # of ||x - exact|| / ||x||; None if A is singular to working precision
    iterations: int                       # of refinement
    threads: int
    factor_seconds: float
    solve_seconds: float
    reproducible: str | None           # the setting under which other workers give the same bits

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        members = json.loads(text)
        # A later bridge may know more of them.
        return cls(**{name: members[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, eq=False)
class Solution:
    """X in the shape and order of B, and its proof."""

    x: np.ndarray
    certificate: Certificate
    worker: str | None  # who computed it
    task: str              # its id


@dataclass(frozen=True)
class TaskState:
    """How far a task is."""

    state: str                       # "queued", "running", "done", "failed" or "cancelled"
    percent: float                   # of the computation
    worker: str | None            # who computed it
    error: RabbitryError | None   # why it failed

    @classmethod
    def from_json(cls, view: Mapping[str, Any]) -> TaskState:
        error = view.get("error")
        return cls(view["state"], view["percent"], view.get("worker"), error and RabbitryError.from_problem(error))


class Task:
    """A task that was submitted: its id, and what can be asked of it."""

    def __init__(self, client: Client, task: str) -> None:
        self.client = client
        self.id = task
        self._solution: Solution | None = None

    def __repr__(self) -> str:
        return f"Task({self.id!r})"

    def state(self) -> TaskState:
        """How far it is."""
        # Not GET on the task: that is the reading of a result, in JSON, and the bridge keeps a result that was read for
        # a minute only. The first event is the state without the result.
        return self.client._call("GET", f"/v1/tasks/{self.id}/events", _first_event)

    def result(self, timeout: float | None = None) -> Solution:
        """Waits for the solution.

        The bridge deletes it a minute after it was read; it stays in this object.

        Raises `TimeoutError` after `timeout` seconds (the task goes on), and `RabbitryError` if the task has failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
            solution = self._poll(min(max(left, 0.0), POLL_SECONDS), deadline)
            if solution is not None:
                return solution
            if left <= 0.0:
                raise TimeoutError(f"the task {self.id} has no outcome after {timeout:g} s")

    def cancel(self) -> TaskState:
        """Cancels it. If it has ended already, its result is deleted."""
        return self.client._call("DELETE", f"/v1/tasks/{self.id}", _state)

    def _poll(self, wait: float, deadline: float | None = None) -> Solution | None:
        """Waits once; `None` if there is no outcome yet."""
        if self._solution is None:
            started = time.monotonic()
            answer = self.client._call("GET", f"/v1/tasks/{self.id}?wait={wait:.3f}", _solution_or_state,
                                       headers=ACCEPT_SOLUTION, wait=wait, deadline=deadline)
            if isinstance(answer, TaskState):
                # A bridge that is being stopped answers at once: no reason to ask it a thousand times a second.
                time.sleep(min(max(wait - (time.monotonic() - started), 0.0), 0.2))
                return None
            self._solution = answer
        return self._solution


class Client:
    """The bridge at `url` (default: RABBITRY_URL, or http://127.0.0.1:8080).

    `token` (default: RABBITRY_TOKEN) is sent as bearer token. `cafile` has the certificates to trust with https://, in
    PEM; by default those of the system. Requests that meet a broken connection or a bridge without room are repeated up
    to `retries` times, half a minute in all: each is safe to repeat.

    Safe for threads: each has a connection of its own, which is kept for its next request.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, cafile: str | None = None,
                 retries: int = 6) -> None:
        self.url = (url or os.environ.get("RABBITRY_URL") or "http://127.0.0.1:8080").rstrip("/")
        self.retries = retries
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.url!r} is no address of a bridge: write http://HOST:PORT")
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self._tls = ssl.create_default_context(cafile=cafile) if parts.scheme == "https" else None
        token = token if token is not None else os.environ.get("RABBITRY_TOKEN")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._local = threading.local()

    def solve(self, a: Any, b: Any, method: str = "auto", *, reproducible: bool = False,
              priority: str | None = None, wait: float | None = None,
              timeout: float | None = None) -> Solution:
        """Solves A X = B, and waits for it.

        `a` and `b` are arrays of real numbers in any layout, or what `numpy.asarray` makes them of. float32 and
        integers travel as they are; the computation is in float64.

        `method` is "auto", "lu", "mixed", "cholesky", "triangular" or "lstsq"; `priority` "low", "normal" or "high".
        `reproducible` asks for the same bits from every worker of the same version. `wait` is how many seconds the
        first request waits for the outcome (default: 30) before the task goes on by itself and is polled. After
        `timeout` seconds (default: never) the task is cancelled and `TimeoutError` raised.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        body = _system(a, b, method, reproducible, priority)
        wait = POLL_SECONDS if wait is None else wait
        wait = wait if timeout is None else min(wait, timeout)
        # To solve is to compute: a solve that is repeated costs time and changes nothing. The bridge drops the task of
        # a connection that breaks.
        answer = self._call("POST", f"/v1/solve?wait={wait:.3f}", _solution_or_task, headers=ACCEPT_SOLUTION,
                            body=body, wait=wait, deadline=deadline)
        if isinstance(answer, Solution):
            return answer
        task = Task(self, answer)
        try:
            return task.result(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except (TimeoutError, KeyboardInterrupt):
            with contextlib.suppress(RabbitryError, ConnectionError):
                task.cancel()
            raise

    def submit(self, a: Any, b: Any, method: str = "auto", *, reproducible: bool = False,
               priority: str | None = None, deadline: float | None = None,
               idempotency_key: str | None = None) -> Task:
        """Hands A X = B in, to be asked for later; arguments as for `solve`.

        The task survives a restart of the bridge. After `deadline` seconds nobody wants its answer, and it fails. The
        same submission with the same `idempotency_key` (1 to 255 visible ASCII characters; default: a new one) is the
        same task, so that it may be repeated when nobody knows whether it arrived.
        """
        body = _system(a, b, method, reproducible, priority, deadline)
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Task(self, self._call("POST", "/v1/tasks?kind=solve", _task_id, headers=headers, body=body))

    def task(self, task: str) -> Task:
        """A task of an earlier program, by its id."""
        return Task(self, task)

    def gather(self, tasks: Iterable[Task], return_exceptions: bool = False) -> list[Any]:
        """The solutions of tasks, in their order, read as they complete.

        As `asyncio.gather`: the first error is raised, and the other tasks go on; or with `return_exceptions` errors
        stand in the list.
        """
        tasks = list(tasks)
        results: list[Any] = [None] * len(tasks)
        pending = deque(range(len(tasks)))
        stop = threading.Event()

        def follow() -> None:
            """Looks at one task after another, until none is left."""
            try:
                while pending and not stop.is_set():
                    try:
                        index = pending.popleft()
                    except IndexError:  # another thread has the last one
                        return
                    try:
                        results[index] = tasks[index]._poll(GATHER_POLL_SECONDS)
                    except Exception as error:
                        if not return_exceptions:
                            raise
                        results[index] = error
                    if results[index] is None:
                        pending.append(index)
            finally:
                self.close()

        with ThreadPoolExecutor(max(1, min(GATHER_THREADS, len(tasks)))) as pool:
            try:
                for future in as_completed([pool.submit(follow) for _ in range(min(GATHER_THREADS, len(tasks)))]):
                    future.result()
            finally:
                stop.set()
        return results

    def workers(self) -> list[dict[str, Any]]:
        """The live workers: `id`, `host`, `cores`, `slots`, `busy`, `kinds`, `gflops`, `version`, `done`, ..."""
        return self._call("GET", "/v1/workers", _json)

    def close(self) -> None:
        """Closes the connection of this thread. The next request opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()

    def _call(self, method: str, path: str, read: Callable[[http.client.HTTPResponse], T], *,
              headers: Mapping[str, str] | None = None, body: _Body | None = None, wait: float = 0.0,
              deadline: float | None = None) -> T:
        """One request, repeated if need be. Only for what may be repeated.

        `read` makes something of the response; `wait` is how long the bridge was asked to wait.
        """
        headers = {**self._headers, **(headers or {})}
        attempt = 0
        while True:
            last = attempt == self.retries
            backoff = random.uniform(0.5, 1.0) * 0.25 * 2**attempt
            try:
                return self._attempt(method, self._path + path, headers, body, wait, read)
            except RabbitryError as error:
                # 409 to a repeated submission: the first one is still being read.
                conflict = error.code == "conflict" and "Idempotency-Key" in headers
                delay = backoff if conflict else error.retry_after
                if delay is None or last:
                    raise
                # Others were told the same: not all at once, and later each time.
                delay = max(delay, backoff) * random.uniform(1.0, 2.0)
            except ssl.SSLCertVerificationError:
                raise
            except _StaleConnection:  # the next one is not
                continue
            except (OSError, http.client.HTTPException) as error:
                if last:
                    raise ConnectionError(f"no bridge answers at {self.url}: {error}") from error
                delay = backoff
            if deadline is not None and time.monotonic() + delay > deadline:
                raise TimeoutError(f"no outcome in time from {self.url}, which was to be asked again in {delay:.1f} s")
            time.sleep(delay)
            attempt += 1

    def _attempt(self, method: str, target: str, headers: Mapping[str, str], body: _Body | None, wait: float,
                 read: Callable[[http.client.HTTPResponse], T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self._tls is None:
                connection = http.client.HTTPConnection(self._host, self._port, CONNECT_SECONDS)
            else:
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=CONNECT_SECONDS,
                                                         context=self._tls)
            self._local.connection = connection
        reused = connection.sock is not None
        reusable = False
        try:
            if not reused:
                connection.connect()
            connection.sock.settimeout(wait + SILENCE_SECONDS)
            try:
                whole = _send(connection, method, target, headers, body)
                response = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine) as error:
                # The bridge closes connections that nobody has used for a while, which shows at their next use.
                if reused:
                    raise _StaleConnection from error
                raise
            try:
                if response.status >= 400:
                    raise _error(response)
                return read(response)
            finally:
                reusable = whole and response.isclosed()
        finally:
            if not reusable:
                connection.close()


class _StaleConnection(Exception):
    """A connection from before that the bridge has closed since."""


def _send(connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str],
          body: _Body | None) -> bool:
    """Sends a request; false if the answer came, or the connection broke, before all of it was sent."""
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is None:
        connection.endheaders()
        return True
    connection.putheader("Content-Type", body.content_type)
    connection.putheader("Content-Length", str(body.length))
    connection.endheaders()
    # A bridge that refuses a body says so at once, and may close the connection before it has read it all.
    with selectors.DefaultSelector() as selector:
        # Within TLS something to read may be a session ticket: there only the broken connection tells.
        if not isinstance(connection.sock, ssl.SSLSocket):
            selector.register(connection.sock, selectors.EVENT_READ)
        for piece in body:
            if selector.get_map() and selector.select(0):
                return False
            try:
                connection.send(piece)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                return False
    return True


class _Body:
    """A multipart body in pieces, which can be sent again. Arrays are not copied."""

    def __init__(self, fields: Mapping[str, str | _Npy]) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[bytes | _Npy] = []
        for name, value in fields.items():
            disposition = f'form-data; name="{name}"'
            if isinstance(value, _Npy):
                disposition += f'; filename="{name}.npy"'
            self._parts += [f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode(),
                            value if isinstance(value, _Npy) else value.encode(), b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        self.length = sum(part.length if isinstance(part, _Npy) else len(part) for part in self._parts)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for part in self._parts:
            if isinstance(part, _Npy):
                yield from part
            else:
                yield part


class _Npy:
    """An array as the pieces of a .npy file."""

    def __init__(self, name: str, value: Any) -> None:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} holds {array.dtype}; real numbers are needed")
        # float16 and long double are no types of the bridge.
        readable = array.dtype.kind != "f" or array.dtype.itemsize in (4, 8)
        self._array, self._dtype = array, array.dtype if readable else np.dtype("<f8")
        self._fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {
            "descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": self._fortran, "shape": array.shape})
        self._header = header.getvalue()
        self.length = len(self._header) + array.size * self._dtype.itemsize

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._header
        array = self._array
        if array.dtype == self._dtype and (array.flags.c_contiguous or self._fortran):
            data = memoryview((array.T if self._fortran else array).reshape(-1).view(np.uint8))
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start:start + PIECE_BYTES]
            return
        # Strided, or to be converted: a piece at a time.
        pieces: Any = np.nditer(array, ["external_loop", "buffered", "zerosize_ok"], ["readonly"], [self._dtype],
                                order="F" if self._fortran else "C", casting="same_kind",
                                buffersize=PIECE_BYTES // self._dtype.itemsize)
        for piece in pieces:
            yield piece.tobytes()


def _system(a: Any, b: Any, method: str, reproducible: bool, priority: str | None,
            deadline: float | None = None) -> _Body:
    fields: dict[str, str | _Npy] = {"a": _Npy("a", a), "b": _Npy("b", b), "method": method}
    if reproducible:
        fields["reproducible"] = "true"
    if priority is not None:
        fields["priority"] = priority
    if deadline is not None:
        fields["deadline_ms"] = str(max(round(deadline * 1000), 1))
    return _Body(fields)


# The bare numbers, which are read into the array they are to be in.
ACCEPT_SOLUTION = {"Accept": "application/octet-stream"}


def _solution(response: http.client.HTTPResponse) -> Solution:
    headers = response.headers
    try:
        shape = tuple(int(length) for length in headers["Rabbitry-Shape"].split(","))
        certificate = Certificate.from_json(headers["Rabbitry-Certificate"])
        task = headers["Rabbitry-Task"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RabbitryError(response.status, "no_bridge", "This is not the answer of a bridge",
                            f"the response is no solution ({error}); is there a bridge at this address?") from error
    numbers = np.empty(int(np.prod(shape)), "<f8")
    rest = memoryview(numbers).cast("B")
    while rest:
        read = response.readinto(rest)
        if not read:
            raise http.client.IncompleteRead(b"", len(rest))
        rest = rest[read:]
    x = numbers.reshape(shape, order="F" if headers["Rabbitry-Order"] == "F" else "C")
    return Solution(x, certificate, headers["Rabbitry-Worker"], task)


def _json(response: http.client.HTTPResponse) -> Any:
    return json.loads(response.read())


def _state(response: http.client.HTTPResponse) -> TaskState:
    return TaskState.from_json(_json(response))


def _task_id(response: http.client.HTTPResponse) -> str:
    return _json(response)["task"]


def _solution_or_state(response: http.client.HTTPResponse) -> Solution | TaskState:
    return _state(response) if response.status == 202 else _solution(response)


def _solution_or_task(response: http.client.HTTPResponse) -> Solution | str:
    return _task_id(response) if response.status == 202 else _solution(response)


def _first_event(response: http.client.HTTPResponse) -> TaskState:
    """The data of the first server-sent event."""
    for line in response:
        name, _, value = line.decode().partition(":")
        if name == "data":
            return TaskState.from_json(json.loads(value))
    raise http.client.IncompleteRead(b"")


def _error(response: http.client.HTTPResponse) -> RabbitryError:
    text = response.read()
    after = response.headers["Retry-After"] if response.status == 503 else None
    retry_after = float(after) if after is not None and after.isdigit() else None
    if response.headers.get_content_type() == "application/problem+json":
        return RabbitryError.from_problem(json.loads(text), retry_after)
    # Of a proxy, perhaps.
    return RabbitryError(response.status, "http", response.reason, text[:200].decode(errors="replace"),
                         retry_after=retry_after)


_default_lock = threading.Lock()
_default_client: Client | None = None


def _default() -> Client:
    global _default_client
    with _default_lock:
        if _default_client is None:
            _default_client = Client()
        return _default_client


def solve(a: Any, b: Any, method: str = "auto", **options: Any) -> Solution:
    """`Client.solve` of a client made of RABBITRY_URL and RABBITRY_TOKEN."""
    return _default().solve(a, b, method, **options)


def submit(a: Any, b: Any, method: str = "auto", **options: Any) -> Task:
    """`Client.submit` of a client made of RABBITRY_URL and RABBITRY_TOKEN."""
    return _default().submit(a, b, method, **options)


def gather(tasks: Iterable[Task], return_exceptions: bool = False) -> list[Any]:
    """`Client.gather` of a client made of RABBITRY_URL and RABBITRY_TOKEN."""
    return _default().gather(tasks, return_exceptions)


def main() -> int:
    parser = argparse.ArgumentParser(description="Solve A X = B on a pool of Rabbitry workers.")
    parser.add_argument("a", metavar="A.npy")
    parser.add_argument("b", metavar="B.npy")
    parser.add_argument("-o", "--output", metavar="X.npy", required=True, help="where X goes")
    parser.add_argument("--bridge", metavar="URL", help="default: RABBITRY_URL, or http://127.0.0.1:8080; "
                                                        "the token is RABBITRY_TOKEN")
    parser.add_argument("--cafile", metavar="FILE", help="certificates to trust with https://, PEM")
    parser.add_argument("--method", metavar="NAME", default="auto",
                        help="auto, lu, mixed, cholesky, triangular or lstsq (default: %(default)s)")
    options = parser.parse_args()
    try:
        # Mapped, not read: A goes from the file to the bridge.
        a, b = (np.load(name, mmap_mode="r") for name in (options.a, options.b))
        client = Client(options.bridge, cafile=options.cafile)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        solution = client.solve(a, b, options.method)
        np.save(options.output, solution.x)
    except (RabbitryError, OSError, TypeError) as error:
        print(f"rabbitry: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    proof = solution.certificate
    bound = "none" if proof.forward_error_bound is None else f"{proof.forward_error_bound:.1e}"
    print(f"{proof.method}: backward error {proof.backward_error:.1e}, rcond {proof.rcond:.1e}, "
          f"forward error bound {bound}, by {solution.worker}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
