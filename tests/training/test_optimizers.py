from typing import Any

import pytest
import torch
from torch import nn

from podium.config.recipe import TrainParams
from podium.training.optimization import build_optimizer


@pytest.mark.parametrize(
    ("fields", "kind", "expected"),
    [
        ({"optimizer": "adamw"}, torch.optim.AdamW, {}),
        ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"optimizer": "sgd", "momentum": 0.0}, torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    ],
    ids=["adamw", "sgd", "plain sgd"],
)
def test_optimizer_is_the_one_named(fields: dict[str, Any], kind: Any, expected: dict[str, Any]) -> None:
    params = TrainParams.model_validate({"learning_rate": 0.25, "weight_decay": 0.125} | fields)
    optimizer: Any = build_optimizer(nn.Linear(2, 2), params)
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
