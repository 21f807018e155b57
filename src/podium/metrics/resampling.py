"""By chance alone: intervals of a metric by the bootstrap, and tests of a difference between two models.

Near-duplicates are no independent evidence: a group of them is drawn, or swapped, as one, and counts once. The
bootstrap is stratified: it draws the groups of each class by themselves, as the test set was divided by class.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import permutation_test
from torch import Tensor
from tqdm import tqdm

from podium.metrics.confusion import Confusion
from podium.metrics.scored import Scored
from podium.metrics.scores import Metric

RESAMPLES = 1999
"""At least: the ends of a 95 % interval then move by a twentieth of its width from seed to seed."""
BEYOND = 10
"""Resamples that are expected beyond the level that is tested: their number then varies by a third."""
FIRST = 499
"""Swaps of a first look; a test that is far from its level needs no more."""
CELLS = 4_000_000
"""Numbers held at a time."""

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which images are near-duplicates of each other."""

    of_image: NDArray[np.int64]
    """(N,) the group of each image, from 0."""
    size: NDArray[np.int64]
    """(G,) images of each group."""
    first: NDArray[np.int64]
    """(G,) the first image of each."""

    @staticmethod
    def of(count: int, duplicates: NDArray[np.int64] | None) -> "Groups":
        """Of `count` images, where images with one number in `duplicates` (N,) are alike; None: there are none."""
        each = np.arange(count) if duplicates is None else duplicates
        _, first, group, size = np.unique(each, return_index=True, return_inverse=True, return_counts=True)
        return Groups(group, size, first)

    @property
    def each(self) -> Weights:
        """(N,) what each image counts."""
        return np.asarray(1 / self.size[self.of_image])

    def weights(self, times: NDArray[np.int64]) -> Weights:
        """(R, N) what each image counts where its group was drawn `times` (R, G)."""
        return np.asarray((times / self.size)[:, self.of_image])


def measured(metric: Metric, scored: Scored, groups: Groups) -> float:
    """The metric, each group counted once: by weights, or where it takes none by the first image of each group."""
    if not metric.WEIGHTED:
        return metric.measured(scored.taken(torch.from_numpy(groups.first)))
    if len(groups.size) == len(scored.labels):
        return metric.measured(scored)
    return metric.measured(scored.weighted(torch.from_numpy(groups.each)))


def interval(metric: Metric, scored: Scored, groups: Groups, confidence: float) -> tuple[float, float]:
    """Stratified percentile bootstrap of the metric (B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13); nan where it is undefined.

    Where a class has few images it is too narrow: they are drawn from themselves.
    """
    drawn = _drawn(scored, groups, RESAMPLES, np.random.default_rng(0))
    return _ends(np.concatenate([_values(metric, scored, times, groups) for times in drawn]), confidence)


