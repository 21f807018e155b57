"""What registered models say of the sealed images, and how long they take for one."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from podium.data.dataset import Split
from podium.data.decode import encode_png

BATCH = 256
"""Images encoded at a time, so that a sealed set larger than memory can be judged."""
TIMED = 40
"""Answers to a single image whose times give a percentile."""
ROUNDS = 3
"""Of them; the calmest one counts, since what else the machine does only ever makes a model slower."""
WARM_UP = 10
"""Answers before them, which load what is loaded late."""


class Model(Protocol):
    """A model that is asked through image files, as `served.Served` is."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""

    def answer(self, images: Sequence[bytes]) -> pd.DataFrame:
        """A row with `label` and `probability` for each image file."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said of each sealed image."""

    labels: NDArray[np.object_]
    probabilities: NDArray[np.float64]
    right: NDArray[np.bool_]


def ask(models: Sequence[Model], sealed: Split) -> list[Answers]:
    """What each of `models` says of each image, given as PNG bytes; every image is encoded once."""
    names = np.array(sealed.classes, dtype=object)[sealed.labels]
    parts: list[list[pd.DataFrame]] = [[] for _ in models]
    bar = tqdm(total=len(names), desc="gate", unit=" images", delay=2, leave=False, disable=None)
    with bar:
        for start in range(0, len(names), BATCH):
            files = [encode_png(np.asarray(image)) for image in sealed.images[start : start + BATCH]]
            for part, model in zip(parts, models, strict=True):
                part.append(model.answer(files))
            bar.update(len(files))
    return [_answers(pd.concat(part, ignore_index=True), names) for part in parts]


def latencies(models: Sequence[Model], sealed: Split) -> list[float]:
    """The 95th percentile of each model's time for one image file, in ms. They take turns: a busy moment hits all."""
    count = len(sealed.labels)
    files = [encode_png(np.asarray(sealed.images[n % count])) for n in range(TIMED)]
    for model in models:
        for file in files[:WARM_UP]:
            model.answer([file])
    rounds = [[_timed(model, file) for model in models] for _ in range(ROUNDS) for file in files]
    took = np.array(rounds).reshape(ROUNDS, TIMED, len(models))
    return [float(ms) for ms in np.percentile(took, 95, axis=1).min(axis=0)]


def _timed(model: Model, file: bytes) -> float:
    started = time.perf_counter()
    model.answer([file])
    return 1000 * (time.perf_counter() - started)


def _answers(frame: pd.DataFrame, names: NDArray[np.object_]) -> Answers:
    labels = frame["label"].to_numpy(dtype=object)
    return Answers(labels, frame["probability"].to_numpy(dtype=np.float64), labels == names)
