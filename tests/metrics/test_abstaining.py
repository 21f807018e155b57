"""The threshold from which a model answers: known by hand, promised and simulated."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from podium.metrics import abstaining
from podium.metrics.abstaining import Counts, choose, curve, reachable

Error = Callable[[NDArray[np.float64]], NDArray[np.float64]]
SMOOTH: Error = lambda surety: 0.3 * (1 - surety) ** 3  # noqa: E731
NOISE: Error = lambda surety: 0.003 + 0.3 * (1 - surety) ** 3  # noqa: E731
FLAT: Error = lambda surety: np.full_like(surety, 0.05)  # noqa: E731


def ordered(*right: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Predictions of falling probability."""
    return np.linspace(0.99, 0.5, len(right)), np.array(right)


def all_right_but(count: int, *places: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return ordered(*(n not in places for n in range(count)))


@pytest.mark.parametrize(
    ("count", "wrong", "error", "answered"),
    [
        (59, (), 0.05, 59),  # 0.95 ** 59 is 0.0485
        (58, (), 0.05, None),
        (100, (80,), 0.05, 100),  # one of 93 or more
        (92, (80,), 0.05, 59),
        (100, (10,), 0.05, None),  # among the 59 that have to be right
        (100, (80, 85, 90), 0.05, 59),
        (400, range(300, 400), 0.05, 286),  # then 311, of which 11 are wrong
        (100, range(60, 100), 0.5, 100),
    ],
)
def test_threshold_answers_as_many_as_the_binomial_tail_allows(
    count: int, wrong: tuple[int, ...], error: float, answered: int | None
) -> None:
    probability, right = all_right_but(count, *wrong)
    found = choose(probability, right, error, 0.95)
    assert (found.chosen_on.answered if found else None) == answered
    if found and answered:
        counts = found.counts(probability, right)
        assert counts == found.chosen_on
        assert binom.cdf(counts.wrong, counts.answered, error) <= 0.05
        assert found.probability == (0.0 if answered == count else probability[(answered or 0) - 1])


def test_equal_probabilities_are_answered_together_or_not_at_all() -> None:
    probability = np.array([1.0] * 80 + [0.7] * 40)
    right = np.array([True] * 80 + [False] * 40)
    found = choose(probability, right, 0.05, 0.95)
    assert found is not None
    assert (found.probability, found.chosen_on) == (1.0, Counts(120, 80, 0))
    assert choose(np.ones(120), right, 0.05, 0.95) is None


def test_wrong_label_among_the_surest_ends_a_small_set_and_not_a_large_one() -> None:
    assert choose(*all_right_but(150, 3), 0.05, 0.95) is None
    found = choose(*all_right_but(3000, 3), 0.05, 0.95)
    assert found is not None
    assert found.chosen_on.answered == 3000


@pytest.mark.parametrize(
    ("errors", "count", "error", "least"),
    [(SMOOTH, 300, 0.05, 0.4), (SMOOTH, 2000, 0.05, 0.7), (NOISE, 2000, 0.02, 0.1), (FLAT, 2000, 0.0499, 0.0)],
    ids=["smooth", "more images", "label noise", "just above"],
)
def test_promised_error_is_kept_with_the_promised_confidence(
    errors: Error, count: int, error: float, least: float
) -> None:
    grid = np.linspace(0, 1, 20_001)
    risk = np.cumsum(errors(grid)[::-1])[::-1] / np.arange(len(grid), 0, -1)  # of what is at least as sure
    random, draws = np.random.default_rng(0), 300
    broken, coverage = 0, 0.0
    for _ in range(draws):
        surety = random.random(count)
        found = choose(surety, random.random(count) >= errors(surety), error, 0.9)
        if found is not None:
            coverage += found.chosen_on.coverage / draws
            broken += risk[int(found.probability * 20_000)] > error
    assert broken <= binom.ppf(0.999, draws, 0.1)
    assert coverage >= least


@pytest.mark.parametrize(
    ("count", "wrong", "expected"),
    [(271, (), 0.011), (60, (), 0.049), (30, (25,), 0.12), (5, (), 0.46), (2, (0, 1), None), (1, (), 0.95)],
)
def test_reachable_error_is_the_lowest_that_is_promised(
    count: int, wrong: tuple[int, ...], expected: float | None
) -> None:
    probability, right = all_right_but(count, *wrong)
    found = reachable(probability, right, 0.95)
    assert found == expected
    if found is not None:
        assert choose(probability, right, found, 0.95) is not None
        assert choose(probability, right, found * 0.9, 0.95) is None


def test_reachable_error_is_found_without_trying_every_threshold_of_every_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """116 s for a million images before."""
    tried: list[float] = []

    def counted(probability: NDArray[np.float64], right: NDArray[np.bool_], error: float, confidence: float) -> object:
        tried.append(error)
        return choose(probability, right, error, confidence)

    monkeypatch.setattr(abstaining, "choose", counted)
    draw = np.random.default_rng(0)
    for images in (3, 40, 300, 2000):
        for ties in (False, True):
            probability = draw.random(images).round(1 if ties else 8)
            right = draw.random(images) >= 0.2 * (1 - probability)
            tried.clear()
            found = reachable(probability, right, 0.95)
            assert tried == ([] if found is None else [found])
            digits = [round(n * 10.0**e, 6) for e in (-4, -3, -2) for n in range(10, 100)]
            assert found == next((error for error in digits if choose(probability, right, error, 0.95)), None)


def test_curve_goes_from_the_surest_to_all_of_them() -> None:
    found = curve(*all_right_but(10, 4, 8, 9), 0.95)
    assert found.coverage.tolist() == pytest.approx(np.arange(1, 11) / 10)
    assert found.error.tolist() == pytest.approx([0, 0, 0, 0, 1 / 5, 1 / 6, 1 / 7, 1 / 8, 2 / 9, 3 / 10])
    assert (found.high >= found.error).all()
    assert found.area == pytest.approx(found.error.mean())
    assert found.threshold[-1] == 0.5
    assert len(curve(*all_right_but(5000, 4), 0.95).coverage) == 200
    ties = curve(np.ones(6), np.array([True] * 3 + [False] * 3), 0.95)
    assert (ties.coverage.tolist(), ties.error.tolist()) == ([1.0], [0.5])


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [(Counts(10, 0, 0), 0.0, 1.0), (Counts(60, 59, 0), 0.0, 0.0495), (Counts(9, 3, 3), 0.368, 1.0)],
)
def test_bounds_are_those_of_clopper_and_pearson(counts: Counts, low: float, high: float) -> None:
    assert counts.bounds(0.95) == pytest.approx((low, high), abs=5e-4)
