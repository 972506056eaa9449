#!/usr/bin/env python3
"""Checks rabbitry.py against a bridge that is there, with at least one worker behind it.

    python3 clients/test_clients.py --bridge http://127.0.0.1:8080 [--token TOKEN] [--cafile FILE]

With --token, that a wrong one is refused as well. Further arguments go to unittest, names of tests for instance.
"""
from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import unittest.mock
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import rabbitry

options: argparse.Namespace
EPSILON = np.finfo(float).eps


def client(token: str | None = None, url: str | None = None, **more: Any) -> rabbitry.Client:
    return rabbitry.Client(url or options.bridge, token or options.token, cafile=options.cafile, **more)


def system(n: int, nrhs: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A well-conditioned system."""
    numbers = np.random.default_rng(seed)
    return numbers.standard_normal((n, n)) + n * np.eye(n), numbers.standard_normal(n if nrhs is None else (n, nrhs))


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.client = client()
        self.addCleanup(self.client.close)

    def check(self, solution: rabbitry.Solution, a: np.ndarray, b: np.ndarray) -> None:
        a, b = np.asarray(a, float), np.asarray(b, float)
        self.assertEqual(solution.x.shape, a.shape[1:] + b.shape[1:])
        self.assertEqual(solution.x.dtype, np.float64)
        np.testing.assert_allclose(a @ solution.x, b, rtol=0, atol=1e-9 * max(np.abs(b).max(), 1.0))
        proof = solution.certificate
        self.assertLess(proof.backward_error, len(a) * EPSILON)
        self.assertTrue(0.0 < proof.rcond <= 1.0)
        self.assertRegex(solution.task, "^[0-9a-f]{32}$")
        self.assertTrue(solution.worker)

    @contextlib.contextmanager
    def refused(self, status: int, code: str) -> Iterator[Any]:
        with self.assertRaises(rabbitry.RabbitryError) as caught:
            yield caught
        error = caught.exception
        self.assertEqual((error.status, error.code), (status, code), error)
        self.assertTrue(error.title and error.detail)


class Solve(Case):
    def test_vectors_and_matrices(self) -> None:
        for n, nrhs in (1, None), (2, 1), (7, 3), (400, None), (400, 5):
            with self.subTest(n=n, nrhs=nrhs):
                a, b = system(n, nrhs)
                self.check(self.client.solve(a, b), a, b)

    def test_lists(self) -> None:
        np.testing.assert_allclose(self.client.solve([[4, 1], [2, 3]], [1, 2]).x, [0.1, 0.6])

    def test_orders(self) -> None:
        a, b = system(50, 4)
        for a_stored in a, np.asfortranarray(a):
            for b_stored in b, np.asfortranarray(b):
                solution = self.client.solve(a_stored, b_stored)
                self.check(solution, a, b)
                self.assertEqual(solution.x.flags.f_contiguous, b_stored.flags.f_contiguous)

    def test_types(self) -> None:
        a, b = system(40)
        types = ["f4", "f2", "g", ">f8", ">f4", "i1", "i4", "u2", ">i8"]
        for dtype in types:
            with self.subTest(dtype=dtype):
                converted = np.abs(a).astype(dtype)
                self.check(self.client.solve(converted, b), converted, b)
        triangle = np.tri(6, dtype=bool)
        self.check(self.client.solve(triangle, np.arange(6)), triangle, np.arange(6))

    def test_strided(self) -> None:
        a, b = system(600, 6)
        # Larger than one piece of an upload, too.
        views = (a[::2, ::2], b[::2, ::3]), (a[::-1], b[:, 0]), (a[:, ::-1], b), (a.T, b), (a[7:, 7:], b[7:])
        for a_view, b_view in views:
            self.check(self.client.solve(a_view, b_view), a_view, b_view)

    def test_methods(self) -> None:
        a, b = system(60)
        definite = a @ a.T
        forms = {"lu": a, "mixed": a, "cholesky": definite, "triangular": np.triu(a), "auto": a}
        for method, form in forms.items():
            with self.subTest(method=method):
                self.check(self.client.solve(form, b, method, priority="high"), form, b)
        tall = np.random.default_rng(1).random((60, 20))
        solution = self.client.solve(tall, b, "lstsq")
        np.testing.assert_allclose(solution.x, np.linalg.lstsq(tall, b, rcond=None)[0], rtol=1e-9)
        self.assertEqual(solution.certificate.method, "lstsq")

    def test_following_202(self) -> None:
        a, b = system(300, 2)
        self.check(self.client.solve(a, b, wait=0), a, b)

    def test_threads(self) -> None:
        systems = [system(30, seed=seed) for seed in range(40)]
        together = threading.Barrier(8)

        def solve(mine: list[tuple[np.ndarray, np.ndarray]]) -> None:
            together.wait(10)
            for a, b in mine:
                self.check(self.client.solve(a, b), a, b)
            self.client.close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(solve, [systems[first::8] for first in range(8)]))

    def test_shortcuts(self) -> None:
        environment = {"RABBITRY_URL": options.bridge, "RABBITRY_TOKEN": options.token or ""}
        # The default client has no cafile: that of the environment is OpenSSL's matter.
        if options.cafile:
            environment["SSL_CERT_FILE"] = options.cafile
        with unittest.mock.patch.dict(os.environ, environment):
            a, b = system(5)
            self.check(rabbitry.solve(a, b, "lu"), a, b)
            solution, = rabbitry.gather([rabbitry.submit(a, b)])
            self.check(solution, a, b)
            rabbitry._default().close()

    def test_command_line(self) -> None:
        a, b = system(20, 2)
        program = [sys.executable, rabbitry.__file__, "--bridge", options.bridge]
        program += ["--cafile", options.cafile] if options.cafile else []
        environment = {**os.environ, "RABBITRY_TOKEN": options.token or ""}
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder, name)) for name in ("a.npy", "b.npy", "x.npy")]
            np.save(files[0], a)
            np.save(files[1], b)
            arguments = [*files[:2], "-o", files[2]]
            done = subprocess.run(program + arguments, env=environment, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
            self.assertIn("backward error", done.stderr)
            np.testing.assert_allclose(a @ np.load(files[2]), b, atol=1e-12)
            np.save(files[0], np.ones_like(a))
            done = subprocess.run(program + arguments, env=environment, capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "^rabbitry: A is singular.*\n$")


class Errors(Case):
    def test_singular(self) -> None:
        with self.refused(422, "singular") as caught:
            self.client.solve(np.ones((3, 3)), np.ones(3))
        self.assertRegex(caught.exception.task, "^[0-9a-f]{32}$")

    def test_shapes(self) -> None:
        for a, b in ((3, 4), (3,)), ((3, 3), (4,)), ((3,), (3,)), ((3, 3, 3), (3,)), ((0, 0), (0,)), ((3, 3), ()):
            with self.subTest(a=a, b=b), self.refused(422, "invalid"):
                self.client.solve(np.ones(a), np.ones(b))

    def test_not_finite(self) -> None:
        for at, value in (0, np.nan), (1, np.inf):
            a, b = system(3)
            (a, b)[at].flat[2] = value
            with self.refused(422, "invalid") as caught:
                self.client.solve(a, b)
            self.assertIn("AB"[at], caught.exception.detail)

    def test_not_real(self) -> None:
        for a in np.eye(2) * 1j, np.array([["1", "2"], ["3", "4"]]), np.array([[None, 1], [1, 2]]):
            with self.assertRaises(TypeError):
                self.client.solve(a, [1, 2])

    def test_structure(self) -> None:
        a, b = system(3)
        for method in "cholesky", "triangular":
            with self.refused(422, "invalid"):
                self.client.solve(a, b, method)

    def test_method(self) -> None:
        with self.refused(400, "bad_request") as caught:
            self.client.solve([[1]], [1], "magic")
        self.assertEqual(caught.exception.field, "method")

    def test_large_body(self) -> None:
        # Nobody has so much: it is made as it is sent, and refused before that.
        endless = np.broadcast_to(1.0, (100_000, 100_000))
        with self.refused(413, "too_large"):
            self.client.solve(endless, np.ones(100_000))
        # And the client goes on.
        a, b = system(3)
        self.check(self.client.solve(a, b), a, b)

    def test_token(self) -> None:
        if not options.token:
            self.skipTest("no --token")
        other = client("a-token-that-nobody-knows")
        self.addCleanup(other.close)
        with self.refused(401, "unauthorized"):
            other.workers()
        # In the middle of a large body, as well.
        with self.refused(401, "unauthorized"):
            other.solve(np.ones((4000, 4000)), np.ones(4000))

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with self.assertRaisesRegex(ConnectionError, "no bridge answers"):
            client(url=f"http://127.0.0.1:{port}", retries=1).workers()
        with self.assertRaises(ValueError):
            rabbitry.Client("ftp://nowhere")


class Tasks(Case):
    def test_result(self) -> None:
        a, b = system(100, 2)
        task = self.client.submit(a, b)
        solution = task.result(60)
        self.check(solution, a, b)
        self.assertEqual(solution.task, task.id)
        self.assertIs(task.result(), solution)
        state = task.state()
        self.assertEqual((state.state, state.percent, state.error), ("done", 100.0, None))
        # By its id, too, for a minute.
        self.check(self.client.task(task.id).result(0), a, b)

    def test_failure(self) -> None:
        task = self.client.submit(np.ones((3, 3)), np.ones(3))
        with self.refused(422, "singular") as caught:
            task.result(60)
        self.assertEqual(caught.exception.task, task.id)
        state = task.state()
        self.assertEqual((state.state, state.error.code), ("failed", "singular"))

    def test_gather(self) -> None:
        systems = [system(10 + seed, seed=seed) for seed in range(50)]
        solutions = self.client.gather(self.client.submit(*each) for each in systems)
        self.assertEqual(len(solutions), 50)
        for (a, b), solution in zip(systems, solutions):
            self.check(solution, a, b)
        self.assertEqual(self.client.gather([]), [])

    def test_gather_with_failures(self) -> None:
        a, b = system(5)

        def submit() -> list[rabbitry.Task]:
            return [self.client.submit(*each) for each in ((a, b), (np.ones((2, 2)), [1, 2]), (a, b))]

        first, failed, last = self.client.gather(submit(), return_exceptions=True)
        self.check(first, a, b)
        self.assertEqual(failed.code, "singular")
        self.check(last, a, b)
        with self.refused(422, "singular"):
            self.client.gather(submit())

    def test_cancel(self) -> None:
        a, b = system(1500)
        task = [self.client.submit(a, b) for _ in range(4)][-1]
        # It may have been done already; then it is gone.
        if task.cancel().state == "cancelled":
            with self.refused(409, "cancelled"):
                task.result(10)
            self.assertEqual(task.cancel().error.code, "cancelled")
        with self.refused(404, "not_found"):
            task.result(10)

    def test_timeout(self) -> None:
        tasks = [self.client.submit(*system(1500)) for _ in range(4)]
        with self.assertRaises(TimeoutError):
            tasks[-1].result(0)
        for task in tasks:
            task.cancel()

    def test_idempotency(self) -> None:
        a, b = system(4)
        key = os.urandom(8).hex()
        first, second = (self.client.submit(a, b, idempotency_key=key) for _ in range(2))
        self.assertEqual(first.id, second.id)
        with self.refused(422, "idempotency_key_reused") as caught:
            self.client.submit(a, b + 1, idempotency_key=key)
        self.assertEqual(caught.exception.task, first.id)
        self.check(second.result(60), a, b)

    @unittest.skipIf("https" in str(sys.argv), "the forger of broken connections knows no TLS")
    def test_broken_connection(self) -> None:
        a, b = system(5)
        with forwarder(broken=2) as url:
            through = client(url=url)
            self.addCleanup(through.close)
            before = {task["task"] for task in self.tasks()}
            task = through.submit(a, b)
            self.assertEqual([each["task"] for each in self.tasks() if each["task"] not in before], [task.id])
            self.check(task.result(60), a, b)
        with forwarder(broken=1) as url:
            through = client(url=url)
            self.addCleanup(through.close)
            self.check(through.solve(a, b), a, b)
            self.assertTrue(through.workers())

    def tasks(self) -> list[dict[str, Any]]:
        return self.client._call("GET", "/v1/tasks?limit=1000", rabbitry._json)["tasks"]


@contextlib.contextmanager
def forwarder(broken: int) -> Iterator[str]:
    """Forwards connections to the bridge; the first `broken` responses never arrive, for the connection breaks."""
    bridge = urlsplit(options.bridge)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def forward(near: socket.socket, breaks: bool) -> None:
        with near, socket.create_connection((bridge.hostname, bridge.port or 80)) as far:
            there = threading.Thread(target=pump, args=(near, far))
            there.start()
            if breaks:
                # The bridge has answered, so it has done what was asked.
                far.recv(1)
                near.shutdown(socket.SHUT_RDWR)
            else:
                pump(far, near)
            there.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                threading.Thread(target=forward, args=(server.accept()[0], number < broken), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        # Wakes who accepts.
        server.shutdown(socket.SHUT_RDWR)


class Directory(Case):
    def test_workers(self) -> None:
        workers = self.client.workers()
        self.assertTrue(workers)
        for worker in workers:
            self.assertIn("solve", worker["kinds"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Checks rabbitry.py against a bridge.")
    parser.add_argument("--bridge", metavar="URL", required=True)
    parser.add_argument("--token", help="that the bridge knows")
    parser.add_argument("--cafile", metavar="FILE", help="certificates to trust with https://, PEM")
    options, rest = parser.parse_known_args()
    unittest.main(argv=sys.argv[:1] + rest)
