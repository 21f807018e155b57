"""An endless supply of small coloured images with a model that answers them, and what can happen to a camera."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from podium.drift.reference import Reference, reference_of
from podium.drift.sketch import Sketch

CLASSES = ("flat", "rows", "columns", "checks")
SIDE = 16
Pixels = NDArray[np.uint8]


def scenes(count: int, seed: int, mix: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)) -> Pixels:
    """(count, 3, 16, 16): a pattern of a class, of random colour, contrast, place and grain."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(len(CLASSES), count, p=mix)
    phase = draw.integers(0, 4, (2, count, 1, 1))
    y, x = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]
    rows = (((y + phase[0]) // 3) % 2).astype(np.float64)
    columns = (((x + phase[1]) // 3) % 2).astype(np.float64)
    of = np.stack([np.broadcast_to(p, (count, SIDE, SIDE)) for p in (0 * rows, rows, columns, np.abs(rows - columns))])
    pattern = of[labels, np.arange(count)][:, None] * draw.uniform(60, 110, (count, 1, 1, 1))
    grey = draw.uniform(70, 110, (count, 1, 1, 1)) + draw.normal(0, 12, (count, 3, 1, 1))
    return as_pixels(grey + pattern + draw.normal(0, 4, (count, 3, SIDE, SIDE)))


def answer(images: Pixels) -> NDArray[np.float32]:
    """(N, 4) probabilities: by how much neighbours differ downwards and across."""
    grey = images.mean(axis=1)
    down, across = (np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)) / 10 for axis in (1, 2))
    scores = np.stack([1.5 - down - across, down - across, across - down, down + across - 3.2], axis=1)
    odds = np.exp(3 * (scores - scores.max(axis=1, keepdims=True)))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float32)


def as_pixels(values: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def blurred(images: Pixels) -> Pixels:
    shifted = [np.roll(images, (i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return as_pixels(np.mean(shifted, axis=0))


def gain(red: float, green: float, blue: float) -> Callable[[Pixels], Pixels]:
    return lambda images: as_pixels(images * np.array([red, green, blue])[:, None, None])


def noisy(images: Pixels) -> Pixels:
    return as_pixels(images + np.random.default_rng(3).normal(0, 25, images.shape))


@cache
def reference() -> Reference:
    """Of 1,500 training images of 32 x 24 and 600 held-out predictions."""
    train, held_out = scenes(1500, seed=1), scenes(600, seed=2)
    return reference_of(train, np.arange(1500), sizes(1500).astype(np.int32), answer(held_out), CLASSES)


def sizes(count: int, width: int = 32, height: int = 24) -> NDArray[np.int64]:
    return np.tile(np.array([width, height], np.int64), (count, 1))


@dataclass
class Served:
    """Answered images, on their way into sketches."""

    seed: int = 5
    draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def sketch(
        self,
        count: int = 300,
        change: Callable[[Pixels], Pixels] = lambda images: images,
        mix: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25),
        size: tuple[int, int] = (32, 24),
        at: float = 1000.0,
    ) -> Sketch:
        """A sketch of `count` images of the same kind as the training images, but for what is asked for."""
        images = change(scenes(count, int(self.draw.integers(2**32)), mix))
        probabilities = answer(images)
        found = Sketch(reference().names, len(CLASSES))
        rows = reference().measure(images, sizes(count, *size), probabilities)
        found.add(rows, self.draw.random(count), probabilities.argmax(axis=1), at)
        return found
