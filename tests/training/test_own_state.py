"""What people's own objects remember is in the checkpoints: a resumed training is one that was never disturbed."""

import copy
import importlib
import io
import tracemalloc
from typing import Any

import pytest
import torch

import tiny
from own import OwnCode
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun
from podium.training.saver import snapshot
from podium.training.trained import digest_of

CPU = torch.device("cpu")
HEAD = """
import collections
import dataclasses
import enum
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
    "a generator, an array and a lock beside modules": """
class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.count = nn.BatchNorm1d(3, affine=False), 0

    def forward(self, logits):
        self.count += 1
        return self.norm(logits) * self.count


class _Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts, self.lock, self.draw, self.sums = Parts(), threading.Lock(), np.random.default_rng(1), np.zeros(3)

    def forward(self, logits, targets):
        self.sums += logits.detach().mean(0).numpy()
        return cross_entropy(self.parts(logits) + torch.tensor(self.sums).float(), targets) * self.draw.random()


Own = _Own()
""",
    "what comes later": """
class Own:
    draw = last = cache = None

    def __call__(self, logits, targets):
        self.draw = self.draw or torch.Generator().manual_seed(3)
        self.last = logits.detach().mean(0) if self.last is None else self.last + logits.detach().mean(0)
        self.cache = self.cache or {}
        self.cache[logits.device] = self.last
        return cross_entropy(logits + self.last + torch.rand(3, generator=self.draw), targets)
""",
    "one list in two places": """
class Own:
    def __init__(self):
        self.seen = []
        self.note = self.seen.append

    def __call__(self, logits, targets):
        self.note(float(logits.detach().std()))
        return cross_entropy(logits, targets) * sum(self.seen)
""",
    "an expanded buffer": """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1, 1).expand(1, 3), persistent=False)

    def forward(self, logits, targets):
        self.scale = self.scale * 0.9
        return cross_entropy(logits * self.scale, targets)
""",
    "its own state dict": """
