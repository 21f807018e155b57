"""Own code that is bad in one way each: what is wrong is said before the search, with the line or the parameter."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
import torch

import tiny
from own import OwnCode
from podium.components import Choice
from podium.config.recipe import Recipe, TrainParams
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.models.build import build_model
from podium.training import rehearsal
from podium.training.augmentations import Draw
from podium.training.program import training
from podium.training.try_out import try_metric
from waiting import gone, until

GOOD_NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes: int, in_channels: int, image_size, hidden: int = 8, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(in_channels * image_size**2, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, images):
        return self.head(self.body(images))
"""


def _problems(recipe: dict[str, Any], search: dict[str, Any] | None = None) -> list[str]:
    """What is wrong with the components that the dotted values of `recipe` and `search` name."""
    params = SearchParams.model_validate(search or {})
    return rehearsal.problems_of(Recipe().replace(recipe), params, tiny.IMAGES)


def test_good_code_of_every_kind_has_no_problem(own: OwnCode) -> None:
    module = own.write(
        GOOD_NETWORK
        + """

import optuna


def loss(logits, targets, gamma: float = 1.0):
    return gamma * nn.functional.cross_entropy(logits, targets)


class Optimizer(torch.optim.SGD):
    pass


def rate(step, total):
    return 1 - step / total


def brighter(images):
    return images.clamp(max=200) + 50


def metric(logits, labels):
    return (logits.argmax(1) == labels).float().mean()


metric.direction = "maximize"


class Sampler(optuna.samplers.RandomSampler):
    pass


class Pruner(optuna.pruners.NopPruner):
    pass


def program(train_set, val_set, run, hidden: int = 3):
    raise RuntimeError("not called")
"""
    )
    names = {"model.name": "Net", "train.loss": "loss", "train.optimizer": "Optimizer", "train.schedule": "rate"}
    recipe: dict[str, Any] = {place: f"{module}:{name}" for place, name in names.items()}
    recipe |= {"train.augment": f"{module}:brighter, GaussianBlur", "train.program": f"{module}:program"}
    recipe |= {"train.augment.GaussianBlur.arguments.kernel_size": 3}
    search = {"metric": f"{module}:metric", "sampler": f"{module}:Sampler", "pruner": f"{module}:Pruner"}
    space = {
        "model.arguments.hidden": {"low": 4, "high": 16},
        "model.arguments.dropout": {"low": 0.0, "high": 0.5},
        "train.loss.arguments.gamma": {"low": 0.5, "high": 2.0},
    }
    assert _problems(recipe, search | {"space": space}) == []


