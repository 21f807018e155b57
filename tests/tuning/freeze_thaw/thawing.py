"""Freeze-thaw searches with workers that follow a script."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.training.epochs import Epoch
from podium.training.seeds import derive
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.messages import Ended, Report, Resumed, Task
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.killing import Workers
from tuning.scripted import Recorder, Script, ScriptedPool, epoch

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.epochs": {"low": 4, "high": 12},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
    "train.momentum": {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}},
}


class Sleepers(Workers):
    """Workers whose trials rest; the values follow from the configuration, the seed and the epoch."""

    def __init__(
        self,
        *,
        checkpoints: bool = True,
        fails: Callable[[Task, int], bool] = lambda task, e: False,
        more: Callable[[Task, int], dict[str, float]] = lambda task, e: {},
        seconds: float = 1.0,
    ) -> None:
        """`more`: other metrics of an epoch; `seconds`: what it takes."""
        super().__init__(checkpoints=checkpoints)
        self.fails, self.more, self.seconds = fails, more, seconds
        self.measured: list[int] = []
        """Hidden units of the networks whose costs were not known: 10 parameters each."""
        self.trained: list[tuple[int, int]] = []
        """Number and epoch of all that was trained, once more where that happened again."""

    def train(self, task: Task) -> Script:
        costs = {"parameters": 10.0 * task.recipe["model"]["hidden"]} if task.limits else {}
        if task.limits and not task.costs:
            self.measured.append(task.recipe["model"]["hidden"])
        ended = partial(Ended, task.number, task.attempt, costs=costs)
        if any(costs[name] > limit for name, limit in task.limits.items()):
            yield ended("infeasible")
            return
        done = self.saved.get(task.number, 0)
        history = [self._epoch(task, number) for number in range(1, done + 1)]
        if done:
            yield Resumed(task.number, task.attempt, list(history))
        if task.until is not None and done >= task.until:
            yield Report(task.number, task.attempt, history[-1])
            yield ended("rested", history)
            return
        for number in range(done + 1, task.recipe["train"]["epochs"] + 1):
            if self.fails(task, number):
                yield ended("failed", history, f"ValueError: no {task.number}")
                return
            history.append(self._epoch(task, number))
            self.trained.append((task.number, number))
            if self.checkpoints:
                self.saved[task.number] = number
            if not (yield Report(task.number, task.attempt, history[-1])):
                yield ended("stopped", history)
                return
            if number == task.until:
                yield ended("rested", history)
                return
        yield ended("finished", history)

    def _epoch(self, task: Task, number: int) -> Epoch:
        return epoch(number, value_of(task, number)) | {"seconds": self.seconds} | self.more(task, number)


def value_of(task: Task, number: int) -> float:
    """An accuracy that rises, the nearer the learning rate is to 0.01 the higher, and a little by chance."""
    far = abs(math.log10(task.recipe["train"]["learning_rate"] / 0.01))
    return (1 - 1 / (1 + number)) * (0.9 - 0.3 * far) + derive(task.seed, number) % 1000 / 50000


def params_of(**fields: Any) -> SearchParams:
    """A freeze-thaw search over SPACE."""
    common = {"method": "thaw", "n_trials": 12, "max_epochs": 60, "space": SPACE, "max_resting": 5}
    return SearchParams.model_validate(common | fields)


def search(
    folder: Path,
    params: SearchParams,
    workers: Sleepers | None = None,
    capacity: int = 1,
    recorder: Recorder | None = None,
    stopping: Callable[[], bool] = lambda: False,
    before: Callable[[optuna.Study], None] = lambda study: None,
    **changes: Any,
) -> tuple[optuna.Study, bool]:
    """Run one session; returns the study and whether the search has ended."""
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    before(study)
    pool = ScriptedPool(capacity, (workers or Sleepers()).train)
    base = tiny.recipe(**changes)
    watchers = [recorder or Recorder()]
    driver = ThawDriver(study, pool, params, RuntimeParams(), base, folder / "checkpoints", watchers, stopping)
    return study, driver.run()
