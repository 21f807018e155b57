"""Two classifiers on the same images: by how much they differ, and what chance alone explains.

Only images on which exactly one of the two is right tell them apart: `gained` that only the new one gets right, `lost`
that only the old one does. Near-duplicates are no independent evidence, so a group of them counts once: by the
difference of the parts of it that the two get right.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, false_discovery_control, norm

from podium.promotion.verdict import Comparison

RESAMPLES = 9999
"""Of the bootstrap: the ends of a 95 % interval then move by some hundredths of its width from seed to seed."""


def compare(
    new: NDArray[np.bool_],
    old: NDArray[np.bool_],
    confidence: float,
    duplicates: NDArray[np.int64] | None = None,
) -> Comparison:
    """The two models by which of the same images each gets right, (N,) each; the p-value is left to a rule.

    `duplicates` (N,): images with one number are near-duplicates; None: there are none.
    """
    difference = new.astype(np.float64) - old
    if duplicates is not None:
        _, group, size = np.unique(duplicates, return_inverse=True, return_counts=True)
        difference = np.bincount(group, difference) / size
    level = 2 * confidence - 1
    low, high = interval_of_mean(difference, level)
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    gain, loss = float(difference.clip(0).sum()), float(-difference.clip(None, 0).sum())
    count = len(difference)
    return Comparison(gained, lost, (gain - loss) / count, low, high, level, count, gain, loss)


@lru_cache(maxsize=100_000)
def mcnemar(gained: int, lost: int) -> float:
    """One-sided p-value of McNemar's exact test (Psychometrika 1947) that the new classifier is no better.

    Were both equally good, each of the `gained` + `lost` images, or groups of near-duplicates, would fall to either
    side like a fair coin. The pairs of a thousand classes are few, and each test takes a tenth of a millisecond.
    """
    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue) if gained + lost else 1.0


def below(right: int, images: int, floor: float) -> float:
    """One-sided p-value of the binomial test that `right` of `images` are not fewer than a rate of `floor` gives."""
    return float(binomtest(right, images, floor, alternative="less").pvalue)


def above(wrong: int, images: int, most: float) -> float:
    """One-sided p-value of the binomial test that `wrong` of `images` are not more than a rate of `most` gives."""
    return float(binomtest(wrong, images, most, alternative="greater").pvalue) if images else 1.0


def adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of a family, adjusted so that those up to a level have that false discovery rate at most.

    Y. Benjamini and Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995). Where nothing is to be found,
    the chance that anything is found is at most the level too.
    """
    if not p_values:
        return {}
    values = false_discovery_control(list(p_values.values()))
    return dict(zip(p_values, map(float, values), strict=True))


def not_worse(gained: float, lost: float, images: int, margin: float) -> float:
    """One-sided p-value that the new classifier's accuracy is below the old one's by `margin` or more.

    The score test for paired proportions of T. Tango (Statistics in Medicine 17, 1998, equations 6 to 8). It keeps its
    level where few images differ or none do, where a bootstrap sees no variation at all: without a difference on 267
    images it can't exclude a loss of 1 % (p 0.0503). With sums of the parts of groups the true variance is lower than
    the one that is taken, so that the test errs to the side of caution.
    """
    # The most likely share of lost images if the true difference were -margin.
    a = 2 * images
    b = -gained - lost - (a - gained + lost) * margin
    c = lost * margin * (1 + margin)
    share = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    variance = images * (2 * share - margin * (1 + margin))
    return float(norm.sf((gained - lost + images * margin) / math.sqrt(variance)))


def interval(gained: int, lost: int, images: int, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Two-sided interval of the difference of the accuracies, new minus old: see `interval_of_mean`."""
    rest = images - gained - lost
    return _bootstrap(np.array([1.0, -1.0, 0.0]), np.array([gained, lost, rest]), confidence, seed)


def interval_of_mean(difference: NDArray[np.float64], confidence: float, seed: int = 0) -> tuple[float, float]:
    """Two-sided interval of the mean of `difference` (N,), new minus old of each image or group.

    Paired percentile bootstrap (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): whole
    images, or groups, are drawn with both predictions for them. As only the counts of each value matter, a resample is
    one multinomial draw: the same distribution as `scipy.stats.bootstrap` gives, in milliseconds instead of seconds.
    """
    found, counts = np.unique(difference, return_counts=True)
    known = np.array([1.0, -1.0, 0.0])
    others = ~np.isin(found, known)
    values = np.append(known, found[others])
    return _bootstrap(values, np.append([(difference == one).sum() for one in known], counts[others]), confidence, seed)


def _bootstrap(
    values: NDArray[np.float64], counts: NDArray[np.int64], confidence: float, seed: int
) -> tuple[float, float]:
    """Of the mean of values that occur so many times each."""
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)
    low, high = np.quantile(drawn @ values / counts.sum(), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
