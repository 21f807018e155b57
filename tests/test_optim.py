import math
from typing import Any

import pytest
import torch
from torch import nn

from podium.config.recipe import ModelParams, TrainParams
from podium.models.build import build_model
from podium.training.optimization import build_optimizer, learning_rate, set_rate


def _rate(schedule: str, step: int, total: int, warmup: float = 0.2) -> float:
    params = TrainParams.model_validate({"learning_rate": 1.0, "schedule": schedule, "warmup": warmup})
    return learning_rate(params, step, total)


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


def _network(channels_last: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(4, 6),
        nn.Linear(6, 2),
    ]
    model = nn.Sequential(*layers)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def _step(model: nn.Module, optimizer: Any) -> None:
    torch.manual_seed(1)
    model(torch.randn(8, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


MUON = TrainParams(optimizer="muon", learning_rate=0.01, momentum=0.9, weight_decay=0.5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_muon_takes_torchs_own_step_for_hidden_layers_and_adamws_for_the_ends(channels_last: bool) -> None:
    model = _network(channels_last)
    weights = [p for p in model.parameters() if p.dim() > 1]
    matrices = [nn.Parameter(p.detach().clone().flatten(1)) for p in weights]
    optimizer = build_optimizer(model, MUON)
    torch.manual_seed(1)
    model(torch.randn(8, 3, 5, 5)).square().sum().backward()
    for matrix, weight in zip(matrices, weights, strict=True):
        assert weight.grad is not None
        matrix.grad = weight.grad.flatten(1).clone()
    optimizer.step()
    hidden, ends = matrices[1:-1], [matrices[0], matrices[-1]]
    torch.optim.Muon(hidden, 0.01, 0.5, momentum=0.9, adjust_lr_fn="match_rms_adamw").step()  # type: ignore[no-untyped-call]
    torch.optim.AdamW(ends, 0.01, weight_decay=0.5).step()
    for matrix, weight in zip(matrices, weights, strict=True):
        torch.testing.assert_close(weight.flatten(1), matrix, rtol=0, atol=5e-4)  # Muon's products are in bfloat16


def test_muon_steps_alike_in_either_memory_format() -> None:
    models = [_network(channels_last) for channels_last in (False, True)]
    optimizers = [build_optimizer(model, MUON) for model in models]
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            _step(model, optimizer)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=2e-3)  # its products are in bfloat16


def test_muon_for_a_head_alone_is_adamw() -> None:
    assert type(build_optimizer(nn.Linear(2, 2), MUON)) is torch.optim.AdamW


def test_rate_of_every_group_is_set_in_its_proportion() -> None:
    model = build_model(ModelParams(name="torchvision:shufflenet_v2_x0_5"), (3, 32, 32), 3, [0.5] * 3, [0.3] * 3)
    for name in ("sgd", "adamw", "muon"):
        optimizer = build_optimizer(model, TrainParams.model_validate({"optimizer": name, "backbone_rate": 0.1}))
        set_rate(optimizer, 0.5)
        assert {(group["scale"], group["lr"]) for group in optimizer.param_groups} == {(0.1, 0.05), (1.0, 0.5)}
        count = sum(len(group["params"]) for group in optimizer.param_groups if group["scale"] == 1.0)
        assert count == 2  # the head's weight and bias


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_matrices_are_decayed_and_vectors_are_not(optimizer: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3))
    params = TrainParams.model_validate({"optimizer": optimizer, "weight_decay": 0.5})
    decayed, free = build_optimizer(model, params).param_groups
    assert decayed["weight_decay"] == 0.5
    assert free["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 1, 3, 3), (3, 2)]
    assert [tuple(p.shape) for p in free["params"]] == [(2,), (2,), (2,), (3,)]
