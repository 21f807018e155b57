"""How high each image ranks in the column of its own class: what all metrics of a ranking follow from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from podium.metrics.scored import Scored

Floats = NDArray[np.float64]
AT_ONCE, A_CLASS = 300, 2000
"""Images, and comparisons for each class, up to which comparing each image with each in one operation is quicker than
sorting the columns of the classes one after the other."""

TOGETHER = 80_000
"""Comparisons of two images that one operation makes for several predictions: up to it each takes half of what it takes
alone at 70 images and nine tenths at 150, three at a time; from 200,000 on, whose numbers leave the cache, twice as
much."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Of each image (N,) float64, what the images count whose probability of its class is as high or higher.

    Ties are one threshold: `up_to` has them, `higher` has not.
    """

    weights: Floats
    """What the image itself counts."""
    own_up_to: Floats
    """Images of its class, itself among them."""
    own_higher: Floats
    up_to: Floats
    """All images."""
    higher: Floats

    @staticmethod
    def of(scored: "Scored") -> "Standing":
        """That of all images."""
        labels, weights = scored.labels.cpu().numpy(), scored.each.cpu().numpy()
        if _are_few(len(labels), scored.own):
            return Standing(weights, *_compared(scored.probabilities.cpu().numpy(), labels, weights))
        found = np.zeros((4, len(labels)))
        for column in range(scored.own):
            rows = np.flatnonzero(labels == column)
            if len(rows):
                found[:, rows] = _sorted(scored.column(column).cpu().numpy(), rows, scored.weights is None, weights)
        return Standing(weights, *found)

    @staticmethod
    def of_several(scored: "Scored", count: int) -> "list[Standing]":
        """Those of `count` predictions for the same images, one after the other in `scored`, that count once each;
        empty: the images are too many, and nothing is gained by computing them together."""
        images = len(scored.labels) // count
        step = TOGETHER // max(1, images) ** 2
        if step < 3 or not _are_few(images, scored.own):
            return []
        labels, weights = scored.labels[:images].cpu().numpy(), scored.each[:images].cpu().numpy()
        probabilities = scored.probabilities.cpu().numpy().reshape(count, images, -1)
        found = []
        for start in range(0, count, step):
            sums = _compared(probabilities[start : start + step], labels, weights)
            found += [Standing(weights, *each) for each in zip(*sums, strict=True)]
        return found

    @staticmethod
    def of_class(scored: "Scored", column: int) -> "Standing":
        """That of the images of one class."""
        rows = np.flatnonzero(scored.labels.cpu().numpy() == column)
        weights = scored.each.cpu().numpy()
        found = _sorted(scored.column(column).cpu().numpy(), rows, scored.weights is None, weights)
        return Standing(weights[rows], *found)


def _are_few(images: int, classes: int) -> bool:
    return images <= AT_ONCE and images**2 <= A_CLASS * classes


def _compared(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> tuple[Floats, ...]:
    """The four sums (..., N) of probabilities (..., N, K): each image with each, (..., N, N) at once."""
    columns = probabilities.swapaxes(-1, -2)[..., labels, :]
    each = np.arange(len(labels))
    values = columns[..., each, each][..., None]
    counts = np.zeros((len(labels), probabilities.shape[-1] + 1))
    counts[each, labels] = counts[:, -1] = weights
    up_to = (columns >= values).astype(np.float64) @ counts
    own, every = up_to[..., each, labels], up_to[..., -1]
    if np.count_nonzero(columns == values) == values.size:  # no ties but with itself
        return own, own - weights, every, every - weights
    higher = (columns > values).astype(np.float64) @ counts
    return own, higher[..., each, labels], every, higher[..., -1]


def _sorted(column: Floats, rows: NDArray[np.int64], alike: bool, weights: Floats) -> tuple[Floats, ...]:
    """The four sums of the images `rows` of a class, by its column (N,); `alike`: all images count 1."""
    values = column[rows]
    own = _sums(values, values, None if alike else weights[rows])
    return *own, *_sums(column, values, None if alike else weights)


def _sums(column: Floats, values: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """What those of `column` count that are at least each of `values`, and those above it."""
    order = None if weights is None else np.argsort(column)
    ordered = np.sort(column) if order is None else column[order]
    at_least, above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    if weights is None:
        return (len(column) - at_least).astype(np.float64), (len(column) - above).astype(np.float64)
    down_to = np.append(np.cumsum(weights[order][::-1])[::-1], 0.0)
    return down_to[at_least], down_to[above]