NETWORKS = {
    "does not import": (
        "import no_such_thing\n",
        "{net} does not import: {file}, line 1, in <module>: ModuleNotFoundError: No module named 'no_such_thing'",
    ),
    "is not there": ("class Nett:\n    pass\n", "{net}: {module} has no 'Net'; did you mean Nett?"),
    "wants something else": (
        "class Net:\n    def __init__(self, vocabulary):\n        pass\n",
        "model.arguments: {net} needs vocabulary, which has no default: give it there",
    ),
    "is no module": (
        "def Net(num_classes):\n    return [num_classes]\n",
        "{net} must be a class or function that gives a torch.nn.Module; it gave list ({file}, line 1)",
    ),
    "fails in its constructor": (
        GOOD_NETWORK.replace("super().__init__()", "super().__init__()\n        self.depth = [][1]"),
        "{net} failed: {file}, line 8, in __init__: IndexError: list index out of range",
    ),
    "fails in forward": (
        GOOD_NETWORK.replace("self.head(self.body(images))", "self.head(images.flatten(1))"),
        "{net} fails on 4 images: {file}, line 14, in forward: RuntimeError: ",
    ),
    "wrong shape": (
        GOOD_NETWORK.replace("nn.Linear(hidden, num_classes)", "nn.Linear(hidden, num_classes + 1)"),
        "{net} must give logits, floats of shape (images, classes), here (4, 3); it gave (4, 4) of torch.float32"
        " ({file}, line 5)",
    ),
    "no tensor": (
        GOOD_NETWORK.replace("return self.head(self.body(images))", "return [1]"),
        "{net} must give logits, floats of shape (images, classes), here (4, 3); it gave list",
    ),
    "auxiliary head": (
        GOOD_NETWORK.replace("return self.head(self.body(images))", "return self.head(self.body(images)), images"),
        "{net} must give logits, floats of shape (images, classes), here (4, 3); it gave tuple: return the logits"
        " alone, its element 0; what else a loss needs, as of auxiliary heads, takes train.program",
    ),
    "probabilities": (
        GOOD_NETWORK.replace("self.head(self.body(images))", "self.head(self.body(images)).softmax(1)"),
        "{net} gives probabilities (they add up to 1), not logits; loss and registered model apply",
    ),
    "not finite": (
        GOOD_NETWORK.replace("self.head(self.body(images))", "self.head(self.body(images)) / 0"),
        "{net} gives logits that are not finite numbers, before any training",
    ),
    "keeps state": (
        GOOD_NETWORK.replace("super().__init__()", "super().__init__()\n        self.calls = 0").replace(
            "return self.head(", "self.calls += 1\n        return self.calls * self.head("
        ),
        "{net} gives other logits for the same images when it is called again in eval mode: it keeps state between"
        " calls, or draws random numbers; a registered model must not ({file}, line 5)",
    ),
    "draws numbers": (
        GOOD_NETWORK.replace("self.body(images))", "self.body(images) + torch.rand(1))"),
        "{net} gives other logits for the same images when it is called again in eval mode",
    ),
    "looks at the batch": (
        GOOD_NETWORK.replace(
            "self.head(self.body(images))", "self.head(images.flatten(1)[:, :1] - images.mean(0).sum())"
        ).replace("nn.Linear(hidden, num_classes)", "nn.Linear(1, num_classes)"),
        "{net} gives other logits for an image alone than for the same image among 4, in eval mode",
    ),
    "teaches nothing": (
        GOOD_NETWORK.replace("self.head(self.body(images))", "self.head(self.body(images)).detach()"),
        "{net} gives logits without a gradient in train mode: nothing can be learned",
    ),
    "is one network": (
        GOOD_NETWORK.replace("class Net", "class Made") + "\n\nNet = Made(3, 1, 8)\n",
        "{net} is one network (Made), and each trial needs a new one: name its class",
    ),
    "is no callable": ("Net = 3\n", "{net} must be a class or a function; it is int"),
    "layers in a list": (
        GOOD_NETWORK.replace(
            "self.body = nn.Sequential(",
            "self.layers = [nn.Linear(hidden, hidden)]\n" + " " * 8 + "self.body = nn.Sequential(",
        ).replace("self.body(images))", "self.layers[0](self.body(images)))"),
        "{net} computes with weights that are no parameters of it, (8, 8) of torch.float32 among them: they would be"
        " neither trained nor saved. Hold layers as attributes, in nn.ModuleList",
    ),
    "layer of the module": (
        GOOD_NETWORK.replace("class Net", "LAYER = nn.Linear(8, 8)\n\n\nclass Net").replace(
            "self.body(images))", "LAYER(self.body(images)))"
        ),
        "{net} computes with weights that are no parameters of it",
    ),
    "layers made in forward": (
        GOOD_NETWORK.replace(
            "return self.head(", "self.more = getattr(self, 'more', None) or nn.Linear(3, 3)\n        return self.more("
        )
        .replace("self.body(images))", "self.head(self.body(images)))")
        .replace("self.more(self.head(self.head(", "self.more(self.head("),
        "{net} gives another network each time, which can't take the weights of the first (RuntimeError: Error(s)",
    ),
    "one layer for all": (
        GOOD_NETWORK.replace("class Net", "LAYER = nn.Linear(8, 3)\n\n\nclass Net").replace(
            "self.head = nn.Linear(hidden, num_classes)", "self.head = LAYER"
        ),
        "{net} gives a network that shares weights with the one before (",
    ),
    "the same network each time": (
        GOOD_NETWORK.replace("class Net", "class Made")
        + "\n\nimport functools\n\n\n@functools.cache\ndef Net(num_classes, in_channels, image_size):\n"
        + "    return Made(num_classes, in_channels, image_size)\n",
        "{net} gives a network that shares weights with the one before (",
    ),
    "a default that grows": (
        GOOD_NETWORK.replace("dropout: float = 0.0", "sizes=[8]").replace("nn.Dropout(dropout)", "*self.more(sizes)")
        + "\n    def more(self, sizes):\n        sizes.append(8)\n        return [nn.Linear(8, 8) for _ in sizes]\n",
        "{net} gives another network each time, which can't take the weights of the first (RuntimeError: Error(s)",
    ),
    "numbers that are not saved": (
        GOOD_NETWORK.replace(
            "super().__init__()", "super().__init__()\n        self.mixed = torch.randn(8, 8)"
        ).replace("self.body(images))", "self.body(images) @ self.mixed)"),
        "{net} gives other logits once its weights were saved and loaded: it computes with numbers that are not in its"
        " state_dict and differ from network to network. Register tensors (a persistent register_buffer, nn.Parameter)",
    ),
    "complex weights": (
        GOOD_NETWORK.replace(
            "nn.Linear(hidden, num_classes)", "nn.Linear(hidden, num_classes, dtype=torch.cfloat)"
        ).replace("self.head(self.body(images))", "self.head(self.body(images) + 0j).real"),
        "{net} has complex weights (1.head.weight), which Podium neither averages nor optimizes: hold them as real",
    ),
    "changes torch's default type": (
        "import torch\n\ntorch.set_default_dtype(torch.float64)\n",
        "{module} changes torch's default type (set_default_dtype) when it is imported, which would hold for all of",
    ),
    "changes the working directory": (
        "import os\n\nos.chdir('/')\n",
        "{module} changes the working directory (os.chdir) when it is imported, which would hold for all of Podium: do",
    ),
    "can't be copied": (
        GOOD_NETWORK.replace("super().__init__()", "super().__init__()\n        self.numbers = (n for n in range(3))"),
        "{net} can't be copied, so it could not be averaged, exported or registered: TypeError: cannot pickle",
    ),
    "needs another input": (
        GOOD_NETWORK.replace("forward(self, images)", "forward(self, images, metadata)"),
        "{net} fails on 4 images: TypeError: Net.forward() missing 1 required positional argument: 'metadata'"
        " ({file}, line 5)",
    ),
    "leaves torch in forward": (
        GOOD_NETWORK.replace(
            "return self.head(self.body(images))",
            "return self.head(self.body(torch.from_numpy(images.numpy() * 2)))",
        ),
        "{net} can't be exported, so it could not be registered: {file}, line 14, in forward: RuntimeError: .numpy() is"
        " not supported for tensor subclasses.. torch.export takes what torch computes alone: write it with torch's",
    ),
    "can't be exported": (
        GOOD_NETWORK.replace(
            "return self.head(self.body(images))",
            "if images.sum() > 0:\n            return self.head(self.body(images))\n"
            "        return self.head(self.body(-images))",
        ),
        "{net} can't be exported, so it could not be registered: {file}, line 14, in forward: ",
    ),
}


@pytest.mark.parametrize(("text", "problem"), NETWORKS.values(), ids=NETWORKS)
def test_bad_network_is_refused_with_what_is_wrong(own: OwnCode, text: str, problem: str) -> None:
    module = own.write(text)
    net = f"{module}:Net"
    (line, *more) = _problems({"model.name": net})
    expected = problem.format(net=net, module=module, file=f"src/{module}.py")
    assert line.startswith(expected if expected.startswith("model.arguments") else f"model.name: {expected}")
    assert more == []


def test_branch_in_a_file_that_is_called_after_numpy_is_answered_with_a_remedy_for_branches(own: OwnCode) -> None:
    text, _ = NETWORKS["can't be exported"]
    net = f"{own.write(text, 'numpy_nets')}:Net"
    (line,) = _problems({"model.name": net})
    assert f"model.name: {net} can't be exported, so it could not be registered: src/numpy_nets.py, line 14" in line
    assert "torch.export takes no branch that depends on the values of a tensor" in line


