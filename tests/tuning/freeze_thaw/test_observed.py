import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.study import StudyDirection

from podium.tuning.freeze_thaw.observed import MOST, Curve, Errors, marks, observe, progress
from podium.tuning.freeze_thaw.places import Place

UP, DOWN = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE


def _curve(number: int, values: list[float], *, failed: bool = False) -> Curve:
    place = Place({}, np.array([number / 1000]), 50)
    return Curve(number, place, dict(enumerate(values, 1)), failed, None)


@pytest.mark.parametrize(
    ("values", "direction", "best"),
    [
        ([0.1, 0.5, 0.9], UP, 1.0),
        ([0.1, 0.5, 2.9], DOWN, 0.0),
        ([-3.0, 0.5, 2.9], UP, 2.9),
        ([-3.0, 0.5, 2.9], DOWN, -3.0),
        ([0.5, 7.0], UP, 7.0),
        ([0.5, 0.5], UP, 1.0),
    ],
)
def test_error_is_what_is_short_of_the_best(values: list[float], direction: StudyDirection, best: float) -> None:
    errors = Errors.of(np.array(values), direction)
    assert errors.best == best
    ordered = sorted(values, reverse=direction == UP)
    found = [float(errors.log(value)) for value in ordered]
    assert found == sorted(found)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("ends", "values", "best"),
    [
        ((-1.0, 1.0), [-0.02, 0.5, 0.97, 0.98], 1.0),
        ((-1.0, 1.0), [0.1, 0.5, 0.97, 0.98], 1.0),
        ((0.0, 1.0), [0.1, 0.5, 0.97, 1.00005], 1.0),
        ((-math.inf, math.inf), [-0.02, 0.5, 0.97, 0.98], 0.98),
        ((0.0, 100.0), [10.0, 50.0, 97.0, 98.0], 100.0),
    ],
    ids=["one below 0", "none below 0", "rounded by an own loop", "range not known", "in percent"],
)
def test_range_of_a_metric_says_what_is_short_of_the_best(
    ends: tuple[float, float], values: list[float], best: float
) -> None:
    """Of a kappa or an mcc one value below 0 made the best one seen the best there can be: 0.97 and 0.98 were alike."""
    errors = Errors.of(np.array(values), UP, ends)
    assert errors.best == best
    logs = errors.log(np.array(values))
    assert (np.diff(logs) < 0).all()
    if best == 1.0 and values[-1] < 1:
        assert logs[2] - logs[3] > 0.3


@pytest.mark.parametrize("diverged", [3.0, 1e3, 1e6, 1e308])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("values", [[0.10, 0.11, 0.2, 0.5, 1.0, 2.3], [-0.5, -0.4, 0.2, 0.5, 1.0, 2.3]])
def test_trial_that_diverged_does_not_make_the_others_alike(values: list[float], sign: int, diverged: float) -> None:
    everything = sign * np.array([*values, diverged])
    logs = Errors.of(everything, DOWN if sign > 0 else UP).log(everything)
    assert (np.diff(logs) / logs.std()).min() > 0.01  # as far apart as the model sees them
    assert (logs[5] - logs[0]) / logs.std() > 1.5


@pytest.mark.parametrize("diverged", [1e3, 1e6, 1e308])
@pytest.mark.parametrize("count", [2, 6, 12])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("values", [[0.10, 0.11, 0.2, 0.5, 1.0, 2.3], [-0.5, -0.4, 0.2, 0.5, 1.0, 2.3]])
def test_many_trials_that_diverged_do_not_make_the_others_alike(
    values: list[float], sign: int, count: int, diverged: float
) -> None:
    everything = sign * np.array([*values, *[diverged] * count])
    logs = Errors.of(everything, DOWN if sign > 0 else UP).log(everything)
    assert np.diff(logs[:6]).min() / logs.std() > 0.005
    assert (logs[5] - logs[0]) / logs.std() > 0.5


@pytest.mark.parametrize("best", [-1.0, 0.0])
def test_noise_on_a_plateau_is_no_difference(best: float) -> None:
    values = np.concatenate([best + np.linspace(0, 1e-7, 40), np.linspace(best + 0.1, best + 3, 20)])
    logs = Errors.of(values, DOWN).log(values)
    assert logs[:40].std() < 1e-3 * logs.std()


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(0, []), (1, [1]), (2, [1, 2]), (10, [1, 2, 3, 4, 6, 9, 10])],
)
def test_marks_are_half_as_far_again_and_the_last(epochs: int, expected: list[int]) -> None:
    assert [epoch for epoch, _ in marks(dict.fromkeys(range(1, epochs + 1), 0.5))] == expected


def test_failed_trial_counts_as_the_worst_at_its_end() -> None:
    observed = observe([_curve(0, [0.2, 0.9]), _curve(1, [], failed=True)], UP)
    assert observed is not None
    failed = observed.points.trial == 1
    assert observed.y[failed].tolist() == [observed.y.max()]
    assert observed.points.t[failed].tolist() == [1.0]


def test_where_a_trial_stands_is_no_single_epoch() -> None:
    lucky, steady = _curve(0, [0.1, 0.1, 0.9]), _curve(1, [0.5, 0.5, 0.5])
    observed = observe([lucky, steady], UP)
    assert observed is not None
    assert observed.best == pytest.approx(float(Errors.of(np.array([0.1, 0.9, 0.5]), UP).log(0.5)))


@pytest.mark.parametrize(
    ("excess", "stands"),
    [({}, 0.5), ({1: 0.2, 2: 0.1}, 0.5), ({1: -0.2, 2: -0.1}, 0.85)],
    ids=["not known yet", "broken", "kept where it last rested"],
)
def test_trial_under_way_counts_as_the_best_only_as_far_as_it_is_known_to_keep_the_limits(
    excess: dict[int, float], stands: float
) -> None:
    """What it measures beside the objective is known when it rests; its third epoch has just been reported."""
    kept = replace(_curve(0, [0.5, 0.5, 0.5]), excess=dict.fromkeys((1, 2, 3), -0.1), limited=True)
    running = replace(_curve(1, [0.8, 0.9, 0.97]), excess=excess, limited=True)
    observed = observe([kept, running], UP)
    assert observed is not None
    assert float(observed.errors.values(observed.best)) == pytest.approx(stands)


@pytest.mark.parametrize("trials", [20, 100, 250, 900])
def test_points_are_bounded_and_the_best_trials_keep_theirs(trials: int) -> None:
    curves = [_curve(n, [0.5 * (1 - n / trials) * (1 - 0.9**e) for e in range(1, 13)]) for n in range(trials)]
    observed = observe(curves, UP)
    assert observed is not None
    assert len(observed.y) <= MOST + 5
    assert 0 in observed.points.trial
    assert trials - 1 in observed.points.trial, "and a part of the worst ones"


@pytest.mark.parametrize("curves", [[], [_curve(0, [])], [_curve(0, [], failed=True)]])
def test_nothing_seen_is_nothing(curves: list[Any]) -> None:
    assert observe(curves, UP) is None


def test_progress_is_from_nothing_to_the_whole() -> None:
    assert progress(np.array([0, 50]), np.array([50, 50])).tolist() == [0.0, 1.0]
