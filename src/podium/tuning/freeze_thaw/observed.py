"""What the trials of a search have shown, as the model of the curves takes it.

The model works on the logarithm of the error: the last images of a set are as far apart there as the first, and
learning curves are nearly straight lines over the logarithm of time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.config.limits import figure_of
from podium.tuning.freeze_thaw.curve_model import Array, Points
from podium.tuning.freeze_thaw.places import Place, Places

MOST = 260
"""Points of curves that the model is given: its time grows with their third power."""
LAST = (5, 3, 2, 1)
"""So many of each curve's last points are left where there would be more."""
APART, USUAL = 10.0, 0.8
"""Times the error that this share of all points does not exceed: beyond, a training has diverged."""
SHARES, JUMP = (0.2, 0.35, 0.5, 0.65, USUAL), 100.0
"""Shares that are looked at one after the other, and how many times the error of one that of the next is where what
lies between has diverged."""
RECENT = 3
"""Epochs whose mean is where a trial stands."""
Row = tuple[Array, float, int, float]
"""A point of a curve: features, progress, the number of the trial, and what was observed."""
Ends = tuple[float, float]
"""The lowest and the highest value that a metric can have, infinite where that is not known or there is none."""
UNKNOWN = (-np.inf, np.inf)
ROUNDING = 1e-4
"""By how much an own training loop may report a value outside of them."""


@dataclass(frozen=True)
class Curve:
    """A trial so far."""

    number: int
    place: Place
    values: dict[int, float]
    """The metric by epoch, from 1; finite ones."""
    failed: bool
    seconds: float | None
    """The median time of an epoch, in seconds; None: not known."""
    excess: dict[int, float] = field(default_factory=dict)
    """By how much it breaks the limits of the metrics, by epoch: the largest, relative to its limit; at most 0 where it
    keeps all. Empty where there are no such limits, and where nothing of them is known yet."""
    limited: bool = False
    """Whether there are limits of metrics."""

    @property
    def keeps_limits(self) -> bool:
        """Whether it is known to keep them where `judged` ends."""
        return not self.limited or (bool(self.excess) and self.excess[max(self.excess)] <= 0)

    @property
    def judged(self) -> dict[int, float]:
        """The values by epoch, as far as it is known whether they keep the limits: of a trial under way that is where
        it last rested."""
        last = max(self.excess, default=0)
        return {epoch: value for epoch, value in self.values.items() if not self.limited or epoch <= last}


@dataclass(frozen=True)
class Errors:
    """How a metric's values become errors, of which less is better: the logarithm of what a value is short of the best.

    The best is the end of the metric's range. Where that is not known, it is 1 of a metric that is higher the better
    and was never outside of 0 to 1, and 0 of one that is lower the better and was never below; else the best seen.
    """

    best: float
    sign: int
    floor: float
    """Half of the smallest difference between two values: below it no error is told from none."""
    most: float = float("inf")
    """What a larger error counts as."""

    @staticmethod
    def of(values: Array, direction: StudyDirection, ends: Ends = UNKNOWN) -> "Errors":
        """As `values` (n,) suggest, and the `ends` of the metric's range."""
        maximize = direction == StudyDirection.MAXIMIZE
        low, high = (0.0 if not np.isfinite(ends[0]) else ends[0]), (1.0 if not np.isfinite(ends[1]) else ends[1])
        bounded = bool(values.min() >= low - ROUNDING and (not maximize or values.max() <= high + ROUNDING))
        extreme = float(values.max() if maximize else values.min())
        best = (high if maximize else low) if bounded else extreme
        steps = np.diff(np.unique(values))
        least = float(steps.min()) if len(steps) else 0.0
        with np.errstate(over="ignore"):  # the best and the worst may be as far apart as floats are
            errors = np.abs(values - best)
        if bounded and maximize:
            spread, most = float(np.ptp(values)), float("inf")
        else:
            spread = _spread(errors, 1 + abs(best)) or float(errors.max())
            most = max(spread, 1e-9)
        floor = max(least, 1e-3 * spread, 1e-9 * (1 + abs(best))) / 2
        return Errors(best, 1 if maximize else -1, floor if bounded else max(floor, 0.05 * spread), most)

    def log(self, values: Array | float) -> Array:
        """The logarithms of the errors of `values`."""
        with np.errstate(over="ignore"):
            errors = self.sign * (self.best - np.asarray(values))
        return np.asarray(np.log(np.clip(errors, 0.0, self.most) + self.floor))

    def values(self, logs: Array | float) -> Array:
        """The values whose errors have these logarithms."""
        return np.asarray(self.best - self.sign * np.maximum(np.exp(np.asarray(logs)) - self.floor, 0.0))


def _spread(errors: Array, unit: float) -> float:
    """How far values lie apart whose `errors` (n,) may have no upper end: trials that diverge do not set it.

    The largest, and at most so many times the one that USUAL of them do not exceed; of a smaller share where more than
    the rest have diverged, which is a jump from one share to the next, and beyond `unit` too: a jump from the noise on
    a plateau is none.
    """
    usual = 0.0
    for error in np.quantile(errors, SHARES, method="lower"):
        if usual and error > JUMP * max(usual, unit):
            usual = max(usual, unit)
            break
        usual = float(error)
    return float(min(errors.max(), APART * usual))


