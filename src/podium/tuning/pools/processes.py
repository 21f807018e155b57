"""Workers as processes of this machine: on the CPU forked from a server that has imported torch once; on another device
each started by itself, since what makes one CUDA device visible has to be set before torch opens any. On a Mac all are:
its system libraries do not survive a fork.

A killed worker is noticed at once by its closed pipe; workers notice a killed driver in the same way. One that hangs is
noticed by its silence: a busy worker sends signs of progress.
"""

import json
import multiprocessing
import multiprocessing.connection
import signal
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from podium import process
from podium.errors import PodiumError
from podium.text import counted
from podium.tuning.messages import Ended, Event, Lost, Report, Resumed, Task
from podium.tuning.pools import placement
from podium.tuning.pools.blame import FAILED_IN_A_ROW, Blame
from podium.tuning.pools.placement import Place

WORKER = "podium.tuning.pools.worker"
"""The module that the fork server imports once for all workers."""

LIBRARIES = {"timm": "timm", "torchvision": "torchvision.models"}
"""What it imports for networks with such a prefix: 2 s of each worker otherwise."""
RETRIES = (0.0, 0.2, 1.0)
"""Seconds before a fork server that refuses is asked again: one that was killed takes a moment to be gone."""
BROKEN_IN_A_ROW = 2
"""A place is given up where so many workers in a row were broken, none of which ended a trial: its device is too."""


