"""The pool that trains in the driver's own process; importing it imports torch, which the driver avoids otherwise.

There is no other worker to hand a trial to: what fails here is the trial's failure.
"""

import queue
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from podium.config.params import RuntimeParams
from podium.own_code import RAISED
from podium.training import device
from podium.tuning.messages import Event, Report, Task
from podium.tuning.pools import cannot_load
from podium.tuning.work import TrialData, run_trial


@dataclass(frozen=True)
class _Died:
    """The thread has ended by an error that is no trial's failure."""

    error: BaseException


class InlinePool:
    """One trial at a time, in a thread of the driver: for debugging, and where processes can't be started."""

    capacity = 1

    def __init__(self, load: Callable[[], TrialData]) -> None:
        self._load = load
        self._trial_data: TrialData | None = None
        self._tasks: queue.Queue[Task | None] = queue.Queue()
        self._events: queue.Queue[Event | _Died] = queue.Queue()
        self._answers: queue.Queue[bool] = queue.Queue()
        self._pausing = threading.Event()
        self._attempts: dict[int, int] = {}
        """The last attempt of each trial that was handed in."""
        self._abandoned: set[tuple[int, int]] = set()
        """Trials, with their attempts, of which nothing more is to be heard."""
        self._thread = threading.Thread(target=self._work, name="podium-trial", daemon=True)
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Start `task`."""
        self._attempts[task.number] = task.attempt
        self._tasks.put(task)

    def events(self, timeout: float) -> list[Event]:
        """What has happened since the last call. Raises what ended the thread: nothing would ever happen again."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return []
        if isinstance(event, _Died):
            raise event.error
        if (event.number, event.attempt) not in self._abandoned:
            return [event]
        if isinstance(event, Report):  # its thread waits for an answer
            self._answers.put(False)
        return []

    def answer(self, report: Report, go_on: bool) -> None:
        """Let the waiting trial continue, or end it."""
        self._answers.put(go_on)

    def abandon(self, numbers: Collection[int]) -> None:
        """Have these trials end at their next step: a thread can't be killed. Others go on."""
        self._abandoned |= {(number, self._attempts[number]) for number in numbers}

    def pause(self) -> None:
        """Have the running trial saved at its next step."""
        self._pausing.set()

    def close(self) -> None:
        """End the thread."""
        self._pausing.set()
        self._answers.put(False)
        self._tasks.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._trial_data = self._trial_data or self._load()
                ended = run_trial(
                    task, self._trial_data, self._report, partial(self._is_to_pause, task), resumed=self._events.put
                )
            except RAISED as error:
                self._events.put(cannot_load(task, error))
                continue
            except BaseException as error:  # such as a KeyboardInterrupt of people's own code: it is the driver's
                self._events.put(_Died(error))
                return
            self._events.put(ended)

    def _is_to_pause(self, task: Task) -> bool:
        return self._pausing.is_set() or (task.number, task.attempt) in self._abandoned

    def _report(self, report: Report) -> bool:
        self._events.put(report)
        return self._answers.get()


def open_inline(prepared: Path, runtime: RuntimeParams) -> InlinePool:
    """One trial at a time, in the driver's process."""

    def load() -> TrialData:
        torch.set_num_threads(runtime.threads)
        return TrialData.load(prepared, device.pick(runtime.device))

    return InlinePool(load)
