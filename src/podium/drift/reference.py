"""What windows are compared with: the training images' features, and those of the answers to held-out images.

Made when a version is registered and stored in it, so the version's digests cover it. The answers are those that
`evaluate` recorded: the model was trained on the validation images too, and is surer of those than of new ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.data.shards import Images
from podium.drift import image_features
from podium.drift.image_features import INPUTS, SIZES, Feature, answer_features
from podium.drift.sketch import names_of, packed, unpacked
from podium.errors import InputError

NAME = "drift.npz"
"""The file's name in a registered model."""
MOST = 4000
"""Images of either kind at most: with so many, a window's own 1,000 decide how finely a test sees."""
STEP = 256
"""Images that are measured at a time."""
SEED = 20261129
"""Of the draw of those that are measured: the same images give the same file."""
FORMAT = 1


@dataclass(frozen=True)
class Reference:
    """Features of images like those that the model was made for."""

    classes: tuple[str, ...]
    """K names."""
    input_names: tuple[str, ...]
    inputs: NDArray[np.float32]
    """(n, `input_names`): of training images."""
    answer_names: tuple[str, ...]
    answers: NDArray[np.float32]
    """(m, `answer_names`): of answers to held-out images."""
    class_counts: NDArray[np.int64]
    """(K,) held-out images by the class that was predicted."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are compared."""
        return (*self.input_names, *self.answer_names)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The same with their words."""
        known = {one.name: one for one in (*INPUTS, *answer_features(len(self.classes)))}
        return tuple(known[name] for name in self.names)

    def column(self, name: str) -> NDArray[np.float32]:
        """The reference's values of one feature."""
        if name in self.input_names:
            return np.asarray(self.inputs[:, self.input_names.index(name)])
        return np.asarray(self.answers[:, self.answer_names.index(name)])

    @property
    def takes_sizes(self) -> bool:
        """Whether the sizes of the training images are known."""
        return set(SIZES) <= set(self.input_names)

    def measure(
        self, pixels: NDArray[np.uint8], sizes: NDArray[np.int64], probabilities: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """(N, `names`) of answered images: `pixels` (N, C, H, W), `sizes` (N, 2), `probabilities` (N, K).

        A size of 0 is not known.
        """
        columns = image_features.measure_images(pixels) | image_features.measure_answers(probabilities)
        if self.takes_sizes:
            unknown = (sizes < 1).any(axis=1)
            columns |= {
                name: np.where(unknown, np.float32(np.nan), values)
                for name, values in image_features.measure_sizes(sizes).items()
            }
        return image_features.table(columns, self.names)

    def to_bytes(self) -> bytes:
        """As a file: the same reference gives the same bytes."""
        about = {
            "format": FORMAT,
            "classes": self.classes,
            "input_names": self.input_names,
            "answer_names": self.answer_names,
        }
        return packed(about, inputs=self.inputs, answers=self.answers, class_counts=self.class_counts)

    @staticmethod
    def from_bytes(data: bytes, name: str) -> "Reference":
        """What `to_bytes` made. Raises InputError calling it `name` where it is anything else."""
        about, arrays = unpacked(data, name, ("inputs", "answers", "class_counts"))
        classes, inputs, answers = (names_of(about.get(key)) for key in ("classes", "input_names", "answer_names"))
        if (
            about.get("format") != FORMAT
            or not (classes and inputs and answers)
            or not set(inputs) <= {one.name for one in INPUTS}
            or answers != tuple(one.name for one in answer_features(len(classes)))
            or not _are_of(arrays, len(inputs), len(answers), len(classes))
        ):
            raise InputError(f"{name} is damaged, or another Podium's: it is no reference for drift of this one")
        return Reference(classes, inputs, arrays["inputs"], answers, arrays["answers"], arrays["class_counts"])


def reference_of(
    images: Images,
    pictures: NDArray[np.int64],
    sizes: NDArray[np.int32] | None,
    probabilities: NDArray[np.floating],
    classes: tuple[str, ...],
) -> Reference:
    """The reference of training images (N, C, H, W) and of the answers (M, K) to held-out ones.

    `pictures` (N,): of images with the same number, which are duplicates, one is taken. `sizes` (N, 2): width and
    height of the images themselves; None: not known. Raises InputError where there is nothing to compare with.
    """
    if not len(images) or not len(probabilities):
        raise InputError(
            "a reference needs training images and held-out predictions; got"
            f" {len(images):,} and {len(probabilities):,}"
        )
    chosen = _chosen(pictures)
    columns = _in_steps(lambda rows: image_features.measure_images(np.ascontiguousarray(images[rows])), chosen)
    if sizes is not None:
        columns |= image_features.measure_sizes(sizes[chosen].astype(np.int64))
    names = [one.name for one in INPUTS if one.name in columns]
    answers = _in_steps(lambda rows: image_features.measure_answers(probabilities[rows]), _drawn(len(probabilities)))
    answer_names = [one.name for one in answer_features(len(classes))]
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(classes)).astype(np.int64)
    return Reference(
        classes,
        tuple(names),
        image_features.table(columns, names),
        tuple(answer_names),
        image_features.table(answers, answer_names),
        counts,
    )


def _chosen(pictures: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first image of each group of duplicates, at most MOST of them, rising."""
    _, first = np.unique(pictures, return_index=True)
    first = np.sort(first)
    return np.asarray(first[_drawn(len(first))], np.int64)


def _drawn(count: int) -> NDArray[np.int64]:
    if count <= MOST:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, MOST, replace=False))


def _in_steps(
    measure: Callable[[NDArray[np.int64]], dict[str, NDArray[np.float32]]], rows: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    parts = [measure(rows[start : start + STEP]) for start in range(0, len(rows), STEP)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _are_of(arrays: dict[str, NDArray[Any]], inputs: int, answers: int, classes: int) -> bool:
    """Whether the arrays have the types and shapes of so many features and classes, and some rows."""
    first, second, counts = arrays["inputs"], arrays["answers"], arrays["class_counts"]
    return (
        first.dtype == second.dtype == np.float32
        and counts.dtype == np.int64
        and (first.shape[1:], second.shape[1:], counts.shape) == ((inputs,), (answers,), (classes,))
        and min(len(first), len(second), int(counts.sum())) > 0
        and bool((counts >= 0).all())
    )
