"""Schedules: the factor at a position is what the formula, or the library stepped by hand, gives there."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from own import OwnCode
from podium.components import Choice
from podium.config.recipe import TrainParams
from podium.errors import InputError


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


EPOCHS, STEPS = 6, 5
"""Of a training that is stepped by hand; STEPS in each epoch."""
TOTAL = EPOCHS * STEPS


def _factors(schedule: Any) -> list[float]:
    """The factor at every step of a training."""
    component = TrainParams.model_validate({"schedule": schedule}).component("schedule")
    return [component.factor(step, TOTAL, step // STEPS, EPOCHS) for step in range(TOTAL)]


def _stepped(make: Callable[[torch.optim.Optimizer], Any], per_step: bool = False) -> list[float]:
    """What a scheduler of torch gives at every step, stepped as its documentation says."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for step in range(TOTAL):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if per_step or (step + 1) % STEPS == 0:
            scheduler.step()
    return rates


TORCHS: dict[str, tuple[Any, Callable[[Any], Any], bool]] = {
    "StepLR": (
        {"name": "StepLR", "arguments": {"step_size": 2, "gamma": 0.5}},
        lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5),
        False,
    ),
    "MultiStepLR": (
        {"name": "MultiStepLR", "arguments": {"milestones": [1, 4]}},
        lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones=[1, 4]),
        False,
    ),
    "CosineAnnealingLR": (
        "CosineAnnealingLR",
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS),
        False,
    ),
    "CosineAnnealingLR of its own length": (
        {"name": "CosineAnnealingLR", "arguments": {"T_max": 3}},
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=3),
        False,
    ),
    "ExponentialLR": (
        {"name": "ExponentialLR", "arguments": {"gamma": 0.9}},
        lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=0.9),
        False,
    ),
    "OneCycleLR": (
        "OneCycleLR",
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=TOTAL),
        True,
    ),
    "OneCycleLR, late": (
        {"name": "OneCycleLR", "arguments": {"pct_start": 0.7, "anneal_strategy": "linear"}},
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=TOTAL, pct_start=0.7, anneal_strategy="linear"
        ),
        True,
    ),
}


@pytest.mark.parametrize(("schedule", "make", "per_step"), TORCHS.values(), ids=TORCHS)
def test_schedule_of_torch_gives_the_rates_that_it_gives_by_hand(
    schedule: Any, make: Callable[[Any], Any], per_step: bool
) -> None:
    assert _factors(schedule) == pytest.approx(_stepped(make, per_step), rel=1e-12)


@pytest.mark.parametrize("arguments", [{}, {"warmup_epochs": 2, "min_lr": 0.01}], ids=["plain", "warm-up"])
def test_cosine_of_timm_gives_the_rates_that_it_gives_by_hand(arguments: dict[str, Any]) -> None:
    from timm.scheduler import create_scheduler_v2

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=EPOCHS, **arguments)
    assert scheduler is not None
    expected = []
    for epoch in range(EPOCHS):
        scheduler.step(epoch)
        expected += [float(optimizer.param_groups[0]["lr"])] * STEPS
    assert _factors({"name": "timm:cosine", "arguments": arguments}) == expected
    assert len(set(expected)) == EPOCHS


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("timm:no_such", "train.schedule: timm"),
        ({"name": "timm:cosine", "arguments": {"zzz": 1}}, "train.schedule: timm:cosine does not take {'zzz': 1}: "),
        ({"name": "StepLR", "arguments": {"step": 1}}, "train.schedule.arguments.step: StepLR has no such argument"),
    ],
    ids=["name", "timm's argument", "torch's argument"],
)
def test_schedule_that_is_not_there_or_takes_other_arguments_is_refused(schedule: Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        _factors(schedule)
    assert str(caught.value).startswith(problem)


OWN = """
import torch


def line(step, total, power: float = 1.0):
    return (1 - step / total) ** power


def halves(epoch, epochs):
    return 0.5 ** epoch


class Halves(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self):
        return [0.5 ** self.last_epoch for _ in self.base_lrs]


def factory(optimizer, epochs):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)


def per_step(optimizer, total_steps):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total_steps)


def nothing(optimizer):
    pass


def text(step):
    return "fast"
"""


def test_own_function_gets_what_it_names_and_its_arguments(own: OwnCode) -> None:
    module = own.write(OWN)
    assert _factors(f"{module}:line") == [1 - step / TOTAL for step in range(TOTAL)]
    squared = {"name": f"{module}:line", "arguments": {"power": 2.0}}
    assert _factors(squared) == [(1 - step / TOTAL) ** 2 for step in range(TOTAL)]
    assert _factors(f"{module}:halves") == [0.5 ** (step // STEPS) for step in range(TOTAL)]


def test_own_class_is_stepped_after_each_epoch(own: OwnCode) -> None:
    assert _factors(f"{own.write(OWN)}:Halves") == [0.5 ** (step // STEPS) for step in range(TOTAL)]


def test_own_function_of_an_optimizer_returns_a_scheduler(own: OwnCode) -> None:
    module = own.write(OWN)
    assert _factors(f"{module}:factory") == pytest.approx([1 - step // STEPS / EPOCHS for step in range(TOTAL)])
    assert _factors(f"{module}:per_step") == pytest.approx([1 - step / TOTAL for step in range(TOTAL)])
    with pytest.raises(InputError, match=r"nothing takes an optimizer, so it must return a scheduler .* gave NoneType"):
        _factors(f"{module}:nothing")


def test_own_function_that_gives_no_number_is_refused(own: OwnCode) -> None:
    module = own.write(OWN)
    with pytest.raises(
        InputError, match=rf"^train\.schedule: {module}:text must give a finite number of at least 0; it gave"
    ):
        _factors(f"{module}:text")


@pytest.mark.parametrize("schedule", ["OneCycleLR", "CosineAnnealingLR", "timm:cosine", "cosine"])
def test_factor_follows_from_the_position_alone(schedule: str) -> None:
    whole = _factors(schedule)
    component = TrainParams.model_validate({"schedule": schedule}).component("schedule")  # a resumed training's
    for step in (17, 3, 29, 0):
        assert component.factor(step, TOTAL, step // STEPS, EPOCHS) == whole[step]


@pytest.mark.parametrize(("name", "hint"), [("cosin", "did you mean timm:cosine?"), ("plateau", "such are cosine, ")])
def test_schedule_that_timm_does_not_have_is_named_with_the_one_that_was_meant(name: str, hint: str) -> None:
    schedule = TrainParams(schedule=Choice(name=f"timm:{name}")).component("schedule")
    with pytest.raises(InputError, match=f"^train.schedule: timm has no schedule '{name}'") as caught:
        schedule.factor(0, 10, 0, 10)
    assert hint in str(caught.value)


@pytest.mark.parametrize("name", ["wsd", "rsqrt"])
def test_schedule_that_an_older_timm_lacks_is_refused_with_its_version(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("timm.scheduler.create_scheduler_v2", lambda *_, **given: (None, given["num_epochs"]))
    monkeypatch.setattr("timm.__version__", "1.0.20")
    with pytest.raises(
        InputError, match=rf"^train.schedule: the installed timm 1.0.20 makes no .* timm:{name}: update"
    ):
        _factors(f"timm:{name}")
