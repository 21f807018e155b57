"""Answering only where the model is sure enough: the probability from which the error is as low as wanted.

An image is answered where the probability of its most probable class reaches a threshold; else the model abstains. The
threshold is chosen on images that the model was not trained on, so that the error among what is answered stays within
the wanted one with a confidence (selective classification with guaranteed risk: Y. Geifman and R. El-Yaniv, Selective
Classification for Deep Neural Networks, NeurIPS 2017). Near-duplicates count once: the first of each group.
"""

from dataclasses import dataclass
from itertools import count

import numpy as np
import scipy
from numpy.typing import NDArray

# scipy.stats is imported at its first use: that takes half a second, and most who import this module need none of it.

WIDE = 8
"""Another start for every such factor between the images that there are and the fewest that can do."""
ROWS = 200
"""Points of a curve at most."""


@dataclass(frozen=True)
class Counts:
    """What a threshold does on some images."""

    images: int
    """Groups of near-duplicates, each counted once."""
    answered: int
    wrong: int
    """Of the answered ones."""

    @property
    def coverage(self) -> float:
        """The fraction that is answered."""
        return self.answered / self.images

    @property
    def error(self) -> float:
        """The fraction of the answered ones that is wrong; nan where nothing is answered."""
        return self.wrong / self.answered if self.answered else float("nan")

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Of the true error, a lower and an upper one, each of which holds at `confidence` by itself.

        Exact (C. Clopper and E. Pearson, Biometrika 1934); 0 and 1 where nothing is answered.
        """
        low = (
            float(scipy.stats.beta.ppf(1 - confidence, self.wrong, self.answered - self.wrong + 1))
            if self.wrong
            else 0.0
        )
        right = self.answered - self.wrong
        high = float(scipy.stats.beta.ppf(confidence, self.wrong + 1, right)) if right else 1.0
        return low, high


@dataclass(frozen=True)
class Threshold:
    """From which probability an image is answered, and what was found when it was chosen."""

    probability: float
    """0: every image is answered."""
    chosen_on: Counts

    def counts(self, probability: NDArray[np.float64], right: NDArray[np.bool_]) -> Counts:
        """What it does on images whose predictions have `probability` (N,) and of which `right` (N,) are right."""
        answered = probability >= self.probability
        return Counts(len(right), int(answered.sum()), int((answered & ~right).sum()))


def choose(
    probability: NDArray[np.float64], right: NDArray[np.bool_], error: float, confidence: float
) -> Threshold | None:
    """The threshold that answers most with a true error of at most `error` at `confidence`; None: there is none.

    `probability` (N,) of each prediction, `right` (N,) which of them are; each image must be evidence by itself.

    Thresholds are tested from the one that answers fewest, each by the binomial tail (Clopper and Pearson) at the level
    that those before it have left: a level passes on from a threshold that holds to the next one, and is lost at one
    that doesn't. So the chance that any of those that hold is wrong is at most one minus the confidence, however many
    there are (fixed sequence with several starts: A. Angelopoulos et al., Learn then Test, 2021; the fallback procedure
    of B. Wiens, Pharmaceutical Statistics 2003). It counts on a less probable prediction being no more often right.
    """
    ranked = _Ranked.of(probability, right)
    ranks, fresh = _ranks(len(right), error, confidence)
    if not len(ranks):
        return None
    # At the last rank everything is answered.
    ends = ranked.ends(ranks)
    p_values = np.asarray(scipy.stats.binom.cdf(ranked.wrong[ends - 1], ends, error))
    level, best = 0.0, None
    for end, p_value, more in zip(ends.tolist(), p_values.tolist(), fresh.tolist(), strict=True):
        level += more
        if p_value <= level:
            best = end
        else:
            level = 0.0
    if best is None:
        return None
    lowest = 0.0 if best == len(right) else float(-ranked.falling[best - 1])
    return Threshold(lowest, Counts(len(right), best, int(ranked.wrong[best - 1])))


def reachable(probability: NDArray[np.float64], right: NDArray[np.bool_], confidence: float) -> float | None:
    """The lowest error, in two digits, for which `choose` finds a threshold; None: there is none below 1."""
    ranked, images = _Ranked.of(probability, right), len(right)
    lowest = -np.expm1(np.log(1 - confidence) / images)
    for exponent in count(int(np.floor(np.log10(lowest)))):
        if exponent >= 0:
            return None
        for digits in range(10, 100):
            error = round(digits * 10.0 ** (exponent - 1), 1 - exponent)
            if error < lowest:
                continue
            # A first threshold that holds is a start: the others have no level of their own.
            ranks, levels = _start_ranks(images, error, confidence)
            ends = ranked.ends(ranks)
            holds = scipy.stats.binom.cdf(ranked.wrong[ends - 1], ends, error) <= levels
            if holds.any() and choose(probability, right, error, confidence):
                return error
    return None


@dataclass(frozen=True)
class _Ranked:
    """Predictions from the most probable one on; (N,) each."""

    falling: NDArray[np.float64]
    """Their probabilities, negative: so they rise."""
    wrong: NDArray[np.int64]
    """How many are wrong down to each."""

    @staticmethod
    def of(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> "_Ranked":
        order = np.argsort(-probability, kind="stable")
        return _Ranked(-probability[order], np.cumsum(~right[order]))

    def ends(self, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many are answered with the one at each of `ranks`: those of equal probability are answered together."""
        return np.asarray(np.searchsorted(self.falling, self.falling[ranks - 1], side="right"), np.int64)


