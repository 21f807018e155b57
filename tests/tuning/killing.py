"""Searches whose driver is killed before a chosen write of the journal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.training.seeds import derive
from podium.tuning.driver import Driver
from podium.tuning.messages import Ended, Report, Task
from podium.tuning.storage import Journal, open_storage
from podium.tuning.study import open_study
from tuning.scripted import Script, ScriptedPool, epoch, search_params

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "train.epochs": {"low": 2, "high": 6},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
    "train.momentum": {"low": 0.0, "high": 0.9, "when": {"train.optimizer": ["sgd"]}},
}
N_TRIALS = 7


class KilledError(BaseException):
    """The process is gone."""


class Workers:
    """Trainings whose values follow from seed and epoch, and whose checkpoints outlive the driver."""

    def __init__(self, *, checkpoints: bool) -> None:
        self.checkpoints = checkpoints
        self.saved: dict[int, int] = {}

    def train(self, task: Task) -> Script:
        history = []
        for number in range(1, task.recipe["train"]["epochs"] + 1):
            history.append(epoch(number, derive(task.seed, number) % 1000 / 1000))
            if number <= self.saved.get(task.number, 0):
                continue
            if not (yield Report(task.number, task.attempt, history[-1])):
                yield Ended(task.number, task.attempt, "stopped", history)
            if self.checkpoints:
                self.saved[task.number] = number
        yield Ended(task.number, task.attempt, "finished", history)


def search(folder: Path, params: SearchParams, workers: Workers) -> optuna.Study:
    """Run one session with one worker."""
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    pool = ScriptedPool(1, workers.train)
    Driver(study, pool, params, RuntimeParams(), tiny.recipe(), folder / "checkpoints", []).run()
    return study


def table(study: optuna.Study) -> list[dict[str, Any]]:
    """All that two equal searches have in common."""
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            "params": trial.params,
            "curve": trial.intermediate_values,
            "seed": trial.user_attrs["seed"],
            "history": trial.user_attrs["history"],
        }
        for trial in study.get_trials(deepcopy=False)
    ]


def kill_before(write: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Have the process die before its write number `write`, counted from 0. Returns a count of those done."""
    done = 0
    append = Journal.append_logs

    def append_or_die(self: Journal, logs: list[dict[str, Any]]) -> None:
        nonlocal done
        if done == write:
            raise KilledError
        done += 1
        append(self, logs)

    patch.setattr(Journal, "append_logs", append_or_die)
    return lambda: done


def parameters(pruner: str, sampler: str) -> SearchParams:
    """A search over SPACE."""
    return search_params(
        n_trials=N_TRIALS,
        space=SPACE,
        sampler=sampler,
        startup_trials=3,
        pruner=pruner,
        pruner_startup=2,
        pruner_warmup=1,
        pruner_factor=2,
    )
