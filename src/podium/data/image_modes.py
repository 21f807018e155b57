"""Modes of many images: one text for each mode that occurs, and a byte or two for each image."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import LazyRows

GREY = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}
"""Pillow's modes without colour; a palette may hold colours."""


def is_grey(mode: str) -> bool:
    """Whether a mode as reports have it, `(animated)` and the like behind it, has no colours."""
    return mode.partition(" ")[0] in GREY


class Modes(LazyRows[str]):
    """The mode of each of N images, as reports have it."""

    def __init__(self, names: Sequence[str], numbers: NDArray[np.uint16]) -> None:
        """`numbers` (N,): index into `names` of each image's mode."""
        self.names = tuple(names)
        self._numbers = numbers

    @staticmethod
    def of(modes: Iterable[str]) -> "Modes":
        """From one text for each image."""
        known: dict[str, int] = {}
        numbers = np.array([known.setdefault(mode, len(known)) for mode in modes], np.uint16)
        return Modes(tuple(known), numbers)

    def counts(self) -> dict[str, int]:
        """How many images have each mode."""
        found = np.bincount(self._numbers, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True) if count}

    def where(self, wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
        """(N,) whether the mode of each image is a wanted one."""
        return np.array([wanted(name) for name in self.names], np.bool_)[self._numbers]

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, number: int) -> str:
        """Of the image `number`."""
        return self.names[int(self._numbers[number])]
