"""Near-duplicates: images that show the same, re-encoded, resized, or cropped by up to a tenth at each side.

An image is represented by the low frequencies of its grey thumb (a DCT as in pHash: C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010), kept as a unit vector instead of one bit each: the cosine of two
of them tells copies from strangers where the distance of 64 bits does not (docs/decisions/2026-11-24-data.md). A crop
has the vector of the same part of the whole, so each image is also looked for by sixteen of its parts; then the part
is fitted to the crop and compared at higher frequencies.

Two vectors are no nearer than what of them lies along a few axes, so a k-d tree of these finds every pair that can be
near enough without comparing each image with each other one. Beside the tree one byte a coordinate is held, which sorts
most of them out; only what is left is computed from the thumbs. Tree and bytes take 170 bytes an image, so a large set
is searched a piece at a time; computing vectors again takes a hundredth of the time.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from podium import resources
from podium.data.image_facts import LEAST_CONTRAST
from podium.data.lazy_rows import Numbers, packed

SIDE = 32
"""Of the thumbs."""
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
BATCH = 1024
AXES, LEAF = 12, 64
"""Axes of the tree, those along which the vectors vary most, and places in one of its leaves. Processor seconds with 8
and 32, 8 and 128, 12 and 64, 16 and 64: 0.92, 0.74, 0.74, 0.87 (20,000 of noise); with crops 2.3, 1.9, 1.0, 1.1 (4,000
JPEGs) and 0.50, 0.43, 0.32, 0.35 (2,000): with fewer axes more has to be compared that is not near."""
PIECE, PIECES = 20_000, 16
"""Images of a piece at least, and pieces at most: two or three hold what is near an image, whatever their number."""
NEIGHBOURS = 64
"""Of an image that are looked for in the tree at once; whoever has more is looked at a few at a time."""
SAMPLE = 5000
"""Vectors from which the axes are computed."""
STEP = 127
"""Steps of a coordinate, which is between -1 and 1, in a byte."""
ROUNDING = 0.5 * (COARSE * COARSE - 1) ** 0.5 / STEP
"""The cosine of a unit vector with one in bytes is wrong by this at most."""
SLACK = 1e-4
"""Of a distance along the axes, for their rounding."""
MANY = 50_000
"""Neighbours that are held at once, where images have more than NEIGHBOURS each: about 2 MB."""
ENOUGH = 256
"""Likely pairs that are compared at once. More would be compared although others have joined their images by then."""
THREADS = resources.cores()

Thumbs = Callable[[Numbers], NDArray[np.uint8]]
"""From numbers (n,) to thumbs (n, SIDE, SIDE)."""
Vectors = NDArray[np.float32]
Pairs = tuple[Numbers, Numbers]


def groups(thumbs: Thumbs, count: int, *, crops: bool, seen: NDArray[np.bool_] | None = None) -> Numbers:
    """For each of `count` images the lowest number of those that show the same as it, (count,); its own for most.

    `seen` (count,): on which something can be seen, a contrast of LEAST_CONTRAST; None: the thumbs are read for it.
    `crops`: look for crops too, which takes thirty times as long. Memory: about 25 bytes an image, and 170 for each
    of a piece.
    """
    merged = _Merged(count)
    with threadpool_limits(1, "blas"):  # two BLAS threads on a busy machine take ten times as long
        shown = packed(_shown(thumbs, count) if seen is None else np.flatnonzero(seen), count)
        if len(shown) > 1:
            search = _Search(thumbs, shown, merged)
            search.run(WHOLE, COPY)
            for part in tqdm(
                PARTS if crops else (), "near-duplicates", unit=" parts", delay=1, leave=False, disable=None
            ):
                search.run(part, CROP)
    return merged.roots()


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some of the images, ready to be searched."""

    numbers: Numbers
    """(P,) which images."""
    tree: cKDTree
    """Of their places along the axes."""
    coordinates: NDArray[np.int8]
    """(P, 63) of their coarse vectors, in steps of 1 / STEP."""