USUAL = {
    "an activation that is kept": ("self.last = self.body(images)", "self.last"),
    "a first state that wants a gradient": (
        "state = torch.zeros(images.shape[0], 8).requires_grad_()",
        "self.body(images) + state",
    ),
    "an input that wants a gradient": ("images = images.clone().requires_grad_()", "self.body(images)"),
    "a hook that keeps what it sees": ("self.body.register_forward_hook(self.keep)", "self.body(images)"),
    "spectral norm": ("torch.nn.utils.spectral_norm", ""),
}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", USUAL)
def test_network_that_does_what_others_do_has_no_problem(own: OwnCode, case: str) -> None:
    before, inner = USUAL[case]
    text = GOOD_NETWORK.replace(
        "return self.head(self.body(images))", f"{before}\n        return self.head({inner or 'self.body(images)'})"
    )
    if case == "spectral norm":
        text = GOOD_NETWORK.replace(
            "self.head = nn.Linear(hidden, num_classes)", f"self.head = {before}(nn.Linear(hidden, num_classes))"
        )
    if case.startswith("a hook"):
        keep = "\n    def keep(self, module, given, found):\n        self.seen = found\n"
        text = GOOD_NETWORK.replace("self.head = nn.L", f"{before}\n        self.head = nn.L") + keep
    assert _problems({"model.name": f"{own.write(text)}:Net"}) == []


LOSSES = {
    "no scalar": (
        "def loss(logits, targets):\n    return logits.mean(1)\n",
        "must give a scalar (a tensor without dimensions); it gave (4,) of torch.float32: return its mean()",
    ),
    "whole number": (
        "def loss(logits, targets):\n    return targets.sum()\n",
        "must give a scalar (a tensor without dimensions); it gave () of torch.int64 (src/{m}.py, line 1)",
    ),
    "a float": (
        "def loss(logits, targets):\n    return 0.5\n",
        "must give a scalar .*; it gave float: return the tensor",
    ),
    "a pair": (
        "def loss(logits, targets):\n    return logits.mean(), {}\n",
        "must give a scalar .*; it gave tuple: return the loss",
    ),
    "nan": ("def loss(logits, targets):\n    return logits.sum() * float('nan')\n", "gives nan for logits of an unt"),
    "fails": (
        "def loss(logits, targets):\n    return logits[:, 99].sum()\n",
        "fails: src/.*, line 2, in loss: IndexErr",
    ),
    "no gradient": (
        "def loss(logits, targets):\n    return logits.detach().sum()\n",
        "fails: RuntimeError: element 0 of tensors does not require grad",
    ),
    "has parameters": (
        "from torch import nn\n\n\nclass loss(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.s = nn.Parameter(nn.Linear(1, 1).bias)\n\n    def forward(self, logits, targets):\n"
        "        return (logits * self.s).sum()\n",
        "has parameters of its own (s), which no optimizer gets: hold numbers that are not learned in buffers",
    ),
    "returns a loss": (
        "from torch import nn\n\n\ndef loss(logits, targets):\n    return nn.CrossEntropyLoss()\n",
        "returns a loss (CrossEntropyLoss) when it gets logits and targets, not the value of one (src/{m}.py, line 4)",
    ),
    "of something else": (
        "import torch\n\nW = torch.ones(1, requires_grad=True)\n\n\ndef loss(logits, targets):\n    return W.sum()\n",
        "gives a value that does not depend on the logits: it teaches nothing (src/{m}.py, line 6)",
    ),
}


@pytest.mark.parametrize(("text", "problem"), LOSSES.values(), ids=LOSSES)
def test_bad_loss_is_refused_with_what_is_wrong(own: OwnCode, text: str, problem: str) -> None:
    name = f"{own.write(text)}:loss"
    (line,) = _problems({"train.loss": name})
    problem = problem.replace("{m}", name.partition(":")[0])
    pattern = problem if ".*" in problem else re.escape(problem)
    assert re.match(rf"train\.loss: {name} {pattern}", line), line


@pytest.mark.parametrize("change", ["logits *= 2", "logits[:, 0] = 0", "targets[:] = 0"])
def test_loss_may_change_in_place_what_it_is_given(own: OwnCode, change: str) -> None:
    module = own.write(f"def loss(logits, targets):\n    {change}\n    return logits.mean()\n")
    assert _problems({"train.loss": f"{module}:loss"}) == []


def test_loss_that_can_not_weight_classes_is_refused_where_they_are_weighted(own: OwnCode) -> None:
    module = own.write("def loss(logits, targets):\n    return logits.sum()\n")
    name = f"{module}:loss"
    (line,) = _problems({"train.loss": name, "train.balance": "loss"})
    assert line.startswith(f"train.balance: loss needs a loss that weights classes; {name} has no argument `weight`")


def _keeping(value: str) -> tuple[str, dict[str, Any], str]:
    """An optimizer that keeps `value` in its state."""
    text = (
        "import collections\nimport numpy\nimport torch\n\n\nclass Pair(tuple): pass\n\n\nclass Own(torch.optim.SGD):\n"
    )
    text += f"    def state_dict(self):\n        return super().state_dict() | {{'more': {value}}}\n"
    return text, {"train.optimizer": "{m}:Own"}, "train.optimizer: the state_dict of {m}:Own must hold tensors, numbers"


