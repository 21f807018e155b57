"""Searches with real trainings: a driver, its workers and a study in a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

import tiny
from podium.config.params import RuntimeParams
from podium.training.epochs import Epoch
from podium.tuning.driver import Driver
from podium.tuning.pools import Pool
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.scripted import Recorder, search_params

SPACE = {
    "train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "train.epochs": {"low": 8, "high": 12},
    "train.optimizer": {"choices": ["sgd", "adamw"]},
}
OFTEN = RuntimeParams(checkpoint_seconds=1e-9, checkpoint_share=1.0)
"""A checkpoint a step, so that every kill has one to go on from."""


class Killer(Recorder):
    """A watcher that does something when trial `number` has ended epoch `epoch`, once."""

    def __init__(self, number: int, epoch: int, action: Callable[[], Any]) -> None:
        super().__init__()
        self.at = (number, epoch)
        self.action = action
        self.done = False

    def running(self, trial: Any, history: list[Epoch]) -> None:
        super().running(trial, history)
        if not self.done and trial.number == self.at[0] and history[-1]["epoch"] >= self.at[1]:
            self.done = True
            self.action()


def search(
    folder: Path,
    pool: Pool,
    n_trials: int,
    watcher: Recorder | None = None,
    stopping: Callable[[], bool] = lambda: False,
    runtime: RuntimeParams = OFTEN,
    **fields: Any,
) -> optuna.Study:
    """Run one session over `pool`, which is closed in the end. `fields`: of its parameters."""
    params = search_params(**{"n_trials": n_trials, "space": SPACE} | fields)
    study = open_study(open_storage(folder / "optuna.journal"), "search", params, {})
    base = tiny.recipe(train__shift=1, model__dropout=0.2)
    try:
        Driver(study, pool, params, runtime, base, folder / "checkpoints", [watcher or Recorder()], stopping).run()
    finally:
        pool.close()
    return study


def curves(study: optuna.Study) -> dict[int, Any]:
    """State, value and history of each trial, without what differs between two equal ones."""
    return {
        trial.number: (
            trial.state.name,
            trial.value,
            [{k: v for k, v in e.items() if k != "seconds"} for e in trial.user_attrs.get("history", [])],
        )
        for trial in study.get_trials(deepcopy=False)
    }