class _Search:
    """Every image against a part of every other.

    One piece of the images after the other is searched for what lies near it, so that no more than its tree is held: a
    piece is what lies between two places along the first axis, beyond which nothing is near.
    """

    def __init__(self, thumbs: Thumbs, numbers: Numbers, merged: "_Merged") -> None:
        self._thumbs = thumbs
        self._numbers = numbers
        self._merged = merged
        self._axes = _principal_axes(coarse(thumbs, numbers[:: -(-len(numbers) // SAMPLE)], WHOLE))
        pieces = min(max(1, len(numbers) // PIECE), PIECES)
        self._along = self._along_first(WHOLE) if pieces > 1 else None
        self._edges = _edges(self._along, pieces)
        self._only: _Piece | None = None
        """The piece where there is one: it is kept for all parts."""
        self._likely: list[Pairs] = []
        """Pairs whose coarse vectors are near."""
        self._waiting = 0
        """How many they are."""

    def run(self, part: tuple[float, ...], least: float) -> None:
        """Merge the images that are the part `part` of another one: crops of cosines of at least `least`."""
        radius = (2 - 2 * least) ** 0.5 + SLACK
        if self._along is None:
            self._only = self._only or self._piece(self._numbers)
            self._look(self._only, self._numbers, part, least, radius)
        else:
            along = self._along if part == WHOLE else self._along_first(part)
            for low, high in itertools.pairwise(self._edges):
                inside = self._numbers[(low <= self._along) & (self._along < high)]
                near = self._numbers[(low - radius <= along) & (along <= high + radius)]
                if len(inside):
                    self._look(self._piece(inside), near, part, least, radius)
        self._fit(part)

    def _look(self, piece: _Piece, rows: Numbers, part: tuple[float, ...], least: float, radius: float) -> None:
        """Search `piece` for what the part `part` of the images `rows` is near to."""
        for some in _batches(len(rows)):
            wholes = rows[some]
            vectors = coarse(self._thumbs, wholes, part)
            for one, other in self._near(piece.tree, vectors, radius):
                first, second = wholes[one], piece.numbers[other]
                keep = first < second if part == WHOLE else first != second
                self._compare(piece, one[keep], other[keep], vectors, wholes, part, least)

    def _piece(self, numbers: Numbers) -> _Piece:
        places, coordinates = np.empty((len(numbers), AXES)), np.empty((len(numbers), COARSE * COARSE - 1), np.int8)
        for some in _batches(len(numbers)):
            vectors = coarse(self._thumbs, numbers[some], WHOLE)
            places[some] = vectors @ self._axes
            coordinates[some] = np.rint(vectors * STEP)
        return _Piece(numbers, cKDTree(places, leafsize=LEAF), coordinates)

    def _along_first(self, part: tuple[float, ...]) -> Vectors:
        """(N,) where the part `part` of each image lies along the first axis."""
        along = np.empty(len(self._numbers), np.float32)
        for some in _batches(len(along)):
            along[some] = coarse(self._thumbs, self._numbers[some], part) @ self._axes[:, 0]
        return along

    def _near(self, tree: cKDTree, vectors: Vectors, radius: float) -> Iterator[Pairs]:
        """Pairs of one of `vectors` (n, D) and a place of `tree` that is within `radius` of it."""
        places = (vectors @ self._axes).astype(np.float64)
        count = min(NEIGHBOURS, tree.n)
        _, found = tree.query(places, count, distance_upper_bound=radius, workers=THREADS)
        found = found.reshape(len(places), count)
        there = found < tree.n
        crowded: NDArray[np.bool_] = np.logical_and(there.all(1), count < tree.n)
        row, _ = np.nonzero(there & ~crowded[:, None])
        yield row, found[there & ~crowded[:, None]].astype(np.int64)
        yield from _crowd(tree, places, np.flatnonzero(crowded), radius)

    def _compare(
        self,
        piece: _Piece,
        one: Numbers,
        other: Numbers,
        vectors: Vectors,
        rows: Numbers,
        part: tuple[float, ...],
        least: float,
    ) -> None:
        """Take in the likely pairs: of a vector, of the part `part` of the image in `rows`, and an image of `piece`."""
        for some in _batches(len(one)):
            first, second = one[some], other[some]
            known = np.einsum("nd,nd->n", vectors[first], piece.coordinates[second], dtype=np.float32) / STEP
            crops, wholes = piece.numbers[second], rows[first]
            new = (known >= least - ROUNDING) & self._merged.apart(crops, wholes)
            first, crops, wholes = first[new], crops[new], wholes[new]
            near = np.einsum("nd,nd->n", vectors[first], coarse(self._thumbs, crops, WHOLE)) >= least
            self._likely.append((crops[near], wholes[near]))
            self._waiting += int(near.sum())
            if self._waiting >= ENOUGH:
                self._fit(part)

    def _fit(self, part: tuple[float, ...]) -> None:
        """Merge those of the likely pairs that show the same; a few hundred at once cost little more than one."""
        pairs, self._likely, self._waiting = self._likely, [], 0
        if not pairs:
            return
        crops, wholes = (np.concatenate(side) for side in zip(*pairs, strict=True))
        new = self._merged.apart(crops, wholes)
        crops, wholes = crops[new], wholes[new]
        if len(crops):
            enough = SAME_COPY if part == WHOLE else SAME_CROP
            same = fit(self._thumbs(crops), self._thumbs(wholes), part) >= enough
            self._merged.merge(crops[same], wholes[same])


def _crowd(tree: cKDTree, places: NDArray[np.float64], rows: NDArray[np.int64], radius: float) -> Iterator[Pairs]:
    """Pairs of `rows` of `places` (n, AXES), each with more neighbours than are looked for at once, and one of them."""
    if not len(rows):
        return
    counts = np.asarray(tree.query_ball_point(places[rows], radius, return_length=True, workers=THREADS))
    piece = np.cumsum(counts) // MANY
    for number in np.unique(piece):
        some = rows[piece == number]
        found = tree.query_ball_point(places[some], radius, workers=THREADS)
        yield np.repeat(some, counts[piece == number]), np.concatenate(found).astype(np.int64)


def _edges(along: Vectors | None, pieces: int) -> list[float]:
    """Where `pieces` pieces of as many of `along` (N,) each begin, and the end; None: there is one."""
    inner = [] if along is None else np.quantile(along, np.arange(1, pieces) / pieces).tolist()
    return [-np.inf, *inner, np.inf]


class _Merged:
    """Sets of images, joined two at a time; each is known by its lowest number."""

    def __init__(self, count: int) -> None:
        self._parent: Numbers = packed(np.arange(count), count)

    def roots(self) -> Numbers:
        """The lowest number of each image's set, (count,)."""
        while not np.array_equal(above := self._parent[self._parent], self._parent):
            self._parent = above
        return self._parent

    def apart(self, ones: Numbers, others: Numbers) -> NDArray[np.bool_]:
        """Which pairs are not in one set yet."""
        roots = self.roots()
        apart: NDArray[np.bool_] = roots[ones] != roots[others]
        return apart

    def merge(self, ones: Numbers, others: Numbers) -> None:
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


def coarse(thumbs: Thumbs, numbers: Numbers, part: tuple[float, ...]) -> Vectors:
    """The coarse unit vectors (n, 63) of a part of each image, of images on which something can be seen."""
    left, right, top, bottom = (round(fraction * 100) for fraction in part)
    down, across = _OPERATORS[COARSE][top, bottom], _OPERATORS[COARSE][left, right]
    vectors = np.empty((len(numbers), COARSE * COARSE - 1), np.float32)
    for start in range(0, len(numbers), BATCH):
        vectors[start : start + BATCH] = _unit(_transform(thumbs(numbers[start : start + BATCH]), down, across))
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
    """The AXES principal axes (D, AXES) of vectors (N, D), those of the largest variance first."""
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(vectors.T)))
    return axes[:, : -AXES - 1 : -1].astype(np.float32)


def _shown(thumbs: Thumbs, count: int) -> NDArray[np.int64]:
    """The images on which something can be seen."""
    levels = (thumbs(np.arange(some.start, some.stop)).reshape(some.stop - some.start, -1) for some in _batches(count))
    seen = [level.std(1) >= LEAST_CONTRAST for level in levels]
    return np.flatnonzero(np.concatenate(seen)) if seen else np.zeros(0, np.int64)


def _batches(count: int) -> Iterator[slice]:
    """Numbers below `count`, BATCH at a time."""
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


_OPERATORS = {frequencies: _operators(frequencies) for frequencies in (COARSE, FINE)}
