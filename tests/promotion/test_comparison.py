"""The paired tests against other ways to compute them."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, bootstrap, norm

from podium.promotion.comparison import compare, interval, interval_of_mean, mcnemar, not_worse


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


@pytest.mark.parametrize(("gained", "lost", "images"), [(8, 2, 100), (3, 3, 267), (30, 5, 400), (1, 0, 50)])
def test_interval_is_that_of_scipys_bootstrap_over_images(gained: int, lost: int, images: int) -> None:
    difference = np.array([1] * gained + [-1] * lost + [0] * (images - gained - lost))
    kinds: dict[str, Any] = {"confidence_level": 0.9, "method": "percentile", "n_resamples": 9999}
    found = bootstrap((difference,), np.mean, rng=np.random.default_rng(1), **kinds).confidence_interval
    # A resample's mean moves in steps of one image, so two draws of 9,999 agree to a step.
    assert interval(gained, lost, images, 0.9) == pytest.approx((found.low, found.high), abs=1.01 / images)


def test_interval_holds_the_mean_and_narrows_with_more_images() -> None:
    low, high = interval(8, 2, 100, 0.9)
    near = norm.ppf(0.95) * math.sqrt(0.1 - 0.06**2) / 10
    assert [low, high] == pytest.approx([0.06 - near, 0.06 + near], abs=0.011)
    wide = interval(800, 200, 10_000, 0.9)
    assert wide[1] - wide[0] < (high - low) / 5
    assert interval(8, 2, 100, 0.9) == (low, high)


def test_interval_of_equal_answers_has_no_width() -> None:
    assert interval(0, 0, 50, 0.9) == (0.0, 0.0)


def test_group_of_duplicates_counts_once_whatever_its_size() -> None:
    draw = np.random.default_rng(0)
    new, old = draw.random(200) < 0.8, draw.random(200) < 0.7
    once = compare(new, old, 0.95)
    times = draw.integers(1, 9, 200)
    repeated = compare(np.repeat(new, times), np.repeat(old, times), 0.95, np.repeat(np.arange(200), times))
    assert repeated == once
    assert (once.gain, once.loss, once.groups) == (once.gained, once.lost, 200)


def test_group_of_which_a_part_differs_counts_by_its_part() -> None:
    new, old = np.array([1, 1, 1, 0, 1, 0], np.bool_), np.array([1, 0, 0, 0, 1, 1], np.bool_)
    found = compare(new, old, 0.95, np.array([0, 0, 0, 0, 1, 2]))
    assert (found.gained, found.lost, found.groups) == (1, 1, 3)
    assert (found.gain, found.loss, found.difference) == pytest.approx((0.5, 1, -0.5 / 3))


def test_interval_of_parts_is_that_of_scipys_bootstrap() -> None:
    difference = np.repeat([1, -1, 0.5, -0.25, 0], [20, 6, 12, 4, 100])
    kinds: dict[str, Any] = {"confidence_level": 0.9, "method": "percentile", "n_resamples": 9999}
    found = bootstrap((difference,), np.mean, rng=np.random.default_rng(1), **kinds).confidence_interval
    assert interval_of_mean(difference, 0.9) == pytest.approx((found.low, found.high), abs=0.006)
