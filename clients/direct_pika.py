#!/usr/bin/env python3
"""Solve one random system A X = B on Rabbitry's workers, over RabbitMQ alone.

Shows what a client in another language does for a system of any size, and is written from docs/protocol.md alone: only
the head of the task is published, the worker that takes it pulls A and B in parts, and the answer comes in one message
or, if X is above 9 MiB, in parts. The backward error is computed here, with NumPy.

    pip install pika numpy
    python3 clients/direct_pika.py --n 1500

Small systems are simpler: see the client at the end of docs/protocol.md. Exit codes: 0 solved; 1 failed, with one line
on stderr; 2 usage; 130 interrupted.
"""
from __future__ import annotations

import argparse
import contextlib
import logging
import math
import signal
import struct
import sys
import threading
import time
import uuid
import zlib
from typing import Any, Iterator, NamedTuple

try:
    import numpy as np
    import pika
    from pika.exceptions import AMQPConnectionError, AMQPError, ChannelClosedByBroker, NackError, UnroutableError
except ImportError as error:
    sys.exit(f"direct_pika: {error}: pip install pika numpy")
except KeyboardInterrupt:                    # NumPy takes long enough to be interrupted
    sys.exit(130)

VERSION = 4                                  # of every record
MAX_PARTS, MAX_PART_BYTES = 8, 12_582_912    # that one pull request may ask for
ERRORS = {                                   # of an outcome, by variant: its fields ("s" a string) and what they say
    0: ("s", "the task is wrong in form: {}"),
    1: ("Q", "A is singular: pivot {} of its factorisation is exactly zero"),
    2: ("ss", "the worker knows no kind {!r}, only {}"),
    3: ("QQ", "the task needs {} bytes of memory, and the worker has {}"),
    4: ("", "the deadline passed"),
    5: ("I", "{} attempts ended without an outcome: a worker was lost each time"),
    6: ("s", "the worker panicked: {}"),
    7: ("", "the pool was shut down"),
    8: ("s", "the broker does not take the task: {}"),
    9: ("", "somebody cancelled the task"),
}


class Failure(Exception):
    """Ends the program: one line on stderr and exit code 1."""


class Malformed(Exception):
    """A message that is dropped with a warning: damaged, or of another version."""


class Outcome(NamedTuple):
    worker: str
    error: str | None
    params: bytes = b""
    answer: bytes = b""


def record(magic: bytes, *fields: bytes) -> bytes:
    return magic + struct.pack("<H", VERSION) + b"".join(fields)


def block(data: bytes) -> bytes:             # bytes, or a string in UTF-8
    return struct.pack("<Q", len(data)) + data


