"""Which of two models is more accurate, by labels that come one after the other: a test that may be looked at any time.

A test of fixed size (McNemar's) keeps its level only where the number of images is set before the first label is seen.
Who looks after each label and stops when it is significant has a false result in far more than 5 % of cases. The tests
here bet: a capital of 1 is staked against the hypothesis "the challenger is no better" at each image. While that is
true the capital grows by no more than chance, so that it ever reaches 1 / level has at most the probability `level`,
however often one looks and whenever one stops (J. Ville, Etude critique de la notion de collectif, 1939).

What counts is the capital that all labels of now give, not the largest on the way to it. Many labels come in one table,
whose order says nothing: sorted by class, it would bring evidence for any model. The capital of now has no order.

- G. Shafer, Testing by betting, Journal of the Royal Statistical Society A 184 (2021).
- I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024), section 4.
- A. Ramdas, P. Gruenwald, V. Vovk and G. Shafer, Game-theoretic statistics and safe anytime-valid inference,
  Statistical Science 38 (2023).
- H. Robbins, Statistical methods related to the law of the iterated logarithm, Annals of Mathematical Statistics 41
  (1970): the mixture, here over the size of the bets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaln, logsumexp

BETS = 100
"""Sizes of the bet that the capital is spread over, equal parts of what may be staked."""
SLICE = 4096
"""Images whose capital is computed at a time."""
MOST = 700.0
"""Logarithm of a capital; beyond, a float has no room, and nobody needs more evidence."""


@dataclass(frozen=True)
class Evidence:
    """What the labels say so far, all together: no order of them counts."""

    images: int
    """Different images with a label."""
    gained: int
    """Only the challenger is right."""
    lost: int
    """Only the champion is."""
    better: float
    """The capital of the bet against "the challenger is no more accurate"; `limit` says how much is evidence."""
    worse: float
    """The same against "the challenger is no less accurate"."""
    low: float
    high: float
    """Of the challenger's share of the disagreements that one of the two gets right; see `share_interval`."""


def evidence(difference: NDArray[np.int8], level: float) -> Evidence:
    """The evidence of `difference` (N,): 1 only the challenger is right, -1 only the champion, 0 both or none. The
    interval holds at `level`, such as 0.05.
    """
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    low, high = share_interval(gained, lost, level)
    return Evidence(len(difference), gained, lost, capital(gained, lost), capital(lost, gained), low, high)


def limit(level: float) -> float:
    """The capital that is evidence where somebody looks at both bets, "better" and "worse": each has half of `level`,
    so that either is wrong with a probability of at most `level`. Who asks one question alone needs 1 / level.
    """
    return 2 / level


def shown(capital_now: float) -> str:
    """A capital for people."""
    return f"{capital_now:,.0f}" if capital_now >= 100 else f"{capital_now:.2g}"


def capital(gained: int, lost: int, equal: int = 0, margin: float = 0.0) -> float:
    """The capital after these images of the bet against "the challenger's accuracy is lower by `margin` or more"; with
    a margin of 0, against "it is not more accurate". Where that is true it ever reaches 1 / level with a probability of
    at most `level`. The images may have come in any order: the capital is the same.

    `gained` images that only the challenger gets right, `lost` that only the champion does, `equal` others; `margin` 0
    to below 1. With a margin of 0, equal images change nothing: this is the test of McNemar's pairs, for any moment.
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin must be 0 to below 1; got {margin}")
    sizes = _sizes() / (1 - margin)  # with the largest, a lost image costs nearly all that was staked
    growth = gained * np.log1p(sizes * (1 + margin)) + lost * np.log1p(sizes * (margin - 1))
    growth += equal * np.log1p(sizes * margin)
    return float(np.exp(min(logsumexp(growth) - np.log(BETS), MOST)))


def path(difference: NDArray[np.int8]) -> NDArray[np.float64]:
    """`capital` with a margin of 0 after each of N images (N,), `difference` (N,) as for `evidence`: for a chart."""
    factors = np.log1p(_sizes() * np.array([-1.0, 0.0, 1.0])[:, None])
    found, log_wealth = np.empty(len(difference)), np.zeros(BETS)
    for start in range(0, len(difference), SLICE):
        part = difference[start : start + SLICE].astype(np.intp) + 1
        paths = log_wealth + np.cumsum(factors[part], axis=0)
        found[start : start + SLICE] = logsumexp(paths, axis=1) - np.log(BETS)
        log_wealth = paths[-1]
    return np.exp(np.minimum(found, MOST))


def _sizes() -> NDArray[np.float64]:
    return (np.arange(BETS) + 0.5) / BETS


def needed(gained: int, lost: int, level: float) -> int | None:
    """Decided disagreements at which the evidence is there if their share stays as it is; None: not in a million."""
    count = gained + lost
    if not count:
        return None
    share = max(gained, lost) / count
    sizes = _sizes()
    growth = share * np.log1p(sizes) + (1 - share) * np.log1p(-sizes)
    numbers = np.unique(np.geomspace(1, 1e6, 400).astype(int))
    reached = logsumexp(numbers[:, None] * growth, axis=1) - np.log(BETS) >= -np.log(level)
    return int(numbers[int(reached.argmax())]) if reached.any() else None


def share_interval(gained: int, lost: int, level: float) -> tuple[float, float]:
    """Where the challenger's share of the decided disagreements lies, at any time of looking: (0, 1) without any.

    The shares that a bet spread evenly over all shares does not refute (Robbins 1970): those whose likelihood is more
    than `level` times the mean likelihood.
    """
    count = gained + lost
    if not count:
        return 0.0, 1.0
    best = gained / count
    mean = float(betaln(gained + 1, lost + 1))

    def above(share: float) -> float:
        with np.errstate(divide="ignore"):
            own = (gained * np.log(share) if gained else 0.0) + (lost * np.log1p(-share) if lost else 0.0)
        return float(np.maximum(own, -1e9) - mean - np.log(level))

    low = brentq(above, 0.0, best) if gained else 0.0
    high = brentq(above, best, 1.0) if lost else 1.0
    return float(low), float(high)