def _starts(images: int, error: float, confidence: float) -> tuple[int, float]:
    """How many thresholds have a level of their own, and which."""
    least = np.log(1 - confidence) / np.log1p(-error)
    starts = 1 + int(max(np.log(images / least), 0.0) / np.log(WIDE))
    return starts, (1 - confidence) / starts


def _start_ranks(images: int, error: float, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Those of `_ranks` that have a level of their own, and these levels, without going through all the others."""
    starts, level = _starts(images, error, confidence)

    def fewest(wrong: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(scipy.stats.nbinom.ppf(1 - level, wrong + 1, error) + wrong + 1, np.int64)

    first = int(fewest(np.zeros(1, np.int64))[0])
    if first > images:
        return np.zeros(0, np.int64), np.zeros(0)
    started = first * (images / first) ** (np.arange(starts) / starts)
    # The first rank that is no less: one fewer image would not do for so many wrong ones.
    wrong = np.asarray(scipy.stats.binom.ppf(level, np.ceil(started) - 1, error), np.int64)
    ranks = np.minimum(fewest(np.maximum(wrong, 0)), images)
    ranks, of_start = np.unique(ranks, return_inverse=True)
    return np.asarray(ranks, np.int64), np.asarray(np.bincount(of_start) * level, np.float64)


def _ranks(images: int, error: float, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many images the thresholds answer, and the level that each has of its own (0 but for the starts).

    For 0, 1, 2, ... wrong ones the fewest images that make the error sure enough, then all. Where there are many more
    images than that, a single start would give up at the first wrong label among the surest predictions.
    """
    starts, level = _starts(images, error, confidence)
    most = np.arange(int(images * error) + 1)
    fewest = scipy.stats.nbinom.ppf(1 - level, most + 1, error) + most + 1  # trials until one more is wrong
    ranks = fewest[fewest <= images].astype(np.int64)
    if not len(ranks):
        return ranks, np.zeros(0)
    ranks = np.unique(np.append(ranks, images))
    fresh = np.zeros(len(ranks))
    started = ranks[0] * (images / ranks[0]) ** (np.arange(starts) / starts)
    np.add.at(fresh, np.searchsorted(ranks, started), level)
    return ranks, fresh


@dataclass(frozen=True)
class Curve:
    """Error against coverage, from the most probable prediction to all of them; (R,) each."""

    coverage: NDArray[np.float64]
    error: NDArray[np.float64]
    high: NDArray[np.float64]
    """Upper bound of the error of each point by itself."""
    threshold: NDArray[np.float64]
    area: float
    """Below the whole curve: the mean error over all coverages (Y. Geifman, G. Uziel and R. El-Yaniv, ICLR 2019)."""


def curve(probability: NDArray[np.float64], right: NDArray[np.bool_], confidence: float) -> Curve:
    """The curve of predictions with `probability` (N,), of which `right` (N,) are right, in ROWS points at most."""
    order = np.argsort(-probability, kind="stable")
    wrong, ordered, length = np.cumsum(~right[order]), probability[order], len(right)
    ends = np.searchsorted(-ordered, -ordered, side="right")
    errors = wrong[ends - 1] / ends
    points = np.unique(ends)
    points = np.unique(points[np.linspace(0, len(points) - 1, min(ROWS, len(points))).round().astype(np.int64)])
    high = [Counts(length, int(end), int(wrong[end - 1])).bounds(confidence)[1] for end in points]
    return Curve(points / length, wrong[points - 1] / points, np.array(high), ordered[points - 1], float(errors.mean()))
