"""Near-duplicates: images that show the same, re-encoded, resized, or cropped by up to a tenth at each side.

An image is represented by the low frequencies of its grey thumb (a DCT as in pHash: C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010), kept as a unit vector instead of one bit each: the cosine of two
of them tells copies from strangers where the distance of 64 bits does not (docs/decisions/2026-11-24-data.md). A crop
has the vector of the same part of the whole, so each image is also looked for by sixteen of its parts; then the part
is fitted to the crop and compared at higher frequencies.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

SIDE = 32
"""Of the thumbs."""
FLAT = 6.0
"""Standard deviation of a thumb's grey values below which it shows too little to be compared."""
COARSE, FINE = 8, 12
"""Frequencies each way: 63 to search by, 143 to compare by."""
COPY, CROP = 0.985, 0.95
"""Least cosines of the coarse vectors for a copy and for a crop to be compared at all."""
SAME_COPY, SAME_CROP = 0.997, 0.99
"""Least cosines of the fine vectors of two images that show the same."""
CONTRAST = 0.9
"""Least ratio of their lengths: a white pullover is no copy of a grey one."""
WHOLE = (0.0, 0.0, 0.0, 0.0)
PARTS = tuple(itertools.product((0.02, 0.08), repeat=4))
"""Fractions that a part leaves out at the left, right, top and bottom."""
CUTS = tuple(step / 100 for step in range(13))
"""Fractions that a fitted part may leave out at a side."""
STEPS = ((-3, -2, -1, 1, 2, 3), (-2, -1, 1, 2), (-1, 1))
"""By how many of CUTS each side is moved, round after round."""
BATCH = 4096
LEAF_SIZE = 256
"""Vectors per leaf of the tree at most."""
AXES = 16
"""Axes that bound the leaves: the first ones, along which the vectors vary most."""
SAMPLE = 5000
"""Vectors from which the axes are computed."""
SLAB = 32
"""Leaves that are searched at once; what was found is consumed before the next, so that memory holds little."""
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Thumbs = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""From numbers (n,) to thumbs (n, SIDE, SIDE)."""
Vectors = NDArray[np.float32]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def groups(thumbs: Thumbs, count: int, *, crops: bool) -> NDArray[np.int64]:
    """For each of `count` images the lowest number of those that show the same as it, (count,); its own for most.

    `crops`: look for crops too, at 33 times the comparisons. The time grows with the square of `count`.
    """
    merged = _Merged(count)
    with threadpool_limits(1, "blas"):  # two BLAS threads on a busy machine take ten times as long
        whole = _vectors(thumbs, np.arange(count), WHOLE)
        shown = np.flatnonzero(np.abs(whole).sum(1) > 0)
        if len(shown) > 1:
            search = _Search(thumbs, whole[shown], shown, merged)
            search.run(WHOLE, COPY)
            for part in tqdm(
                PARTS if crops else (), "near-duplicates", unit=" parts", delay=1, leave=False, disable=None
            ):
                search.run(part, CROP)
    return merged.roots()


class _Search:
    """Every image against a part of every other."""

    def __init__(self, thumbs: Thumbs, whole: Vectors, numbers: NDArray[np.int64], merged: "_Merged") -> None:
        self._thumbs = thumbs
        self._numbers = numbers
        self._merged = merged
        self._axes = _principal_axes(whole)
        self._tree = _Tree(whole @ self._axes)

    def run(self, part: tuple[float, ...], least: float) -> None:
        """Merge the images that are the part `part` of another one."""
        same = part == WHOLE
        vectors = None if same else _vectors(self._thumbs, self._numbers, part) @ self._axes
        others = self._tree if vectors is None else _Tree(vectors)
        for one, other in self._tree.near(others, least, same=same):
            self._compare(self._numbers[one], self._numbers[other], part)

    def _compare(self, crops: NDArray[np.int64], wholes: NDArray[np.int64], part: tuple[float, ...]) -> None:
        least = SAME_COPY if part == WHOLE else SAME_CROP
        new = self._merged.apart(crops, wholes)
        crops, wholes = crops[new], wholes[new]
        for start in range(0, len(crops), BATCH):
            some = slice(start, start + BATCH)
            same = fit(self._thumbs(crops[some]), self._thumbs(wholes[some]), part) >= least
            self._merged.merge(crops[some][same], wholes[some][same])


class _Merged:
    """Sets of images, joined two at a time; each is known by its lowest number."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self) -> NDArray[np.int64]:
        """The lowest number of each image's set, (count,)."""
        while not np.array_equal(above := self._parent[self._parent], self._parent):
            self._parent = above
        return self._parent

    def apart(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs are not in one set yet."""
        roots = self.roots()
        apart: NDArray[np.bool_] = roots[ones] != roots[others]
        return apart

    def merge(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        """Join the sets of each pair."""
        for one, other in zip(ones.tolist(), others.tolist(), strict=True):
            low, high = sorted((self._root(one), self._root(other)))
            self._parent[high] = low

    def _root(self, number: int) -> int:
        while self._parent[number] != number:
            number = int(self._parent[number])
        return number


def fit(crops: NDArray[np.uint8], wholes: NDArray[np.uint8], part: tuple[float, ...]) -> Vectors:
    """How well each of `crops` (n, SIDE, SIDE) is a part of its whole, about the part `part`: cosines (n,).

    The four cuts are chosen one after the other, round after round; a part that is the whole is compared as it is.
    """
    target = _transform(crops, _OPERATORS[FINE][0, 0], _OPERATORS[FINE][0, 0])
    cuts = np.tile([round(fraction * 100) for fraction in part], (len(crops), 1))
    best = _cosine(target, wholes, cuts)
    if part == WHOLE:
        return best
    for step, side in itertools.product(STEPS, range(4)):
        start = cuts[:, side].copy()
        for off in step:
            tried = cuts.copy()
            tried[:, side] = np.clip(start + off, 0, len(CUTS) - 1)
            score = _cosine(target, wholes, tried)
            better = score > best
            best[better], cuts[better] = score[better], tried[better]
    return best


def _cosine(target: Vectors, wholes: NDArray[np.uint8], cuts: NDArray[np.int64]) -> Vectors:
    """Cosines (n,) of the parts with the targets; 0 where the contrast differs."""
    across, down = _OPERATORS[FINE][cuts[:, 0], cuts[:, 1]], _OPERATORS[FINE][cuts[:, 2], cuts[:, 3]]
    found = _transform(wholes, down, across)
    lengths = np.stack([np.linalg.norm(target, axis=1), np.linalg.norm(found, axis=1)])
    cosines: Vectors = np.einsum("nd,nd->n", target, found) / np.maximum(lengths.prod(0), 1e-6)
    return np.where(lengths.min(0) >= CONTRAST * lengths.max(0), cosines, np.float32(0))


def _transform(thumbs: NDArray[np.uint8], down: Vectors, across: Vectors) -> Vectors:
    """The low frequencies of a part of each thumb, without the mean: (n, K * K - 1)."""
    both: Vectors = np.matmul(np.matmul(down, thumbs.astype(np.float32)), np.swapaxes(across, -1, -2))
    return both.reshape(len(thumbs), -1)[:, 1:]


def _vectors(thumbs: Thumbs, numbers: NDArray[np.int64], part: tuple[float, ...]) -> Vectors:
    """The coarse unit vectors (n, 63) of a part of each image; zero where it is flat."""
    left, right, top, bottom = (round(fraction * 100) for fraction in part)
    down, across = _OPERATORS[COARSE][top, bottom], _OPERATORS[COARSE][left, right]
    vectors = np.empty((len(numbers), COARSE * COARSE - 1), np.float32)
    for start in range(0, len(numbers), BATCH):
        some = thumbs(numbers[start : start + BATCH])
        unit = _unit(_transform(some, down, across))
        unit[some.reshape(len(some), -1).std(1) < FLAT] = 0
        vectors[start : start + BATCH] = unit
    return vectors


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return unit


def _operators(frequencies: int) -> Vectors:
    """For each pair of cuts what takes SIDE values to the low frequencies of the part between: (13, 13, K, SIDE)."""
    basis = scipy.fft.dct(np.eye(SIDE), axis=0, norm="ortho")[:frequencies]
    return np.array([[basis @ _resample(low, 1 - high) for high in CUTS] for low in CUTS], np.float32)


def _resample(start: float, end: float) -> NDArray[np.float64]:
    """A matrix that stretches the part from `start` to `end` (fractions) of SIDE values to SIDE values, by area."""
    edges = SIDE * (start + (end - start) * np.arange(SIDE + 1) / SIDE)
    cells = np.arange(SIDE)
    covered = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    weights = np.maximum(covered, 0)
    rows: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return rows


def _principal_axes(vectors: Vectors) -> Vectors:
    """The principal axes (D, D) of vectors (N, D), those of the largest variance first."""
    some = vectors[:: -(-len(vectors) // SAMPLE)]
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(some.T)))
    return axes[:, ::-1].astype(np.float32)


class _Tree:
    """A k-d tree of vectors (N, D), which are halved along their longest axis until each leaf is small."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._rows = _halved(vectors)
        self._low = np.stack([vectors[rows, :AXES].min(0) for rows in self._rows])
        self._high = np.stack([vectors[rows, :AXES].max(0) for rows in self._rows])

    def near(self, others: "_Tree", least: float, *, same: bool) -> Iterator[Pairs]:
        """Pairs of a vector here and one of `others` with a cosine of at least `least`.

        `same`: `others` is this tree, and each pair comes once. Leaves that are too far apart are not compared.
        """
        with ThreadPoolExecutor(THREADS) as pool:  # BLAS releases the GIL
            for start in range(0, len(self._rows), SLAB):
                some = range(start, min(start + SLAB, len(self._rows)))
                yield from pool.map(lambda one: self._pairs_of(one, others, least, same=same), some)

    def _pairs_of(self, one: int, others: "_Tree", least: float, *, same: bool) -> Pairs:
        rows = self._rows[one]
        gap = np.maximum(0, np.maximum(others._low - self._high[one], self._low[one] - others._high))
        near = np.flatnonzero((gap**2).sum(1) <= 2 - 2 * least)
        found: list[Pairs] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for other in near[near >= one] if same else near:
            here, there = np.nonzero(self._vectors[rows] @ others._vectors[others._rows[other]].T >= least)
            first, second = rows[here], others._rows[other][there]
            keep = first < second if same and other == one else first != second
            found.append((first[keep], second[keep]))
        first, second = (np.concatenate(side) for side in zip(*found, strict=True))
        return first, second


def _halved(vectors: Vectors) -> list[NDArray[np.int64]]:
    waiting = [np.arange(len(vectors))]
    done = []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= LEAF_SIZE:
            done.append(rows)
            continue
        axis = int(np.argmax(np.ptp(vectors[rows, :AXES], axis=0)))
        order = np.argpartition(vectors[rows, axis], len(rows) // 2)
        waiting += [rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]]
    return done


_OPERATORS = {frequencies: _operators(frequencies) for frequencies in (COARSE, FINE)}