OTHERS = {
    "optimizer with a closure": (
        "import torch\n\n\nclass Own(torch.optim.SGD):\n    def step(self, closure):\n        closure()\n",
        {"train.optimizer": "{m}:Own"},
        "train.optimizer: {m}:Own must be one whose step needs no argument; it needs closure: take train.program",
    ),
    "optimizer of other groups": (
        "import torch\n\n\ndef Own(params, lr):\n"
        "    return torch.optim.SGD([one for group in params for one in group['params']], lr)\n",
        {"train.optimizer": "{m}:Own"},
        "train.optimizer: {m}:Own must keep the groups that it is given, with all of their keys, in `param_groups`",
    ),
    "schedule of a metric": (
        "import torch\n\n\ndef own(optimizer):\n    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)\n",
        {"train.schedule": "{m}:own"},
        "train.schedule: {m}:own must be a scheduler whose step needs no argument; it needs metrics, and a schedule",
    ),
    "schedule without end": (
        "def own(epoch):\n    return 1.0 / epoch if epoch else float('inf')\n",
        {"train.schedule": "{m}:own"},
        "train.schedule: {m}:own must give a finite number of at least 0; it gave inf (src/{m}.py, line 1)",
    ),
    "optimizer's object": _keeping("[Pair((1, 2))]"),
    "optimizer's function": _keeping("lambda: 1"),
    "optimizer's array": _keeping("numpy.ones(2)"),
    "optimizer's generator": _keeping("(one for one in 'ab')"),
    "optimizer": (
        "class Own:\n    def __init__(self, params, lr):\n        self.param_groups = params\n",
        {"train.optimizer": "{m}:Own"},
        "train.optimizer: {m}:Own must give an optimizer, as torch.optim.Optimizer is one; it gave Own, which has no",
    ),
    "optimizer's argument": (
        "",
        {"train.optimizer": "NAdam", "train.optimizer.arguments.betaz": 3},
        "train.optimizer.arguments.betaz: NAdam has no such argument; did you mean betas?",
    ),
    "timm's optimizer": ("", {"train.optimizer": "timm:no_such"}, "train.optimizer: timm has no optimizer 'no_such'"),
    "schedule": (
        "def rate(step):\n    return -1\n",
        {"train.schedule": "{m}:rate"},
        "train.schedule: {m}:rate must give a finite number of at least 0; it gave -1 (src/{m}.py, line 1)",
    ),
    "schedule fails": (
        "def rate(step):\n    return 1 / step\n",
        {"train.schedule": "{m}:rate"},
        "train.schedule: {m}:rate failed: src/{m}.py, line 2, in rate: ZeroDivisionError: division by zero",
    ),
    "torch's schedule": (
        "",
        {"train.schedule": "StepLR"},
        "train.schedule.arguments: StepLR needs step_size, which has no default: give it there",
    ),
    "augmentation": (
        "def crop(images):\n    return images[:, :, 1:]\n",
        {"train.augment": "{m}:crop"},
        "train.augment: {m}:crop must give images as it got them, (4, 3, 8, 8) of torch.uint8; it gave (4, 3, 7, 8)"
        " of torch.uint8: prepare.size decides the size of all images (src/{m}.py, line 1)",
    ),
    "augmentation gives an array": (
        "def crop(images):\n    return images.numpy()[:, :, 1:]\n",
        {"train.augment": "{m}:crop"},
        "train.augment: {m}:crop must give images as it got them, (4, 3, 8, 8) of torch.uint8; it gave (4, 3, 7, 8)"
        " of uint8 (ndarray) (src/{m}.py, line 1)",
    ),
    "augmentation fails": (
        "def crop(images):\n    return images @ 3\n",
        {"train.augment": "{m}:crop"},
        "train.augment: {m}:crop fails: src/{m}.py, line 2, in crop: TypeError: ",
    ),
    "rate given twice": (
        "",
        {"train.optimizer": {"name": "NAdam", "arguments": {"lr": 0.1}}},
        "train.optimizer.arguments.lr: NAdam gets it from train.learning_rate: set that, and leave this out",
    ),
    "augmentation gives floats": (
        "def scaled(images):\n    return images / 255\n",
        {"train.augment": "{m}:scaled"},
        "train.augment: {m}:scaled must give images as it got them, (4, 3, 8, 8) of torch.uint8; it gave (4, 3, 8, 8)"
        " of torch.float32: leave out what makes floats of them, such as ToTensor or Normalize",
    ),
    "augmentation of one image": (
        "def flip(image):\n    c, h, w = image.shape\n    return image.flip(2)\n",
        {"train.augment": "{m}:flip"},
        "train.augment: {m}:flip fails: src/{m}.py, line 2, in flip: ValueError: too many values to unpack"
        " (expected 3). It is called with a whole batch, here (4, 3, 8, 8) of torch.uint8",
    ),
    "loss of each image": (
        "",
        {"train.loss": {"name": "torch.nn:CrossEntropyLoss", "arguments": {"reduction": "none"}}},
        "train.loss: torch.nn:CrossEntropyLoss must give a scalar (a tensor without dimensions); it gave (4,) of"
        " torch.float32: return its mean()",
    ),
    "loss of log-probabilities": (
        "",
        {"train.loss": "torch.nn:NLLLoss"},
        "train.loss: torch.nn:NLLLoss takes log-probabilities, and cnn gives logits: take torch.nn:CrossEntropyLoss",
    ),
    "network that calls it otherwise": (
        "def net(n_classes):\n    pass\n",
        {"model.name": "{m}:net"},
        "model.arguments: {m}:net needs n_classes, which has no default: give it there, or call it num_classes, which"
        " is given by itself",
    ),
    "program": (
        "def program(train_set, tokens):\n    pass\n",
        {"train.program": "{m}:program"},
        "train.program.arguments: {m}:program needs tokens, which has no default: give it there",
    ),
}


@pytest.mark.parametrize(("text", "recipe", "problem"), OTHERS.values(), ids=OTHERS)
def test_other_bad_code_is_refused_with_what_is_wrong(
    own: OwnCode, text: str, recipe: dict[str, Any], problem: str
) -> None:
    module = own.write(text)
    values = {place: value.format(m=module) if isinstance(value, str) else value for place, value in recipe.items()}
    (line,) = _problems(values)
    assert line.startswith(problem.format(m=module))


LATER = {
    "reports each fifth epoch": """
    for epoch in range(1, config["train.epochs"] + 1):
        if epoch % 5 == 0:
            run.report(epoch // 5, val_accuracy=0.5)
    return network()
""",
    "has its best network from the second epoch on": """
    best = None
    for epoch in range(1, config["train.epochs"] + 1):
        run.report(epoch, val_accuracy=0.5)
        best = network() if epoch > 1 else best
    return best
""",
    "binds a variable of an inner function later": """
    for epoch in range(1, config["train.epochs"] + 1):
        run.report(epoch, val_accuracy=0.5)
        if epoch > 1:
            best = network()
    return (lambda: best)()
""",
}


@pytest.mark.parametrize("text", LATER.values(), ids=LATER)
def test_own_loop_that_needs_more_than_one_epoch_is_left_to_the_first_trial(own: OwnCode, text: str) -> None:
    assert _problems({"train.program": f"{own.write(f'def loop(config, network, run):{text}')}:loop"}) == []


