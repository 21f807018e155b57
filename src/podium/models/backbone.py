"""Networks of other libraries with a head for our classes, and files of weights to start from."""

import difflib
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from podium import own_code
from podium.errors import InputError
from podium.models import positions, state_dicts
from podium.models.networks import ImageSpec
from podium.text import counted, reason_of

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Weights of the side classifiers of googlenet and inception_v3, which are built without them."""
UNEXPECTED = re.compile(r"(?:(?P<name>\w+)\.__init__\(\) )?got an unexpected keyword argument '(?P<key>\w+)'")
HIDDEN = ("num_classes", "in_chans")
"""Arguments of a network that Podium gives."""
SHOWN = 3
"""Names of weights in an error."""


class Backbone(nn.Module):
    """A library's network; its classifier is the head, everything else the backbone.

    Distilled networks have two or more classifiers, whose answers they blend: all of them are heads.
    """

    def __init__(self, network: nn.Module, made: str = "") -> None:
        """`made`: the name and the arguments that it was built with, which its layers do not all tell."""
        super().__init__()
        self.network = network
        self.head_names = (last_layer(network),)
        self.made = made
        self.frozen = False
        self.new_heads: tuple[str, ...] = ()
        """Those whose weights are not of a file, though the backbone's are."""

    @property
    def heads(self) -> nn.ModuleList:
        """The layers that give the logits, one in most networks."""
        return nn.ModuleList([self.network.get_submodule(name) for name in self.head_names])

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); grey ones (N, 1, H, W) become three equal channels."""
        logits: Tensor = self.network(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)
        return logits

    def start_heads(self) -> bool:
        """Draw the weights of `new_heads` anew; False where only the network knows how one begins."""
        heads = [self.network.get_submodule(name) for name in self.new_heads]
        for head in heads:
            _start_small(head)
        return all(isinstance(head, nn.Linear | nn.Conv2d) for head in heads)

    def freeze(self) -> None:
        """Let the head alone learn: the backbone's weights and running statistics stay as they are."""
        self.frozen = True
        self.requires_grad_(False)
        self.heads.requires_grad_(True)

    def thaw(self) -> None:
        """Let everything learn again."""
        self.frozen = False
        self.requires_grad_(True)

    def train(self, mode: bool = True) -> "Backbone":
        """Training mode, which a frozen network does not enter."""
        super().train(mode and not self.frozen)
        return self


def check_arguments(name: str, given: Mapping[str, Any], decided: Mapping[str, str]) -> None:
    """Raise InputError where `given`, the arguments of the network `name`, has one that Podium gives itself.

    `decided`: those, each with what decides its value.
    """
    for key in given:
        if key in decided:
            raise InputError(f"model.arguments.{key}: {name} gets it from {decided[key]}: leave it out")


