"""Own code that changes in place what it is given: it changes a copy, and the next epoch is given the same again."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import tiny
from own import OwnCode
from podium.components import Choice
from podium.config.search_section import SearchParams
from podium.training.epochs import Epoch
from podium.training.loop import TrainingRun
from podium.training.program import training
from podium.training.ranks import SharedRun
from podium.tuning.work import TrialData

BEGIN = """
import copy

import torch
from torch.nn import functional as F


def given(value):
    return {given}


"""
COPYING = "value.clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)"
SCORE = "(logits.argmax(1) == labels).float().mean()\n\n\nf.direction = 'maximize'\n"
TRAIN = """
def f(train_set, val_set, images, network, run, config, scale: list):
    {body}
    model = network().eval()
    for epoch in (1, 2):
        right = [model(images).argmax(1) == labels for images, labels in val_set.batches(64)]
        run.report(epoch, val_accuracy=float(torch.cat(right).float().mean()))
    return model
"""
CODE: dict[str, tuple[str, dict[str, Any]]] = {
    "a metric, its labels": (
        "def f(logits, labels):\n    labels = given(labels)\n    labels[labels > 0] = 1\n    return " + SCORE,
        {},
    ),
    "a metric, its log-probabilities": (
        "def f(logits, labels):\n    logits = given(logits)\n    logits[:, 0] += 1\n    return " + SCORE,
        {},
    ),
    "a metric, its argument": (
        "def f(logits, labels, seen: list):\n    seen = given(seen)\n    seen.append(1)\n"
        "    return len(seen) + 0 * " + SCORE,
        {"arguments": {"seen": [1]}},
    ),
    "a loss, its logits": (
        "def f(logits, targets):\n    logits = given(logits)\n    logits *= 1.5\n"
        "    return F.cross_entropy(logits, targets)\n",
        {"train.loss": "{m}:f"},
    ),
    "a loss, its logits of a blended batch": (
        "def f(logits, targets):\n    logits = given(logits)\n    logits *= 1.5\n"
        "    return F.cross_entropy(logits, targets)\n",
        {"train.loss": "{m}:f", "train.mixup": 0.4},
    ),
    "a loss, the classes' weights": (
        "def f(logits, targets, weight):\n    weight = given(weight)\n    weight *= 2\n"
        "    return (weight[targets] * F.cross_entropy(logits, targets, reduction='none')).mean()\n",
        {"train.loss": "{m}:f", "train.balance": "loss"},
    ),
    "a loss, its argument": (
        "def f(logits, targets, scale: list):\n    scale = given(scale)\n    scale.append(1)\n"
        "    return len(scale) * F.cross_entropy(logits, targets)\n",
        {"train.loss": {"name": "{m}:f", "arguments": {"scale": [1]}}},
    ),
    "an augmentation, its batch": (
        "def f(images):\n    images = given(images)\n    images += 50\n    return images\n",
        {"train.augment": ["{m}:f"]},
    ),
    "a program, the labels": (
        TRAIN.format(body="given(val_set.labels).zero_()\n    given(train_set.labels).zero_()"),
        {"train.program": {"name": "{m}:f", "arguments": {"scale": [1]}}},
    ),
    "a program, its batches": (
        TRAIN.format(
            body="for x, y in [*train_set.batches(8), *val_set.batches(8)]:\n        given(x).zero_(), given(y).zero_()"
        ),
        {"train.program": {"name": "{m}:f", "arguments": {"scale": [1]}}},
    ),
    "a program, its argument": (
        TRAIN.format(body="given(scale).append(1)"),
        {"train.program": {"name": "{m}:f", "arguments": {"scale": [1]}}},
    ),
}


@pytest.fixture(scope="module")
def trial_data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared")))


def _named(value: Any, module: str) -> Any:
    if isinstance(value, dict):
        return {key: _named(one, module) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one, module) for one in value]
    return value.format(m=module) if isinstance(value, str) else value


def _trained(own: OwnCode, text: str, changes: dict[str, Any], data: TrialData) -> list[Epoch]:
    module = own.write(text)
    recipe = tiny.recipe(**{"train.epochs": 2} | {k: _named(v, module) for k, v in changes.items() if "." in k})
    metric = Choice(name="accuracy")
    if "direction" in text:
        metric = Choice(name=f"{module}:f", arguments=copy.deepcopy(changes.get("arguments", {})))
    made = SearchParams(metric=metric).component("metric")
    run = training(recipe, tiny.IMAGES, 0, torch.device("cpu"), made)
    settings = copy.deepcopy(recipe.nested())
    history = run.train(data.train, data.val)
    assert recipe.nested() == settings
    ran = [{n.replace(module, "m"): v for n, v in epoch.items() if n != "seconds"} for epoch in history]
    return [*ran, {n.replace(module, "m"): v for n, v in run.measured.items()}]


@pytest.mark.parametrize(("text", "changes"), CODE.values(), ids=CODE)
def test_code_that_changes_what_it_is_given_has_the_results_of_code_that_copies_it(
    own: OwnCode, trial_data: TrialData, text: str, changes: dict[str, Any]
) -> None:
    parts = (trial_data.train.images, trial_data.train.labels, trial_data.val.images, trial_data.val.labels)
    before = [one[torch.arange(len(one))] for one in parts]
    found = [_trained(own, BEGIN.format(given=way) + text, changes, trial_data) for way in ("value", COPYING)]
    assert found[0] == found[1]
    assert all(torch.equal(one[torch.arange(len(one))], old) for one, old in zip(parts, before, strict=True))


LOSS = """
def f(logits, targets, weight):
    logits, targets = given(logits), given(targets)
    logits *= 1.5
    targets[:4] = 0
    return F.cross_entropy(logits, targets, weight=weight)
