"""`podium weights [NAME]`."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium.errors import InputError, PodiumError

if TYPE_CHECKING:
    from torch import Tensor

NAME = "weights"
HELP = "download the pretrained weights of the network NAME into data/weights; without NAME, list what is there"
ORDER = 155
EXAMPLE = "podium weights torchvision:resnet18", "download pretrained weights into data/weights"
EXAMPLES = """\
  podium weights                        what comes with the installation, and what is in data/weights
  podium weights torchvision:resnet18   download torchvision's default weights of it
  podium weights timm:resnet10t         download timm's

Needs an internet connection; no stage does: they read what is in data/weights. Name the file in params.yaml by hand:
model.weights. Exit code 1: it can't be downloaded. Exit code 2: there are no such weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The network."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="timm:<model> or torchvision:<model>")


def run(arguments: argparse.Namespace) -> None:
    """List the weights, or fetch some. Raises PodiumError where that fails."""
    from podium import paths

    if arguments.name is None:
        _list(paths.WEIGHTS)
    else:
        _fetch(arguments.name, paths.WEIGHTS)


def _list(folder: Path) -> None:
    from podium.models.weight_files import PACKAGES

    for network, one in PACKAGES.items():
        print(f"{'imagenet':<40} {one.path().stat().st_size / 1e6:8.1f} MB  of {network}, {one.license}; installed")
    for path in sorted(folder.glob("*")):
        if path.suffix in (".pt", ".pth", ".safetensors"):
            print(f"{path.name:<40} {path.stat().st_size / 1e6:8.1f} MB  in {folder}")


def _fetch(name: str, folder: Path) -> None:
    library, colon, model = name.partition(":")
    known = {"timm": _of_timm, "torchvision": _of_torchvision}
    if not colon or library not in known:
        raise InputError(f"NAME: must be timm:<model> or torchvision:<model>; got {name!r}")
    path = folder / f"{library}-{model}.safetensors"
    if path.exists():
        raise InputError(f"{path} is there already: delete it first")
    state = known[library](model)
    _save(state, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. To use it: model.name: {name}, model.weights: {path.name}")


def _save(state: "dict[str, Tensor]", path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous().clone() for key, value in state.items()}, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # the writer has its own kind for a full disk
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise PodiumError(f"{path} can't be written: {getattr(error, 'strerror', None) or error}") from None


def _of_torchvision(model: str) -> "dict[str, Tensor]":
    import torchvision

    try:
        weights: Any = torchvision.models.get_model_weights(model).DEFAULT
    except ValueError:
        raise InputError(f"NAME: torchvision has no weights of {model!r}") from None
    size, terms = weights.meta.get("_file_size", 0.0), weights.meta.get("license", "not stated by torchvision")
    print(f"{weights}: {size:.1f} MB, license: {terms}; from {weights.url}")
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # whatever the network, the server and the file make of it
        raise _unreachable(f"torchvision:{model}", error) from None
    return state


def _of_timm(model: str) -> "dict[str, Tensor]":
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=False) if timm.is_model(model) else None
    if config is None or not config.has_weights:
        raise InputError(f"NAME: timm has no weights of {model!r}; timm.list_pretrained() has them")
    print(f"{config.architecture}.{config.tag}: license: {config.license or 'not stated by timm'}")
    try:
        state: dict[str, Tensor] = timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # whatever the network, the hub and the file make of it
        raise _unreachable(f"timm:{model}", error) from None
    return state


def _unreachable(name: str, error: Exception) -> PodiumError:
    return PodiumError(
        f"{name} can't be fetched ({type(error).__name__}): it needs the internet; fetch it on a machine that has it,"
        " and copy the file into data/weights"
    )
