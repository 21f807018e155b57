import math
from typing import Any

import pytest
import torch
from torch import nn

from podium.optim import build_optimizer, learning_rate
from podium.recipe import TrainParams


def _rate(schedule: str, step: int, total: int, warmup: float = 0.2) -> float:
    params = TrainParams.model_validate({"learning_rate": 1.0, "schedule": schedule, "warmup": warmup})
    return learning_rate(params, step, total)


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "expected"),
    [
        ("constant", 0.2, 0, 1.0),
        ("constant", 0.2, 50, 1.0),
        ("constant", 0.2, 99, 1.0),
        ("cosine", 0.2, 0, 1.0),
        ("cosine", 0.2, 50, 0.5),
        ("cosine", 0.2, 99, 0.5 * (1 + math.cos(math.pi * 0.99))),
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


@pytest.mark.parametrize(
    ("fields", "kind", "expected"),
    [
        ({"optimizer": "adamw"}, torch.optim.AdamW, {}),
        ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    ],
    ids=["adamw", "sgd", "plain sgd"],
)
def test_optimizer_is_the_one_named(fields: dict[str, Any], kind: type, expected: dict[str, Any]) -> None:
    params = TrainParams.model_validate({"learning_rate": 0.25, "weight_decay": 0.125} | fields)
    optimizer = build_optimizer(nn.Linear(2, 2), params)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["lr"] == 0.25
        assert {name: group[name] for name in expected} == expected


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_matrices_are_decayed_and_vectors_are_not(optimizer: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    params = TrainParams.model_validate({"optimizer": optimizer, "weight_decay": 0.5})
    decayed, free = build_optimizer(model, params).param_groups
    assert decayed["weight_decay"] == 0.5
    assert free["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3), (3, 2)]
    assert [tuple(p.shape) for p in free["params"]] == [(2,), (2,), (2,), (3,)]
