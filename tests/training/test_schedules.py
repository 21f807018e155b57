import math

import pytest

from podium.config.recipe import TrainParams


def _rate(schedule: str, step: int, total: int, warmup: float = 0.2) -> float:
    params = TrainParams.model_validate({"schedule": schedule, "warmup": warmup})
    return float(params.component("schedule").factor(step, total, 0, 1))


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "expected"),
    [
        ("constant", 0.2, 0, 1.0),
        ("constant", 0.2, 50, 1.0),
        ("constant", 0.2, 99, 1.0),
        ("cosine", 0.0, 0, 1.0),
        ("cosine", 0.0, 50, 0.5),
        ("cosine", 0.0, 99, 0.5 * (1 + math.cos(math.pi * 0.99))),
        ("cosine", 0.2, 9, 10 / 21),
        ("cosine", 0.2, 20, 1.0),
        ("cosine", 0.2, 60, 0.5),
        ("cosine", 1.0, 99, 100 / 101),
        ("one_cycle", 0.2, 0, 1 / 21),
        ("one_cycle", 0.2, 9, 10 / 21),
        ("one_cycle", 0.2, 20, 1.0),
        ("one_cycle", 0.2, 60, 0.5),
        ("one_cycle", 0.2, 99, 1 / 80),
        ("one_cycle", 0.0, 0, 1.0),
        ("one_cycle", 0.0, 99, 0.01),
        ("one_cycle", 1.0, 0, 1 / 101),
        ("one_cycle", 1.0, 99, 100 / 101),
    ],
)
def test_learning_rate_at_a_step_of_100(schedule: str, warmup: float, step: int, expected: float) -> None:
    assert _rate(schedule, step, 100, warmup) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.33, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7, 100])
def test_learning_rate_is_above_zero_and_at_most_the_peak(schedule: str, total: int, warmup: float) -> None:
    rates = [_rate(schedule, step, total, warmup) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) > 0.45


def test_one_cycle_rises_and_then_falls() -> None:
    rates = [_rate("one_cycle", step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
