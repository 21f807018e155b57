"""What the gate asks of both models: their predictions for every test image, and the time that one takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from podium.data.dataset import Split
from podium.data.decode import encode_png
from podium.errors import InputError
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric
from podium.metrics.scores.accuracy import Accuracy
from podium.models.latency import Latency, in_turns

ACCURACY: Metric = Accuracy()
BATCH = 256
"""Images encoded at a time, so that a test set larger than memory can be judged."""
TIMED = 40
"""Different images whose times give a percentile."""
WARM_UP = 10
"""Predictions before them, which load what is loaded late."""


class Model(Protocol):
    """A model that predicts from image files, as `loading.LoadedModel` does."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""

    @property
    def abstain(self) -> dict[str, float] | None:
        """`threshold` from which it answers where it may be unsure, the `error` promised of what it answers and the
        `confidence` of that; None: it may not be."""

    def predict(self, images: Sequence[bytes], *, probabilities: bool = False) -> pd.DataFrame:
        """A row with `label` and `probability` for each image file, and `probabilities` by class where asked for."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts for each test image."""

    labels: NDArray[np.object_]
    probabilities: NDArray[np.float64]
    right: NDArray[np.bool_]
    scored: Scored | None = None
    """For the metric that compares the models, where that is not accuracy."""


def predict(models: Sequence[Model], test: Split, metric: Metric = ACCURACY) -> list[Predictions]:
    """The predictions of each of `models` for each image, given as PNG bytes; every image is encoded once.

    As much of them as `metric` looks at: the probability of every class, or the label alone.
    """
    options = {} if metric.OF_LABELS else {"probabilities": True}
    names = np.array(test.classes, dtype=object)[test.labels]
    parts: list[list[pd.DataFrame]] = [[] for _ in models]
    bar = tqdm(total=len(names), desc="gate", unit=" images", delay=2, leave=False, disable=None)
    with bar:
        for start in range(0, len(names), BATCH):
            files = [encode_png(np.asarray(image)) for image in test.images[start : start + BATCH]]
            for part, model in zip(parts, models, strict=True):
                part.append(model.predict(files, **options))
            bar.update(len(files))
    frames = [pd.concat(part, ignore_index=True) for part in parts]
    foreign = sorted({label for frame in frames for label in frame["label"]} - set(test.classes))
    classes = (*test.classes, *foreign)
    return [
        _predictions(frame, names, None if metric == ACCURACY else _scored(frame, test, classes, metric))
        for frame in frames
    ]


def latencies(models: Sequence[Model], test: Split) -> list[Latency]:
    """The 95th percentile of each model's time for one image file, in turns with each other and a reference.

    On one thread, as a server has it, and in processor time: see `podium.models.latency`.
    """
    count = len(test.labels)
    files = [encode_png(np.asarray(test.images[n % count])) for n in range(TIMED)]
    for model in models:
        for file in files[:WARM_UP]:
            model.predict([file])
    return in_turns([partial(_predict_one, model, files) for model in models], 0.95)


def _predict_one(model: Model, files: Sequence[bytes], turn: int) -> object:
    return model.predict([files[turn % len(files)]])


def _predictions(frame: pd.DataFrame, names: NDArray[np.object_], scored: Scored | None) -> Predictions:
    labels = frame["label"].to_numpy(dtype=object)
    return Predictions(labels, frame["probability"].to_numpy(dtype=np.float64), labels == names, scored)


def _scored(frame: pd.DataFrame, test: Split, classes: tuple[str, ...], metric: Metric) -> Scored:
    """`frame` for `metric`; `classes`: those of the test set, then others that are predicted.

    Raises InputError where the metric needs the probability of every class and the model gives none.
    """
    if metric.OF_LABELS:
        place = {name: column for column, name in enumerate(classes)}
        table = torch.zeros((len(frame), len(classes)), dtype=torch.float64)
        table[range(len(frame)), [place[name] for name in frame["label"]]] = 1.0
    elif "probabilities" in frame:
        rows = [[row.get(name, 0.0) for name in classes] for row in frame["probabilities"]]
        table = torch.tensor(rows, dtype=torch.float64)
    else:
        raise InputError(
            f"gate.metric: {metric.label} needs the probability of every class, and one of the models gives only that"
            " of its prediction; `gate: {metric: accuracy}` compares them"
        )
    return Scored(table, torch.from_numpy(test.labels), classes, known=len(test.classes), are_probabilities=True)