LOOPS = {
    "returns nothing": ("run.report(1, val_accuracy=0.5)", "must return a torch.nn.Module; it returned NoneType"),
    "reports nothing": ("return network()", "returned without a report; call run.report after each epoch"),
    "reports another metric": ("run.report(1, val_acc=0.5)", "val_accuracy must be among the metrics"),
    "reports no number": ("run.report(1, val_accuracy='a')", "run.report: val_accuracy must be a number; got 'a'"),
    "reports a dict": (
        "run.report(1, metrics={'val_accuracy': 0.5})",
        "metrics must be a number; got {{'val_accuracy': 0.5}}: give each by its name, run.report(1, **metrics)",
    ),
    "reports twice an epoch": (
        "run.report(1, val_accuracy=0.5)\n    run.report(1, val_accuracy=0.5)",
        "run.report: epochs follow one another; expected 2, got 1",
    ),
    "reports percent": ("run.report(1, val_accuracy=45.0)", "run.report: val_accuracy must be from 0 to 1; got 45"),
    "saves an object": ("run.save({'a': object()})", "the state['a'] is object"),
    "misspells a name": ("run.reprot(1)", "line 5, in loop: AttributeError: 'Handle' object has no attribute 'reprot'"),
    "misspells a variable": ("netwrok()", "line 5, in loop: NameError: name 'netwrok' is not defined"),
    "misspells a setting": ("config['train.lr']", "line 5, in loop: KeyError: 'train.lr'"),
    "returns what no image fits": (
        "run.report(1, val_accuracy=0.5)\n    return nn.Linear(3, 3)",
        "the module that {m}:loop returned fails on 4 images",
    ),
    "gives two tensors": (
        "run.report(1, val_accuracy=0.5)\n    return Pair(network())",
        "must give logits, floats of shape (images, classes), here (4, 3); it gave tuple",
    ),
    "good": ("run.report(1, val_accuracy=0.5)\n    return network()", ""),
    "has epochs of its own": (
        "for epoch in range(1, 10**9):\n        run.report(epoch, val_accuracy=0.5)\n    return network()",
        "",
    ),
    "is stopped early": (
        "best = None\n    run.report(1, val_accuracy=0.0)\n    return network().load_state_dict(best.state)",
        "",
    ),
    "drops the last batch": (
        "count = len(list(DataLoader(train_set, 512, drop_last=True)))\n"
        "    run.report(1, val_accuracy=1 / count)\n    return network()",
        "",
    ),
    "uses what no batch has set": ("for one in []:\n        loss = one\n    return loss", ""),
    "diverges": ("run.report(1, val_accuracy=float('nan'))", ""),
    "wants more images": ("raise ValueError('n_splits=5 cannot be greater than the members of a class')", ""),
    "asks for CUDA": ("network().to('cuda:7')", ""),
    "returns an average": (
        "run.report(1, val_accuracy=0.5)\n    return torch.optim.swa_utils.AveragedModel(network())",
        "",
    ),
}


@pytest.mark.parametrize(("text", "problem"), LOOPS.values(), ids=LOOPS)
def test_own_loop_is_tried_once_and_refused_where_images_decide_nothing(
    own: OwnCode, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setattr("podium.training.program_trial.SECONDS", 1e6)
    module = own.write(
        "import torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader\n"
        f"def loop(config, train_set, network, run):\n    {text}\n\n\n"
        "class Pair(nn.Module):\n    def __init__(self, inner):\n        super().__init__()\n"
        "        self.inner = inner\n\n    def forward(self, images):\n        return self.inner(images), images\n"
    )
    found = _problems({"train.program": f"{module}:loop", "train.epochs": 1})
    if problem:
        assert len(found) == 1
        assert problem.format(m=module) in found[0]
    else:
        assert found == []


def test_own_loop_that_takes_long_is_left_to_the_first_trial(own: OwnCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.training.program_trial.SECONDS", 0.2)
    text = (
        "def loop(run):\n    while True:\n        try:\n            sum(range(1000))\n"
        "        except Exception:\n            pass\n"
    )
    assert _problems({"train.program": f"{own.write(text)}:loop"}) == []


SEARCH = {
    "metric without a direction": (
        "def metric(logits, labels):\n    return 0.5\n",
        {"metric": "{m}:metric"},
        "search.metric: {m}:metric must say which way is better, by an attribute",
    ),
    "metric of an installed package": (
        "",
        {"metric": "sklearn.metrics:accuracy_score"},
        "search.metric: sklearn.metrics:accuracy_score does not say which way is better, and is no function of logits",
    ),
    "class of torch as a metric": (
        "",
        {"metric": "torch.nn:CrossEntropyLoss"},
        "search.metric: torch.nn:CrossEntropyLoss does not say which way is better, and is no function of logits",
    ),
    "metric that is no number": (
        "def metric(logits, labels):\n    return 'good'\n\n\nmetric.direction = 'maximize'\n",
        {"metric": "{m}:metric"},
        "search.metric: {m}:metric must give a number; it gave 'good'",
    ),
    "metric that fails": (
        "def metric(logits, labels):\n    return logits[9, 9]\n\n\nmetric.direction = 'maximize'\n",
        {"metric": "{m}:metric"},
        "search.metric: {m}:metric fails: src/{m}.py, line 2, in metric: IndexError: ",
    ),
    "metric that is nan": (
        "def metric(logits, labels):\n    return float('nan')\n\n\nmetric.direction = 'maximize'\n",
        {"metric": "{m}:metric"},
        "search.metric: {m}:metric gives NaN or an infinite number for logits of an untrained network",
    ),
    "sampler": (
        "def sampler():\n    return 3\n",
        {"sampler": "{m}:sampler"},
        "search.sampler: {m}:sampler must give an optuna.samplers.BaseSampler; it gave int",
    ),
    "sampler that fails when it has trials": (
        "import optuna\n\n\nclass S(optuna.samplers.RandomSampler):\n"
        "    def sample_relative(self, study, trial, space):\n"
        "        return 1 / (6 - len(study.trials)) and {}\n",
        {"sampler": "{m}:S"},
        "search.sampler: {m}:S fails: src/{m}.py, line 6, in sample_relative: ZeroDivisionError: division by zero",
    ),
    "pruner that fails": (
        "import optuna\n\n\nclass P(optuna.pruners.NopPruner):\n"
        "    def prune(self, study, trial):\n        return trial.last\n",
        {"pruner": "{m}:P"},
        "search.pruner: {m}:P fails: src/{m}.py, line 6, in prune: AttributeError: ",
    ),
    "pruner": (
        "",
        {"pruner": "PatientPruner"},
        "search.pruner.arguments: PatientPruner needs ",
    ),
}


@pytest.mark.parametrize(("text", "search", "problem"), SEARCH.values(), ids=SEARCH)
def test_bad_code_of_the_search_is_refused_with_what_is_wrong(
    own: OwnCode, text: str, search: dict[str, str], problem: str
) -> None:
    module = own.write(text)
    line, *_ = _problems({}, {place: name.format(m=module) for place, name in search.items()})
    assert line.startswith(problem.format(m=module))


def test_sampler_of_all_values_is_refused_with_the_range_that_has_no_step() -> None:
    space = {"train.learning_rate": {"low": 0.1, "high": 0.5}, "train.batch_size": {"choices": [16, 32]}}
    (line,) = _problems({}, {"sampler": "BruteForceSampler", "space": space})
    assert line.endswith("In search.space give train.learning_rate `choices`, or `step` without `log`")


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        (
            {"model.arguments.hiden": {"low": 4, "high": 8}},
            "hiden: {net} has no argument 'hiden'; it has num_classes, ",
        ),
        (
            {"model.arguments.hidden": {"low": 4.0, "high": 8.0}},
            "hidden: hidden is whole: write low and high without a",
        ),
        (
            {"model.arguments.dropout": {"low": 0, "high": 1}},
            "dropout: dropout is a float: write low and high with a p",
        ),
    ],
    ids=["not there", "whole", "float"],
)
def test_dimension_that_does_not_fit_the_argument_is_refused(
    own: OwnCode, dimension: dict[str, Any], problem: str
) -> None:
    net = f"{own.write(GOOD_NETWORK)}:Net"
    (line,) = _problems({"model.name": net}, {"space": dimension})
    assert line.startswith(f"search.space.model.arguments.{problem.format(net=net)}")


