"""Celery on RabbitMQ: numbers by pickle, results by rpc://.

Celery's guide "Optimizing" and its user guide have most of this:

- Worker processes with the pool `solo`, as many as workers, rather than one that forks as many ("prefork", the
  default). Each has its connection and solves in the process that has read the message; a forked one gets each A by a
  pipe, from a parent that reads for all. Measured here: faster at all sizes, twice so at N = 1000.
- Prefetch 4 for each, the default. The guide wants 1 where tasks are long and dozens where they are tiny. Ours are
  both; 16 were no faster at N = 100.
- Transient messages in a queue that is not durable ("Using Transient Queues"): the tasks are not worth a disk.
- No events, gossip, mingle, heartbeats between workers, or remote control: messages of which nobody reads any.
- `argsrepr`: without it each message has a text of its arguments in a header, made from the arrays.
- One producer for all tasks: otherwise each takes one out of a pool and returns it.

Results are taken as they come, not in the order of the tasks, by `AsyncResult.then` and the backend's `drain_events`.
The queue of tasks has a random name. It is deleted at the end; RabbitMQ does it if all that used it have been killed.
"""

import contextlib
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import time

if __name__ == "__main__":
    # A worker is this file as a program, in isolation.
    sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import amqp  # noqa: E402
import celery  # noqa: E402
import kombu  # noqa: E402
import numpy as np  # noqa: E402
import processes  # noqa: E402

PREFETCH = 4
# Waiting longer for a result, the boss looks whether there is anything to wait for.
STALL = 1.0
STARTS_WITHIN = 60.0
# Seconds after which RabbitMQ removes queues that nobody has ever used.
EXPIRES = 120.0


def application(broker, queue):
    app = celery.Celery("peers", broker=broker, backend="rpc://", set_as_current=False)
    # The default exchange knows each queue by its name: nothing to declare, nothing to leave behind.
    lasting = {"durable": False, "auto_delete": True, "expires": EXPIRES}
    of_tasks = kombu.Queue(queue, kombu.Exchange(""), routing_key=queue, **lasting)
    app.conf.update(
        task_queues=[of_tasks],
        task_default_queue=queue,
        task_default_exchange="",
        task_default_routing_key=queue,
        task_default_delivery_mode="transient",
        task_serializer="pickle",
        result_serializer="pickle",
        accept_content=["pickle"],
        result_expires=EXPIRES,
        worker_prefetch_multiplier=PREFETCH,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        # The runner ends what hangs; a broker that is not there should be an error now.
        broker_connection_max_retries=3,
        broker_connection_timeout=10.0,
    )
    return app, app.task(name="solve")(solve)


def solve(a, b):
    return np.linalg.solve(a, b)


def work(queue):
    processes.die_with_parent()
    app, _ = application(os.environ.pop("PEERS_BROKER"), queue)
    silent = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    app.worker_main(["--quiet", "worker", "--pool", "solo", "--hostname", f"{queue}.{os.getpid()}@%h", *silent])


class Pool:
    version = celery.__version__
    detail = f"solo workers, prefetch {PREFETCH}, transient, pickle, results by rpc; py-amqp {amqp.__version__}"

    def __init__(self, workers, broker):
        self.queue = f"peers-{secrets.token_hex(8)}"
        self.app, self.solve = application(broker, self.queue)
        # First: without a broker there is nothing that workers could do.
        self.connection = self.app.connection_for_write()
        self.connection.ensure_connection(max_retries=1, timeout=10.0)
        self.detail += f"; RabbitMQ {self.connection.connection.server_properties.get('version', 'unknown')}"
        # Celery refuses to unpickle as root. The messages are those of this program, in a queue that no other knows.
        environment = {**os.environ, "PEERS_BROKER": broker, "C_FORCE_ROOT": "1"}
        command = [sys.executable, "-I", "-B", __file__, self.queue]
        # Not our stdin: its end is for us alone.
        start = {"env": environment, "stdin": subprocess.DEVNULL}
        self.workers = [subprocess.Popen(command, **start) for _ in range(workers)]
        self.wait_for_workers()

    def wait_for_workers(self):
        deadline = time.monotonic() + STARTS_WITHIN
        while self.consumers() < len(self.workers):
            self.check_workers()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the workers have not connected within {STARTS_WITHIN:g} s; see stderr")
            time.sleep(0.05)

    def consumers(self):
        try:
            with self.connection.channel() as channel:
                return channel.queue_declare(self.queue, passive=True).consumer_count
        except amqp.NotFound:
            return 0

    def check_workers(self):
        for worker in self.workers:
            if worker.poll() is not None:
                raise ChildProcessError(f"a worker has ended with code {worker.returncode}; why is on stderr")

    def run(self, tasks, inflight):
        try:
            return self.exchanged(tasks, inflight)
        except (ConnectionError, amqp.ConnectionError) as error:
            raise ConnectionError(f"the connection to RabbitMQ is lost, and tasks with it: {error}") from None
        except amqp.PreconditionFailed as refused:
            advice = "ask for smaller systems, or raise RabbitMQ's max_message_size"
            raise ValueError(f"RabbitMQ refuses the message ({refused.reply_text}); {advice}") from None

    def exchanged(self, tasks, inflight):
        answers, flying, done = [None] * len(tasks), {}, []
        with self.app.producer_pool.acquire(block=True) as producer:
            for number, (a, b) in enumerate(tasks):
                if len(flying) == inflight:
                    self.receive(answers, flying, done, producer)
                result = self.solve.apply_async((a, b), producer=producer, argsrepr="(A, B)", kwargsrepr="{}")
                flying[result.id] = number, result
                self.app.backend.add_pending_result(result)
                result.then(done.append)
            while flying:
                self.receive(answers, flying, done, producer)
        return answers

    def receive(self, answers, flying, done, producer):
        while not done:
            try:
                self.app.backend.result_consumer.drain_events(timeout=STALL)
            except socket.timeout:
                self.check(producer)
        result = done.pop()
        number, _ = flying.pop(result.id)
        answers[number] = result.get()

    def check(self, producer):
        """Whether there is still something to wait for. RabbitMQ says that it does not take a message by closing the
        channel, later; Celery does not listen there."""
        self.check_workers()
        # The first connection has nothing to hear but its end. Celery renews the others; what was in them is lost.
        for connection in (self.connection, producer.connection):
            with contextlib.suppress(socket.timeout):
                connection.drain_events(timeout=0.01)

    def close(self):
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.wait()
        with self.connection.channel() as channel:
            channel.queue_delete(self.queue)
        self.connection.close()


if __name__ == "__main__":
    work(sys.argv[1])