"""


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("mixup", [0.0, 0.4], ids=["plain", "blended"])
@pytest.mark.parametrize(("kind", "parts"), [(TrainingRun, 1), (TrainingRun, 2), (SharedRun, 1)])
def test_loss_that_changes_logits_and_targets_trains_as_one_that_copies_them(
    own: OwnCode, trial_data: TrialData, kind: type[TrainingRun], parts: int, mixup: float
) -> None:
    found = []
    for way in ("value", COPYING):
        loss = f"{own.write(BEGIN.format(given=way) + LOSS)}:f"
        run = kind(tiny.recipe(**{"train.loss": loss, "train.balance": "loss", "train.mixup": mixup}), tiny.IMAGES, 0,
                   torch.device("cpu"))  # fmt: skip
        run.fit_into_memory(least=parts)
        history = run.train(trial_data.train, trial_data.val)
        found.append([{name: value for name, value in epoch.items() if name != "seconds"} for epoch in history])
    assert found[0] == found[1]


def test_targets_are_the_same_for_each_call_of_a_loss(own: OwnCode) -> None:
    loss = tiny.recipe(**{"train.loss": f"{own.write(BEGIN.format(given='value') + LOSS)}:f"}).train.component("loss")
    function, targets = loss.build(torch.ones(3)), torch.tensor([2, 1, 2, 1, 0])
    logits = torch.linspace(0, 1, 15).reshape(5, 3)
    assert function(logits.clone(), targets) == function(logits.clone(), targets)
    assert targets.tolist() == [2, 1, 2, 1, 0]


def test_autograd_refuses_a_change_of_logits_that_it_still_needs(own: OwnCode) -> None:
    """Of a batch that is not blended the loss gets the logits themselves. A last linear layer does not need them for
    its gradient; where a network ends in one that does, such as tanh, torch ends the step: no wrong gradient."""
    loss = tiny.recipe(**{"train.loss": f"{own.write(BEGIN.format(given='value') + LOSS)}:f"}).train.component("loss")
    inputs = torch.linspace(0, 1, 15, requires_grad=True).reshape(5, 3)
    value = loss.build(torch.ones(3))(inputs.tanh(), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
