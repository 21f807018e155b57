"""Which networks cost more than search.limits allows: known where one was measured, else expected from those that were.

A process over the logarithm of each cost, over the fields of the network alone. Its parameters are fixed: costs are
smooth and hardly noisy, so a handful of networks says where the limit runs. Without it a search would look for the best
where nothing was trained yet, which is where everything costs too much.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial
from scipy.special import log_ndtr

from podium.config import limits as rules
from podium.tuning import feasibility
from podium.tuning.freeze_thaw.curve_model import Array, CurveModel, Points, Units
from podium.tuning.freeze_thaw.places import Place, Places

LENGTH = 0.7
"""Over which part of a dimension's range a cost is alike."""
STEADY, OWN, NOISE = 1.0, 0.02, 0.05
"""Standard deviations of a cost: of all networks, of one network, and of one measurement."""
SMALLEST = 0.1
"""Costs that all are nearer to the limit than this (in the logarithm) tell no more than costs that are so far away."""
MOST = 120
"""Networks that are compared with, the last ones."""
HOPELESS, UNLIKELY = math.log(0.02), math.log(0.2)
"""Logarithms of the probability to keep the limits: below the first nothing is proposed while there is anything else;
of those that nothing else speaks for, the first that is above the second is tried."""

Measured = tuple[Place, Mapping[str, float]]
"""A configuration of a network, and what that costs."""


class NetworkCosts:
    """What is known of the costs that `limits` bounds."""

    def __init__(self, trials: Sequence[FrozenTrial], places: Places, limits: Mapping[str, float]) -> None:
        """`limits`: those of search.limits that follow from the configuration."""
        self._places = places
        known = _measured(trials, places) if limits else {}
        self._over = {
            network: any(beyond > 0 for beyond in rules.excess(limits, costs).values())
            for network, (_, costs) in known.items()
        }
        self._models = _models(list(known.values()), places, limits) if any(self._over.values()) else []
        """None while no network was over: then nothing speaks against any."""

    def log_keeps(self, places: Sequence[Place]) -> Array:
        """The logarithm of the probability that each of `places` keeps the limits, (n,)."""
        found = np.zeros(len(places))
        unknown = [row for row, place in enumerate(places) if self._places.network(place) not in self._over]
        if self._models and unknown:
            points = _points([self._places.costly(places[row]) for row in unknown], first=-len(places))
            for model in self._models:
                mean, deviation = model.predict(points)
                found[unknown] += log_ndtr(-mean / deviation)
        return found

    def divided(self, places: Iterable[Place]) -> tuple[list[Place], list[Place]]:
        """Those of `places` that may keep the limits, and those that hardly will, without what is known to be over."""
        left = [place for place in places if not self._over.get(self._places.network(place), False)]
        keeps = self.log_keeps(left)
        both: tuple[list[Place], list[Place]] = ([], [])
        for place, probable in zip(left, keeps, strict=True):
            both[bool(probable < HOPELESS)].append(place)
        return both

    def first(self, places: Sequence[Place]) -> Place | None:
        """The first of `places` that may well keep the limits, else the one that most probably does; None: all are
        known to be over."""
        left = [place for part in self.divided(places) for place in part]
        if not left:
            return None
        keeps = self.log_keeps(left)
        order = {id(place): rank for rank, place in enumerate(places)}
        likely = [place for place, probable in zip(left, keeps, strict=True) if probable >= UNLIKELY]
        return min(likely, key=lambda place: order[id(place)]) if likely else left[int(np.argmax(keeps))]


def _measured(trials: Sequence[FrozenTrial], places: Places) -> dict[str, Measured]:
    """Every network that one of `trials` has measured."""
    found: dict[str, Measured] = {}
    for trial in trials:
        costs, recipe = trial.user_attrs.get(feasibility.COSTS), trial.user_attrs.get("recipe")
        if costs and recipe:
            place = places.of(recipe)
            found.setdefault(places.network(place), (place, costs))
    return found


def _models(known: Sequence[Measured], places: Places, limits: Mapping[str, float]) -> list[CurveModel]:
    """A model of each limited cost: 0 is the limit, where nothing is known."""
    made = []
    for name, limit in limits.items():
        rows = [(place, costs[name]) for place, costs in known if costs.get(name, 0.0) > 0][-MOST:]
        if rows:
            y = np.log([cost / limit for _, cost in rows])
            units = Units(0.0, max(float(np.sqrt(np.mean(y**2))), SMALLEST))
            x = [places.costly(place) for place, _ in rows]
            theta = np.log([*[LENGTH] * len(x[0]), STEADY, 1e-3, 1e-3, OWN, NOISE])
            made.append(CurveModel(_points(x, first=0), y, theta, units))
    return made


def _points(x: Sequence[Array], first: int) -> Points:
    """`x` as points at their ends, each of a trial of its own, numbered from `first` on."""
    return Points(np.array(x), np.ones(len(x)), np.arange(first, first + len(x), dtype=np.int64))
