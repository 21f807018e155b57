import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from own import OwnCode
from podium.config.recipe import TrainParams
from podium.errors import InputError
from podium.training.optimization import build_optimizer, set_rate


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


@pytest.mark.parametrize("frozen", [(0, 4), (0,), (4,), (2,), (0, 2)], ids=str)
def test_muon_trains_what_is_not_frozen_and_resumes(frozen: tuple[int, ...]) -> None:
    def network() -> tuple[nn.Sequential, Any]:
        torch.manual_seed(0)
        layers = [nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)]
        model = nn.Sequential(*layers)
        for number in frozen:
            model[number].requires_grad_(False)
        return model, build_optimizer(model, MUON)

    def step(model: nn.Module, optimizer: Any) -> None:
        set_rate(optimizer, 0.01)
        torch.manual_seed(1)
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    (one, of_one), (other, of_other) = network(), network()
    before = [p.detach().clone() for p in one.parameters()]
    step(one, of_one)
    moved = [not torch.equal(p, was) for p, was in zip(one.parameters(), before, strict=True)]
    assert moved == [p.requires_grad for p in one.parameters()]
    other.load_state_dict(one.state_dict())
    of_other.load_state_dict(copy.deepcopy(of_one.state_dict()))
    step(one, of_one)
    step(other, of_other)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


def _normed() -> nn.Sequential:
    """Matrices and vectors."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def _trained(model: nn.Module, optimizer: Any, steps: int = 4) -> list[torch.Tensor]:
    """The weights after some steps."""
    inputs = torch.arange(12.0).view(4, 3) / 10
    for _ in range(steps):
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


OWN = """
import torch


class Slow(torch.optim.SGD):
    def __init__(self, params, lr, slower: float = 2.0, weight_decay: float = 0.0):
        super().__init__(params, lr=lr / slower, weight_decay=weight_decay)
