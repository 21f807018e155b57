"""Folds of train and validation: each image is judged once, by a network that has not seen it, nor a near-duplicate.

Stratified by class, groups together: scikit-learn's StratifiedGroupKFold. For small sets, whose few validation images
would decide by chance (R. Kohavi, A Study of Cross-Validation and Bootstrap, IJCAI 1995). The held-out test set is not
among them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.data.dataset import open_labels
from podium.data.image_files import ImageFile, read_files
from podium.errors import InputError

PARTS = ("train", "val")
"""In this order their images are numbered."""
SMALL_SET = 1000
"""Images of train and validation up to which folds pay."""
FEW = 10
"""Validation images of a class below which one image is more than a tenth of its recall."""


@dataclass(frozen=True)
class LearningSet:
    """The images of train and validation, one after the other, without their pixels."""

    labels: NDArray[np.int64]
    """(N,)."""
    files: list[ImageFile]
    """N."""
    classes: tuple[str, ...]
    val_pictures: NDArray[np.int64]
    """(V,) of the validation images, which are the last ones: a number that only duplicates share."""

    @staticmethod
    def read(prepared: Path) -> "LearningSet":
        """Those of data/prepared."""
        (train, _, classes), (val, pictures, _) = (open_labels(prepared / part) for part in PARTS)
        files = [read_files(prepared / part, len(labels)) for part, labels in zip(PARTS, (train, val), strict=True)]
        return LearningSet(np.concatenate([train, val]), [*files[0], *files[1]], classes, pictures)

    def few_validation_images(self) -> list[str]:
        """The classes of fewer than FEW validation images, each with its number of different pictures."""
        labels = self.labels[len(self.labels) - len(self.val_pictures) :]
        counts = [len(np.unique(self.val_pictures[labels == label])) for label in range(len(self.classes))]
        return [f"{name} ({count})" for name, count in zip(self.classes, counts, strict=True) if count < FEW]


def assign(images: LearningSet, count: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold (N,), from 0, in which each image of `images` is judged; the same for the same images and seed.

    Raises InputError where a class has fewer groups than there are folds: a fold would train, or be judged, without it.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    _, group = np.unique([one.group for one in images.files], return_inverse=True)
    few = []
    for number, name in enumerate(images.classes):
        groups = len(np.unique(group[images.labels == number]))
        few += [f"{name} ({groups})"] if groups < count else []
    if few:
        raise InputError(
            f"select.folds: every class needs a group of images for each fold (near-duplicates are one group); got"
            f" {count} folds, and fewer groups of {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. Lower it, or"
            " add images of these classes"
        )
    fold = np.empty(len(images.labels), np.int64)
    divider = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, judged) in enumerate(divider.split(images.labels[:, None], images.labels, group)):
        fold[judged] = number
    return fold


def warning(images: LearningSet, folds: int) -> str:
    """What a person should know of the validation images where they decide alone; empty where there are enough."""
    few = images.few_validation_images()
    if folds or not few:
        return ""
    remedy = "select.folds: 5 chooses by all of train and val" if len(images.labels) <= SMALL_SET else "add images"
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return (
        f"fewer than {FEW} validation images of {', '.join(few[:5])}{more}: one image decides much of their recall;"
        f" {remedy}"
    )