@dataclass(frozen=True, eq=False)
class Paired:
    """Two models' predictions of the same images, and the metric that compares them."""

    metric: Metric
    new: Scored
    old: Scored
    groups: Groups

    def improvement(self) -> float:
        """By how much the new model is better; below 0 if it is worse."""
        both = [measured(self.metric, one, self.groups) for one in (self.new, self.old)]
        return self.metric.sign * (both[0] - both[1])

    def interval(self, confidence: float) -> tuple[float, float]:
        """Stratified paired bootstrap of the improvement."""
        return _ends(self._improvements(RESAMPLES), confidence)

    def better(self, level: float) -> float:
        """One-sided p-value that the new model is no better; exact to about `level`, above it only roughly.

        Were both models alike, each group's two predictions could be swapped (E. Pitman 1937; for measures of
        classifiers: A. Yeh, More accurate tests for the statistical significance of result differences, COLING 2000).
        """
        if math.isnan(self.improvement()):
            return 1.0
        first = self._swapped(FIRST)
        return first if first > 4 * max(level, 1 / FIRST) else self._swapped(_enough(level))

    def not_worse(self, margin: float, level: float) -> float:
        """One-sided p-value that the new model is worse by `margin` or more: the bootstrap samples that say so, and
        those in which the metric is undefined."""
        found = self._improvements(_enough(level))
        return float((1 + (~(found > -margin)).sum()) / (1 + len(found)))

    def _improvements(self, count: int) -> NDArray[np.float64]:
        """Of `count` bootstrap samples; those that were drawn before are taken again, and more are drawn to them."""
        samples = self._samples
        missing = count - sum(map(len, samples.found))
        with _progress("bootstrap samples", max(missing, 0)) as bar:
            for times in _drawn(self.new, self.groups, missing, samples.random):
                both = [_values(self.metric, side, times, self.groups) for side in (self.new, self.old)]
                samples.found.append(self.metric.sign * (both[0] - both[1]))
                bar.update(len(times))
        return np.concatenate(samples.found)[:count]

    @cached_property
    def _samples(self) -> "_Samples":
        return _Samples(np.random.default_rng(0))

    def _swapped(self, count: int) -> float:
        random, groups = np.random.default_rng(0), self.groups
        settings: Any = {"permutation_type": "samples", "alternative": "greater", "n_resamples": count, "rng": random}
        sides = [side.weighted(torch.from_numpy(groups.each)) for side in (self.new, self.old)]
        with _progress("swaps", count) as bar:
            if (gains := self.metric.gains(*sides)) is not None:
                by_group = np.bincount(groups.of_image, gains.cpu().numpy())
                by_group = by_group[by_group != 0]  # swapping the others changes nothing
                if not len(by_group):
                    return 1.0
                batch = max(1, CELLS // len(by_group))
                found = permutation_test((by_group,), partial(_sum, bar=bar), vectorized=True, batch=batch, **settings)
                return float(found.pvalue)
            count_of = len(groups.size)
            which = np.zeros(count_of, np.bool_), np.ones(count_of, np.bool_)
            batch = max(1, CELLS // max(2 * len(self.new.labels), self.new.count**2))
            mixed = partial(self._mixed, bar=bar)
            return float(permutation_test(which, mixed, vectorized=True, batch=batch, **settings).pvalue)

    def _mixed(
        self, swap: NDArray[np.bool_], rest: NDArray[np.bool_], axis: int = -1, *, bar: "tqdm[Any]"
    ) -> NDArray[np.float64]:
        """The improvement where the groups of `swap` (..., G) have the two models' predictions exchanged."""
        rows = np.atleast_2d(np.moveaxis(swap, axis, -1)).reshape(-1, len(self.groups.size))
        found = self._of_swaps(torch.from_numpy(np.ascontiguousarray(rows.astype(np.bool_)[:, self.groups.of_image])))
        found = np.where(np.isnan(found), np.inf, found)  # a swap without a value speaks for no model
        bar.update(len(rows))
        return np.asarray(found.reshape(np.moveaxis(swap, axis, -1).shape[:-1]))

    def _of_swaps(self, swap: Tensor) -> NDArray[np.float64]:
        weights = torch.from_numpy(self.groups.each)
        if self.metric.OF_LABELS:
            sides = [
                torch.where(swap, a.predicted, b.predicted) for a, b in ((self.old, self.new), (self.new, self.old))
            ]
            tables = [_confusions(self.new, side, weights.expand(len(swap), -1)) for side in sides]
            new, old = (self.metric.of_confusion(table) for table in tables)
        else:  # both predictions of each image, of which each side counts one
            parts = torch.where(swap, 0.0, weights), torch.where(swap, weights, 0.0)
            rows = [torch.cat(both, 1) for both in (parts, parts[::-1])]
            found = (self.metric.of_weights(self._both, each) for each in rows)
            new, old = (None if one is None else one.numpy() for one in found)
        if new is not None and old is not None:
            return np.asarray(self.metric.sign * (new - old))
        return np.array([self._of_swap(row) for row in swap])

    @cached_property
    def _both(self) -> Scored:
        """The predictions of the new model, then those of the old one."""
        given = torch.cat([self.new.probabilities, self.old.probabilities])
        return replace(self.new, given=given, labels=self.new.labels.repeat(2), weights=None, are_probabilities=True)

    def _of_swap(self, swap: Tensor) -> float:
        sides = self.new.exchanged(self.old, swap), self.old.exchanged(self.new, swap)
        return Paired(self.metric, *sides, self.groups).improvement()


@dataclass(eq=False)
class _Samples:
    """Improvements of the bootstrap samples that were drawn so far, and where the drawing goes on."""

    random: np.random.Generator
    found: list[NDArray[np.float64]] = field(default_factory=list)


def _progress(what: str, count: int) -> "tqdm[Any]":
    """A bar where it takes more than a moment."""
    return tqdm(total=count, desc=f"gate: {what}", unit=f" {what}", delay=2, leave=False, disable=None)


def _enough(level: float) -> int:
    return max(RESAMPLES, math.ceil(BEYOND / level))


def _sum(gains: NDArray[np.float64], axis: int = -1, *, bar: "tqdm[Any]") -> NDArray[np.float64]:
    found = np.asarray(gains.sum(axis))
    bar.update(found.size)
    return found


def _drawn(scored: Scored, groups: Groups, count: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each group is drawn, (R, G) each, `count` in all: as many groups of each class as there are."""
    label = scored.labels.cpu().numpy()[groups.first]
    classes = [np.flatnonzero(label == one) for one in np.unique(label)]
    step = max(1, CELLS // max(len(scored.labels), scored.count**2))
    for start in range(0, count, step):
        rows = min(step, count - start)
        times = np.zeros((rows, len(label)), np.int64)
        for members in classes:
            times[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), rows)
        yield times


def _values(metric: Metric, scored: Scored, times: NDArray[np.int64], groups: Groups) -> NDArray[np.float64]:
    """The metric of each bootstrap sample: (R,) of `times` (R, G)."""
    if not metric.WEIGHTED:
        first = torch.from_numpy(groups.first)
        samples = [first.repeat_interleave(torch.from_numpy(row)) for row in times]
        return np.array([metric.value(scored.taken(rows)) for rows in samples])
    weights = torch.from_numpy(groups.weights(times))
    if (each := metric.each(scored)) is not None:
        return np.asarray(((weights @ each.double()) / weights.sum(1)).numpy())
    if metric.OF_LABELS:
        found = metric.of_confusion(_confusions(scored, scored.predicted.expand(len(weights), -1), weights))
        if found is not None:
            return found
    if (by_weight := metric.of_weights(scored, weights)) is not None:
        return np.asarray(by_weight.numpy())
    return np.array([metric.value(scored.weighted(row)) for row in weights])


def _confusions(scored: Scored, predicted: Tensor, weights: Tensor) -> Confusion:
    """(R, K, K) of predictions and weights (R, N) each."""
    cells = scored.labels * scored.count + predicted
    table = torch.zeros((len(cells), scored.count**2), dtype=torch.float64)
    return Confusion(table.scatter_add_(1, cells, weights.double()).view(-1, scored.count, scored.count).numpy())


def _ends(found: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The ends of an interval; nan where any sample has no value: those that have one are a selection."""
    if np.isnan(found).any():
        return math.nan, math.nan
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
