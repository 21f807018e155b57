from collections.abc import Callable
from typing import Any, Literal

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from podium.tuning.share_pruner import PercentileAtShare
from tuning.scripted import search_params

Curve = Callable[[float], float]
"""A metric by the share of the training that is done."""


def _recipe(epochs: int, schedule: str = "one_cycle") -> dict[str, Any]:
    return {"recipe": {"train.epochs": epochs, "train.schedule": schedule}}


def _study(*others: tuple[int, str, Curve]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for epochs, schedule, curve in others:
        values = {epoch: curve(epoch / epochs) for epoch in range(1, epochs + 1)}
        attributes = _recipe(epochs, schedule)
        last = values[epochs]
        study.add_trial(create_trial(value=last, intermediate_values=values, user_attrs=attributes))
    return study


def _pruned_at(study: optuna.Study, epochs: int, curve: Curve, schedule: str = "one_cycle", **attrs: Any) -> int | None:
    """The epoch at which a trial with this curve is stopped; None: never."""
    pruner = PercentileAtShare(50.0, n_startup_trials=2, n_warmup_steps=1)
    for last in range(1, epochs + 1):
        values = {epoch: curve(epoch / epochs) for epoch in range(1, last + 1)}
        trial = create_trial(
            state=TrialState.RUNNING, intermediate_values=values, user_attrs=attrs or _recipe(epochs, schedule)
        )
        if pruner.prune(study, trial):
            return last
    return None


def better(share: float) -> float:
    """Ends higher than `worse`, and is above it at every share."""
    return 0.5 + 0.45 * share


def worse(share: float) -> float:
    """Ends lower."""
    return 0.5 + 0.4 * share


@pytest.mark.parametrize(
    ("others", "epochs", "curve", "schedule", "expected"),
    [
        ([(10, worse)] * 3, 50, better, "one_cycle", None),  # behind at epochs 2 to 10, and the better run
        ([(10, worse)] * 3, 50, better, "cosine", None),
        ([(50, better)] * 3, 10, worse, "one_cycle", 1),  # ahead at each of its epochs, and the worse run
        ([(10, better)] * 3, 10, worse, "one_cycle", 1),  # of one length: Optuna's rule
        ([(10, worse)] * 3, 10, better, "one_cycle", None),
        ([(10, worse)] * 3, 50, better, "constant", 2),  # an epoch is an epoch: it learns more slowly
        ([(7, worse)] * 3, 3, better, "one_cycle", None),  # lengths that do not divide each other
        ([(3, better)] * 3, 7, worse, "one_cycle", 2),
    ],
)
def test_trials_are_compared_at_the_same_share_of_their_schedules(
    others: list[tuple[int, Curve]], epochs: int, curve: Curve, schedule: str, expected: int | None
) -> None:
    study = _study(*((length, schedule, other) for length, other in others))
    found = _pruned_at(study, epochs, curve, schedule)
    assert (found is None) == (expected is None)


@pytest.mark.parametrize("attributes", [{"somebody": "else"}, {"recipe": "none"}, {"recipe": {"train.lr": 1}}])
def test_trials_of_unknown_length_are_compared_by_epoch(attributes: dict[str, Any]) -> None:
    study = _study(*[(10, "one_cycle", worse)] * 3)
    ours = _pruned_at(study, 50, better, **attributes)
    values = {epoch: better(epoch / 50) for epoch in (1, 2)}
    trial = create_trial(state=TrialState.RUNNING, intermediate_values=values, user_attrs=attributes)
    assert optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1).prune(study, trial)
    assert ours in (1, 2)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("percentile", "expected"), [(50.0, False), (60.0, True), (100.0, True), (0.0, False)])
def test_percentile_counts_the_trials_that_must_be_beaten(
    direction: Literal["maximize", "minimize"], percentile: float, expected: bool
) -> None:
    study = optuna.create_study(direction=direction)
    sign = 1 if direction == "maximize" else -1
    for other in range(10):
        value = sign * float(other)
        study.add_trial(create_trial(value=value, intermediate_values={1: value, 2: value}, user_attrs=_recipe(2)))
    pruner = search_params(pruner="median", pruner_startup=2, pruner_warmup=0, pruner_percentile=percentile).component(
        "pruner"
    )
    trial = create_trial(state=TrialState.RUNNING, intermediate_values={1: sign * 4.7}, user_attrs=_recipe(2))
    assert pruner.build(None).prune(study, trial) is expected
