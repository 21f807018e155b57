"""What a trial with an own training loop is judged by: what Podium measured, where that differs from its reports."""

from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import tiny
from podium.config.search_section import SearchParams
from podium.tuning import feasibility
from podium.tuning.ending import ending_of
from podium.tuning.feasibility import MEASURED
from podium.tuning.outcome import result_epoch

REPORTED = {"epoch": 1, "val_accuracy": 0.99, "seconds": 0.1}
MEASURED_ALL = {"val_accuracy": 0.45, "val_loss": 1.0, "val_min_recall": 0.0}
CASES: dict[str, tuple[dict[str, Any], dict[str, float], dict[str, Any]]] = {
    "reported alone": ({}, {}, {"values": (0.99,), "problem": "", "over": ""}),
    "measured": ({}, MEASURED_ALL, {"values": (0.45,), "problem": "", "over": ""}),
    "a limit that is measured": (
        {"limits": {"min_recall": 0.1}},
        MEASURED_ALL,
        {"values": (0.45,), "problem": "", "over": "min_recall 0.0000 (at least 0.1)"},
    ),
    "a limit that is kept": (
        {"limits": {"min_recall": 0.1}},
        MEASURED_ALL | {"val_min_recall": 0.3},
        {"values": (0.45,), "problem": "", "over": ""},
    ),
    "several metrics": ({"metric": ["accuracy", "loss"]}, MEASURED_ALL, {"values": (0.45, 1.0), "problem": ""}),
}


@pytest.mark.parametrize(("search", "measured", "expected"), CASES.values(), ids=CASES)
def test_own_loop_is_judged_by_what_podium_measured(
    search: dict[str, Any], measured: dict[str, float], expected: dict[str, Any]
) -> None:
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={MEASURED: measured} if measured else {})
    params = SearchParams.model_validate(search)
    found = ending_of(trial, tiny.recipe(), [REPORTED], params, StudyDirection.MAXIMIZE, whole=True)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("measured", [{}, MEASURED_ALL], ids=["reported alone", "measured"])
def test_confirmation_and_results_take_the_same_figures(measured: dict[str, float]) -> None:
    own = {"history": [{**REPORTED, "val_accuracy": 0.2}, REPORTED]} | ({MEASURED: measured} if measured else {})
    trial = optuna.trial.create_trial(state=TrialState.COMPLETE, value=0.45, user_attrs=own)
    assert feasibility.figures(own) == result_epoch(trial) == REPORTED | measured