UNSTARTED = "see what it printed above; if memory was refused, `ulimit -v unlimited` lifts a limit of the address space"
"""What to do about a worker that ends before it has loaded its images, such as while it imports torch."""
AT_ONCE = 8
"""So many workers start with the pool, while the driver looks at its study; the others when a trial is handed to them.
On a busy machine each takes seconds to be forked, one after another, and the first need not wait for the last."""
_warm: list[str] = []
"""The networks for which the fork server was started."""
PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the only worker is replaced after it was broken so many times in a row: a file system that is away for
a moment comes back."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know before its first trial."""

    prepared: str
    device: str
    """cpu, cuda or mps."""
    threads: int
    hang_timeout: float | None = None
    """Seconds without a sign of progress after which a busy worker counts as hanging; None: never."""
    memory: int | None = None
    """Bytes of the device's memory that it may use; None: what is free."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: "Connection[Any, Any]"
    number: int
    """Of its place."""
    task: Task | None = None
    ready: bool = False
    """Whether it has loaded its images: no trial is to blame for what happens before."""
    silent: float = 0.0
    """Seconds for which the pool listened and did not hear of it."""


@dataclass
class _Spot:
    """A place of the pool and what happened in it."""

    place: Place
    broken: int = 0
    """How many workers in a row were broken in it."""
    worker: _Worker | None = field(default=None)
    """None: it is given up, or its worker has not been started yet."""
    given_up: bool = False


def warm_up(network: str = "") -> None:
    """Start the fork server now: it imports torch and the library of `network` while the driver imports its own."""
    network = network or next(reversed(_warm), "")  # where it was killed it is the same again
    library = network.partition(":")[0]
    modules = [WORKER, *([LIBRARIES[library]] if library in LIBRARIES else [])]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with process.ignored_signals():
        forkserver.ensure_running()
    _warm.append(network)


def is_warm() -> bool:
    """Whether the fork server is there, so that a process which needs torch is there at once."""
    return bool(_warm) and sys.platform != "darwin"


def _is_forked(place: Place) -> bool:
    """Whether the worker of `place` is forked from the server."""
    return place.device == "cpu" and sys.platform != "darwin"


class ProcessPool:
    """A worker process in each of `places`, or so many on the CPU; one that dies, hangs or is broken is replaced.

    A place whose workers are broken again and again, or that fail or die in trials that work elsewhere, is given up,
    and the capacity is one less; the last one never is.
    """

    def __init__(self, places: int | Sequence[Place], setup: Setup) -> None:
        places = [Place()] * places if isinstance(places, int) else places
        self._setup = setup
        self._pausing = False
        self._blame: Blame[int] = Blame()
        if any(_is_forked(place) for place in places):
            warm_up()
        self._looked = time.monotonic()
        self._spots = [_Spot(place) for place in places]
        for number, place in enumerate(places):
            if number < AT_ONCE or not _is_forked(place):  # those that import torch themselves do it all at once
                self._replace(number)

    @property
    def capacity(self) -> int:
        """Trials that can be trained at the same time."""
        return sum(not spot.given_up for spot in self._spots)

    @property
    def _workers(self) -> list[_Worker]:
        return [spot.worker for spot in self._spots if spot.worker is not None]

    def submit(self, task: Task) -> None:
        """Hand `task` to a free worker, rather to one in whose place none was broken."""
        number, message = self._free_spot(), {"task": asdict(task), "sent": time.monotonic()}
        worker = self._spots[number].worker or self._replace(number)
        if not self._send(worker, message):  # it died while it had nothing to do
            worker = self._replace(number)
            self._send(worker, message)  # one that is gone too is heard of as lost
        worker.task, worker.silent = task, 0.0

    def _free_spot(self) -> int:
        """The number of a free place, rather of one in which no worker was broken."""
        spots = enumerate(self._spots)
        free = [n for n, spot in spots if not spot.given_up and (spot.worker is None or spot.worker.task is None)]
        return min(free, key=lambda n: (self._spots[n].broken, self._blame.row(n)))

    def events(self, timeout: float) -> list[Event]:
        """What workers sent, and which of them are gone or hang, within `timeout` seconds."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ready = multiprocessing.connection.wait(list(by_pipe), timeout)
        heard = [by_pipe[pipe] for pipe in ready]  # type: ignore[index]
        events = [self._receive(worker) for worker in heard] + self._hanging(heard, 10 * timeout + 1)
        return [event for event in events if event is not None]

    def answer(self, report: Report, go_on: bool) -> None:
        """Answer the worker of `report`; one that died meanwhile shows up as lost."""
        for worker in self._workers:
            if worker.task is not None and (worker.task.number, worker.task.attempt) == (report.number, report.attempt):
                self._send(worker, {"go_on": go_on})

    def abandon(self, numbers: Collection[int]) -> None:
        """Kill the workers of trials `numbers`, and do without their places."""
        late = [worker for worker in self._workers if worker.task is not None and worker.task.number in numbers]
        for worker in late:
            worker.process.kill()
        for worker in late:
            self._give_place_up(worker)

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
        for worker in self._workers:
            worker.process.join(timeout=5)  # a process that waits for a disk that is gone does not even die

    def _start(self, number: int) -> _Worker:
        for pause in RETRIES:
            try:
                return self._fork(number)
            except (EOFError, OSError):  # somebody killed the fork server: asked again, it is another one
                time.sleep(pause)
        try:
            return self._fork(number)
        except (EOFError, OSError) as error:
            raise PodiumError(
                f"no worker process can be started: {error or type(error).__name__}. End other processes, allow more of"
                " them (ulimit -u) or set runtime.workers lower"
            ) from error

    def _fork(self, number: int) -> _Worker:
        place = self._spots[number].place
        context: Any = multiprocessing.get_context("forkserver" if _is_forked(place) else "spawn")
        ours, theirs = context.Pipe()
        setup = replace(self._setup, device=place.device, memory=place.memory)
        worker = context.Process(target=_work, args=(theirs, asdict(setup)), daemon=True)
        with placement.visible(place), process.ignored_signals():
            worker.start()
        theirs.close()
        return _Worker(worker, ours, number)

    def _stop(self, worker: _Worker) -> None:
        worker.pipe.close()
        worker.process.join(timeout=5)
        self._spots[worker.number].worker = None

    def _give_place_up(self, worker: _Worker) -> None:
        self._stop(worker)
        self._spots[worker.number].given_up = True

    def _replace(self, number: int) -> _Worker:
        spot = self._spots[number]
        if spot.worker is not None:
            self._stop(spot.worker)
        spot.worker, spot.given_up = self._start(number), False
        return spot.worker

    def _receive(self, worker: _Worker) -> Event | None:
        worker.silent = 0.0
        try:
            message: dict[str, Any] = json.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            return self._bury(worker)
        if "progress" in message:
            worker.ready = worker.ready or message.get("ready", False)
            return None
        if "epoch" in message:
            self._blame.alive(worker.number)
            return Report(**message)
        if "how" in message:
            return self._end(worker, Ended(**message))
        return Resumed(**message) if "history" in message else self._give_up(worker, Lost(**message))

    def _end(self, worker: _Worker, ended: Ended) -> Ended | Lost:
        worker.task = None
        spot = self._spots[worker.number]
        if ended.leaves or (ended.how == "interrupted" and not self._pausing):
            self._replace(worker.number)  # interrupted: by somebody else, so it would interrupt every further trial
        if ended.how == "failed":
            return self._failed(worker, ended)
        elif ended.how == "infeasible":
            self._reopen(self._blame.dropped(ended.number))  # nothing was trained
        elif ended.how != "interrupted":
            spot.broken = 0
            if broken := self._blame.worked(worker.number, ended.number):
                return replace(ended, notes=[*ended.notes, self._given_up(broken, ended.number)])
        return ended

    def _given_up(self, broken: set[int], trial: int) -> str:
        where = ", ".join(self._spots[number].place.words for number in sorted(broken))
        workers = f"the worker on which trial {trial} failed ({where}) is"
        if len(broken) > 1:
            workers = f"the workers on which trial {trial} failed ({where}) are"
        return f"{workers} given up: it works on another ({counted(self.capacity, 'worker')} left)"

    def _failed(self, worker: _Worker, ended: Ended) -> Ended | Lost:
        """Replace a worker on which one trial after another fails, and find out whether it is to blame."""
        number = worker.number
        if not ended.suspicious:
            self._reopen(self._blame.dropped(ended.number))
            return ended
        verdict, cleared = self._blame.failed(number, ended.number, others=self.capacity > 1)
        self._reopen(cleared)
        if verdict == "suspect":
            self._give_place_up(worker)
            reason = f"a second trial in a row failed on its worker ({ended.reason}); it is tried on another"
            return Lost(ended.number, ended.attempt, reason, charged=False)
        if self._blame.row(number) >= FAILED_IN_A_ROW:
            self._replace(number)
        return ended

    def _reopen(self, numbers: set[int]) -> None:
        """Start workers again in places that were given up for a trial that does not speak against them."""
        for number in sorted(numbers):
            if self._spots[number].given_up:
                self._replace(number)

    def _give_up(self, worker: _Worker, lost: Lost) -> Lost:
        """Replace a worker that is broken, or do without its place."""
        spot = self._spots[worker.number]
        spot.broken += 1
        if self.capacity == 1:
            time.sleep(PAUSES[min(spot.broken, len(PAUSES)) - 1])
        if spot.broken < BROKEN_IN_A_ROW or self.capacity == 1:
            self._replace(worker.number)
            return lost
        self._give_place_up(worker)
        left = counted(self.capacity, "worker")
        return replace(lost, reason=f"{lost.reason} ({spot.broken} times in a row; {left} left)")

    def _hanging(self, heard: Sequence[_Worker], at_most: float) -> list[Lost | None]:
        """Kill busy workers that have been silent for too long; of a pause of our own `at_most` seconds count."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, at_most), now
        lost = []
        for worker in (w for w in self._workers if w.task is not None and w not in heard):
            worker.silent += passed
            limit = self._setup.hang_timeout
            if limit is not None and worker.silent >= limit:
                worker.process.kill()
                how = f"made no progress for {worker.silent:.0f} s (runtime.hang_timeout) and was killed"
                lost.append(self._bury(worker, how))
        return lost

    def _bury(self, worker: _Worker, how: str = "") -> Lost | None:
        task = worker.task
        worker.process.join(timeout=5)
        if worker.process.exitcode is None:  # it closed its pipe and lives on
            worker.process.kill()
        reason = f"its worker {how or how_it_ended(worker.process.exitcode)}"
        if task is not None and not worker.ready:
            reason += " before it began" + (f": {UNSTARTED}" if (worker.process.exitcode or 0) > 0 else "")
            return self._give_up(worker, Lost(task.number, task.attempt, reason, charged=False))
        if task is None:
            self._replace(worker.number)
            return None
        return self._died(worker, Lost(task.number, task.attempt, reason))

    def _died(self, worker: _Worker, lost: Lost) -> Lost:
        """Replace a worker that died in a trial; where workers of its place do so again and again, find out why."""
        verdict, cleared = self._blame.died(worker.number, lost.number, others=self.capacity > 1)
        self._reopen(cleared)
        if verdict == "trial":
            self._replace(worker.number)
            return lost
        self._give_place_up(worker)
        where = self._spots[worker.number].place.words
        again = f"one worker after another died in its place ({where}); the trial is tried in another"
        return replace(lost, reason=f"{lost.reason}; {again}", charged=False)

    def _send(self, worker: _Worker, message: dict[str, Any]) -> bool:
        try:
            worker.pipe.send_bytes(json.dumps(message).encode())
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True


def _work(pipe: "Connection[Any, Any]", setup: dict[str, Any]) -> None:
    from podium.tuning.pools.worker import main  # imported by the fork server already; the driver does without torch

    main(pipe, setup)


def how_it_ended(code: int | None) -> str:
    """What the exit `code` of a process says; None: it has not ended."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit code {code}"
    known = {one.value: one.name for one in signal.Signals}
    name = known.get(-code, f"signal {-code}")  # most of the real-time signals have no name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
