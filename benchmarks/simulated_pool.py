"""Workers of a search whose trainings are looked up instead of trained, on a clock that jumps from event to event.

The search's own driver talks to it as to any other pool: what is proposed, pruned, thawed and recorded is the product.
"""

import heapq
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from podium.config.recipe import Recipe
from podium.training.epochs import Epoch
from podium.tuning.messages import Ended, Event, Report, Resumed, Task

STARTUP = 1.7
"""Seconds from the start of the stage to its first step, as measured (docs/benchmarks)."""
HANDOVER = 0.03
"""Seconds that a worker takes to begin a trial, or to load a checkpoint."""


@dataclass
class _Training:
    """A trial on a worker."""

    task: Task
    values: NDArray[np.float64]
    seconds: float
    history: list[Epoch] = field(default_factory=list)

    @property
    def last(self) -> int:
        return int(self.task.recipe["train"]["epochs"])


class SimulatedPool:
    """`training` gives a task's metric by epoch, shorter than its epochs where it fails, and seconds per epoch.

    `decision`: seconds that the driver takes for each task that it hands out, one after the other.
    """

    def __init__(
        self,
        capacity: int,
        training: Callable[[Recipe, int], tuple[NDArray[np.float64], float]],
        decision: float,
        seen: Callable[[float, Task, list[Epoch]], None],
    ) -> None:
        self.capacity, self._training, self._decision, self._seen = capacity, training, decision, seen
        self.now = STARTUP
        """Seconds since the stage was started."""
        self.handed = 0
        """Tasks that it was given."""
        self.epochs = 0
        """That were trained."""
        self._driver_free = 0.0
        self._events: list[tuple[float, int, _Training]] = []
        self._order = 0
        self._at_once: list[Event] = []
        self._asked: dict[int, _Training] = {}
        self._saved: dict[int, _Training] = {}
        self._pausing = False

    def submit(self, task: Task) -> None:
        """Begin `task`, or go on where it rested."""
        self.handed += 1
        self._driver_free = max(self.now, self._driver_free) + self._decision
        if task.number in self._saved:
            one = self._saved[task.number]
            one.task = task
            self._at_once.append(Resumed(task.number, task.attempt, list(one.history)))
        else:
            one = self._saved[task.number] = _Training(
                task, *self._training(Recipe.model_validate(task.recipe), task.seed)
            )
        self._schedule(one, self._driver_free + HANDOVER + one.seconds)

    def _schedule(self, one: _Training, at: float) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, one))

    def events(self, timeout: float) -> list[Event]:
        """What happens next; no time passes in waiting for it."""
        if self._at_once:
            found, self._at_once = self._at_once, []
            return found
        if not self._events:
            raise RuntimeError("the driver waits for workers that have nothing to do")
        at, _, one = heapq.heappop(self._events)
        self.now = max(self.now, at)
        task = one.task
        if self._pausing:
            return [Ended(task.number, task.attempt, "interrupted", list(one.history))]
        if len(one.history) == len(one.values):
            reason = "DivergedError: the loss is not finite"
            return [Ended(task.number, task.attempt, "failed", list(one.history), reason, diverged=True)]
        value = float(one.values[len(one.history)])
        self.epochs += 1
        one.history.append(
            {"epoch": len(one.history) + 1, "val_accuracy": value, "val_loss": 1 - value, "train_loss": 1 - value,
             "learning_rate": 0.0, "seconds": one.seconds}
        )  # fmt: skip
        self._asked[task.number] = one
        self._seen(self.now, task, one.history)
        return [Report(task.number, task.attempt, one.history[-1])]

    def answer(self, report: Report, go_on: bool) -> None:
        """Train on, or end: finished, rested or stopped."""
        one = self._asked.pop(report.number)
        epoch = len(one.history)
        if epoch == one.last:
            self._end(one, "finished")
        elif not go_on:
            self._end(one, "stopped")
        elif epoch == one.task.until:
            self._end(one, "rested")
        else:
            self._schedule(one, self.now + one.seconds)

    def _end(self, one: _Training, how: str) -> None:
        ended = Ended(one.task.number, one.task.attempt, how, list(one.history))  # type: ignore[arg-type]
        self._at_once.append(ended)

    def abandon(self, numbers: Collection[int]) -> None:
        """No worker hangs."""

    def pause(self) -> None:
        """Every trial is saved."""
        self._pausing = True

    def close(self) -> None:
        """There is nothing to end."""
