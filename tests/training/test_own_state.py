"""What people's own objects remember is in the checkpoints: a resumed training is one that was never disturbed."""

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tiny
from own import OwnCode
from podium.training.batches import Batches
from podium.training.checkpoint import TornCheckpointError
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun
from podium.training.saver import snapshot
from podium.training.trained import digest_of

CPU = torch.device("cpu")
HEAD = """
import collections
import functools
import random
import threading

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy


"""
LOSSES = {
    "buffers": """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.ones(3))
        self.register_buffer("first", None)

    def forward(self, logits, targets):
        self.seen += torch.bincount(targets, minlength=3)
        self.first = logits.detach().mean(0) if self.first is None else self.first * 0.9 + 0.1 * logits.detach().mean(0)
        return cross_entropy(logits - self.first, targets, self.seen.sum() / self.seen)
""",
    "centres that begin at random": """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("centres", torch.randn(3, 3))
        self.ema = self.centres

    def forward(self, logits, targets):
        for one, target in zip(logits.detach(), targets):
            self.centres[target] = 0.9 * self.ema[target] + 0.1 * one
        return cross_entropy(logits, targets) + 0.1 * (logits - self.centres[targets]).pow(2).mean()
""",
    "plain attributes": """
class Own:
    __slots__ = ("calls", "table", "recent", "by_class")

    def __init__(self):
        self.calls, self.table, self.recent, self.by_class = 0, [1.0, 2.0], collections.deque(maxlen=3), {}

    def __call__(self, logits, targets):
        self.calls += 1
        self.table[0] += 0.1
        self.recent.append(float(logits.detach().std()))
        self.by_class[int(targets[0])] = self.by_class.get(int(targets[0]), 0) + 1
        factor = self.table[0] + self.calls / 10 + sum(self.recent) + 0.1 * len(self.by_class)
        return cross_entropy(logits, targets) * factor * (1 + 0.01 * sum(self.by_class.values()))
""",
    "an object within a list within an object, a lock beside it": """
class Counter:
    def __init__(self):
        self.count, self.lock, self.draw = 0, threading.Lock(), np.random.default_rng(1)


class _Own:
    def __init__(self):
        self.parts = {"one": [Counter(), nn.BatchNorm1d(3, affine=False)], 2: np.zeros(3)}

    def __call__(self, logits, targets):
        counter, norm = self.parts["one"]
        counter.count += 1
        self.parts[2][:] += logits.detach().mean(0).numpy()
        return cross_entropy(norm(logits) + torch.tensor(self.parts[2]).float(), targets) * (
            counter.count + counter.draw.random())


Own = _Own()
""",
    "a module-level object's method": """
class _Own:
    calls = 0

    def loss(self, logits, targets):
        self.calls += 1
        return cross_entropy(logits, targets) * self.calls


Own = _Own().loss
""",
    "a partial of an object": """
class _Own:
    calls = 0

    def __call__(self, logits, targets, scale):
        self.calls += 1
        return cross_entropy(logits, targets) * self.calls * scale


Own = functools.partial(_Own(), scale=0.5)
""",
    "an optimizer of its own": """
class Own:
    def __init__(self):
        self.bias = torch.zeros(3, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.bias], 0.1, momentum=0.9)

    def __call__(self, logits, targets):
        (inner := cross_entropy(logits.detach() + self.bias, targets)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return cross_entropy(logits + self.bias.detach(), targets)
""",
    "a dict and lists that grow and shrink": """
class Own:
    def __init__(self):
        self.means, self.last, self.both, self.drop = {"count": 0}, [], [torch.zeros(3), 0], [torch.ones(1)] * 9

    def __call__(self, logits, targets):
        self.means[int(targets[0]), "mean"] = logits.detach().mean(0)
        self.means["count"] += 1
        self.last.append(logits.detach().std(0))
        self.both = [*self.both, self.last[-1]]
        self.drop.pop()
        bias = sum(self.last) + sum(self.both) + sum(one for key, one in self.means.items() if key != "count")
        return cross_entropy(logits + bias, targets) * (len(self.means) + len(self.drop))
""",
    "numbers of numpy and Python": """
def Own(logits, targets):
    return cross_entropy(logits, targets) * (np.random.rand() + random.random() + random.gauss(0, 1) ** 2)
""",
    "the classes' weights": """
class Own(nn.Module):
    def __init__(self, weight=None):
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, logits, targets):
        self.weight[int(targets[0])] *= 1.1
        return cross_entropy(logits, targets, self.weight)
""",
}
OTHERS = {
    "an augmentation's generators and buffer": """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(3, 8, 8, dtype=torch.uint8))
        self.draws = [np.random.default_rng(3), random.Random(4), torch.Generator().manual_seed(5), 0]

    def forward(self, images):
        numpy, python, generator, _ = self.draws
        self.draws[3] += 1
        shift = int(numpy.integers(3)) + python.randrange(3) + int(torch.randint(3, (), generator=generator))
        mixed = torch.maximum(images.roll(shift + self.draws[3], 3), self.last)
        self.last = images[0].clone()
        return mixed
""",
    "an augmentation that begins at random": """
class Own:
    def __init__(self):
        self.table = torch.rand(8) < 0.5

    def __call__(self, images):
        return images * self.table
""",
    "a table of a megabyte that changes": """
class Own:
    def __init__(self):
        self.backgrounds, self.kept = np.zeros((3, 1 << 20), np.uint8), np.ones(1 << 20, np.uint8)

    def __call__(self, images):
        self.backgrounds[:, :8] += 1
        return images + torch.from_numpy(self.backgrounds[:, None, :8] * self.kept[0])
""",
}
SCHEDULE = """
class _Own:
    calls = 0

    def __call__(self, step):
        self.calls += 1
        return 1 / self.calls


Own = _Own()
"""
NETWORK = """
class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head, self.steps = nn.Linear(192, num_classes), 0
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, images):
        if self.training:
            self.steps += 1
            self.scale = self.scale * 0.9
            return self.head(images.flatten(1)) * self.scale + 0.1 * self.steps * np.random.rand()
        return self.head(images.flatten(1))
"""
CASES = {
    **{name: (text, "train.loss") for name, text in LOSSES.items()},
    **{name: (text, "train.augment") for name, text in OTHERS.items()},
    "a schedule": (SCHEDULE, "train.schedule"),
    "a network": (NETWORK, "model.name"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Batches:
    return tiny.trial_data(tiny.prepare(tmp_path_factory.mktemp("prepared"))).train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _run(own: OwnCode, text: str, parameter: str) -> TrainingRun:
    module = own.modules[0] if own.modules else own.write(HEAD + text.lstrip())
    name = f"{module}:Own"
    balance = "loss" if "weight=None" in text else "none"
    changes = {parameter: name, "train.balance": balance, "train.epochs": 2, "train.batch_size": 20}
    return TrainingRun(tiny.recipe(**changes), tiny.IMAGES, 0, CPU)


def _stored(run: TrainingRun) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(snapshot(run.state()), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


@pytest.mark.parametrize(("text", "parameter"), CASES.values(), ids=CASES)
def test_training_with_own_objects_that_remember_resumes_bit_for_bit(
    own: OwnCode, data: Batches, text: str, parameter: str
) -> None:
    states: list[dict[str, Any]] = []
    whole = _run(own, text, parameter)
    history = whole.train(data, None, on_step=lambda run: states.append(_stored(run)))
    assert len(states) == 6
    for state in states[1::2]:  # within each epoch, and at the end of one
        resumed = _run(own, text, parameter)
        resumed.restore(state)
        found = resumed.train(data, None)
        assert [one["train_loss"] for one in found] == [one["train_loss"] for one in history]
        assert digest_of(resumed.model.state_dict()) == digest_of(whole.model.state_dict())


def test_table_that_does_not_change_is_not_saved_each_time(own: OwnCode, data: Batches) -> None:
    text = OTHERS["a table of a megabyte that changes"]
    run = _run(own, text, "train.augment")
    before = len(str(run.state()["own"]))
    run.train(data, None)
    sizes = [part["value"]["content"].nbytes for node in run.state()["own"].values() for part in node["parts"].values()]
    assert sizes == [3 << 20]
    assert before < 1000


def test_network_with_a_cache_goes_on_from_its_checkpoint(own: OwnCode, data: Batches) -> None:
    text = """
class Cache:
    last = None


class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head, self.cache, self.features, self.ids = nn.Linear(192, num_classes), None, {}, iter(range(9999))

    def forward(self, images):
        self.cache = self.cache or Cache()
        self.cache.last = self.features["flat"] = images.flatten(1)
        return self.head(self.cache.last)
"""
    states: list[dict[str, Any]] = []
    whole = _run(own, text, "model.name")
    assert whole.notes == []
    whole.train(data, None, on_step=lambda run: states.append(_stored(run)))
    resumed = _run(own, text, "model.name")
    resumed.restore(states[1])
    assert resumed.step == 2
    resumed.train(data, None)
    assert digest_of(resumed.model.state_dict()) == digest_of(whole.model.state_dict())


def test_process_that_follows_passes_on_what_the_ranks_objects_hold(own: OwnCode, data: Batches) -> None:
    states: list[dict[str, Any]] = []
    whole = _run(own, LOSSES["buffers"], "train.loss")
    whole.train(data, None, on_step=lambda run: states.append(_stored(run)))
    following = FollowingRun(whole.recipe, tiny.IMAGES, 0, CPU)
    following.restore(states[1])
    resumed = _run(own, LOSSES["buffers"], "train.loss")
    resumed.restore(_stored(following))
    resumed.train(data, None)
    assert digest_of(resumed.model.state_dict()) == digest_of(whole.model.state_dict())


LOST = {
    "a generator": (
        "class Own:\n    def __init__(self):\n        self.scales = (1 + one / 10 for one in range(99))\n\n"
        "    def __call__(self, logits, targets):\n        return cross_entropy(logits, targets) * next(self.scales)\n",
        "train.loss.scales is a generator, which no checkpoint can have",
        True,
    ),
    "an object that comes later": (
        "class Part:\n    calls = 0\n\n\nclass Own:\n    part = None\n\n    def __call__(self, logits, targets):\n"
        "        self.part = self.part or Part()\n        self.part.calls += 1\n"
        "        return cross_entropy(logits, targets) * self.part.calls\n",
        "train.loss.part was made after the beginning, so it is not here yet",
        False,
    ),
}


@pytest.mark.parametrize(("text", "why", "noted"), LOST.values(), ids=LOST)
def test_training_whose_state_can_not_be_had_begins_again(
    own: OwnCode, data: Batches, text: str, why: str, noted: bool
) -> None:
    states: list[dict[str, Any]] = []
    whole = _run(own, text, "train.loss")
    assert whole.notes == ([f"{why}: where this training is interrupted, it begins again"] if noted else [])
    whole.train(data, None, on_step=lambda run: states.append(_stored(run)))
    resumed = _run(own, text, "train.loss")
    with pytest.raises(TornCheckpointError, match=f"^{why}$"):
        resumed.restore(states[1])
    resumed.train(data, None)
    assert digest_of(resumed.model.state_dict()) == digest_of(whole.model.state_dict())


@pytest.mark.parametrize("text", ["a lock beside it", "method", "partial"])
def test_training_begins_with_an_object_that_no_other_has_used(own: OwnCode, data: Batches, text: str) -> None:
    (loss,) = (one for name, one in LOSSES.items() if text in name)
    recipe = _run(own, loss, "train.loss").recipe
    digests = []
    for _ in range(2):
        run = TrainingRun(copy.deepcopy(recipe), tiny.IMAGES, 0, CPU)
        run.train(data, None)
        digests.append(digest_of(run.model.state_dict()))
    assert digests[0] == digests[1]
