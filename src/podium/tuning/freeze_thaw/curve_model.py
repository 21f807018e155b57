"""A Gaussian process over learning curves: how far the error of any configuration will have come by any epoch.

K. Swersky, J. Snoek and R. P. Adams, Freeze-Thaw Bayesian Optimization, arXiv 1406.3896, with one covariance over
configuration and time instead of one process for each curve, as in M. Wistuba et al., DyHPO, NeurIPS 2022:

    k = matern(x, x') (a^2 + b^2 t t' + c^2 rbf(t, t')) + [same trial] o^2 exp(-|t - t'| / 0.5) + [same point] s^2

x is a configuration, t (0 to 1) its logarithmic progress. matern: 5/2, with a length for each feature (C. E. Rasmussen
and C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, chapters 4 and 5). The second part is what a trial
has of its own, such as its seed. The parameters are the most probable ones under a log-normal prior.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
PRIOR = np.log([1.0, 1.0, 0.5, 0.3, 0.15])
"""Where a, b, c, o and s (in standard deviations of what was observed) are expected; a length at 0.4."""
SPREAD = 0.7
"""The prior's standard deviation, of each parameter's logarithm."""
RBF, OWN = 0.3, 0.5
"""Lengths in t, of the part that configurations share and of what a trial has of its own."""
JITTER = 1e-6
STEPS = 15
"""Steps of the fit at most: it begins where the last one ended."""


@dataclass(frozen=True)
class Points:
    """Points of curves: features (n, D), progress (n,), and the number of the trial (n,)."""

    x: Array
    t: Array
    trial: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "Points":
        """Some of them."""
        return Points(self.x[rows], self.t[rows], self.trial[rows])


def start(features: int) -> Array:
    """The parameters before a fit, (features + 5,): logarithms of the lengths, then of a, b, c, o and s."""
    return np.concatenate([np.full(features, math.log(0.4)), PRIOR])


@dataclass(frozen=True)
class Units:
    """What the process counts in: 0 is `mean`, where nothing is known, and 1 is `scale` away from it."""

    mean: float
    scale: float

    @staticmethod
    def of(y: Array) -> "Units":
        """Mean and standard deviation of what was observed."""
        return Units(float(y.mean()), float(y.std()) + 1e-3)


class CurveModel:
    """The process, given observed points; nothing changes after its making."""

    def __init__(self, points: Points, y: Array, theta: Array, units: Units | None = None) -> None:
        """`y` (n,): what was observed at `points`; `theta`: see `start`; `units`: those of `y` where none are given."""
        self.points, self.theta = points, theta
        units = units or Units.of(y)
        self.mean, self.scale = units.mean, units.scale
        covariance = covariance_of(theta, points, points)
        covariance[np.diag_indices_from(covariance)] += math.exp(2 * theta[-1]) + JITTER
        self._factor = cho_factor(covariance, lower=True, check_finite=False)
        self._weights = cho_solve(self._factor, (y - self.mean) / self.scale, check_finite=False)

    @property
    def noise(self) -> float:
        """Standard deviation of what is observed once more at the same point of the same trial."""
        return self.scale * math.exp(self.theta[-1])

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Mean and standard deviation at each of `points`, (m,) each, without the noise of an observation."""
        cross = covariance_of(self.theta, points, self.points)
        known = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        a, b, c, own, _ = np.exp(2 * self.theta[-5:])
        variance = a + b * points.t**2 + c + own - (known**2).sum(0)
        return self.mean + self.scale * (cross @ self._weights), self.scale * np.sqrt(np.maximum(variance, 1e-9))


def fit(points: Points, y: Array, theta: Array, units: Units | None = None) -> Array:
    """The most probable parameters for what was observed, sought from `theta` on."""
    units = units or Units.of(y)
    standard = (y - units.mean) / units.scale
    differences = (points.x[:, None] - points.x[None]) ** 2
    middle = start(points.x.shape[1])
    bounds = list(zip(middle - 2.5, middle + 2.5, strict=True))
    found = minimize(
        _misfit,
        np.clip(theta, middle - 2.5, middle + 2.5),
        (points, standard, differences),
        "L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    return np.asarray(found.x, dtype=np.float64)


def covariance_of(theta: Array, one: Points, other: Points) -> Array:
    """The covariance of the points of `one` with those of `other`, (n, m), without the noise of an observation."""
    scaled = [points.x / np.exp(theta[:-5]) for points in (one, other)]
    squared = np.maximum(
        (scaled[0] ** 2).sum(1)[:, None] + (scaled[1] ** 2).sum(1)[None] - 2 * scaled[0] @ scaled[1].T, 0.0
    )
    distance = np.sqrt(5 * squared)
    shared = (1 + distance + distance**2 / 3) * np.exp(-distance) * _over_time(theta, one.t, other.t)[0]
    same = one.trial[:, None] == other.trial[None]
    return np.asarray(shared + same * math.exp(2 * theta[-2]) * _own(one.t, other.t))


def _over_time(theta: Array, t: Array, other: Array) -> tuple[Array, list[Array]]:
    """The part of the covariance that all configurations share, over time, and its terms."""
    a, b, c = np.exp(2 * theta[-5:-2])
    gap = t[:, None] - other[None]
    terms = [np.full_like(gap, a), b * np.outer(t, other), c * np.exp(-0.5 * (gap / RBF) ** 2)]
    return terms[0] + terms[1] + terms[2], terms


def _own(t: Array, other: Array) -> Array:
    return np.asarray(np.exp(-np.abs(t[:, None] - other[None]) / OWN))


def _misfit(theta: Array, points: Points, y: Array, differences: Array) -> tuple[float, Array]:
    """The negative logarithm of the posterior density, without constants, and its gradient."""
    inverse = np.exp(-2 * theta[:-5])
    distance = np.sqrt(5 * (differences @ inverse))
    falling = np.exp(-distance)
    matern = (1 + distance + distance**2 / 3) * falling
    over_time, terms = _over_time(theta, points.t, points.t)
    own = (points.trial[:, None] == points.trial[None]) * math.exp(2 * theta[-2]) * _own(points.t, points.t)
    noise = math.exp(2 * theta[-1])
    covariance = matern * over_time + own + (noise + JITTER) * np.eye(len(y))
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e6, np.zeros_like(theta)
    weights = cho_solve(factor, y, check_finite=False)
    residual = cho_solve(factor, np.eye(len(y)), check_finite=False) - np.outer(weights, weights)
    lengths = np.tensordot(residual * over_time * (5 / 3) * (1 + distance) * falling, differences, 2) * inverse / 2
    parts = [(residual * matern * term).sum() for term in terms]
    parts += [(residual * own).sum(), noise * np.trace(residual)]
    away = (theta - start(len(inverse))) / SPREAD
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    return float(value), np.concatenate([lengths, parts]) + away / SPREAD
