"""Networks of other libraries with a head for our classes, and files of weights to start from."""

import difflib
import pickle
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
from podium.models.networks import ImageSpec
from podium.text import reason_of

AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
"""Weights of the side classifiers of googlenet and inception_v3, which are built without them."""
POINTER = b"version https://git-lfs"
WRAPPED = ("state_dict", "model_state_dict", "model")
"""Under what training scripts save the state dict in a larger one."""
PARALLEL = "module."
"""What DataParallel puts before every name."""
OBJECTS = ("Unsupported global", "Unsupported class", "Unsupported operand", "Trying to load unsupported")
"""In torch's refusals of files that hold more than tensors."""
UNEXPECTED = re.compile(r"(?:(?P<name>\w+)\.__init__\(\) )?got an unexpected keyword argument '(?P<key>\w+)'")
HIDDEN = ("num_classes", "in_chans")
"""Arguments of a network that Podium gives."""
SHOWN = 3
"""Names of weights in an error."""


class Backbone(nn.Module):
    """A library's network; its classifier is the head, everything else the backbone."""

    def __init__(self, network: nn.Module, head_name: str = "") -> None:
        super().__init__()
        self.network = network
        self.head_name = head_name or last_layer(network)
        self.frozen = False

    @property
    def head(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.network.get_submodule(self.head_name)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W); grey ones (N, 1, H, W) become three equal channels."""
        logits: Tensor = self.network(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)
        return logits

    def freeze(self) -> None:
        """Let the head alone learn: the backbone's weights and running statistics stay as they are."""
        self.frozen = True
        self.requires_grad_(False)
        self.head.requires_grad_(True)

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
    head_name: str = "",
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Backbone:
    """What `make` builds, the network called `name`, once it has answered for two such images.

    `given`: the arguments of it that params.yaml has. Raises InputError where it can't take them, or the images.
    """
    channels, height, width = images.shape
    try:
        backbone = Backbone(_built(make, name, given), head_name).eval()
        with torch.inference_mode():
            backbone(torch.zeros((2, channels, height, width)))
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        called = f"{name} with {dict(given)}" if given else name
        raise InputError(
            f"model.name: {called} can't take images of {channels}x{height}x{width}"
            f" ({' '.join(str(error).split())[:200]}); most of such networks need 32 to 224 pixels a side:"
            " prepare larger images, or take cnn or resnet"
        ) from None
    return backbone.train()


def load_weights(model: nn.Module, path: Path, *, in_order: bool = False) -> None:
    """Put the weights of the state dict in `path` into `model`; a head for other classes is left out, starting afresh.

    `in_order`: the file has the network's tensors in their order, under other names. Raises InputError where the file
    is missing, no state dict, or one of another network.
    """
    network, head_name = (model.network, model.head_name) if isinstance(model, Backbone) else (model, last_layer(model))
    state, own = _read(path), network.state_dict()
    if in_order and len(state) == len(own):
        state = dict(zip(own, state.values(), strict=True))
    heads = [f"{head_name}.{key}" for key in network.get_submodule(head_name).state_dict()] if head_name else []
    other_classes = any(key in state and state[key].shape != own[key].shape for key in heads)
    left_out = set(heads) if other_classes else set()
    known = {k: v for k, v in state.items() if k not in left_out and not k.startswith(AUXILIARY)}
    wrong = [f"{k} is missing" for k in own if k not in known and k not in left_out]
    wrong += [f"{k} is unknown" for k in known if k not in own]
    wrong += [
        f"{k} is {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in known.items()
        if k in own and v.shape != own[k].shape
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(f"model.weights: {path} is not of this network: {', '.join(wrong[:SHOWN])}{more}")
    network.load_state_dict(known, strict=False)
    if left_out:
        _start_small(network.get_submodule(head_name))


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


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without what a training script may have put around them."""
    if not path.is_file():
        raise InputError(f"model.weights: {path} is missing: put the file there, or set model.weights to ''")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise InputError(
                f"model.weights: {path} can't be read: it is a pointer of Git LFS, not the file: `git lfs pull`"
            )
    state = _tensors_of(path)
    inner = [state[key] for key in WRAPPED if isinstance(state, dict) and isinstance(state.get(key), dict)]
    state = inner[0] if inner else state
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"model.weights: {path} must hold a state dict, tensors by name; got {type(state).__name__}"
            " (save a network's with torch.save(network.state_dict(), ...))"
        )
    if all(str(key).startswith(PARALLEL) for key in state):
        state = {key.removeprefix(PARALLEL): value for key, value in state.items()}
    return state


def _tensors_of(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise whatever a broken file makes of them
        # torch's own text recommends to read it unsafely.
        if isinstance(error, pickle.UnpicklingError) and any(text in str(error) for text in OBJECTS):
            raise InputError(
                f"model.weights: {path} can't be read safely: it holds Python objects, such as a whole network, and"
                " reading those may run any code; where it was made, save the tensors alone:"
                " torch.save(network.state_dict(), ...)"
            ) from None
        raise InputError(
            f"model.weights: {path} can't be read: it is broken, or no file of weights ({type(error).__name__});"
            " fetch it again"
        ) from None
