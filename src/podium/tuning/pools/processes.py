"""Workers as processes of this machine, forked from a server that has imported torch once.

A killed worker is noticed at once by its closed pipe; workers notice a killed driver in the same way.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from dataclasses import asdict, dataclass, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Literal

from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task

WORKER = "podium.tuning.pools.worker"
"""The module that the fork server imports once for all workers."""

RETRIES = (0.0, 0.2, 1.0)
"""Seconds before a fork server that refuses is asked again: one that was killed takes a moment to be gone."""
BROKEN_IN_A_ROW = 2
"""A place is given up where so many workers in a row were broken, none of which ended a trial: its device is too."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know before its first trial."""

    prepared: str
    device: Literal["auto", "cpu", "cuda"]
    threads: int


@dataclass
class _Worker:
    process: ForkServerProcess
    pipe: "Connection[Any, Any]"
    task: Task | None = None
    broken: int = 0
    """How many workers in a row were broken in this place."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def warm_up() -> None:
    """Start the fork server now: it imports torch while the driver imports its own libraries."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([WORKER])
    # The server inherits that it ignores both: sent to the whole group they are ours to answer, and we still need it.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    forkserver.ensure_running()
    for number, handler in before.items():
        signal.signal(number, handler)


class ProcessPool:
    """`capacity` worker processes; one that dies or is broken is replaced.

    A place whose workers are broken again and again is given up, and the capacity is one less; the last one never is.
    """

    def __init__(self, capacity: int, setup: Setup) -> None:
        self.capacity = capacity
        self._setup = setup
        self._pausing = False
        self._context = multiprocessing.get_context("forkserver")
        warm_up()
        self._workers = [self._start() for _ in range(capacity)]

    def submit(self, task: Task) -> None:
        """Hand `task` to a free worker, rather to one in whose place none was broken."""
        worker = min((w for w in self._workers if w.task is None), key=lambda w: w.broken)
        worker.task = task
        if not self._send(worker, {"task": asdict(task)}):
            worker.task = None
            self._replace(worker)
            self.submit(task)

    def events(self, timeout: float) -> list[Event]:
        """What workers sent, and which of them are gone, within `timeout` seconds."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ready = multiprocessing.connection.wait(list(by_pipe), timeout)
        events = [self._receive(by_pipe[pipe]) for pipe in ready]  # type: ignore[index]
        return [event for event in events if event is not None]

    def answer(self, report: Report, go_on: bool) -> None:
        """Answer the worker of `report`; one that died meanwhile shows up as lost."""
        for worker in self._workers:
            if worker.task is not None and (worker.task.number, worker.task.attempt) == (report.number, report.attempt):
                self._send(worker, {"go_on": go_on})

    def pause(self) -> None:
        """SIGTERM every busy worker: it saves its trial at the next step."""
        self._pausing = True
        for worker in self._workers:
            if worker.task is not None and worker.process.is_alive():
                worker.process.terminate()

    def close(self) -> None:
        """Close every pipe, which ends idle workers; kill what is still there after a moment."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(timeout=2)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _start(self) -> _Worker:
        for pause in RETRIES:
            try:
                return self._fork()
            except (EOFError, OSError):  # somebody killed the fork server: asked again, it is another one
                time.sleep(pause)
        return self._fork()

    def _fork(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, asdict(self._setup)), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _stop(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join(timeout=5)

    def _replace(self, worker: _Worker) -> None:
        self._stop(worker)
        started = self._start()
        started.broken = worker.broken
        self._workers[self._workers.index(worker)] = started

    def _receive(self, worker: _Worker) -> Event | None:
        try:
            message: dict[str, Any] = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            return self._bury(worker)
        if "epoch" in message:
            return Report(**message)
        if "how" in message:
            return self._end(worker, Ended(**message))
        return Resumed(**message) if "history" in message else self._give_up(worker, Lost(**message))

    def _end(self, worker: _Worker, ended: Ended) -> Ended:
        worker.task = None
        worker.broken = 0
        if ended.how == "interrupted" and not self._pausing:
            self._replace(worker)  # somebody else stopped it: it would interrupt every further trial
        return ended

    def _give_up(self, worker: _Worker, lost: Lost) -> Lost:
        """Replace a worker that is broken, or do without its place."""
        worker.broken += 1
        if worker.broken < BROKEN_IN_A_ROW or len(self._workers) == 1:
            self._replace(worker)
            return lost
        self._workers.remove(worker)
        self._stop(worker)
        self.capacity -= 1
        return replace(lost, reason=f"{lost.reason} ({worker.broken} times in a row; {_workers(self.capacity)} left)")

    def _bury(self, worker: _Worker) -> Event | None:
        task = worker.task
        worker.process.join(timeout=5)
        code = worker.process.exitcode
        self._replace(worker)
        if task is None:
            return None
        return Lost(task.number, task.attempt, f"its worker {_how_it_ended(code)}")

    def _send(self, worker: _Worker, message: dict[str, Any]) -> bool:
        try:
            worker.pipe.send_bytes(json.dumps(message).encode())
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


def _work(pipe: "Connection[Any, Any]", setup: dict[str, Any]) -> None:
    from podium.tuning.pools.worker import main  # imported by the fork server already; the driver does without torch

    main(pipe, setup)


def _workers(count: int) -> str:
    return f"{count} worker" + ("s" if count != 1 else "")


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
