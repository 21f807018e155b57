"""A prepared folder of a few dozen learnable images, and params.yaml shrunk to it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from podium.config.params import Params, TrackingParams, parse
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo, write_split
from podium.models.networks import ImageSpec
from podium.tuning.work import TrialData

CLASSES = ("left", "right", "top")
SIZE = 8
IMAGES = ImageSpec((3, SIZE, SIZE), len(CLASSES), (0.3, 0.3, 0.3), (0.3, 0.3, 0.3))
SMALL = {"model.width": 2, "model.hidden": 8, "train.epochs": 3, "train.batch_size": 16}
"""A network and a training of some milliseconds."""


def spec(shape: tuple[int, ...], classes: int = 3, mean: float = 0.5, std: float = 0.3) -> ImageSpec:
    """Images of `shape` (C, H, W), every channel with the same mean and standard deviation."""
    channels, height, width = shape
    return ImageSpec((channels, height, width), classes, (mean,) * channels, (std,) * channels)


def pixels(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` images (count, 3, 8, 8), noise with the half that the class names bright, and their labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    images = draw.integers(0, 120, (count, 3, SIZE, SIZE), dtype=np.uint8)
    halves = {0: np.s_[:, :, :4], 1: np.s_[:, :, 4:], 2: np.s_[:, :4, :]}
    for label, half in halves.items():
        bright = images[labels == label]
        bright[:, *half] += np.uint8(100)
        images[labels == label] = bright
    return images, labels


def prepare(folder: Path, train: int = 60, val: int = 20, *, divided: bool = False) -> Path:
    """What the stage `prepare` leaves in data/prepared, written to `folder`; nothing is sealed.

    `divided`: splits of more than `shards.FILE_BYTES` are in several files.
    """
    for name, count, seed in (("train", train, 1), ("val", val, 2)):
        images, labels = pixels(count, seed)
        starts = np.linspace(0, count, 65).astype(np.int64) if divided else None
        write_split(folder / name, name, images, labels, CLASSES, starts=starts)
    counts = {"train": {"left": train // 3}}
    DatasetInfo("tiny", list(CLASSES), [3, SIZE, SIZE], counts, [0.3] * 3, [0.3] * 3, "0" * 64).write(folder)
    return folder


def trial_data(folder: Path) -> TrialData:
    """The images of a folder that `prepare` made, on the CPU."""
    return TrialData.load(folder, torch.device("cpu"))


def recipe(**changes: Any) -> Recipe:
    """A training of some milliseconds; `train__epochs=5` replaces train.epochs."""
    return Recipe().replace(SMALL | {name.replace("__", "."): value for name, value in changes.items()})


def params(tracking: TrackingParams, search: str = "", runtime: str = "") -> Params:
    """Parameters of a search of a second; `search` and `runtime` are further lines of those sections."""
    return parse(params_yaml(tracking, search, runtime))


def params_yaml(tracking: TrackingParams, search: str = "", runtime: str = "") -> str:
    """The same as the text of params.yaml."""
    return f"""
model: {{width: 2, hidden: 8}}
train: {{epochs: 3, batch_size: 16, learning_rate: 0.01, label_smoothing: 0.0, shift: 1}}
search:
  startup_trials: 2
  pruner_startup: 2
  pruner_warmup: 1
{_indented(search, "n_trials: 4", _SPACE)}
select: {{top_k: 2, seeds: 2}}
retrain: {{profile_steps: 2}}
tracking: {{uri: "{tracking.uri}", experiment: {tracking.experiment}, flush_seconds: {tracking.flush_seconds}}}
runtime:
{_indented(runtime, "engine: inline")}
"""


_SPACE = """space:
    train.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
    train.epochs: {low: 2, high: 4}
    train.optimizer: {choices: [sgd, adamw]}
    train.momentum: {low: 0.0, high: 0.95, when: {train.optimizer: [sgd]}}"""


def _indented(lines: str, *defaults: str) -> str:
    """`lines`, and each of `defaults` where they do not set its key."""
    whole = [line.strip() for line in lines.splitlines() if line.strip()]
    given = {line.split(":")[0] for line in whole}
    whole += [default for default in defaults if default.split(":")[0] not in given]
    return "\n".join(f"  {line}" for line in whole)
