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
USUAL = 5
"""Folds that are advised, where every class has images for so many."""


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

    def groups(self) -> NDArray[np.int64]:
        """(N,): a number that only images which have to stay together share."""
        _, group = np.unique([one.group for one in self.files], return_inverse=True)
        return np.asarray(group, np.int64)

    def groups_of_classes(self) -> list[int]:
        """How many groups the images of each class are in."""
        group = self.groups()
        return [len(np.unique(group[self.labels == label])) for label in range(len(self.classes))]


def advised(least: int) -> int:
    """How many folds to advise where the smallest class has images, or groups, `least`; 0: none."""
    return min(USUAL, least) if least > 1 else 0


def assign(images: LearningSet, count: int, seed: int = 0, parameter: str = "select.folds") -> NDArray[np.int64]:
    """The fold (N,), from 0, in which each image of `images` is judged; the same for the same images and seed.

    Raises InputError, about the `parameter` that gave `count`, where a class has fewer groups than there are folds: a
    fold would train, or be judged, without it.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = images.groups_of_classes()
    few = [f"{name} ({n})" for name, n in zip(images.classes, groups, strict=True) if n < count]
    if few:
        most = min(groups)
        remedy = f"Lower it to {most}" if most > 1 else "Lowering it does not help: one group can't be divided"
        raise InputError(
            f"{parameter}: every class needs a group of images for each fold (near-duplicates are one group); got"
            f" {count} folds, and fewer groups of {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}. {remedy}, or"
            " add images of these classes"
        )
    group = images.groups()
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
    some = advised(min(images.groups_of_classes())) if len(images.labels) <= SMALL_SET else 0
    remedy = f"select.folds: {some} chooses by all of train and val" if some else "add images"
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return (
        f"fewer than {FEW} validation images of {', '.join(few[:5])}{more}: one image decides much of their recall;"
        f" {remedy}"
    )
