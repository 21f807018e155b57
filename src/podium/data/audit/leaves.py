"""Unit vectors in boxes: pairs of vectors with a high cosine, without comparing those whose boxes are far apart."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

LEAF = 256
"""Vectors a box at most."""
AXES = 16
"""Axes along which boxes are told apart: the first, along which the vectors vary most."""
SAMPLE = 5000
SLAB = 32
"""Boxes between two looks at what was found, so that little waits in memory."""
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

Vectors = NDArray[np.float32]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def spread(vectors: Vectors) -> Vectors:
    """A rotation (D, D) after which the first axes are those of the largest variance."""
    some = vectors[:: -(-len(vectors) // SAMPLE)]
    _, axes = np.linalg.eigh(np.atleast_2d(np.cov(some.T)))
    return axes[:, ::-1].astype(np.float32)


class Leaves:
    """Vectors (N, D), halved along their longest axis until each part is small."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self._rows = _halved(vectors)
        self._low = np.stack([vectors[rows, :AXES].min(0) for rows in self._rows])
        self._high = np.stack([vectors[rows, :AXES].max(0) for rows in self._rows])

    def near(self, others: "Leaves", least: float, *, same: bool) -> Iterator[Pairs]:
        """Vectors here and there whose cosine is at least `least`; `same`: here is there, each comes once."""
        with ThreadPoolExecutor(THREADS) as pool:  # BLAS lets others work meanwhile
            for start in range(0, len(self._rows), SLAB):
                some = range(start, min(start + SLAB, len(self._rows)))
                yield from pool.map(lambda one: self._beside(one, others, least, same=same), some)

    def _beside(self, one: int, others: "Leaves", least: float, *, same: bool) -> Pairs:
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
        if len(rows) <= LEAF:
            done.append(rows)
            continue
        axis = int(np.argmax(np.ptp(vectors[rows, :AXES], axis=0)))
        order = np.argpartition(vectors[rows, axis], len(rows) // 2)
        waiting += [rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]]
    return done