def test_network_is_tried_at_both_ends_of_its_arguments(own: OwnCode) -> None:
    module = own.write(GOOD_NETWORK.replace("super().__init__()", "super().__init__()\n        assert hidden < 100"))
    space = {"model.arguments.hidden": {"low": 4, "high": 100}}
    (line,) = _problems({"model.name": f"{module}:Net"}, {"space": space})
    assert line.startswith(f"model.name: {module}:Net failed: src/{module}.py, line 8, in __init__: AssertionError")


def test_network_is_tried_with_each_choice_of_an_argument(own: OwnCode) -> None:
    module = own.write(GOOD_NETWORK.replace("super().__init__()", "super().__init__()\n        assert hidden != 5"))
    space = {"model.arguments.hidden": {"choices": [4, 5, 6]}}
    (line,) = _problems({"model.name": f"{module}:Net"}, {"space": space})
    assert line == f"model.name: {module}:Net failed: src/{module}.py, line 8, in __init__: AssertionError"


def test_everything_that_the_space_reaches_is_tried_and_all_is_said_at_once(own: OwnCode) -> None:
    module = own.write(GOOD_NETWORK)
    space = {
        "model.name": {"choices": ["cnn", f"{module}:Net", f"{module}:Other"]},
        "train.loss": {"choices": ["focal", f"{module}:loss"]},
    }
    assert [line.partition(" ")[0] for line in _problems({}, {"space": space})] == ["train.loss:", "model.name:"]


def test_podiums_own_components_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    rehearsal.rehearse(Recipe(), SearchParams(), tiny.IMAGES)


@pytest.mark.slow
@pytest.mark.parametrize("forked", [False, True], ids=["a new interpreter", "forked"])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD_NETWORK, ""),
        (
            GOOD_NETWORK.replace("return self", "print('noise')\n        raise KeyError('x')\n        return self"),
            "before the search, your own code was tried:\n  model.name: {m}:Net fails on 4 images: src/{m}.py, line 15",
        ),
        (
            "import os\n\nos._exit(3)\n",
            "your own code ({m}:Net) ended the process in which it was tried (exit 3): it wrote no error;",
        ),
    ],
    ids=["good", "bad", "exits"],
)
def test_code_is_tried_in_a_process_of_its_own(own: OwnCode, text: str, problem: str, forked: bool) -> None:
    module = own.write(text)
    recipe = Recipe().replace({"model.name": f"{module}:Net"})
    if not problem:
        rehearsal.rehearse(recipe, SearchParams(), tiny.IMAGES, forked=forked)
        return
    with pytest.raises(InputError) as caught:
        rehearsal.rehearse(recipe, SearchParams(), tiny.IMAGES, forked=forked)
    assert str(caught.value).startswith(problem.format(m=module))


@pytest.mark.slow
@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_code_that_is_tried_ends_with_the_search(own: OwnCode, tmp_path: Path, number: int, forked: bool) -> None:
    module = own.write(
        """
        import os, time
        from pathlib import Path
        Path("tried").write_text(str(os.getpid()))
        time.sleep(1000)
        """
    )
    script = tmp_path / "search.py"
    script.write_text(
        dedent(f"""
        from podium import process
        from podium.config.recipe import Recipe
        from podium.config.search_section import SearchParams
        from podium.models.networks import ImageSpec
        from podium.training.rehearsal import rehearse

        def main():
            images = ImageSpec((1, 8, 8), 3, (0.5,), (0.25,))
            rehearse(Recipe().replace({{"model.name": "{module}:Net"}}), SearchParams(), images, forked={forked})

        if __name__ == "__main__":
            process.run(main)
        """)
    )
    files = tmp_path / ("files" * 20)  # below which no socket can be made
    files.mkdir()
    search = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"TMPDIR": str(files)})
    tried = tmp_path / "tried"
    until(lambda: tried.is_file() and tried.read_text() != "", search)
    code = int(tried.read_text())
    assert ("multiprocessing.forkserver" in " ".join(psutil.Process(code).cmdline())) == forked
    search.send_signal(number)
    search.wait()
    until(lambda: gone(code))
    until(lambda: not list(files.glob("podium-rehearsal-*")))


