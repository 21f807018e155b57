"""The simulator of searches drives the product's own drivers, and counts time and epochs as they are."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import tiny
from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.tuning.driver import Driver
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.study import open_study

SPACE = {"train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
EPOCHS = 4


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("simulated_pool")


def _training(recipe: Recipe, seed: int) -> tuple[Any, float]:
    """Epochs of two seconds; rates above 0.05 diverge after the first."""
    values = np.linspace(0.5, 0.9, EPOCHS) - recipe.train.learning_rate
    return values[:1] if recipe.train.learning_rate > 0.05 else values, 2.0


def _run(simulated: Any, driver: type[Driver], **search: Any) -> tuple[Any, optuna.Study, list[float]]:
    params = SearchParams.model_validate({"space": SPACE, "n_trials": 6, "seed": 1, "max_failures": 100} | search)
    study, times = open_study(InMemoryStorage(), "simulated", params, {}), list[float]()
    pool = simulated.SimulatedPool(2, _training, 0.5, lambda at, task, history: times.append(at))
    base = tiny.recipe(train__epochs=EPOCHS)
    driver(study, pool, params, RuntimeParams(), base, Path("nowhere"), []).run()
    return pool, study, times


def test_two_workers_take_half_of_the_time_of_their_epochs(simulated: Any) -> None:
    pool, study, times = _run(simulated, Driver, sampler="random", pruner="none")
    trained = [len(trial.intermediate_values) for trial in study.trials]
    states = [trial.state for trial in study.trials]
    assert set(trained) <= {1, EPOCHS}
    assert all((state == TrialState.FAIL) == (epochs == 1) for state, epochs in zip(states, trained, strict=True))
    assert pool.epochs == sum(trained) == len(times)
    assert times == sorted(times)
    one_after_the_other = 2.0 * sum(trained)
    assert one_after_the_other / 2 < pool.now - simulated.STARTUP < one_after_the_other


def test_driver_decides_one_task_after_the_other(simulated: Any) -> None:
    pool, _, times = _run(simulated, Driver, sampler="random", pruner="none", n_trials=2)
    first, second = simulated.STARTUP + simulated.HANDOVER + 2.0 + 0.5, simulated.STARTUP + simulated.HANDOVER + 3.0
    assert times[:2] == pytest.approx([first, second])
    assert pool.handed == 2


def test_thaw_search_rests_and_goes_on_in_it(simulated: Any) -> None:
    pool, study, _ = _run(simulated, ThawDriver, method="thaw", max_epochs=20, n_trials=9)
    trained = [len(trial.intermediate_values) for trial in study.trials]
    assert sum(trained) == pool.epochs == 20
    assert pool.handed > len(study.trials), "some trials went on"
    assert any(trial.user_attrs.get("rested_at") for trial in study.trials)
