"""Whether a window of answered images is unlike the reference: tests of every feature, and how large each change is.

A feature drifts where two things hold. Its test says so: Kolmogorov-Smirnov's of two samples for numbers, the
chi-square test for shares of classes, corrected by Holm's method for the features of the window, at a level that falls
from window to window so that all windows of a version together raise a false alarm with at most the chance
`false_alarm` (level / (t (t + 1)) for window t: the sum over all t is the level, whatever the dependence). And the
change is at least `min_effect` large: with a million images a test sees differences that nobody cares for.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from podium.drift.image_features import Feature
from podium.drift.reference import Reference
from podium.drift.sketch import Sketch
from podium.text import one_line

CLASSES = "classes"
"""The name of the feature that is no number."""
FEWEST = 50
"""Images of a window of which a feature must be known: the tests' p-values are approximations for many."""
EXPECTED = 5.0
"""Images that chi-square's approximation needs in every cell; rarer classes are put together."""
MIXED = 0.5
"""Where both signed distances are so close to each other (a ratio), a feature has become more or less varied."""
NAMED = 3
"""Classes that a sentence names."""


@dataclass(frozen=True)
class Change:
    """One feature of a window against the reference."""

    feature: str
    kind: Literal["input", "answer"]
    effect: float
    """0 to 1. Numbers: the largest distance of the two cumulative distributions. Classes: the fraction of answers that
    went to other classes, beyond what chance moves on average."""
    p: float
    """Of the test alone."""
    adjusted: float
    """By Holm's method, over all features of the window."""
    drifted: bool
    words: str
    """What the images or answers have become: darker, blurred, more of a class."""
    before: float | None
    """Median of the reference; None for classes."""
    now: float | None
    """Median of the window."""


@dataclass(frozen=True)
class Verdict:
    """What the tests say of one window."""

    window: int
    """Its number, from 1."""
    count: int
    """Images."""
    began: float
    """Seconds since 1970."""
    ended: float
    level: float
    """Adjusted p-values up to it are significant in this window."""
    min_effect: float
    changes: tuple[Change, ...]
    """The largest first, those that drifted before the others."""

    @property
    def drifted(self) -> bool:
        """Whether any feature did."""
        return any(one.drifted for one in self.changes)

    @property
    def words(self) -> str:
        """What changed, the largest change first; empty: nothing did."""
        return ", ".join(self.each)

    @property
    def each(self) -> list[str]:
        """The same one by one."""
        return list(dict.fromkeys(one.words for one in self.changes if one.drifted))


def compare(reference: Reference, sketch: Sketch, number: int, false_alarm: float, min_effect: float) -> Verdict:
    """Test window `number`, counted from 1, of the version that `reference` belongs to."""
    changes = [
        found
        for feature in reference.features
        if (found := _numbers(feature, reference.column(feature.name), _known(sketch, feature.name))) is not None
    ]
    changes += _shares(reference, sketch.class_counts)
    level = false_alarm / (number * (number + 1))
    adjusted = holm([one.p for one in changes])
    judged = [
        replace(one, adjusted=chance, drifted=chance <= level and one.effect >= min_effect)
        for one, chance in zip(changes, adjusted, strict=True)
    ]
    judged.sort(key=lambda one: (not one.drifted, -one.effect))
    return Verdict(number, sketch.count, sketch.began, sketch.ended, level, min_effect, tuple(judged))


def _change(
    name: str,
    kind: Literal["input", "answer"],
    effect: float,
    p: float,
    words: str,
    middles: tuple[float | None, float | None],
) -> Change:
    """A change that is not judged yet."""
    before, now = middles
    return Change(name, kind, effect, p, adjusted=1.0, drifted=False, words=words, before=before, now=now)


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values: those up to a level hold the chance of any false one among them below it (Holm 1979)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values)
    factors = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return [float(one) for one in adjusted]


def _known(sketch: Sketch, name: str) -> NDArray[np.float32]:
    values = sketch.rows[:, sketch.features.index(name)]
    return np.asarray(values[~np.isnan(values)])


def _numbers(feature: Feature, before: NDArray[np.float32], now: NDArray[np.float32]) -> Change | None:
    """Kolmogorov-Smirnov's test; None where too few values are known."""
    if len(now) < FEWEST:
        return None
    test = ks_2samp(before, now, method="asymp")
    words = _words(feature, before, now)
    middles = float(np.median(before)), float(np.median(now))
    return _change(feature.name, feature.kind, float(test.statistic), float(test.pvalue), words, middles)


def _words(feature: Feature, before: NDArray[np.float32], now: NDArray[np.float32]) -> str:
    """What a change of the feature is called, by the direction of the larger distance."""
    if feature.lower == feature.higher:
        return feature.lower
    points = np.sort(np.concatenate([before, now]))
    distance = _cumulative(now, points) - _cumulative(before, points)
    lower, higher = float(distance.max(initial=0)), float(-distance.min(initial=0))
    if min(lower, higher) > MIXED * max(lower, higher):
        spread_before, spread_now = (np.subtract(*np.percentile(one, [75, 25])) for one in (before, now))
        return f"{'more' if spread_now >= spread_before else 'less'} varied {feature.name}"
    return feature.lower if lower > higher else feature.higher


def _cumulative(values: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.searchsorted(np.sort(values), points, side="right") / len(values))


def _shares(reference: Reference, counts: NDArray[np.int64]) -> list[Change]:
    """The chi-square test of the shares of the classes; none where too few images or classes were answered."""
    table = np.stack([reference.class_counts, counts]).astype(np.float64)
    cells = _merged(table)
    if counts.sum() < FEWEST or cells.shape[1] < 2:
        return []
    test = chi2_contingency(cells, correction=False)
    shares = table / table.sum(axis=1, keepdims=True)
    pooled = table.sum(axis=0) / table.sum()
    by_chance = np.sqrt(2 / np.pi * pooled * (1 - pooled) * (1 / table.sum(axis=1)).sum()).sum() / 2
    effect = max(0.0, float(np.abs(shares[1] - shares[0]).sum() / 2 - by_chance))
    words = _moved(reference.classes, shares)
    return [_change(CLASSES, "answer", effect, float(test.pvalue), words, (None, None))]


def _merged(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Classes put together, in the order of their pooled frequency, until every cell expects EXPECTED images."""
    totals = table.sum(axis=0)
    smaller = table.sum(axis=1).min() / table.sum()
    cells: list[NDArray[np.float64]] = []
    rest = np.zeros(2)
    for column in np.argsort(-totals, kind="stable"):
        rest = rest + table[:, column]
        if rest.sum() * smaller >= EXPECTED:
            cells.append(rest)
            rest = np.zeros(2)
    if rest.sum() and cells:
        cells[-1] = cells[-1] + rest
    return np.stack(cells, axis=1) if cells else np.empty((2, 0))


def _moved(classes: tuple[str, ...], shares: NDArray[np.float64]) -> str:
    """Another mix of classes, with those whose share changed most."""
    moved = shares[1] - shares[0]
    most = [k for k in np.argsort(-np.abs(moved), kind="stable")[:NAMED] if moved[k]]
    named = [
        f"{'more' if moved[k] > 0 else 'fewer'} {one_line(classes[k])} ({100 * shares[0, k]:.0f} to"
        f" {100 * shares[1, k]:.0f}%)"
        for k in most
    ]
    return "other classes: " + "; ".join(named)