@pytest.mark.slow
def test_code_is_tried_where_the_fork_server_is_gone(own: OwnCode, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise EOFError

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", refuse)
    recipe = Recipe().replace({"model.name": f"{own.write(GOOD_NETWORK)}:Net"})
    rehearsal.rehearse(recipe, SearchParams(), tiny.IMAGES, forked=True)


@pytest.mark.parametrize("hangs", [False, True], ids=["ends the process", "hangs"])
@pytest.mark.parametrize(
    ("limits", "metrics", "gate", "names"),
    [
        (["m:f"], [], None, "m:f"),
        ([], [], "m:f", "m:f"),
        ([], ["m:f"], None, "m:f"),
        (["m:f", "parameters"], ["m:g", "accuracy", "m:f"], "m:h", "m:f, m:g, m:h"),
    ],
    ids=["a limit", "the gate", "evaluate", "all"],
)
def test_code_that_ends_or_holds_up_the_process_is_named_wherever_it_is_chosen(
    monkeypatch: pytest.MonkeyPatch, limits: list[str], metrics: list[str], gate: str | None, names: str, hangs: bool
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if hangs:
            raise subprocess.TimeoutExpired(command, rehearsal.PATIENCE)
        return subprocess.CompletedProcess(command, 3, "", "")

    monkeypatch.setattr("subprocess.run", run)
    search = SearchParams(limits=dict.fromkeys(limits, 1000))
    chosen = [Choice(name=name) for name in metrics]
    words = f"^your own code \\({names}\\){', tried once' if hangs else ' ended the process'}"
    with pytest.raises(InputError, match=words):
        rehearsal.rehearse(Recipe(), search, tiny.IMAGES, chosen, Choice(name=gate) if gate else None)


EXITS = {
    "a network": ("model.name", "model.name: {m}:f failed: src/{m}.py, line 5, in f: SystemExit: 0"),
    "a loss": ("train.loss", "train.loss: {m}:f fails: src/{m}.py, line 5, in f: SystemExit: 0"),
    "an optimizer": ("train.optimizer", "train.optimizer: {m}:f failed: src/{m}.py, line 5, in f: SystemExit: 0"),
    "a schedule": ("train.schedule", "train.schedule: {m}:f failed: src/{m}.py, line 5, in f: SystemExit: 0"),
    "an augmentation": ("train.augment", "train.augment: {m}:f fails: src/{m}.py, line 5, in f: SystemExit: 0"),
}


@pytest.mark.parametrize(("place", "problem"), EXITS.values(), ids=EXITS)
def test_code_that_ends_the_program_is_refused_with_its_line(own: OwnCode, place: str, problem: str) -> None:
    taken = {"train.loss": "logits, targets", "train.optimizer": "params, lr", "train.augment": "images"}
    module = own.write(f"import sys\n\n\ndef f({taken.get(place, '')}):\n    sys.exit(0)\n")
    name = f"{module}:f"
    assert _problems({place: [name] if place == "train.augment" else name}) == [problem.format(m=module)]


def test_loss_that_needs_the_classes_weights_trains_where_they_are_given(own: OwnCode, tmp_path: Path) -> None:
    module = own.write(
        "from torch.nn import functional as F\n\n\n"
        "def f(logits, targets, weight):\n    return F.cross_entropy(logits, targets, weight)\n"
    )
    data = tiny.trial_data(tiny.prepare(tmp_path))
    histories = []
    for changes in ({"train__loss": f"{module}:f"}, {"train__label_smoothing": 0.0}):
        recipe = tiny.recipe(train__balance="loss", train__epochs=1, **changes)
        run = training(recipe, tiny.IMAGES, 0, torch.device("cpu"))
        run.fit_into_memory()
        histories.append([epoch["train_loss"] for epoch in run.train(data.train, data.val)])
    assert histories[0] == histories[1]
    assert _problems({"train.loss": f"{module}:f", "train.balance": "loss"}) == []


LAZY = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, num_classes: int, lazy: bool):
        first = nn.LazyLinear(8) if lazy else nn.Linear(192, 8)
        norm = nn.LazyBatchNorm1d() if lazy else nn.BatchNorm1d(8)
        super().__init__(nn.Flatten(), first, norm, nn.Dropout(0.5), nn.Linear(8, num_classes))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.LazyLinear(3)

    def forward(self, images):
        return images.flatten(1)


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(4, 3), nn.MaxPool2d(9))
"""


def test_lazy_layers_are_made_by_a_first_pass(own: OwnCode, tmp_path: Path) -> None:
    module = own.write(LAZY)
    data = tiny.trial_data(tiny.prepare(tmp_path))
    lazy, plain = (
        tiny.recipe(model__name=f"{module}:Net", train__epochs=2, **{"model.arguments.lazy": way})
        for way in (True, False)
    )
    assert _problems({"model.name": f"{module}:Net", "model.arguments.lazy": True}) == []
    for recipe in (lazy, plain):
        run = training(recipe, tiny.IMAGES, 0, torch.device("cpu"))
        before = sum(one.numel() for one in run.model.parameters())
        assert before == 192 * 8 + 8 + 16 + 8 * 3 + 3
        assert run.model.training
        assert len(run.train(data.train, data.val)) == 2


def test_network_without_lazy_layers_is_not_called(own: OwnCode, monkeypatch: pytest.MonkeyPatch) -> None:
    module = own.write(LAZY)
    monkeypatch.setattr(torch.nn.Flatten, "forward", lambda *_: pytest.fail("it was called"))
    recipe = tiny.recipe(model__name=f"{module}:Net", **{"model.arguments.lazy": False})
    build_model(recipe.model, tiny.IMAGES)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Unused", r"has lazy layers that no image reaches \(unused.weight, unused.bias\): .* \(src/{m}.py, line 11\)"),
        ("Small", r"fails on 2 images: RuntimeError: .*"),
    ],
)
def test_lazy_layers_that_can_not_be_made_are_refused(own: OwnCode, name: str, problem: str) -> None:
    module = own.write(LAZY)
    (found,) = _problems({"model.name": f"{module}:{name}"})
    assert re.match(rf"model.name: {module}:{name} {problem.replace('{m}', module)}", found), found


METRIC = """
def fine(logits, labels, k: int = 1):
    return 0.5


def undirected(logits, labels):
    return 0.5


def broken(logits, labels):
    return [][0]


def needy(logits, labels, power):
    return 0.5


