"""The test that may be looked at any time: by hand, against chance, and how much it takes."""

import numpy as np
import pytest

from podium.shadow.sequential_test import capital, evidence, limit, needed, path, share_interval


def of(gained: int, lost: int, equal: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    return np.array([1] * gained + [-1] * lost + [0] * equal, np.int8)


@pytest.mark.parametrize(
    ("gained", "lost", "equal", "better", "worse"),
    [
        (0, 0, 0, False, False),
        (0, 0, 500, False, False),
        (1, 0, 0, False, False),
        (6, 0, 0, False, False),
        (7, 0, 900, True, False),
        (0, 7, 900, False, True),
        (60, 40, 0, False, False),
        (700, 500, 10, True, False),
        (20, 20, 0, False, False),
        (30, 30, 0, False, False),
        (12, 100, 0, False, True),
    ],
)
def test_evidence_is_there_when_it_must_be_whatever_the_order(
    gained: int, lost: int, equal: int, better: bool, worse: bool
) -> None:
    by_class = of(gained, lost, equal)
    found = evidence(by_class, 0.05)
    assert (found.images, found.gained, found.lost) == (gained + lost + equal, gained, lost)
    assert (found.better >= 20, found.worse >= 20) == (better, worse)
    assert evidence(np.random.default_rng(0).permutation(by_class), 0.05) == found


def test_capital_is_the_mean_over_the_bets() -> None:
    sizes = (np.arange(100) + 0.5) / 100
    expected = [np.mean(1 + sizes), np.mean((1 + sizes) * (1 - sizes)), np.mean((1 + sizes) * (1 - sizes))]
    assert path(of(1, 1, 1)) == pytest.approx(expected)
    assert capital(1, 1, 1) == pytest.approx(expected[-1])
    assert path(of(0, 0)).shape == (0,)
    assert path(of(9, 4, 3))[-1] == pytest.approx(capital(9, 4, 3))
    with pytest.raises(ValueError, match="margin must be 0 to below 1; got 1"):
        capital(1, 0, margin=1.0)


def test_margin_lets_equal_models_be_shown_to_be_no_worse() -> None:
    assert capital(0, 0, 400, 0.02) > 20
    assert capital(0, 0, 400) == pytest.approx(1)
    assert capital(0, 60, 1140, 0.05) < 1  # worse by exactly the margin


@pytest.mark.parametrize(("rate", "images"), [(0.1, 1000), (1.0, 200)])
def test_equal_models_seem_different_in_no_more_than_one_of_twenty(rate: float, images: int) -> None:
    """Looked at after each image, in either direction; benchmarks/sequential.py does it with more of them."""
    draw, either, better = np.random.default_rng(1), list[bool](), list[bool]()
    for _ in range(150):
        difference = draw.choice(np.array([-1, 0, 1], np.int8), images, p=[rate / 2, 1 - rate, rate / 2])
        up, down = (float(path(sign * difference).max()) for sign in (1, -1))
        either.append(max(up, down) >= limit(0.05))
        better.append(up >= 20)
    assert np.mean(either) <= 0.05
    assert np.mean(better) <= 0.05


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 0), (0, 3), (10, 5), (500, 500)])
def test_interval_of_the_share_holds_the_share(gained: int, lost: int) -> None:
    low, high = share_interval(gained, lost, 0.05)
    share = gained / (gained + lost) if gained + lost else 0.5
    assert 0 <= low <= share <= high <= 1
    assert share_interval(lost, gained, 0.05) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_needed_is_where_the_evidence_will_be() -> None:
    assert needed(0, 0, 0.05) is None
    assert needed(5, 5, 0.05) is None
    wanted = needed(3, 1, 0.05)
    assert wanted is not None
    assert 20 < wanted < 80
    assert needed(1, 3, 0.05) == wanted
