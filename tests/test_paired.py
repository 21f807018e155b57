"""The paired tests against other ways to compute them."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from podium.paired import interval, mcnemar, not_worse


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 5), (5, 0), (9, 2), (40, 25), (300, 300)])
def test_mcnemar_is_the_tail_of_a_fair_coin(gained: int, lost: int) -> None:
    expected = binom.sf(gained - 1, gained + lost, 0.5)
    assert mcnemar(gained, lost) == pytest.approx(expected)


def by_search(gained: int, lost: int, images: int, margin: float) -> float:
    """Tango's test with the restricted maximum found by a search instead of his closed form."""

    def loss(share: float) -> float:
        cells = ((gained, share), (lost, share + margin), (images - gained - lost, 1 - 2 * share - margin))
        return -sum(count * math.log(p) for count, p in cells if count)

    share = minimize_scalar(
        loss, bounds=(1e-12, (1 - margin) / 2 - 1e-12), method="bounded", options={"xatol": 1e-13}
    ).x
    variance = images * (2 * share + margin - margin**2)
    return float(norm.sf((gained - lost + images * margin) / math.sqrt(variance)))


@pytest.mark.parametrize(
    ("gained", "lost", "images", "margin"),
    [
        (0, 0, 267, 0.01),
        (3, 5, 267, 0.01),
        (10, 4, 1000, 0.02),
        (30, 60, 1000, 0.02),
        (0, 1, 267, 0.01),
        (5, 0, 50, 0.2),
    ],
)
def test_not_worse_is_tangos_score_test(gained: int, lost: int, images: int, margin: float) -> None:
    found = not_worse(gained, lost, images, margin)
    assert found == pytest.approx(by_search(gained, lost, images, margin), rel=1e-5)


def test_not_worse_without_a_difference_needs_enough_images() -> None:
    assert not_worse(0, 0, 267, 0.01) > 0.05 > not_worse(0, 0, 270, 0.01)


def test_interval_holds_the_mean_and_narrows_with_more_images() -> None:
    few = np.array([1] * 8 + [-1] * 2 + [0] * 90, dtype=np.int8)
    low, high = interval(few, 0.9)
    assert low < 0.06 < high
    near = norm.ppf(0.95) * few.std() / 10
    assert [low, high] == pytest.approx([0.06 - near, 0.06 + near], abs=0.01)
    wide = interval(np.tile(few, 100), 0.9)
    assert wide[1] - wide[0] < (high - low) / 5
    assert interval(few, 0.9) == (low, high)


def test_interval_of_equal_answers_has_no_width() -> None:
    assert interval(np.zeros(50, dtype=np.int8), 0.9) == (0.0, 0.0)