@dataclass(frozen=True)
class Observed:
    """The points that the model is given."""

    points: Points
    y: Array
    """Logarithms of errors, (n,)."""
    best: float
    """Where the best trial stands that keeps the limits, as the logarithm of an error."""
    errors: Errors


def curves_of(trials: Sequence[FrozenTrial], places: Places, limits: Mapping[str, float] | None = None) -> list[Curve]:
    """The curves of all trials whose configuration is known; of another study's too, where they were taken over.

    `limits`: those of search.limits that are metrics.
    """
    rules = [(*figure_of(name), limit) for name, limit in (limits or {}).items()]
    found = []
    for trial in trials:
        if "recipe" not in trial.user_attrs:
            continue
        values = {epoch: value for epoch, value in sorted(trial.intermediate_values.items()) if np.isfinite(value)}
        failed = trial.state == TrialState.FAIL
        if values or failed:
            history = trial.user_attrs.get("history", [])
            seconds = [one["seconds"] for one in history]
            place, took = places.of(trial.user_attrs["recipe"]), float(np.median(seconds)) if seconds else None
            beyond = _excess(history, rules)
            found.append(Curve(trial.number, place, values, failed, took, beyond, limited=bool(rules)))
    return found


def _excess(history: Sequence[Mapping[str, float]], rules: Sequence[tuple[int, str, float]]) -> dict[int, float]:
    """By epoch the largest excess over any of `rules` (sign, figure, limit) that has one."""
    found = {}
    for epoch in history:
        beyond = [sign * (epoch[key] - limit) / (abs(limit) or 1.0) for sign, key, limit in rules if key in epoch]
        if beyond and np.isfinite(beyond).all():
            found[int(epoch["epoch"])] = max(beyond)
    return found


def progress(epochs: NDArray[np.int64] | int, total: NDArray[np.int64] | int) -> Array:
    """How far a training of `total` epochs is after `epochs`, from 0 to 1 on a logarithmic scale."""
    return np.asarray(np.log1p(epochs) / np.log1p(total), dtype=np.float64)


def observe(curves: Sequence[Curve], direction: StudyDirection, ends: Ends = UNKNOWN) -> Observed | None:
    """The points of `curves`, of a metric between `ends`; None where nothing was seen of any.

    The best is one that is known to keep the limits where it stands; where none is, any that would is better than the
    worst.
    A failed trial counts as the worst that was seen, at its end: its region is not tried again and again.
    """
    seen = np.array([value for curve in curves for value in curve.values.values()])
    if not len(seen):
        return None
    errors = Errors.of(seen, direction, ends)
    worst = float(errors.log(seen).max())
    rows: list[list[Row]] = []
    for curve in curves:
        failed = [(curve.place.x, 1.0, curve.number, worst)] if curve.failed else []
        rows.append(_rows(curve, curve.values, errors.log) + failed)
    kept = [row for curve in thinned(rows) for row in curve]
    stands = [float(errors.log(_recent(curve.judged))) for curve in curves if _stands(curve)]
    x, t, number, y = (np.array(column) for column in zip(*kept, strict=True))
    return Observed(Points(x, t, number.astype(np.int64)), y, min(stands, default=worst), errors)


def observe_excess(curves: Sequence[Curve]) -> tuple[Points, Array] | None:
    """The points at which it is known by how much the limits are broken, and how much; None: there are none."""
    rows = [_rows(curve, curve.excess, np.asarray) for curve in curves]
    kept = [row for curve in thinned(rows) for row in curve]
    if not kept:
        return None
    x, t, number, y = (np.array(column) for column in zip(*kept, strict=True))
    return Points(x, t, number.astype(np.int64)), y


def _rows(curve: Curve, values: Mapping[int, float], scale: Callable[[Array], Array]) -> list[Row]:
    """The marks of `values`, by epoch, of `curve`, each on a `scale`."""
    if not values:
        return []
    epochs, marked = (np.array(column) for column in zip(*marks(values), strict=True))
    t = progress(epochs, curve.place.total)
    return [(curve.place.x, at, curve.number, y) for at, y in zip(t.tolist(), scale(marked).tolist(), strict=True)]


def _stands(curve: Curve) -> bool:
    return bool(curve.judged) and not curve.failed and curve.keeps_limits


def marks(values: Mapping[int, float]) -> Iterator[tuple[int, float]]:
    """Epochs of a curve, each half as far again as the one before, and its last; each with the mean around it."""
    last, mark = max(values, default=0), 1
    while mark <= last:
        around = [values[e] for e in range(max(1, round(0.85 * mark)), mark + 1) if e in values]
        if around:
            yield mark, sum(around) / len(around)
        mark = max(mark + 1, min(round(1.5 * mark), last)) if mark < last else last + 1


def thinned(rows: list[list[Row]]) -> list[list[Row]]:
    """At most about MOST points: fewer of each curve, then fewer curves, the best half of them and some of the rest."""
    for last in LAST:
        if sum(map(len, rows)) <= MOST:
            return rows
        rows = [row[-last:] for row in rows]
    if len(rows) > MOST:
        rows = sorted((row for row in rows if row), key=lambda row: row[-1][-1])
        others = rows[MOST // 2 :]
        rows = rows[: MOST // 2] + [others[round(k)] for k in np.linspace(0, len(others) - 1, MOST // 2)]
    return rows


def _recent(values: Mapping[int, float]) -> float:
    return float(np.mean([values[epoch] for epoch in sorted(values)[-RECENT:]]))
