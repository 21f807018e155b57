"""How probably a configuration keeps the limits of metrics by any epoch: a process over excesses, as over errors.

Its parameters are its own, and so are its units: nothing known of a place is as good as standing at the limit, and 1 is
what the excesses seen so far are away from it (their root mean square). In units of the differences between them, as
the errors have, eight trials that miss a recall alike after one epoch would say that no training ever reaches it.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import log_ndtr

from podium.tuning.freeze_thaw.curve_model import Array, CurveModel, Points, Units
from podium.tuning.freeze_thaw.observed import Curve, observe_excess

FLOOR = 0.01
"""The smallest unit: excesses are relative to their limit, so it is a hundredth of that."""
BEYOND = 5.0
"""So many times its limit away all excesses are alike: a loss that diverged says no more."""

Excess = tuple[Points, Array, Units]
"""Where excesses are known, how large they are (n,), and their units."""


def excess_of(curves: Sequence[Curve]) -> Excess | None:
    """The excesses of `curves`; None: none is known."""
    observed = observe_excess(curves)
    if observed is None:
        return None
    points, y = observed
    y = np.clip(y, -BEYOND, BEYOND)
    return points, y, Units(0.0, max(float(np.sqrt(np.mean(y**2))), FLOOR))


def log_feasible(excess: Excess | None, theta: Array, points: Points) -> Array:
    """The logarithm of the probability that each of `points` keeps the limits of metrics, (n,); 0 without limits."""
    if excess is None:
        return np.zeros(len(points.t))
    known, y, units = excess
    mean, deviation = CurveModel(known, y, theta, units).predict(points)
    return np.asarray(log_ndtr(-mean / deviation))
