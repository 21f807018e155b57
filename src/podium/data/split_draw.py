"""Groups of images drawn for the splits, so that each split gets its fraction of each class to within one group.

Class by class, those of the fewest groups first (as K. Sechidis, G. Tsoumakas and I. Vlahavas stratify, On the
Stratification of Multi-Label Data, ECML PKDD 2011), and in each class the largest groups first: a group goes to the
split that lacks most. While a split lacks a whole group or more, that alone decides; so no split ends with a group less
or more than its fraction of the class. What is left of a class goes where the classes before have left most to fill:
so the fractions hold over all classes too. Each split gets a group of every class that has enough of them. Groups with
images of several classes come before all others; for these the fractions hold nearly.

Groups of one size come in the order of SHA-256 of the salt and the lowest digest among their images.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import Numbers

Rows = list[tuple[int, int]]
"""Classes of a group, each with how many images of it are in the group."""
BATCH = 8192
ROUNDING = 1e-9
"""Images: what a split lacks is a difference of products."""


@dataclass(frozen=True)
class Units:
    """Groups to be drawn: U of them. Arrays of one length P have a row for each class of each group."""

    count: int
    """U."""
    unit: NDArray[np.int64]
    """(P,) rising."""
    label: NDArray[np.int64]
    images: NDArray[np.int64]
    """(P,) images of that class in the group, at least 1."""
    keys: NDArray[np.uint64]
    """(U,) what orders groups of one size."""

    @staticmethod
    def of(
        contents: NDArray[np.uint64],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64],
        used: NDArray[np.bool_],
        salt: str,
    ) -> "tuple[Units, NDArray[np.int64]]":
        """The groups of images, and the number of the group (N,) that each image is in.

        `contents`, `labels`, `groups` and `used` have length N; an image that is not `used` counts for no class.
        """
        count, unit = numbered(groups)
        lowest = np.full(count, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(lowest, unit, contents)
        start = hashlib.sha256(f"{salt}\x1f".encode())
        keys = np.fromiter((_key(start, int(digest)) for digest in lowest), np.uint64, count)
        classes = int(labels.max(initial=0)) + 1
        pairs, images = np.unique(unit[used] * classes + labels[used], return_counts=True)
        return Units(count, pairs // classes, pairs % classes, images.astype(np.int64), keys), unit


def numbered(groups: Numbers) -> tuple[int, NDArray[np.int64]]:
    """How many different numbers `groups` (N,) has, and where among them, sorted, each of its own is: (N,).

    As numpy.unique's inverse, which sorts and so takes four times as much memory; that is for numbers far above N.
    """
    if len(groups) and groups.min() >= 0 and groups.max() < 4 * len(groups):
        there = np.zeros(int(groups.max()) + 1, np.bool_)
        there[groups] = True
        place = there.cumsum(dtype=np.int32)
        return int(place[-1]), place[groups] - np.int64(1)
    found, inverse = np.unique(groups, return_inverse=True)
    return len(found), inverse.reshape(-1).astype(np.int64)


def draw(
    units: Units, have: NDArray[np.int64], fractions: NDArray[np.float64], classes: Sequence[str]
) -> NDArray[np.int8]:
    """The split (U,) of each group, 0 to S - 1; -1 for one without an image of any class.

    `have` (K, S): images of each class that are in each split already. `fractions` (S,): of all images of a class; a
    split of fraction 0 gets none.
    """
    chosen = np.full(units.count, -1, np.int8)
    totals = have.sum(1) + np.bincount(units.label, units.images, len(classes))
    state = _State(have.tolist(), (totals[:, None] * fractions).tolist(), np.flatnonzero(fractions > 0).tolist())
    of_label = np.bincount(units.label, minlength=len(classes))
    state.waiting = of_label.tolist()
    for unit, rows in _mixed(units):
        chosen[unit] = state.take(rows, state.choose_mixed(rows))
    order = np.lexsort((units.keys[units.unit], -units.images, units.label))
    end = np.cumsum(of_label)
    for label in sorted(range(len(classes)), key=lambda k: (of_label[k], classes[k])):
        for row in _numbers(order[end[label] - of_label[label] : end[label]]):
            unit, size = units.unit[row], int(units.images[row])
            if chosen[unit] < 0:
                chosen[unit] = state.take([(label, size)], state.choose(label, size))
        state.finish(label)
    return chosen


@dataclass
class _State:
    """What each split has, and what it should have. Lists: there is a step for each group, of three numbers each."""

    have: list[list[int]]
    """(K, S) images."""
    want: list[list[float]]
    """(K, S), in all."""
    open: list[int]
    """Splits that get images."""

    def __post_init__(self) -> None:
        self.waiting: list[int] = []
        """(K,) groups of each class that are left."""
        self._left = [0.0 for _ in self.want[0]]
        """What the classes that are finished have left to fill of each split; below 0: they gave more."""

    def choose(self, label: int, size: int) -> int:
        """The split of a group of `size` images of the class `label`."""
        have, want = self.have[label], self.want[label]
        lacks = {split: want[split] - have[split] for split in self.open}
        if empty := self._must_have(label):
            score = {split: want[split] for split in empty}
        elif max(lacks.values()) >= size:
            score = lacks
        else:
            score = {split: lack + self._left[split] for split, lack in lacks.items() if lack > ROUNDING}
        most = max(score.values()) - ROUNDING
        return max((split for split in score if score[split] >= most), key=lambda split: self._left[split])

    def choose_mixed(self, rows: Rows) -> int:
        """The split of a group of several classes: the one that brings them nearest to their fractions.

        Of all classes alike, whatever their size: the sum of the squares of what is lacking, relative to the class.
        """
        needed = min(filter(None, (self._must_have(label) for label, _ in rows)), key=len, default=self.open)

        def gain(split: int) -> float:
            return sum(
                m * (self.want[k][split] - self.have[k][split] - m / 2) / sum(self.want[k]) ** 2 for k, m in rows
            )

        return max(needed, key=gain)

    def take(self, rows: Rows, split: int) -> int:
        """Put a group into `split`, which is returned."""
        for label, images in rows:
            self.have[label][split] += images
            self.waiting[label] -= 1
        return split

    def finish(self, label: int) -> None:
        """No group of the class `label` is left."""
        self._left = [
            left + want - have for left, want, have in zip(self._left, self.want[label], self.have[label], strict=True)
        ]

    def _must_have(self, label: int) -> list[int]:
        """The splits without an image of the class, where there is just one group left for each of them."""
        empty = [split for split in self.open if not self.have[label][split]]
        return empty if self.waiting[label] <= len(empty) else []


def _numbers(array: NDArray[np.int64]) -> Iterator[int]:
    """The numbers of `array`, some thousand at a time as Python's: all of a class take 40 bytes each."""
    return (number for start in range(0, len(array), BATCH) for number in array[start : start + BATCH].tolist())


def _mixed(units: Units) -> Iterator[tuple[int, Rows]]:
    """Groups with images of several classes, the largest first; each with its classes and their images."""
    sizes = np.bincount(units.unit, minlength=units.count)
    images = np.bincount(units.unit, units.images, units.count)
    begin = np.cumsum(sizes) - sizes
    for unit in np.lexsort((units.keys, -images)).tolist():
        if sizes[unit] > 1:
            rows = slice(begin[unit], begin[unit] + sizes[unit])
            yield unit, list(zip(units.label[rows].tolist(), units.images[rows].tolist(), strict=True))


def _key(start: "hashlib._Hash", digest: int) -> int:
    sha = start.copy()
    sha.update(digest.to_bytes(8, "big"))
    return int.from_bytes(sha.digest()[:8], "big")
