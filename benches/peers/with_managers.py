"""Queues of multiprocessing.managers and NumPy, as a student would write it: a process with a queue of tasks and one of
results, a boss that puts Task objects with A and B, workers that get, solve, and put X back.

As good as it gets without being another program:

- The queues are at a Unix socket, which is the manager's own choice on Linux. TCP takes it to other machines; on one
  it was slower at N = 100 and no faster above.
- A result is the task's number and X. Sending the whole task back is simpler, and twice the bytes.
- One thread of the boss puts and another gets: a call of a proxy returns only when the manager has done it, so that a
  single thread would not send while it receives. Each thread has a connection of its own, says the documentation.
- Processes are forked, before there are threads: they have NumPy already.
"""

import multiprocessing
import multiprocessing.managers
import platform
import queue
import secrets
import threading

import numpy as np
import processes

# A get that waits longer looks whether there is anybody to wait for.
STALL = 1.0

tasks, results = queue.Queue(), queue.Queue()


class QueueManager(multiprocessing.managers.BaseManager):
    pass


# In the process of the manager, these are the queues.
QueueManager.register("tasks", callable=lambda: tasks)
QueueManager.register("results", callable=lambda: results)


class Task:
    def __init__(self, number, a, b):
        self.number, self.a, self.b = number, a, b

    def work(self):
        return self.number, np.linalg.solve(self.a, self.b)


def work(address, key):
    processes.die_with_parent()
    manager = QueueManager(address, key)
    manager.connect()
    tasks, results = manager.tasks(), manager.results()
    while True:
        results.put(tasks.get().work())


class Pool:
    version = platform.python_version()
    detail = "multiprocessing.managers over a Unix socket, a process each for the queues and the workers"

    def __init__(self, workers, _):
        context = multiprocessing.get_context("fork")
        key = secrets.token_bytes(32)
        # A manager's key is by default that of the process, which must match too.
        multiprocessing.current_process().authkey = key
        self.manager = QueueManager(None, key, ctx=context)
        self.manager.start(processes.die_with_parent)
        address = self.manager.address
        self.workers = [context.Process(target=work, args=(address, key), daemon=True) for _ in range(workers)]
        for worker in self.workers:
            worker.start()

    def run(self, tasks, inflight):
        try:
            return self.exchanged(tasks, inflight)
        except (EOFError, ConnectionError):
            raise ChildProcessError("the process of the queues has ended, and the tasks with it; memory?") from None

    def exchanged(self, tasks, inflight):
        window, failed = threading.Semaphore(inflight), []
        sender = threading.Thread(target=self.send, args=(tasks, window, failed), daemon=True)
        sender.start()
        results, answers = self.manager.results(), [None] * len(tasks)
        for _ in tasks:
            number, answers[number] = self.received(results, failed)
            window.release()
        sender.join()
        return answers

    def send(self, systems, window, failed):
        try:
            tasks = self.manager.tasks()
            for number, (a, b) in enumerate(systems):
                window.acquire()
                tasks.put(Task(number, a, b))
        except Exception as error:
            failed.append(error)

    def received(self, results, failed):
        while True:
            try:
                return results.get(True, STALL)
            except queue.Empty:
                if failed:
                    raise failed[0] from None
                if not all(worker.is_alive() for worker in self.workers):
                    raise ChildProcessError("a worker has ended, and its task with it; memory?") from None

    def close(self):
        for worker in self.workers:
            worker.kill()
        self.manager.shutdown()
