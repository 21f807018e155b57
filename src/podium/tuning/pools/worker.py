"""The main function of a worker process. Importing this is what the fork server does once for all workers."""

import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch

from podium.training import device
from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.pools import cannot_load, unless_broken
from podium.tuning.work import TrialData, run_trial

SIGNS = 10
"""Signs of progress in the time after which a silent worker counts as hanging."""
BUSY = 0.02
"""A process that used this fraction of a core computes: an epoch of somebody's own loop may take hours."""
LATE = 5.0
"""Seconds without a step, besides twice search.trial_timeout, after which a worker ends its trial and itself."""
LOOK_EVERY, LOOKS = 1.0, 3
"""Seconds between two looks at that, and how many in a row have to find it."""
STUCK = 5
"""Exit code of a worker that ended itself so."""
DRIVER_GONE = 3
"""Exit code of a worker whose driver died."""


def main(pipe: "Connection[Any, Any]", setup: dict[str, Any]) -> None:
    """Train trials as they come through `pipe` until it closes.

    Where this worker is to blame for a trial's end, it reports that it is lost: the pool closes the pipe then.
    """
    pausing = threading.Event()
    _handle_signals(pausing)
    _allow_children(pipe)
    end_with_the_driver()
    torch.set_num_threads(setup["threads"])
    progress = Progress()
    if setup["hang_timeout"] is not None:
        progress.send_every(setup["hang_timeout"] / SIGNS, lambda: _send_bytes(pipe, {"progress": progress.steps}))
    trial_data: TrialData | None = None

    trial_limit = Limit(pipe)

    def pauses() -> bool:
        progress.steps += 1
        trial_limit.starts_again()
        return pausing.is_set()

    def report(epoch: Report) -> bool:
        _send(pipe, epoch)
        with trial_limit.rests():
            return bool(_receive(pipe)["go_on"])

    while True:
        message = _receive(pipe)
        task = Task(**message["task"])
        if trial_data is None:
            try:
                trial_data = load(Path(setup["prepared"]), setup["device"], setup["memory"])
            except Exception as error:
                _send(pipe, cannot_load(task, error))
                continue
            _send_bytes(pipe, {"progress": progress.steps, "ready": True})
        task = task.later(time.monotonic() - message["sent"])  # the clock of the machine, not of the process
        with trial_limit.of(task):
            ended = run_trial(task, trial_data, report, pauses, resumed=partial(_send, pipe))
        _send(pipe, unless_broken(ended))


def load(prepared: Path, wanted: Literal["cpu", "cuda", "mps"], memory: int | None) -> TrialData:
    """The images of `prepared` on the device that this process sees, of whose memory it may take `memory` bytes."""
    where = device.pick(wanted)
    if memory is not None:
        device.limit_memory(where, memory)
    return TrialData.load(prepared, where, memory if where.type != "cpu" else None)  # on the CPU all share the pages


class Progress:
    """Signs that this process gets on: it has taken steps, or computed."""

    def __init__(self) -> None:
        self.steps = 0
        """Of all trials."""

    def send_every(self, seconds: float, send: Callable[[], None]) -> None:
        """Call `send` from a thread every so many seconds in which there was progress."""

        def watch() -> None:
            steps, computed = self.steps, time.process_time()
            while True:
                time.sleep(seconds)
                now = time.process_time()
                if self.steps != steps or now - computed > BUSY * seconds:
                    send()
                steps, computed = self.steps, now

        threading.Thread(target=watch, name="podium-progress", daemon=True).start()


class Limit:
    """Ends this process where its trial takes no step any more, long after search.trial_timeout.

    A trial looks at the time between two of its steps only, and a loop that never ends may never come there. What comes
    before its first step, such as compiling, counts in somebody's own loop alone, which may never report.
    """

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._task: Task | None = None
        """None: nothing is limited."""
        self._stepped = math.inf
        """When it took its last step, or was begun."""
        self._watches = False

    @contextmanager
    def of(self, task: Task) -> Iterator[None]:
        """Within the block `task` is trained."""
        if task.timeout is not None and not self._watches:
            self._watches = True
            threading.Thread(target=self._watch, name="podium-limit", daemon=True).start()
        self._set(task, math.inf if task.recipe["train"].get("program") is None else time.monotonic())
        try:
            yield
        finally:
            self._set(None)

    @contextmanager
    def rests(self) -> Iterator[None]:
        """Within the block the driver is waited for."""
        task = self._task
        self._set(None)
        try:
            yield
        finally:
            self._set(task, time.monotonic())

    def starts_again(self) -> None:
        """The trial has taken a step."""
        self._stepped = time.monotonic()

    def _set(self, task: Task | None, stepped: float = math.inf) -> None:
        with self._lock:
            self._task, self._stepped = task, stepped

    def _watch(self) -> None:
        late = 0
        while True:
            time.sleep(LOOK_EVERY)
            with self._lock:
                task, silent = self._task, time.monotonic() - self._stepped
                limit = None if task is None else task.timeout
                late = late + 1 if limit is not None and silent > 2 * limit + LATE else 0
                if task is not None and late >= LOOKS:  # a process that was stopped for a while gets on first
                    reason = f"search.trial_timeout: {limit:g} s passed, and it took no step for {silent:.0f} s"
                    _send(self._pipe, Ended(task.number, task.attempt, "failed", reason=reason, leaves=True))
                    os._exit(STUCK)


def _send(pipe: "Connection[Any, Any]", message: Report | Resumed | Ended | Lost) -> None:
    _send_bytes(pipe, asdict(message))


_sending = threading.Lock()
"""A message is sent whole before another one begins."""


def _send_bytes(pipe: "Connection[Any, Any]", message: dict[str, Any]) -> None:
    try:
        with _sending:
            pipe.send_bytes(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        os._exit(DRIVER_GONE)


def _receive(pipe: "Connection[Any, Any]") -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # the driver closed the pipe: nothing more to do
    return message


def _handle_signals(pausing: threading.Event) -> None:
    """Ctrl-C reaches the whole group and is the driver's to handle; SIGTERM means: save and stop."""

    def pause(number: int, frame: FrameType | None) -> None:
        pausing.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, pause)


def _allow_children(pipe: "Connection[Any, Any]") -> None:
    """Let own code have processes below this one, such as those of a DataLoader with `num_workers`.

    They must not hold the pipe, whose end tells the driver that this process is gone, and SIGTERM ends them as others.
    """
    multiprocessing.current_process().daemon = False

    def leave() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pipe.close()

    os.register_at_fork(after_in_child=leave)


def end_with_the_driver() -> None:
    """A thread that ends this process when the driver's end of a pipe closes, however the driver died."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(DRIVER_GONE)

    threading.Thread(target=watch, name="podium-watch", daemon=True).start()
