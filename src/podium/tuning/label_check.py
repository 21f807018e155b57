"""Doubtful labels: what a network that has not seen an image says of its label.

Confident learning (C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
JAIR 2021), as the package cleanlab has it, on out-of-fold predictions for the images of train and validation. The
held-out test set is not read.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.recipe import Recipe
from podium.data.label_corrections import COLUMNS, written_by_hand
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.prediction import logits_of
from podium.training.program import training
from podium.training.seeds import derive
from podium.tuning.folds import LearningSet
from podium.tuning.work import TrialData


@dataclass(frozen=True)
class Doubt:
    """An image whose label is doubtful."""

    row: int
    """In the learning set."""
    suggested: int
    """The most probable class."""
    of_label: float
    """Probability of the label that it has."""
    of_suggested: float


def out_of_fold(
    recipe: Recipe,
    data: TrialData,
    fold: NDArray[np.int64],
    seed: int,
    on_step: Callable[[TrainingRun], None] = lambda run: None,
    on_fold: Callable[[int, float], None] = lambda fold, accuracy: None,
) -> NDArray[np.float64]:
    """Probabilities (N, K) of the images of `data` (train, then val), each by a network trained on the other folds.

    `fold` (N,): the fold of each. `on_fold` gets each fold's number and accuracy. Raises DivergedError where a
    training diverges, and whatever `on_step` raises.
    """
    found = np.zeros((len(fold), data.images.classes))
    for number in range(int(fold.max()) + 1):
        held_out = np.flatnonzero(fold == number)
        train, judged = data.divided(held_out.tolist())
        run = training(recipe, data.images, derive(seed, "relabel", number), data.device)
        run.train(train, judged, on_step)
        found[held_out] = _probabilities(run, judged)
        on_fold(number, float((found[held_out].argmax(1) == judged.labels.cpu().numpy()).mean()))
    return found


def doubts(images: LearningSet, probabilities: NDArray[np.float64]) -> list[Doubt]:
    """The images whose labels are doubtful by `probabilities` (N, K), the most doubtful first."""
    from cleanlab.filter import find_label_issues  # here: it imports pandas and more, 4 s of a core

    ranked = find_label_issues(
        images.labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1, verbose=False
    )
    found = []
    for row in map(int, ranked):
        suggested = int(probabilities[row].argmax())
        if suggested != images.labels[row]:
            own, other = probabilities[row, images.labels[row]], probabilities[row, suggested]
            found.append(Doubt(row, suggested, float(own), float(other)))
    return found


def write_doubts(path: Path, images: LearningSet, found: list[Doubt]) -> int:
    """Write `found` to the CSV `path`, below what a person has written there already, in columns of their own too;
    returns how many were added.
    """
    own, written = written_by_hand(path) if path.is_file() else ([], [])
    known = {row["path"] for row in written}
    new = [doubt for doubt in found if images.files[doubt.row].origin not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *own], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(written)
        for doubt in new:
            writer.writerow(_columns(images, doubt))
    temporary.replace(path)
    return len(new)


def _columns(images: LearningSet, doubt: Doubt) -> dict[str, str]:
    file = images.files[doubt.row]
    return {
        "path": file.origin,
        "label": images.classes[images.labels[doubt.row]],
        "suggested": images.classes[doubt.suggested],
        "probability_of_label": f"{doubt.of_label:.4f}",
        "probability_of_suggested": f"{doubt.of_suggested:.4f}",
        "file": file.path,
    }


def _probabilities(run: TrainingRun, data: Batches) -> NDArray[np.float64]:
    """Of the images of `data` (N, K), as validated."""
    probabilities: NDArray[np.float64] = logits_of(run.result, data, run.fast)[0].softmax(1).numpy()
    return probabilities