def _built(make: Callable[[], nn.Module], name: str, given: Mapping[str, Any]) -> nn.Module:
    """What `make` builds with the arguments `given`. Raises InputError for one that the network does not take."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        if not given:
            raise
        found = UNEXPECTED.search(str(error))
        key = found["key"] if found else ""
        if key not in given:
            raise InputError(f"model.arguments: {name} can't be built with {dict(given)}: {reason_of(error)}") from None
        close = difflib.get_close_matches(key, _taken_by(error), n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; it takes {', '.join(_taken_by(error)) or 'others'}"
        raise InputError(f"model.arguments.{key}: {name} has no such argument{hint}") from None


def _taken_by(error: Exception) -> list[str]:
    """The arguments of the class that refused one with `error`: it is named there, and known where it was called."""
    found = UNEXPECTED.search(str(error))
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    scopes = [vars_of for frame in reversed(frames) for vars_of in (frame.f_globals, frame.f_locals)]
    classes = [value for scope in scopes for value in scope.values() if isinstance(value, type)]
    refusing = next((one for one in classes if found and one.__name__ == found["name"]), None)
    return [key for key in own_code.arguments_of(refusing)[0] if key not in HIDDEN] if refusing else []


def wrapped(
    make: Callable[[], nn.Module],
    name: str,
    images: ImageSpec,
    given: Mapping[str, Any] = MappingProxyType({}),
    made_for: int = 0,
) -> Backbone:
    """What `make` builds, the network called `name`, once it has answered for two such images.

    `given`: the arguments of it that params.yaml has. `made_for`: pixels a side of the images that its authors had; 0:
    not known. Raises InputError where it can't take the arguments, or the images.
    """
    channels, height, width = images.shape
    try:
        made = f"{name} {sorted(given.items())}"
        backbone = Backbone(_built(make, name, given), made).eval()
        with torch.inference_mode():
            backbone(torch.zeros((2, channels, height, width)))
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        called = f"{name} with {dict(given)}" if given else name
        known = made_for and (made_for, made_for) != (height, width)
        needs = f"it was made for {made_for} pixels a side: prepare.size: {made_for}" if known else ""
        raise InputError(
            f"model.name: {called} can't take images of {channels}x{height}x{width}"
            f" ({' '.join(str(error).split())[:200]}); "
            + (needs or "most of such networks need 32 to 224 pixels a side: prepare larger images")
            + ", or take cnn or resnet"
        ) from None
    return backbone.train()


def load_weights(model: nn.Module, path: Path, *, in_order: bool = False) -> list[str]:
    """Put the weights of the state dict in `path` into `model`, and say what of it was taken or left out.

    A head for other classes, or none, leaves the network's own as it is, starting afresh. `in_order`: the file has the
    network's tensors in their order, under other names. Raises InputError where the file is missing, no state dict, or
    one of another network.
    """
    network = model.network if isinstance(model, Backbone) else model
    last = model.head_names if isinstance(model, Backbone) else (last_layer(model),)
    names = [name for name in last if name]
    own = network.state_dict()
    state, entry = state_dicts.read(path)
    if in_order and len(state) == len(own):
        state = dict(zip(own, state.values(), strict=True))
    heads = {name: [f"{name}.{key}" for key in network.get_submodule(name).state_dict()] for name in names}
    of_heads = {key for keys in heads.values() for key in keys}
    body = [key for key in own if key not in of_heads]
    known, prefix = state_dicts.without_prefix(state, body or own, path)
    left_out = len(state) - len(known)
    why = {name: _other_head(known, {key: own[key] for key in keys}) for name, keys in heads.items()}
    if not isinstance(model, Backbone) and not of_heads & known.keys():
        why = {}  # of an own network the last layer is a guess: that it is missing may be a fault
    why = {name: reason for name, reason in why.items() if reason}
    afresh = {key for name in why for key in heads[name]}
    known = {k: v for k, v in known.items() if k not in afresh and not k.startswith(AUXILIARY)}
    known, resampled = positions.fitted(known, network)
    network.load_state_dict(_fitting(known, {k: v for k, v in own.items() if k not in afresh}, path), strict=False)
    for name in why:
        _start_small(network.get_submodule(name))
    if isinstance(model, Backbone):
        model.new_heads = tuple(why)
    notes = [f"its {entry} was taken"] if entry else []
    notes += [f"what begins with {prefix} was taken, {counted(left_out, 'other tensor')} not"] if left_out else []
    notes += resampled
    title = "the head" if len(names) == 1 else "a head"
    notes += [f"{name}, {title}, {reason} and is initialised anew" for name, reason in why.items()]
    return [f"model.weights: {path.name}: {'; '.join(notes)}"] if notes else []


def _other_head(known: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> str:
    """Why the head's tensors in `known` can't be taken for `head`, which is no fault of the file; empty: they can."""
    there = [key for key in head if key in known]
    if head and not there:
        return "is missing there"
    differing = [key for key in there if known[key].shape != head[key].shape]
    shapes = [f"{tuple(known[key].shape)} instead of {tuple(head[key].shape)}" for key in differing]
    return f"is for other classes ({shapes[0]})" if shapes else ""


def _fitting(known: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors in `known` in the types of the network's `own`. Raises InputError for one of another."""
    wrong = [f"{k} is missing" for k in own if k not in known and not k.endswith(state_dicts.COUNTER)]
    wrong += [f"{k} is unknown" for k in known if k not in own]
    wrong += [
        f"{k} is {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in known.items()
        if k in own and v.shape != own[k].shape
    ]
    wrong += ["no tensor is of it"] if not wrong and not known else []
    if wrong:
        raise InputError(f"model.weights: {path} is not of this network: {_some(wrong)}")
    found, unusable = {}, []
    for name, value in known.items():
        try:
            found[name] = state_dicts.as_of(own[name], value, name)
        except ValueError as error:
            unusable.append(str(error))
    if unusable:
        raise InputError(f"model.weights: {path} can't be used: {_some(unusable)}; save it again, or take another file")
    return found


def _some(problems: list[str]) -> str:
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return ", ".join(problems[:SHOWN]) + more


def _start_small(head: nn.Module) -> None:
    """Give a new head torch's usual first weights, which are small beside its inputs.

    timm's EfficientNets draw theirs from +-1/sqrt(classes): on pretrained features that is a loud opinion at the start,
    which a small set never unlearns (0.60 against 0.85 on 74 validation images after 13 epochs).
    """
    if isinstance(head, nn.Linear | nn.Conv2d):
        head.reset_parameters()


def last_layer(network: nn.Module) -> str:
    """The name of the last linear layer or convolution, in the order of registration; empty: it has none."""
    names: list[str] = [name for name, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return names[-1] if names else ""
