from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.text import counted
from podium.tuning.budget import Budget, since_best
from tuning.scripted import search_params

STATES = {
    "C": TrialState.COMPLETE,
    "P": TrialState.PRUNED,
    "F": TrialState.FAIL,
    "R": TrialState.RUNNING,
    "W": TrialState.WAITING,
}
MAXIMIZE, MINIMIZE = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def _trials(states: str, values: list[float] | None = None) -> list[FrozenTrial]:
    """A trial a letter; complete ones take their value from `values`, else 0.5."""
    left = list(values or [])
    found = []
    for number, letter in enumerate(states):
        value = (left.pop(0) if left else 0.5) if letter == "C" else None
        trial: Any = optuna.trial.create_trial(state=STATES[letter], value=value)
        trial.number = number
        found.append(trial)
    return found


@pytest.mark.parametrize(
    ("states", "spent"),
    [
        ("", False),
        ("CC", False),
        ("CCC", True),
        ("CPF", True),
        ("CPR", True),
        ("RRR", True),
        ("CCW", False),
        ("CCCC", True),
        ("FFF", True),
        ("PPP", True),
    ],
)
def test_n_trials_counts_what_was_started(states: str, spent: bool) -> None:
    reason = Budget(n_trials=3).spent(_trials(states), [MAXIMIZE], 0.0)
    assert bool(reason) == spent
    assert not spent or reason == f"search.n_trials: {counted(len(states), 'trial')} started"


@pytest.mark.parametrize(("seconds", "spent"), [(0.0, False), (59.9, False), (60.0, True), (1e6, True)])
def test_timeout_is_spent_when_the_seconds_have_passed(seconds: float, spent: bool) -> None:
    reason = Budget(n_trials=3, timeout=60.0).spent([], [MAXIMIZE], seconds)
    assert bool(reason) == spent
    assert not spent or reason.startswith("search.timeout")


@pytest.mark.parametrize(
    ("states", "values", "direction", "expected"),
    [
        ("", [], MAXIMIZE, 0),
        ("C", [0.5], MAXIMIZE, 0),
        ("CC", [0.5, 0.6], MAXIMIZE, 0),
        ("CC", [0.5, 0.5], MAXIMIZE, 1),
        ("CC", [0.5, 0.4], MAXIMIZE, 1),
        ("CC", [0.5, 0.4], MINIMIZE, 0),
        ("CC", [0.5, 0.6], MINIMIZE, 1),
        ("CPFR", [0.5], MAXIMIZE, 2),
        ("PPP", [], MAXIMIZE, 0),
        ("PPC", [0.1], MAXIMIZE, 0),
        ("CPCP", [0.5, 0.6], MAXIMIZE, 1),
        ("CRRC", [0.5, 0.4], MAXIMIZE, 1),
    ],
)
def test_since_best_counts_ended_trials(
    states: str, values: list[float], direction: StudyDirection, expected: int
) -> None:
    assert since_best(_trials(states, values), [direction]) == expected


@pytest.mark.parametrize(("plateau", "spent"), [(None, False), (3, False), (2, True), (1, True)])
def test_plateau_is_spent_after_so_many_without_a_better_one(plateau: int | None, spent: bool) -> None:
    reason = Budget(n_trials=99, plateau=plateau).spent(_trials("CCP", [0.5, 0.4]), [MAXIMIZE], 0.0)
    assert bool(reason) == spent
    assert not spent or reason == "search.plateau: 2 trials without a better one"


@pytest.mark.parametrize(
    ("states", "row"),
    [
        ("", []),
        ("F", []),
        ("FF", [0, 1]),
        ("FFF", [0, 1, 2]),
        ("CFF", [1, 2]),
        ("FCF", []),
        ("FPF", []),
        ("FFC", []),
        ("FRFW", [0, 2]),
        ("FFR", [0, 1]),
    ],
)
def test_failures_are_those_in_a_row_at_the_end(states: str, row: list[int]) -> None:
    assert [t.number for t in Budget(n_trials=9, max_failures=2).failures(_trials(states))] == row


def test_failures_without_a_limit_end_nothing() -> None:
    assert Budget(n_trials=9).failures(_trials("FFFFFFFF")) == []


def test_budget_has_the_limits_of_the_parameters() -> None:
    params = search_params(n_trials=7, timeout=2.0, plateau=3, max_failures=4)
    assert Budget.of(params) == Budget(7, 2.0, 3, 4)
