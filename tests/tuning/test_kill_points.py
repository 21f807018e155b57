"""A driver killed before each of its writes: the search that goes on is the search that was never disturbed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.training.seeds import derive
from podium.tuning.driver import Driver
from podium.tuning.journal import Journal, open_storage
from podium.tuning.messages import Ended, Report, Task
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


def _search(folder: Path, params: SearchParams, workers: Workers) -> optuna.Study:
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    pool = ScriptedPool(1, workers.train)
    Driver(study, pool, params, RuntimeParams(), tiny.recipe(), folder / "checkpoints", []).run()
    return study


def _table(study: optuna.Study) -> list[dict[str, Any]]:
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


def _kill_before(write: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
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


def _kill_everywhere(folder: Path, params: SearchParams, every: int, checkpoints: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count = _kill_before(-1, patch)
        undisturbed = _table(_search(folder / "undisturbed", params, Workers(checkpoints=checkpoints)))
        writes = count()
    assert {row["state"] for row in undisturbed} >= {"COMPLETE"}
    wrong = []
    for write in range(0, writes, every):
        workers = Workers(checkpoints=checkpoints)
        with pytest.MonkeyPatch.context() as patch:
            _kill_before(write, patch)
            with pytest.raises(KilledError, match=r"^$"):
                _search(folder / str(write), params, workers)
        if _table(_search(folder / str(write), params, workers)) != undisturbed:
            wrong.append(write)
    assert wrong == [], f"out of {writes} writes"


@pytest.mark.parametrize("checkpoints", [True, False])
def test_killed_search_is_the_same_search(tmp_path: Path, checkpoints: bool) -> None:
    _kill_everywhere(tmp_path, _params("median", "tpe"), every=17, checkpoints=checkpoints)


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [True, False])
@pytest.mark.parametrize("pruner", ["none", "median", "halving", "hyperband"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_search_killed_before_any_write_is_the_same_search(
    tmp_path: Path, pruner: str, sampler: str, checkpoints: bool
) -> None:
    _kill_everywhere(tmp_path, _params(pruner, sampler), every=1, checkpoints=checkpoints)


def _params(pruner: str, sampler: str) -> SearchParams:
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
