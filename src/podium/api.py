"""Podium from Python: what `from podium import ...` gives. The stages and commands use the same functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium import paths
from podium.config.params import Params, load, parse, with_values
from podium.errors import InputError

if TYPE_CHECKING:
    import optuna
    import torch
    from torch import nn

    from podium.data.dataset import DatasetInfo
    from podium.models.networks import ImageSpec
    from podium.training.batches import Batches
    from podium.training.epochs import Epoch


@dataclass(frozen=True)
class PreparedData:
    """The training and validation images that the stage `prepare` left, on one device."""

    info: "DatasetInfo"
    """Classes, shape, counts, mean and standard deviation."""
    train: "Batches"
    val: "Batches"
    device: "torch.device"

    @property
    def images(self) -> "ImageSpec":
        """What a network has to know of the images."""
        from podium.models.networks import ImageSpec

        return ImageSpec.of(self.info)


@dataclass(frozen=True)
class Trained:
    """A training that has ended."""

    network: "nn.Module"
    """Raw uint8 images (N, C, H, W) in, logits (N, classes) out; in eval mode."""
    history: "list[Epoch]"
    """Each epoch's figures: train_loss, val_loss, val_accuracy, learning_rate, seconds, and search.metric's."""
    notes: list[str]
    """What a person should know of it."""
    measured: "Epoch" = field(default_factory=dict)
    """The validation figures of `network`, where an own training loop has reported the history's; else empty."""


def load_params(path: str | Path = paths.PARAMS, changes: Mapping[str, Any] | None = None) -> Params:
    """params.yaml, the values of the dotted names in `changes` replaced. Raises InputError naming every problem."""
    if not changes:
        return load(Path(path))
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    return parse(with_values(text, dict(changes)), f"{path} with {', '.join(changes)}")


def prepared_data(folder: str | Path = paths.PREPARED, device: str = "auto") -> PreparedData:
    """The images of data/prepared on `device`: auto, cpu or cuda. Raises InputError where `prepare` has not run."""
    from podium.data.dataset import DatasetInfo, open_split
    from podium.training import device as devices
    from podium.training.batches import Batches

    where = devices.pick(device)  # type: ignore[arg-type] # it says which names there are
    place = Path(folder)
    info = DatasetInfo.read(place)
    train, val = (Batches.of([open_split(place / name)], where) for name in ("train", "val"))
    return PreparedData(info, train, val, where)


def build_network(params: Params, data: PreparedData) -> "nn.Module":
    """The network of `model` with its first weights: uint8 images (N, C, H, W) in, logits (N, classes) out."""
    from podium.models.build import initial_model

    return initial_model(params.model, data.images)


def train(
    params: Params,
    data: PreparedData | None = None,
    seed: int = 0,
    on_epoch: "Callable[[list[Epoch]], None]" = lambda history: None,
    on_step: Callable[[Any], None] = lambda run: None,
) -> Trained:
    """One training of `model` and `train`, validated after each epoch; nothing is written.

    `on_epoch` gets the history so far, `on_step` the training run after each step; either may end it by raising.
    Raises DivergedError when a loss is not finite, InputError for what is wrong with your own code.
    """
    from podium.training.program import training

    data = data or prepared_data(device=params.runtime.device)
    metric, more = params.search.component("metric"), params.measured()
    run = training(params.recipe(), data.images, seed, data.device, metric, more)
    run.train(data.train, data.val, on_step, lambda run: on_epoch(run.history))
    return Trained(run.result.eval(), list(run.history), list(run.notes), run.measured)


def search(params: Params, prepared: str | Path = paths.PREPARED, out: str | Path = paths.SEARCH) -> "optuna.Study":
    """The search of the stage `search`: its study, mirrored to MLflow, with trials.csv and more in the folder `out`."""
    from podium.tuning.outcome import search as search_stage

    return search_stage(params, Path(prepared), Path(out))
