"""Which images a trained model answers: the threshold is chosen on validation images, and checked on the test images.

abstain.json in data/evaluated is what comes of it; where evaluate.abstain is null there is no such file.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from podium.data.dataset import Split, write_json
from podium.errors import InputError
from podium.metrics import abstaining
from podium.metrics.abstaining import Counts, Threshold
from podium.training.prediction import predict_on
from podium.training.trained import TrainedModel

FILE = "abstain.json"


@dataclass(frozen=True)
class Promise:
    """From which probability the model answers, and which error that promises."""

    threshold: float
    error: float
    """Of the answered images, at most."""
    confidence: float
    validation: Counts
    """Images on which the threshold was chosen."""
    test: Counts

    @property
    def finding(self) -> str:
        """What the test images say of the promise: confirmed, not contradicted or broken, at its confidence."""
        low, high = self.test.bounds(self.confidence)
        if low > self.error:
            return "broken"
        return "confirmed" if high <= self.error else "not contradicted"

    def sentence(self) -> str:
        """The promise and its test, for a person."""
        where = f"where its probability is at least {self.threshold!r}" if self.threshold else "every image"
        high = self.test.bounds(self.confidence)[1]
        return (
            f"answers {where}: promised is an"
            f" error of {self.error:g} at most, at a confidence of {self.confidence:g}. Validation:"
            f" {_shown(self.validation)}; test: {_shown(self.test)}, upper bound {high:.4f}: {self.finding}"
        )

    def metrics(self) -> dict[str, float]:
        """Coverage and error of the test images, for metrics.json."""
        found = {"coverage": self.test.coverage}
        if self.test.answered:
            found |= {"answered_error": self.test.error, "answered_error_high": self.test.bounds(self.confidence)[1]}
        return found

    def write(self, folder: Path) -> None:
        """Write abstain.json."""
        write_json(folder / FILE, asdict(self) | {"finding": self.finding})

    @staticmethod
    def read(folder: Path) -> "Promise | None":
        """The promise of `folder`; None: the model answers every image."""
        path = folder / FILE
        if not path.is_file():
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        counts = {name: Counts(**content[name]) for name in ("validation", "test")}
        return Promise(content["threshold"], content["error"], content["confidence"], **counts)


def choose(model: nn.Module, val: Split, error: float, confidence: float, where: torch.device) -> Threshold:
    """The threshold of `model` for an `error` among the answered images of `val`, predicted on `where` in float32.

    Raises InputError where no threshold reaches that error, RefusedError where `where` and the CPU differ.
    """
    probability, right = predictions(val, predict_on(model, val.images, where)[0])
    if found := abstaining.choose(probability, right, error, confidence):
        return found
    raise InputError(_unreachable(probability, right, error, confidence))


def check_unlearnt(about: TrainedModel) -> None:
    """Raise InputError where the model has learnt the validation images, on which its threshold is to be chosen."""
    if "val" in about.splits:
        raise InputError(
            "evaluate.abstain: its threshold is chosen on the validation images, and this model has learnt them: set"
            " retrain.images: train and run `dvc repro retrain`"
        )


def predictions(split: Split, probabilities: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(G,) the probability of each prediction and whether it is right: of near-duplicates those of the first image."""
    first = np.unique(split.pictures, return_index=True)[1]
    return probabilities.max(1)[first].astype(np.float64), (probabilities.argmax(1) == split.labels)[first]


def _unreachable(probability: NDArray[np.float64], right: NDArray[np.bool_], error: float, confidence: float) -> str:
    images = len(right)
    needed = int(np.ceil(np.log(1 - confidence) / np.log1p(-error)))
    why = (
        f"even without a wrong prediction {needed:,} validation images are needed, and there are {images:,}"
        if needed > images
        else f"too many of the most confident predictions of the {images:,} validation images are wrong"
    )
    lowest = abstaining.reachable(probability, right, confidence)
    remedy = "no error can be promised"
    if lowest is not None:
        found = abstaining.choose(probability, right, lowest, confidence)
        share = found.chosen_on.coverage if found else 0.0
        remedy = f"{lowest:g} can be promised, answering {share:.0%} of them"
    return (
        f"evaluate.abstain: an error of {error:g} can't be promised at a confidence of {confidence:g}"
        f" (evaluate.confidence): {why}; {remedy}. Set evaluate.abstain to an error that can be reached, or hold out"
        " more validation images (prepare.val_fraction), or evaluate.abstain: null to answer every image. The"
        " held-out test set was not accessed"
    )


def _shown(counts: Counts) -> str:
    return f"{counts.answered:,} of {counts.images:,} answered, {counts.wrong:,} wrong"
