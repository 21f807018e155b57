"""Optuna without one of the private names that Podium uses: every search ends as it does with it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from podium import private_names
from podium.tuning.optuna_private import contains, frozen
from podium.tuning.outcome import write_trials
from podium.tuning.storage import Journal, open_storage
from podium.tuning.study import open_study, resume_trial
from tuning.killing import KilledError, Workers, kill_before, parameters, search, table

WRITES = (12, 55, 62)
"""Before which the driver is killed: at an epoch, at a parameter that TPE proposes, and at the end of a trial."""


def hide(patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Have `name` be missing from every `owner` for Podium, though not for Optuna itself."""
    plain: Any = owner.__getattribute__

    def look_up(self: Any, asked: str) -> Any:
        if asked == name and _caller_is_podium():
            raise AttributeError(f"{owner.__name__} has no {name}")
        return plain(self, asked)

    patch.setattr(owner, "__getattribute__", look_up)


def change_constructor(patch: pytest.MonkeyPatch) -> None:
    """Have optuna.Trial be made otherwise."""
    plain: Callable[..., None] = optuna.Trial.__init__

    def make(self: Any, *arguments: Any, **named: Any) -> None:
        if _caller_is_podium():
            raise TypeError("Trial.__init__() takes a context")
        plain(self, *arguments, **named)

    patch.setattr(optuna.Trial, "__init__", make)


def _caller_is_podium() -> bool:
    return str(sys._getframe(2).f_globals["__name__"]).startswith("podium.")


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "Study._storage": lambda patch: hide(patch, optuna.Study, "_storage"),
    "Trial._trial_id": lambda patch: hide(patch, optuna.Trial, "_trial_id"),
    "FrozenTrial._trial_id": lambda patch: hide(patch, FrozenTrial, "_trial_id"),
    "Trial()": change_constructor,
    "JournalOperation": lambda patch: patch.setitem(sys.modules, "optuna.storages.journal._storage", None),
    "_log_number_offset": lambda patch: hide(patch, Journal, "_log_number_offset"),
}


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_names, "_said", set())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_search_without_a_private_name_has_the_same_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, pruner: str
) -> None:
    params = parameters(pruner, "tpe")
    write_trials(tmp_path / "expected.csv", search(tmp_path / "with", params, Workers(checkpoints=True)))
    with pytest.MonkeyPatch.context() as patch:
        CHANGES[change](patch)
        study = search(tmp_path / "without", params, Workers(checkpoints=True))
    write_trials(tmp_path / "trials.csv", study)
    assert (tmp_path / "trials.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines))  # each consequence is said once
    assert all(line.startswith(f"Optuna {optuna.__version__} is not what Podium expects (") for line in lines)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("write", WRITES)
def test_killed_search_without_a_private_name_has_the_same_trials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, write: int
) -> None:
    params = parameters("median", "tpe")
    expected = search(tmp_path / "with", params, Workers(checkpoints=True))
    workers = Workers(checkpoints=True)
    with pytest.MonkeyPatch.context() as patch:
        CHANGES[change](patch)
        with pytest.MonkeyPatch.context() as kill:
            kill_before(write, kill)
            with pytest.raises(KilledError, match=r"^$"):
                search(tmp_path / "without", params, workers)
        study = search(tmp_path / "without", params, workers)
    assert table(study) == table(expected)
    for name, searched in (("trials", study), ("expected", expected)):
        write_trials(tmp_path / f"{name}.csv", searched)
    assert (tmp_path / "trials.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()
    assert "is not what Podium expects" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["none", "Trial()", "FrozenTrial._trial_id"])
def test_enqueued_parameters_of_a_resumed_trial_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    params = parameters("none", "random")
    study = open_study(open_storage(tmp_path / "j"), "s", params, {})
    study.enqueue_trial({"rate": 0.25, "epochs": 3}, {"planned": 0})
    study.ask()
    if change in CHANGES:
        CHANGES[change](monkeypatch)
    trial = resume_trial(study, params, study.trials[0])
    assert trial.number == 0
    assert trial.user_attrs == {"planned": 0}
    assert trial.suggest_float("rate", 0.1, 0.9) == 0.25
    assert trial.suggest_int("epochs", 1, 5) == 3
    assert trial.suggest_categorical("only", ["a"]) == "a"
    assert trial.suggest_int("only number", 4, 4) == 4
    free = trial.suggest_float("free", 0.0, 1.0)
    assert trial.suggest_float("free", 0.0, 1.0) == free
    again = open_study(open_storage(tmp_path / "j"), "s", params, {})
    assert again.trials[0].params == {"rate": 0.25, "epochs": 3, "only": "a", "only number": 4, "free": free}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (CategoricalDistribution(["sgd", "adamw"]), ["sgd"], ["muon", 1, None]),
        (IntDistribution(2, 8, step=2), [2, 4, 8], [3, 10, "x"]),
        (FloatDistribution(0.0, 1.0, step=0.25), [0.0, 0.75], [0.3, 1.25, "x"]),
        (FloatDistribution(1e-4, 1.0, log=True), [1e-4, 0.5], [1e-5, 2.0]),
    ],
)
def test_distribution_contains_a_value_by_either_way(
    monkeypatch: pytest.MonkeyPatch, distribution: BaseDistribution, inside: list[Any], outside: list[Any], hidden: bool
) -> None:
    if hidden:
        hide(monkeypatch, type(distribution), "_contains")
    assert [value for value in inside + outside if contains(distribution, value)] == inside


def test_error_that_is_not_optunas_is_raised_and_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FullError(Exception):
        pass

    study = optuna.create_study()
    trial = study.ask()

    def fail(*arguments: Any, **named: Any) -> Any:
        raise FullError("the database is away")

    for name in ("get_trial", "get_all_trials"):
        monkeypatch.setattr(study._storage, name, fail)
    with pytest.raises(FullError, match="the database is away"):
        frozen(study, trial)
    assert capsys.readouterr().err == ""