class Reader:
    """The fields of a record, in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        try:
            values = struct.unpack_from("<" + form, self.data, self.at)
        except struct.error:
            raise Malformed("its record is shorter than its fields") from None
        self.at += struct.calcsize("<" + form)
        return values

    def block(self) -> bytes:
        return self.take(f"{self.take('Q')[0]}s")[0]

    def text(self) -> str:
        return self.block().decode(errors="replace")


class Task:
    """One task, from its submission to its first outcome."""

    def __init__(self, channel: Any, payload: memoryview, params: bytes) -> None:
        self.channel, self.payload, self.params = channel, payload, params
        self.id = uuid.uuid4().bytes                   # as it stands in records: lowest byte first
        self.pulled = False                            # a worker has asked for the payload
        self.parts: dict[int, dict[int, bytes]] = {}   # of answers, by run (two workers may answer), then by index
        self.outcome: Outcome | None = None
        channel.confirm_delivery()                     # with `mandatory`, what cannot be routed is an UnroutableError
        # Exclusive queues without acks: what this process has not read is of no use to any other.
        self.results, self.pulls = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
        for queue in self.results, self.pulls:
            channel.basic_consume(queue, self.on_message, auto_ack=True)

    def publish(self, exchange: str, key: str, head: bytes, body: bytes = b"", **properties: Any) -> None:
        # Delivery mode 1, not kept on disk: our queues end with our connection, and then nobody wants any of it.
        properties = pika.BasicProperties(headers={"rabbitry": head}, delivery_mode=1, **properties)
        self.channel.basic_publish(exchange, key, body, properties, mandatory=True)

    def submit(self) -> None:
        head = record(b"RBTT", self.id, block(b"solve"),
                      struct.pack("<IIQQQQ", 0, 0, 0, 0, 0, len(self.payload)),  # attempt, binary, no deadline, sent, flops
                      b"\0",                                                 # checksum: None, parts have their own
                      b"\1", block(self.pulls.encode()),                     # pull_from
                      b"\0",                                                 # progress_to: None
                      block(self.params))
        # The exchange and the work queue are the workers' to declare: their arguments differ with `--queue-type`.
        missing = Failure("no worker has ever been on this broker: start one")
        try:
            self.publish("rabbitry.work", "solve", head, content_type="application/x-rabbitry", priority=3,
                         reply_to=self.results, correlation_id=self.id[::-1].hex())
        except UnroutableError:
            raise missing from None                    # there is no queue
        except ChannelClosedByBroker as error:
            raise (missing if error.reply_code == 404 else error) from None   # there is no exchange

    def cancel(self) -> None:
        """Stops the worker that has the task. One that takes it later cannot pull it any more, and drops it."""
        with contextlib.suppress(AMQPError):           # no worker is there, or the connection is lost
            self.publish("rabbitry.control", "", record(b"RBTC", struct.pack("<I", 2), self.id))

    def on_message(self, _channel: Any, _method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        try:
            head = (properties.headers or {}).get("rabbitry")
            if not isinstance(head, bytes):
                raise Malformed("it has no record")
            fields = Reader(head)
            magic, version = fields.take("4sH")
            if version != VERSION:
                raise Malformed(f"its record {magic!r} is of version {version}, this client speaks {VERSION}")
            task, run = fields.take("16sQ")            # every record that comes here begins with them
            if magic == b"RBTQ":
                # A worker that is gone has taken its inbox along. The broker gives the task to another.
                with contextlib.suppress(UnroutableError, NackError):
                    self.on_pull(fields, task, run, properties.reply_to)
            elif task != self.id or self.outcome is not None:
                pass                                   # only the first outcome counts
            elif magic == b"RBTP":
                self.on_part(fields, run, body)
            elif magic == b"RBTO":                     # one: the task was alone in its message
                self.on_outcome(fields, run, body)
            else:
                raise Malformed(f"its record {magic!r} is not for a client")
        except Malformed as error:
            print(f"direct_pika: dropped a message: {error}", file=sys.stderr)

    def on_pull(self, fields: Reader, task: bytes, run: int, inbox: str | None) -> None:
        """Sends parts of the payload: again, if a worker asks again, or another one does."""
        first, count, size = fields.take("III")
        if not inbox or not 0 < size <= MAX_PART_BYTES:
            raise Malformed(f"it asks for parts of {size} bytes, to the queue {inbox!r}")
        if task != self.id or self.outcome is not None:
            return self.publish("", inbox, record(b"RBTG", task, struct.pack("<Q", run)))
        self.pulled = True
        total = len(self.payload)
        for index in range(first, min(first + min(count, MAX_PARTS), -(-total // size))):
            part = bytes(self.payload[index * size:(index + 1) * size])
            head = record(b"RBTP", task, struct.pack("<QIIQI", run, index, size, total, zlib.crc32(part)))
            self.publish("", inbox, head, part)

    def on_part(self, fields: Reader, run: int, body: bytes) -> None:
        index, size, total, checksum = fields.take("IIQI")
        if len(body) != min(size, total - index * size) or zlib.crc32(body) != checksum:
            raise Malformed(f"part {index} of the answer is damaged")
        self.parts.setdefault(run, {})[index] = body

    def on_outcome(self, fields: Reader, run: int, body: bytes) -> None:
        worker, _host, _compute_ns = fields.text(), fields.text(), fields.take("Q")
        if fields.take("?")[0]:                        # when it did what: not needed here
            fields.take("6Q")
        if fields.take("?")[0]:                        # an error: there is no payload
            variant, = fields.take("I")
            forms, words = ERRORS.get(variant, ("", f"unknown error {variant}"))
            values = [fields.text() if form == "s" else fields.take(form)[0] for form in forms]
            self.outcome = Outcome(worker, words.format(*values))
            return
        _format, payload_bytes = fields.take("IQ")
        checksum = fields.take("I")[0] if fields.take("?")[0] else None
        if fields.take("?")[0]:                        # in parts; each has its own checksum
            body = b"".join(part for _, part in sorted(self.parts.pop(run, {}).items()))
        if len(body) != payload_bytes or checksum not in (None, zlib.crc32(body)):
            raise Malformed(f"the answer is damaged, or parts are missing: {len(body)} of {payload_bytes} bytes")
        self.outcome = Outcome(worker, None, fields.block(), body)


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[threading.Event]:
    """Sets an event at the first Ctrl-C, and leaves the second one as it is.

    An exception in the middle of a publish leaves half a frame on the connection, which then can cancel nothing.
    """
    event = threading.Event()

    def interrupt(*_: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if event.is_set():                                 # after the last look at it
        raise KeyboardInterrupt


def await_outcome(task: Task, connection: Any, timeout: float, interrupted: threading.Event) -> Outcome:
    """Serves pull requests until the outcome is there: whenever a worker dies, another begins anew."""
    give_up = time.monotonic() + timeout
    while task.outcome is None:
        left = give_up - time.monotonic()
        if interrupted.is_set():
            raise KeyboardInterrupt
        if left <= 0:
            raise Failure(f"a worker took the task, but there is no answer after {timeout:g} s" if task.pulled else
                          f"no worker took the task in {timeout:g} s: start one, or look into rabbitry.dead")
        connection.process_data_events(time_limit=min(left, 0.1))
    return task.outcome


def backward_error(a: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    """The largest ||b - A x|| / (||A|| ||x|| + ||b||) of the columns, infinity norm."""
    residual, x_norm, b_norm = (np.abs(columns).max(axis=0) for columns in (b - a @ x, x, b))
    return float((residual / (np.linalg.norm(a, np.inf) * x_norm + b_norm)).max())


def solve(broker: pika.URLParameters, n: int, nrhs: int, seed: int, timeout: float) -> str:
    # One array, A and then B, both row-major: its bytes are the payload.
    numbers = np.random.default_rng(seed).random(n * (n + nrhs)).astype("<f8", copy=False)
    a, b = numbers[:n * n].reshape(n, n), numbers[n * n:].reshape(n, nrhs)
    # m, n, nrhs; A and B row-major; B is a matrix, of one column too; the solver's choice; not reproducible
    params = struct.pack("<QQQBBBBB", n, n, nrhs, 0, 0, 0, 0, 0)

    broker.blocked_connection_timeout = timeout        # of a broker that has no memory or disk left
    try:
        connection = pika.BlockingConnection(broker)
    except (AMQPConnectionError, OSError) as error:
        raise Failure(f"no broker at {broker.host}:{broker.port} lets us in: {str(error) or repr(error)}") from None
    with interrupts_deferred() as interrupted, connection:
        started = time.monotonic()
        task = Task(connection.channel(), memoryview(numbers).cast("B"), params)
        try:
            task.submit()
            worker, error, answer_params, answer = await_outcome(task, connection, timeout, interrupted)
        finally:
            if task.outcome is None:                   # a timeout, Ctrl-C
                task.cancel()
        seconds = time.monotonic() - started

    if error is not None:
        raise Failure(f"{error} (says {worker})")
    if answer_params[:17] != struct.pack("<QQB", n, nrhs, 0) or len(answer) != 8 * n * nrhs:
        raise Failure(f"the answer of {worker} is not {n} x {nrhs}, row-major")
    wrong = backward_error(a, np.frombuffer(answer, "<f8").reshape(n, nrhs), b)
    if not wrong <= n * np.finfo(float).eps:           # so written, NaN is wrong too
        raise Failure(f"the answer of {worker} has the backward error {wrong:.1e}")
    return f"n {n}, nrhs {nrhs}: backward error {wrong:.1e}, by {worker}, {seconds:.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description="Solve one random system A X = B on Rabbitry's workers.")
    parser.add_argument("--broker", metavar="URL", default="amqp://guest:guest@127.0.0.1:5672/%2F",
                        help="amqp://user:password@host:port/vhost, or amqps:// (default: guest on this machine)")
    parser.add_argument("--n", type=int, metavar="N", default=1500, help="unknowns (default: %(default)s)")
    parser.add_argument("--nrhs", type=int, metavar="M", default=1, help="right-hand sides (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", default=0, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--timeout", type=float, metavar="SECS", default=60, help="give up then (default: %(default)s)")
    o = parser.parse_args()
    limit = 2**29                                              # NumPy counts the bytes of A and B in 63 bits
    if not (0 < o.n < limit and 0 < o.nrhs < limit and o.seed >= 0 and 0 < o.timeout < math.inf):
        parser.error(f"--n and --nrhs are from 1 to {limit - 1}, --seed is not negative, --timeout is positive")
    try:
        if not o.broker.startswith(("amqp://", "amqps://")):   # pika would take any scheme
            raise ValueError("amqp:// or amqps:// is missing")
        broker = pika.URLParameters(o.broker)
    except ValueError as error:
        parser.error(f"--broker: {error}")

    logging.getLogger("pika").setLevel(logging.CRITICAL)       # errors are said once, below
    try:
        print(solve(broker, o.n, o.nrhs, o.seed, o.timeout))
        return 0
    except KeyboardInterrupt:
        return 130
    except (Failure, MemoryError) as error:
        print(f"direct_pika: {error}", file=sys.stderr)
    except AMQPError as error:
        print(f"direct_pika: lost the broker: {str(error) or repr(error)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
