import math

import numpy as np
import pytest

from podium.tuning.freeze_thaw.decisions import Decision
from podium.tuning.freeze_thaw.planner import CALM, improvement, is_fitted, no_gain


def test_parameters_are_fitted_at_ever_fewer_decisions() -> None:
    assert [made for made in range(60) if is_fitted(made)] == [0, 1, 2, 4, 7, 12, 20, 33, 53]


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [(0.0, 1.0, 1 / math.sqrt(2 * math.pi)), (-9.0, 1e-6, 9.0), (9.0, 1e-6, 0.0)],
    ids=["as good as the best", "surely better", "surely worse"],
)
def test_improvement_is_expected_below_the_best(mean: float, deviation: float, expected: float) -> None:
    assert improvement(0.0, np.array([mean]), np.array([deviation]))[0] == pytest.approx(expected)


def _made(gain: float, count: int) -> list[Decision]:
    return [Decision(n, 1, "new", {}, gain=gain, noise=0.1) for n in range(count)]


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ([], False),
        (_made(0.05, CALM - 1), False),
        (_made(0.05, CALM), True),
        (_made(0.05, CALM) + _made(0.2, 1), False),
        (_made(0.2, 5) + _made(0.05, CALM), True),
        ([Decision(0, 1, "stratum", {})] * 20, False),
        ([*_made(0.05, CALM), Decision(0, 1, "enqueued")], True),
    ],
)
def test_search_has_no_gain_after_so_many_calm_decisions(decisions: list[Decision], *, expected: bool) -> None:
    assert no_gain(decisions) == expected