"""


@pytest.mark.parametrize(
    ("choice", "kind", "arguments"),
    [
        ("NAdam", torch.optim.NAdam, {}),
        ({"name": "NAdam", "arguments": {"eps": 1e-3, "betas": [0.5, 0.9]}}, torch.optim.NAdam, {"eps": 1e-3}),
        ({"name": "RMSprop", "arguments": {"alpha": 0.5}}, torch.optim.RMSprop, {"alpha": 0.5}),
        ("SGD", torch.optim.SGD, {}),
    ],
    ids=["NAdam", "NAdam with arguments", "RMSprop", "SGD"],
)
def test_optimizer_of_torch_takes_the_steps_that_it_takes_by_hand(
    choice: Any, kind: Any, arguments: dict[str, Any]
) -> None:
    if arguments and kind is torch.optim.NAdam:
        arguments = arguments | {"betas": (0.5, 0.9)}
    ours, theirs = _normed(), _normed()
    params = TrainParams.model_validate({"optimizer": choice, "learning_rate": 0.05})
    optimizer: Any = build_optimizer(ours, params)
    assert type(optimizer) is kind
    expected = _trained(theirs, kind(theirs.parameters(), lr=0.05, **arguments))
    for one, other in zip(_trained(ours, optimizer), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["NAdam", "AdamW", "timm:lamb", "own"])
def test_weight_decay_of_an_argument_is_left_off_vectors(own: OwnCode, name: str) -> None:
    full = f"{own.write(OWN)}:Slow" if name == "own" else name
    choice = {"name": full, "arguments": {"weight_decay": 0.25}}
    optimizer: Any = build_optimizer(_normed(), TrainParams.model_validate({"optimizer": choice}))
    found = {tuple(p.shape): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert found == {(4, 3): 0.25, (2, 4): 0.25, (4,): 0.0, (2,): 0.0}


def test_podiums_weight_decay_is_not_read_by_an_optimizer_of_torch() -> None:
    params = TrainParams.model_validate({"optimizer": "NAdam", "weight_decay": 0.5})
    optimizer: Any = build_optimizer(_normed(), params)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0}


def test_lamb_of_timm_takes_the_steps_that_it_takes_by_hand() -> None:
    from timm.optim import create_optimizer_v2

    ours, theirs = _normed(), _normed()
    choice = {"name": "timm:lamb", "arguments": {"betas": [0.8, 0.9]}}
    optimizer = build_optimizer(ours, TrainParams.model_validate({"optimizer": choice, "learning_rate": 0.05}))
    by_hand = create_optimizer_v2(theirs.parameters(), opt="lamb", lr=0.05, weight_decay=0.0, betas=(0.8, 0.9))
    for one, other in zip(_trained(ours, optimizer), _trained(theirs, by_hand), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ("timm:lam", "train.optimizer: timm has no optimizer 'lam'; did you mean timm:lamb?"),
        ({"name": "timm:lamb", "arguments": {"zzz": 1}}, "train.optimizer: timm:lamb does not take {'zzz': 1}: "),
        (
            {"name": "NAdam", "arguments": {"beta": 1}},
            "train.optimizer.arguments.beta: NAdam has no such argument; did",
        ),
        ({"name": "NAdam", "arguments": {"eps": -1}}, "train.optimizer: NAdam failed: ValueError: Invalid epsilon"),
        ({"name": "AdamW", "arguments": {"betas": [0.9]}}, "train.optimizer: AdamW failed: IndexError: list i"),
        (
            {"name": "Adam", "arguments": {"eps": "1e-8"}},
            "train.optimizer: Adam failed: TypeError: '<=' not supported between instances of 'float' and 'str' (with"
            " eps: '1e-8'); eps is text: write the number without quotes, and 1e-3 as 1.0e-3",
        ),
        (
            {"name": "Adam", "arguments": {"weight_decay": -0.1}},
            "train.optimizer.arguments.weight_decay: must be a number of at least 0; got -0.1",
        ),
        (
            {"name": "timm:lamb", "arguments": {"weight_decay": "0.1"}},
            "train.optimizer.arguments.weight_decay: must be a number of at least 0; got '0.1'",
        ),
    ],
    ids=["name", "timm's argument", "torch's argument", "value", "length", "text", "decay", "timm's decay"],
)
def test_optimizer_that_is_not_there_or_takes_other_arguments_is_refused(choice: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        build_optimizer(_normed(), TrainParams.model_validate({"optimizer": choice}))
    assert str(caught.value).startswith(problem)


def test_own_optimizer_gets_groups_rate_and_arguments_and_its_rate_is_set(own: OwnCode) -> None:
    choice = {"name": f"{own.write(OWN)}:Slow", "arguments": {"slower": 4.0}}
    optimizer: Any = build_optimizer(_normed(), TrainParams.model_validate({"optimizer": choice, "learning_rate": 1.0}))
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    set_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


@pytest.mark.parametrize("name", ["NAdam", "timm:lamb", "own"])
def test_optimizer_that_is_somebody_elses_goes_on_from_its_state(own: OwnCode, name: str) -> None:
    full = f"{own.write(OWN)}:Slow" if name == "own" else name
    params = TrainParams.model_validate({"optimizer": full, "learning_rate": 0.05})
    models = [_normed(), _normed()]
    optimizers: list[Any] = [build_optimizer(model, params) for model in models]
    expected = _trained(models[0], optimizers[0], 4)
    _trained(models[1], optimizers[1], 2)
    fresh: Any = build_optimizer(models[1], params)
    fresh.load_state_dict(optimizers[1].state_dict())
    for one, other in zip(_trained(models[1], fresh, 2), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LBFGS", "LBFGS must be one whose step needs no argument; it needs closure: take train.program"),
        ("Muon", "Podium's own `muon` (train.optimizer: muon) gives it the matrices and AdamW the rest"),
        ("timm:adahessian", "timm:adahessian needs second derivatives (backward with create_graph=True)"),
    ],
)
def test_optimizer_that_needs_another_loop_or_other_weights_is_refused_with_what_to_take(name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"^train.optimizer: .*{re.escape(words)}"):
        build_optimizer(_network(), TrainParams.model_validate({"optimizer": name}))