fine.direction = broken.direction = needy.direction = "maximize"
"""


@pytest.mark.parametrize("images", [tiny.IMAGES, None], ids=["with images", "without"])
@pytest.mark.parametrize(
    ("limits", "metrics", "gate", "words"),
    [
        ({"{m}:fine": 0.3}, ["{m}:fine"], "{m}:fine", ""),
        ({"{m}:nope": 0.3}, [], None, "search.limits: {m}:nope: {m} has no 'nope'"),
        (
            {"MulticlassFBetaScore": 0.3},
            [],
            None,
            "search.limits: MulticlassFBetaScore needs beta, and a limit can't have",
        ),
        ({"MulticlassStatScores": 3}, [], None, "search.limits: MulticlassStatScores does not say which way is better"),
        ({"{m}:needy": 0.3}, [], None, "search.limits: {m}:needy needs power, and a limit can't have arguments: give"),
        ({"{m}:undirected": 0.3}, [], None, "search.limits: {m}:undirected must say which way is better"),
        ({"MulticlassJaccardIndex": 0.3}, ["MulticlassRecall"], "MulticlassPrecision", ""),
        ({}, ["{m}:nope"], None, "evaluate.metrics: {m}:nope: {m} has no 'nope'"),
        ({}, [], "{m}:nope", "gate.metric: {m}:nope: {m} has no 'nope'"),
        ({}, [], "{m}:undirected", "gate.metric: {m}:undirected must say which way is better"),
    ],
)
def test_own_metric_is_tried_wherever_it_is_named_and_called_by_that_parameter(
    own: OwnCode,
    monkeypatch: pytest.MonkeyPatch,
    images: Any,
    limits: dict[str, float],
    metrics: list[str],
    gate: str | None,
    words: str,
) -> None:
    module = own.write(METRIC)
    search = SearchParams(limits={name.format(m=module): limit for name, limit in limits.items()})
    named = rehearsal.other_metrics(search, [Choice(name=one.format(m=module)) for one in metrics],
                                    Choice(name=gate.format(m=module)) if gate else None)  # fmt: skip
    assert len(named) == len(limits) + len(metrics) + bool(gate)
    found = []
    for parameter, one in named:
        try:
            try_metric(parameter, one, images)
        except InputError as error:
            found.append(str(error))
    assert len(found) == bool(words)
    assert not words or found[0].startswith(words.format(m=module))


AUGMENTATION = """
def f(images, p: float = 0.5):
    return images


class F:
    def __init__(self, p: float = 0.5):
        pass

    def __call__(self, images):
        return images
"""


@pytest.mark.parametrize(
    ("augment", "space", "words"),
    [
        ("f", {"train.augment.f.arguments.p": {"low": 0.1, "high": 0.5}}, ""),
        ("F", {"train.augment.F.arguments.p": {"low": 0.1, "high": 0.5}}, ""),
        (
            "f",
            {"train.augment.f.arguments.q": {"low": 1, "high": 2}},
            "search.space.train.augment.f.arguments.q: {m}:f",
        ),
        (
            "F",
            {"train.augment.F.arguments.q": {"low": 1, "high": 2}},
            "search.space.train.augment.F.arguments.q: {m}:F",
        ),
        ("f", {"train.augment.f.arguments.p": {"low": 1, "high": 2}}, "search.space.train.augment.f.arguments.p: p is"),
        ({"name": "f", "arguments": {"q": 1}}, {}, "train.augment.f.arguments.q: {m}:f has no such argument; "),
        (
            {"name": "F", "arguments": {"q": 1}},
            {},
            "train.augment.F.arguments.q: {m}:F has no such argument; it takes p",
        ),
    ],
)
def test_searched_argument_that_an_augmentation_lacks_is_named_by_its_place(
    own: OwnCode, augment: Any, space: dict[str, Any], words: str
) -> None:
    module = own.write(AUGMENTATION)
    plain = {"name": augment} if isinstance(augment, str) else dict(augment)
    base = Recipe(train=TrainParams(augment=[plain | {"name": f"{module}:{plain['name']}"}]))
    found = rehearsal.problems_of(base, SearchParams.model_validate({"space": space}), tiny.IMAGES)
    assert len(found) == bool(words)
    assert not words or found[0].startswith(words.format(m=module))


@pytest.mark.parametrize("draw", ["random.random() < 0.5", "np.random.rand() < 0.5", "torch.rand(()) < 0.5"])
def test_random_numbers_of_own_code_follow_from_the_seed(own: OwnCode, draw: str) -> None:
    text = "import random\n\nimport numpy as np\nimport torch\n\n\n"
    text += f"def own(images):\n    return images.flip(3) if {draw} else images\n"
    (one,) = tiny.recipe(**{"train.augment": f"{own.write(text)}:own"}).train.augmentations()[-1:]
    images = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8)
    outcomes = [
        [one.apply(images, Draw(torch.Generator(), seed, images[:, :, :1, :1])) for seed in range(8)] for _ in "ab"
    ]
    assert all(torch.equal(first, again) for first, again in zip(*outcomes, strict=True))
    assert len({tuple(image.flatten().tolist()) for image in outcomes[0]}) == 2


def test_transform_of_torchvision_that_is_an_object_draws_for_each_image(own: OwnCode) -> None:
    text = "from torchvision.transforms import v2\n\nown = v2.Compose([v2.RandomHorizontalFlip()])\n"
    (one,) = tiny.recipe(**{"train.augment": f"{own.write(text)}:own"}).train.augmentations()[-1:]
    images = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8).repeat(16, 1, 1, 1)
    changed = one.apply(images, Draw(torch.Generator(), 0, images[:1, :, :1, :1]))
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 2


def test_object_of_a_loss_is_a_new_one_in_each_training(own: OwnCode) -> None:
    text = "class Own:\n    calls = 0\n\n    def __call__(self, logits, targets):\n        self.calls += 1\n"
    text += "        return logits.sum() * 0 + self.calls\n\n\nown = Own()\n"
    loss = tiny.recipe(**{"train.loss": f"{own.write(text)}:own"}).train.component("loss")
    assert [float(loss.build(None)(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))) for _ in range(2)] == [1, 1]


def test_module_whose_helper_changes_the_process_is_refused_each_time(own: OwnCode) -> None:
    helper = own.write("import torch\n\ntorch.set_default_dtype(torch.float64)\n")
    net = f"{own.write(f'import {helper}' + GOOD_NETWORK)}:Net"
    for _ in range(2):
        (line,) = _problems({"model.name": net})
        assert "changes torch's default type (set_default_dtype) when it is imported" in line