class Part:
    calls = 0

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Own(Part):
    def __init__(self):
        self.part = Part()

    def state_dict(self):
        return {"calls": self.calls, "part": self.part.state_dict()}

    def load_state_dict(self, state):
        self.calls = state["calls"]
        self.part.load_state_dict(state["part"])

    def __call__(self, logits, targets):
        self.calls += 1
        self.part.calls += 2
        return cross_entropy(logits, targets) * self.calls * self.part.calls
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
LOSSES["objects within objects"] = """
@dataclasses.dataclass
class Curriculum:
    level: float = 1.0
    seen: list = dataclasses.field(default_factory=list)


class Meter:
    def __init__(self, owner):
        self.owner, self.curriculum, self.bias = owner, Curriculum(), nn.Linear(3, 3).requires_grad_(False)
        self.rng = np.random.default_rng(1)

    def next(self, logits):
        self.curriculum.level *= 0.9
        self.curriculum.seen.append(float(self.rng.random()))
        self.bias.weight += 0.1
        return logits + self.curriculum.level * self.bias(logits) + sum(self.curriculum.seen)


class Own:
    def __init__(self):
        self.meter = Meter(self)

    def __call__(self, logits, targets):
        return cross_entropy(self.meter.next(logits) * logits, targets)
"""
SHARED = """
class Part:
    def __init__(self):
        self.n, self.draw = 0, np.random.default_rng(1)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.now = self.top = [0.0]
        self.mean = self.peak = torch.zeros(3)
        self.draw = self.other = np.random.default_rng(1)
        self.low, self.same, self.late = [0.0], [1.0], None
        self.part, self.calls = Part(), 0
        self.register_buffer("one", torch.zeros(3))
        self.register_buffer("two", self.one)

    def forward(self, logits, targets):
        self.calls += 1
        if self.calls == 1:
            self.now, self.mean, self.other, self.one = [5.0], torch.ones(3), np.random.default_rng(2), torch.ones(3)
            self.low = self.late = self.same
        self.now[0] += self.draw.random()
        self.top[0] += self.other.random() + self.part.draw.random()
        self.late[0] += 1.0
        self.peak += 0.1
        self.two += 0.2
        bias = self.now[0] + 2 * self.top[0] + self.low[0] * self.same[0] + self.mean + self.peak
        return cross_entropy(logits * bias + self.one * self.two, targets)
"""
LOSSES["attributes that begin or end with one object"] = SHARED
OTHERS = {
    "an augmentation's generators and buffer": """
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(3, 8, 8, dtype=torch.uint8))
        self.numpy, self.old, self.python = np.random.default_rng(3), np.random.RandomState(6), random.Random(4)
        self.torch, self.calls = torch.Generator().manual_seed(5), 0

    def forward(self, images):
        self.calls += 1
        shift = int(self.numpy.integers(3)) + self.python.randrange(3) + self.old.randint(3)
        shift += int(torch.randint(3, (), generator=self.torch)) + self.calls
        mixed = torch.maximum(images.roll(shift, 3), self.last)
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
    (node,) = run.state()["own"].values()
    assert {name: value["content"].nbytes for name, value in node["values"].items()} == {"backgrounds": 3 << 20}
    assert before < 1000


def test_large_table_that_changed_once_outlives_two_resumes(own: OwnCode, data: Batches) -> None:
    table = """
class Table:
    def __init__(self):
        self.table, self.calls = np.zeros(1 << 20, np.uint8), 0

    def __call__(self, images):
        self.calls += 1
        self.table[:] = 1 if self.calls == 1 else self.table
        return images + int(self.table[0])
"""
    module = own.write(HEAD + LOSSES["the classes' weights"].lstrip() + "\n" + table)
    changes = {"train.loss": f"{module}:Own", "train.augment": f"{module}:Table", "train.balance": "loss"}
    recipe = tiny.recipe(**changes, **{"train.epochs": 2, "train.batch_size": 20})
    whole = TrainingRun(recipe, tiny.IMAGES, 0, CPU)
    whole.train(data, None)
    run, state = TrainingRun(recipe, tiny.IMAGES, 0, CPU), None
    for stop in (2, 4, None):
        states: list[dict[str, Any]] = []
        run = TrainingRun(recipe, tiny.IMAGES, 0, CPU)
        if state is not None:
            run.restore(state)
        run.train(data, None, on_step=lambda run, found=states: found.append(_stored(run)))  # type: ignore[misc]
        state = states[1] if stop else None
    assert digest_of(run.model.state_dict()) == digest_of(whole.model.state_dict())


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


TWO = "(setattr(self, 'held', {}) or 1) * self.first.next() * self.held.next()"
LOST = {
    "a Python generator": (
        "self.held = (1 + one / 10 for one in range(99))",
        "next(self.held)",
    ),
    "a member of an enumeration": (
        "self.held = Phase.WARM",
        "(setattr(self, 'held', Phase.MAIN) or 1)",
    ),
    "a function": (
        "self.held = None",
        "(setattr(self, 'held', cross_entropy) or 1)",
    ),
    "a list of objects": (
        "self.held = [Counter()]",
        "self.held[0].next()",
    ),
    "an object of another class": (
        "self.held = Counter()",
        "(setattr(self, 'held', Other()) or 1)",
    ),
}
LOST |= {
    "an object with slots": ("self.held = Slotted()", "self.held.next()"),
    "a list of their own class": ("self.held = Mine([1.0])", "(self.held.append(1.0) or 1 + sum(self.held) / 10)"),
    "a dict of their own class": ("self.held = Table(a=1.0)", "(self.held.update(a=2.0) or self.held['a'])"),
    "a number of their own class": ("self.held = Level(1)", "(setattr(self, 'held', Level(2)) or self.held)"),
    "one object that was two": ("self.first, self.held = Counter(), Counter()", TWO.format("self.first")),
    "two objects that were one": ("self.first = self.held = Counter()", TWO.format("Counter()")),
    "an optimizer that comes later": (
        "self.held, self.bias = None, torch.zeros(3, requires_grad=True)",
        "(setattr(self, 'held', self.held or torch.optim.Adam([self.bias])) or 1)",
    ),
}
COUNTER = """
class Counter:
    def __init__(self):
        self.n = 0

    def next(self):
        self.n += 1
        return 1 + self.n / 10


class Other(Counter):
    pass


class Slotted:
    __slots__ = ("n",)
    __init__, next = Counter.__init__, Counter.next


class Mine(list):
    pass


class Table(dict):
    pass


class Level(float):
    pass


"""
"""An object that may be within another."""


@pytest.mark.parametrize(("begins", "factor"), LOST.values(), ids=LOST)
def test_what_no_checkpoint_has_is_said_when_a_training_is_resumed(
    own: OwnCode, data: Batches, begins: str, factor: str
) -> None:
    text = (
        f"{COUNTER}class Phase(enum.Enum):\n    WARM, MAIN = 1, 2\n\n\n"
        f"class Own:\n    def __init__(self):\n        {begins}\n\n"
        f"    def __call__(self, logits, targets):\n        return cross_entropy(logits, targets) * {factor}\n"
    )
    states: list[dict[str, Any]] = []
    whole = _run(own, text, "train.loss")
    whole.train(data, None, on_step=lambda run: states.append(_stored(run)))
    resumed = _run(own, text, "train.loss")
    resumed.restore(states[1])
    note = "train.loss.held is of a kind that no checkpoint has: it is as at the beginning again"
    assert (whole.notes, resumed.notes) == ([], [note])
    resumed.train(data, None)
    phase = importlib.import_module(own.modules[0]).Phase
    assert [one.value for one in phase] == [1, 2]


CODE = {
    "a global variable": (
        "CALLS = [0]\ndef Own(logits, targets):\n    CALLS[0] += 1\n    return cross_entropy(logits, targets)\n",
        "the global variable CALLS",
    ),
    "a generator of random numbers": (
        "RNG = np.random.default_rng(0)\n"
        "def Own(logits, targets):\n    return cross_entropy(logits, targets) * float(RNG.random())\n",
        "the global variable RNG",
    ),
    "a closure": (
        "def made():\n    calls = []\n    def counted(logits, targets):\n        calls.append(1)\n"
        "        return cross_entropy(logits, targets)\n    return counted\nOwn = made()\n",
        "the variable calls around counted",
    ),
    "a default": (
        "def Own(logits, targets, seen=[]):\n    seen.append(1)\n    return cross_entropy(logits, targets)\n",
        "the default of seen in Own",
    ),
    "an attribute of the function": (
        "def Own(logits, targets):\n    Own.calls = getattr(Own, 'calls', 0) + 1\n"
        "    return cross_entropy(logits, targets)\n",
        "Own.calls",
    ),
    "nothing": (
        "SCALE = {'a': [2.0]}\ndef Own(logits, targets, k=1):\n"
        "    return SCALE['a'][0] * cross_entropy(logits, targets)\n",
        "",
    ),
}


@pytest.mark.parametrize(("text", "what"), CODE.values(), ids=CODE)
def test_what_functions_keep_is_said_when_a_training_is_resumed(
    own: OwnCode, data: Batches, text: str, what: str
) -> None:
    whole = _run(own, text, "train.loss")
    whole.train(data, None)
    resumed = _run(own, text, "train.loss")
    resumed.restore(_stored(whole))
    note = "is of a kind that no checkpoint has: it is as at the beginning again"
    assert resumed.notes == ([f"train.loss: {what} {note}"] if what else [])


@pytest.mark.parametrize("text", ["a lock beside", "method", "partial"])
def test_training_begins_with_an_object_that_no_other_has_used(own: OwnCode, data: Batches, text: str) -> None:
    (loss,) = (one for name, one in LOSSES.items() if text in name)
    recipe = _run(own, loss, "train.loss").recipe
    digests = []
    for _ in range(2):
        run = TrainingRun(copy.deepcopy(recipe), tiny.IMAGES, 0, CPU)
        run.train(data, None)
        digests.append(digest_of(run.model.state_dict()))
    assert digests[0] == digests[1]


HELD = {
    "lazy modules": "[nn.LazyLinear(3), nn.LazyLinear(3).weight]",
    "conjugates": "[torch.zeros(3, dtype=torch.complex64).conj(), torch.zeros(200_000, dtype=torch.complex64).conj()]",
    "what has no bytes": "[torch.eye(3).to_sparse(), torch.empty(3, device='meta'), np.array([object()]), 10**6000]",
    "what raises": "[Bad()]",
    "a module that was lazy": "nn.ModuleList([nn.LazyLinear(3)])",
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
@pytest.mark.parametrize("place", ["self.held", "HELD"])
def test_object_that_holds_what_has_no_bytes_is_saved_and_resumed(
    own: OwnCode, data: Batches, held: str, place: str
) -> None:
    begins, made = (f"self.held = {held}", "HELD = 0") if place == "self.held" else ("pass", f"HELD = {held}")
    bad = "class Bad(float):\n    def __repr__(self):\n        raise ValueError\n\n\n"
    text = (
        f"{bad}{made}\n\n\nclass Own:\n    def __init__(self):\n        {begins}\n\n"
        f"    def __call__(self, logits, targets):\n        return {place} and cross_entropy(logits, targets)\n"
    )
    run = _run(own, text, "train.loss")
    resumed = _run(own, text, "train.loss")
    resumed.restore(_stored(run))
    assert resumed.notes == []


LARGE = {
    "a table": "[[float(i * j) for j in range(3000)] for i in range(300)]",
    "many numbers": "dict.fromkeys(range(1_000_000), 1.0)",
    "a teacher": "[nn.Linear(1500, 1500) for _ in range(4)]",
}


@pytest.mark.parametrize("held", LARGE.values(), ids=LARGE)
def test_large_globals_change_is_said_and_costs_no_memory(own: OwnCode, data: Batches, held: str) -> None:
    change = (
        "for one in HELD: one.weight.data += 1" if "Linear" in held else "HELD.pop()" if "[[" in held else "del HELD[0]"
    )
    text = (
        f"HELD = {held}\n\n\ndef Own(logits, targets):\n    {change}\n"
        "    return cross_entropy(logits, targets) * bool(HELD)\n"
    )
    tracemalloc.start()
    run = _run(own, text, "train.loss")
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    run.state()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 4 << 20
    importlib.import_module(own.modules[0]).Own(torch.zeros(2, 3), torch.tensor([0, 1]))
    assert "train.loss: the global variable HELD" in str(run.state()["own"])
