"""What is measured of an image and of a model's answer: a dozen numbers, from which no image can be made again.

Inputs: of the pixels that the network gets, and of the size that the image had. Answers: of the probabilities, whose
logarithms are the logits but for a constant; Rabanser et al., "Failing Loudly" (NeurIPS 2019), found tests on a
classifier's outputs the best detectors of drift among those that they compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601: weights of red, green and blue."""
FLAT = 1.0
"""Standard deviation (0 to 255) below which an image has no contrast that sharpness or noise could be a part of."""
LEAST = 1e-7
"""A probability below it counts as it: float32 rounds there."""
VALUES = 1_000_000
"""Pixel values that are measured at a time: some tens of megabytes as floats."""
DIRECTIONS = 4
"""Projections of the logits: enough to see that they move, and as many for two thousand classes as for five."""


@dataclass(frozen=True)
class Feature:
    """One number of each image, and what a change of it is called."""

    name: str
    kind: Literal["input", "answer"]
    unit: str
    lower: str
    """What images are that have less of it than those of the training set."""
    higher: str


INPUTS = (
    Feature("brightness", "input", "mean, 0 to 1", "darker", "brighter"),
    Feature("contrast", "input", "standard deviation, 0 to 1", "lower contrast", "higher contrast"),
    Feature("sharpness", "input", "change between neighbours relative to contrast", "blurred", "sharper"),
    Feature("noise", "input", "change that no edge explains relative to contrast", "less noise", "noisier"),
    Feature("warmth", "input", "red minus blue, -1 to 1", "colour cast to blue", "colour cast to red"),
    Feature("tint", "input", "green minus red and blue, -1 to 1", "colour cast to magenta", "colour cast to green"),
    Feature("saturation", "input", "largest minus smallest channel, 0 to 1", "paler colours", "stronger colours"),
    Feature("size", "input", "pixels, square root of width x height", "smaller images", "larger images"),
    Feature("elongation", "input", "longer side / shorter side", "squarer images", "longer images"),
)
SIZES = ("size", "elongation")
"""Only where the sizes of the training images are known."""


def answer_features(classes: int) -> tuple[Feature, ...]:
    """The features of the answers of a model of so many classes."""
    moved = "other outputs of the network"
    logits = (
        Feature(f"logits {n + 1}", "answer", "projection of the logits", moved, moved)
        for n in range(min(DIRECTIONS, classes - 1))
    )
    confidence = Feature("confidence", "answer", "probability of the prediction", "less confident", "more confident")
    return (confidence, *logits)


def measure_images(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The features of INPUTS that pixels have, (N,) each, of `images` (N, C, H, W); colours only with three channels.

    Sharpness and noise are relative to the contrast, so that a darker image is not a blurred one. Noise is the fast
    estimate of Immerkaer, "Fast Noise Variance Estimation" (CVIU 1996).
    """
    step = max(1, VALUES // max(1, int(np.prod(images.shape[1:]))))
    parts = [_measured(images[start : start + step]) for start in range(0, max(1, len(images)), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measure_sizes(sizes: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """The features of SIZES, (N,) each, of `sizes` (N, 2: width, height in pixels); a turned image has the same."""
    sides = np.maximum(sizes.astype(np.float64), 1)
    return {
        "size": np.sqrt(sides.prod(axis=1)).astype(np.float32),
        "elongation": (sides.max(axis=1) / sides.min(axis=1)).astype(np.float32),
    }


def measure_answers(probabilities: NDArray[np.floating]) -> dict[str, NDArray[np.float32]]:
    """The features of `answer_features`, (N,) each, of `probabilities` (N, K)."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST))
    logits -= logits.mean(axis=1, keepdims=True)
    found = {"confidence": probabilities.max(axis=1)}
    projected = logits @ _directions(probabilities.shape[1])
    found |= {f"logits {n + 1}": projected[:, n] for n in range(projected.shape[1])}
    return {name: values.astype(np.float32) for name, values in found.items()}


def table(columns: dict[str, NDArray[np.float32]], names: Sequence[str]) -> NDArray[np.float32]:
    """(N, F): the columns `names`; what is not among `columns` is NaN: not known."""
    count = len(next(iter(columns.values())))
    unknown = np.full(count, np.nan, np.float32)
    return np.stack([columns.get(name, unknown) for name in names], axis=1)


def _measured(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    count, pixels = len(images), int(np.prod(images.shape[2:]))
    whole = images.astype(np.float32)
    grey = whole[:, 0] if images.shape[1] == 1 else np.einsum("nchw,c->nhw", whole, LUMA)
    contrast = grey.reshape(count, pixels).std(axis=1)
    enough = contrast >= FLAT
    base = np.where(enough, contrast, 1.0)
    found = {
        "brightness": grey.reshape(count, pixels).mean(axis=1) / 255,
        "contrast": contrast / 255,
        "sharpness": np.where(enough, _gradient(grey) / base, 0.0),
        "noise": np.where(enough, _noise(grey) / base, 0.0),
    }
    if images.shape[1] == 3:
        red, green, blue = (whole[:, k].reshape(count, pixels).mean(axis=1) for k in range(3))
        spread = images.max(axis=1) - images.min(axis=1)
        found |= {
            "warmth": (red - blue) / 255,
            "tint": (green - (red + blue) / 2) / 255,
            "saturation": spread.reshape(count, pixels).mean(axis=1) / 255,
        }
    return {name: values.astype(np.float32) for name, values in found.items()}


def _directions(classes: int) -> NDArray[np.float64]:
    """(K, D) fixed random directions: the same for every process and version."""
    count = min(DIRECTIONS, classes - 1)
    drawn = np.random.default_rng(classes).normal(size=(classes, count))
    return np.asarray(drawn / np.sqrt(classes))


def _gradient(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) root mean square of the differences between neighbours of `grey` (N, H, W)."""
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)
    squares = [np.square(one).mean(axis=(1, 2)) for one in (across, down) if one.shape[1] and one.shape[2]]
    return np.sqrt(np.sum(squares, axis=0)) if squares else np.zeros(len(grey), np.float32)


def _noise(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) Immerkaer's estimate of the noise's standard deviation; 0 of images below 3 x 3."""
    if min(grey.shape[1:]) < 3:
        return np.zeros(len(grey), np.float32)
    across = grey[:, :, :-2] - 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    both = across[:, :-2] - 2 * across[:, 1:-1] + across[:, 2:]
    return np.asarray(np.sqrt(np.pi / 2) / 6 * np.abs(both).mean(axis=(1, 2)), np.float32)
