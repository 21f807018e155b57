"""What a freeze-thaw search does next: a pure function of its study.

First one epoch of a few configurations that divide every range into as many strata (M. D. McKay, R. J. Beckman and W.
J. Conover, A Comparison of Three Methods for Selecting Values of Input Variables, Technometrics 1979). Then the model's
choice among trials that rest and new configurations: the one that is most probably better than the best by a random
amount at a random horizon (MFPI-random of H. Rakotoarison et al., In-Context Freeze-Thaw Bayesian Optimization, ICML
2024, arXiv 2404.16795). It trains for as long again as it has, or to the horizon if that is nearer.

A configuration that is known to cost more than search.limits allows is not proposed, and how probably another one keeps
them (cost_model) is a factor. Limits of metrics have a model of
their own (limit_model), and the probability to keep them is a factor (J. R. Gardner et al., Bayesian Optimization with
Inequality Constraints, ICML 2014).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, ndtr

from podium.config import limits
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.training.seeds import derive
from podium.tuning.freeze_thaw.cost_model import NetworkCosts
from podium.tuning.freeze_thaw.curve_model import Array, CurveModel, Points, Units, fit, start
from podium.tuning.freeze_thaw.decisions import Decision, trained
from podium.tuning.freeze_thaw.limit_model import Excess, excess_of, log_feasible
from podium.tuning.freeze_thaw.observed import Curve, Observed, curves_of, observe, progress
from podium.tuning.freeze_thaw.places import Place, Places
from podium.tuning.inherit import is_own
from podium.tuning.shared_epochs import EPOCHS
from podium.tuning.starts import START

STRATA = 8
"""First configurations, each in another eighth of every range."""
FIRST = 1
"""Epochs of a new trial's first slice."""
GROWTH = 2
"""A slice ends at the latest where the trial has trained so many times as long as before."""
SHORTEST = 0.1
"""Seconds that a slice which the model decides on takes at least: to decide, and to hand a trial over, take half of it.
So a head whose epochs take 10 ms trains for ten."""
CANDIDATES = 60
"""New configurations that are looked at for a decision."""
DRAWS = 8
"""So many times as many are drawn at most, where most cost more than search.limits allows."""
ENOUGH = 4
"""Points of curves below which the model is not asked."""
HORIZON = (1 / 8, 5 / 2)
"""The shortest and the longest horizon, in the time of a whole training of median length."""
AHEAD = (-2.0, -0.3)
"""By how much better than the best, in the logarithm of the error: powers of ten."""
FITTED = 120
"""Points of curves at most that the model's parameters are fitted to."""
ROOT_2PI = math.sqrt(2 * math.pi)
CALM = 10
"""Decisions in a row by which no gain is expected, before a search ends for that."""


@dataclass(frozen=True)
class Candidates:
    """Trials that rest, then new configurations."""

    places: list[Place]
    epochs: Array
    """Epochs that each has trained, (n,)."""
    numbers: Array
    """The trial's number of each; of new ones numbers below 0 that no other has."""
    seconds: Array
    """The time of an epoch of each."""

    @property
    def totals(self) -> Array:
        """The epochs of each one's whole training."""
        return np.array([place.total for place in self.places])

    def points(self, epochs: Array) -> Points:
        """Each after so many `epochs`."""
        x = np.array([place.x for place in self.places])
        return Points(x, progress(epochs.astype(np.int64), self.totals.astype(np.int64)), self.numbers.astype(np.int64))


class Planner:
    """Makes the decisions of one search."""

    def __init__(self, params: SearchParams, base: Recipe, direction: StudyDirection) -> None:
        self.params, self.direction = params, direction
        self.places = Places(params, base)
        self._ends_of_metric = params.component("metric").RANGE
        self._costs = limits.of_costs(params.limits)
        self.metrics = {name: limit for name, limit in params.limits.items() if name not in self._costs}
        """Limits of metrics."""
        self._memory: tuple[Any, tuple[CurveModel, list[float] | None]] | None = None
        """The model that was made last, and what of: one serves a decision and what comes before it."""

    def decide(
        self, trials: Sequence[FrozenTrial], decisions: Sequence[Decision], resting: Collection[int], epochs: int | None
    ) -> Decision | None:
        """What comes next, or None: nothing is left to do.

        `resting`: the trials that may go on; `epochs`: how many are left of the budget, None: any number.
        """
        if epochs is not None and epochs <= 0:
            return None
        new = sum(is_own(t) and t.state != TrialState.WAITING for t in trials) < self.params.n_trials
        waiting = min((t.number for t in trials if t.state == TrialState.WAITING), default=None)
        if waiting is not None and new:
            fixed = trials[waiting].system_attrs.get("fixed_params", {})
            until = FIRST if START in trials[waiting].user_attrs else fixed.get(EPOCHS)  # many starts: a look at each
            how: Literal["portfolio", "enqueued"] = "portfolio" if START in trials[waiting].user_attrs else "enqueued"
            return self._within(Decision(waiting, until, how), None, epochs)
        begun = sum(one.how == "stratum" for one in decisions)
        inherited = sum(not is_own(trial) for trial in trials)
        if new and begun < STRATA - inherited and self.places.names:
            random = np.random.default_rng(derive(self.params.seed, "instead", begun))
            drawn = [self._stratum(begun), *random.random((CANDIDATES, len(self.places.names)))]
            costs = NetworkCosts(trials, self.places, self._costs)
            if place := costs.first([self.places.at(one) for one in drawn]):
                return Decision(len(trials), min(FIRST, place.total), "stratum", place.values)
        return self._by_model(trials, decisions, resting, new=new, epochs=epochs)

    def surplus(
        self, trials: Sequence[FrozenTrial], decisions: Sequence[Decision], resting: Collection[int]
    ) -> list[int]:
        """The trials that may rest no longer, for there are more than `search.max_resting`: the least promising.

        Those come first of which no value was finite: the model knows nothing of them. They go on where nothing else
        can.
        """
        many = len(resting) - self.params.max_resting
        if many <= 0:
            return []
        curves = curves_of(trials, self.places, self.metrics)
        known = {curve.number for curve in curves}
        unknown = sorted(set(resting) - known)[:many]
        observed = self.observed(curves)
        if observed is None or len(unknown) == many:
            return unknown
        model, _ = self.model(observed, decisions)
        candidates = self.candidates(trials, curves, resting, [])
        ends = candidates.points(candidates.totals)
        mean, deviation = model.predict(ends)
        excess = excess_of(curves)
        hope = log_ndtr((observed.best - mean) / deviation)
        hope += log_feasible(excess, self.limits_theta(excess, decisions)[0], ends)
        order = np.argsort(hope, kind="stable")
        return unknown + [int(candidates.numbers[row]) for row in order[: many - len(unknown)]]

    def _by_model(
        self,
        trials: Sequence[FrozenTrial],
        decisions: Sequence[Decision],
        resting: Collection[int],
        *,
        new: bool,
        epochs: int | None,
    ) -> Decision | None:
        random = np.random.default_rng(derive(self.params.seed, "thaw", len(decisions)))
        costs = NetworkCosts(trials, self.places, self._costs)
        places = self._drawn(random, costs) if new else []
        curves = curves_of(trials, self.places, self.metrics)
        observed = self.observed(curves)
        if observed is None or len(observed.y) < ENOUGH:
            if (first := costs.first(places)) is None:
                return self._first_of(trials, resting, epochs)
            return Decision(len(trials), min(FIRST, first.total), "random", first.values)
        candidates = self.candidates(trials, curves, resting, places)
        if not candidates.places:
            return self._first_of(trials, resting, epochs)
        model, theta = self.model(observed, decisions)
        ends = self._ends(candidates, random.uniform(*np.log(HORIZON)))
        mean, deviation = model.predict(points := candidates.points(ends))
        wanted = observed.best - 10 ** random.uniform(*AHEAD)
        excess = excess_of(curves)
        limits_theta, limits_fitted = self.limits_theta(excess, decisions)
        affordable = np.concatenate([np.zeros(len(candidates.places) - len(places)), costs.log_keeps(places)])
        keeps = log_feasible(excess, limits_theta, points) + affordable
        row = int(np.argmax(log_ndtr((wanted - mean) / deviation) + keeps))
        whole = candidates.points(candidates.totals)
        gains = improvement(observed.best, *model.predict(whole))
        gains *= np.exp(log_feasible(excess, limits_theta, whole) + affordable)
        gain = float(gains.max())
        facts = {"theta": theta, "limits_theta": limits_fitted, "gain": round(gain, 6), "noise": round(model.noise, 6)}
        before, place = int(candidates.epochs[row]), candidates.places[row]
        least = min(place.total, before + max(FIRST, math.ceil(SHORTEST / candidates.seconds[row])))
        if before:
            end = max(min(int(ends[row]), math.ceil(GROWTH * before)), least)
            chosen = Decision(int(candidates.numbers[row]), end, "thaw", None, **facts)  # type: ignore[arg-type]
        else:
            chosen = Decision(len(trials), least, "new", place.values, **facts)  # type: ignore[arg-type]
        return self._within(chosen, before, epochs)

    def _first_of(self, trials: Sequence[FrozenTrial], resting: Collection[int], epochs: int | None) -> Decision | None:
        """Hardly anything was seen, or nothing of those that rest, and nothing new may begin: the first goes on."""
        if not resting:
            return None
        number = min(resting)
        before = trained(trials[number])
        return self._within(Decision(number, max(2 * before, before + 1), "thaw"), before, epochs)

    @staticmethod
    def _within(decision: Decision, before: int | None, epochs: int | None) -> Decision:
        """`decision`, no longer than what is left of the budget."""
        if epochs is None:
            return decision
        most = (before or 0) + epochs
        end = most if decision.until is None else min(decision.until, most)
        return Decision(**{**vars(decision), "until": end})

    def _drawn(self, random: np.random.Generator, costs: NetworkCosts) -> list[Place]:
        """New configurations to look at; where most of a space costs too much, more are drawn. Empty: all do."""
        hopeful: list[Place] = []
        others: list[Place] = []
        for _ in range(DRAWS if self._costs else 1):
            drawn = random.random((CANDIDATES, len(self.places.names)))
            for found, more in zip((hopeful, others), costs.divided(map(self.places.at, drawn)), strict=True):
                found += more
            if len(hopeful) >= CANDIDATES // 2:
                break
        return hopeful[:CANDIDATES] or others

    def _stratum(self, number: int) -> Array:
        """A point of the unit cube in stratum `number` of a Latin hypercube."""
        random = np.random.default_rng(derive(self.params.seed, "strata"))
        size = len(self.places.names)
        orders = np.array([random.permutation(STRATA) for _ in range(size)])
        return np.asarray((orders[:, number] + random.random((STRATA, size))[number]) / STRATA)

    def candidates(
        self, trials: Sequence[FrozenTrial], curves: Sequence[Curve], resting: Collection[int], new: list[Place]
    ) -> Candidates:
        """The trials of `resting` that have a curve, then `new` configurations."""
        known = {curve.number: curve for curve in curves}
        numbers = sorted(number for number in resting if number in known)
        places = [known[number].place for number in numbers] + new
        epochs = np.array([float(trained(trials[number])) for number in numbers] + [0.0] * len(new))
        below = [float(-1 - k) for k in range(len(new))]
        return Candidates(places, epochs, np.array([*map(float, numbers), *below]), self._seconds(places, curves))

    def _seconds(self, places: list[Place], curves: Sequence[Curve]) -> Array:
        """The time of an epoch at each of `places`: a line through the logarithms of those that are known.

        1 for all where the search is deterministic: how long something took is chance.
        """
        timed = [curve for curve in curves if curve.seconds]
        if self.params.deterministic or not timed or not places:
            return np.ones(len(places))
        x = np.array([[1.0, *curve.place.x] for curve in timed])
        took = np.log([curve.seconds for curve in timed if curve.seconds])
        ridge = np.diag([0.0] + [0.1] * (x.shape[1] - 1))
        line = np.linalg.lstsq(x.T @ x + ridge, x.T @ took, rcond=None)[0]
        guessed = np.array([[1.0, *place.x] for place in places]) @ line
        return np.asarray(np.exp(np.clip(guessed, took.min(), took.max())))

    def observed(self, curves: Sequence[Curve]) -> Observed | None:
        """The points that the model is given; None where nothing was seen."""
        return observe(curves, self.direction, self._ends_of_metric)

    @staticmethod
    def _ends(candidates: Candidates, horizon: float) -> Array:
        """The epoch at which each candidate is after a time of exp(`horizon`) median trainings."""
        whole = float(np.median(candidates.seconds * candidates.totals))
        more = np.maximum(1, np.floor(math.exp(horizon) * whole / candidates.seconds))
        return np.asarray(np.minimum(candidates.totals, candidates.epochs + more))

    def model(self, observed: Observed, decisions: Sequence[Decision]) -> tuple[CurveModel, list[float] | None]:
        """The model of what was observed, and its parameters where they were fitted now.

        They are fitted at some decisions of the model's only, ever fewer of them, and hold until the next.
        """
        key = (len(decisions), observed.y.tobytes(), observed.points.t.tobytes())
        if self._memory is None or self._memory[0] != key:
            last = next((np.array(one.theta) for one in reversed(decisions) if one.theta is not None), None)
            theta, fitted = self._fitted(observed.points, observed.y, Units.of(observed.y), last, decisions)
            self._memory = (key, (CurveModel(observed.points, observed.y, theta), fitted))
        return self._memory[1]

    def limits_theta(self, excess: Excess | None, decisions: Sequence[Decision]) -> tuple[Array, list[float] | None]:
        """The parameters of the model of the limits of metrics; once more where they were fitted now, as `model` does.

        Without such limits they are nothing.
        """
        if excess is None:
            return np.zeros(0), None
        last = next((np.array(one.limits_theta) for one in reversed(decisions) if one.limits_theta is not None), None)
        return self._fitted(*excess, last, decisions)

    def _fitted(
        self, points: Points, y: Array, units: Units, theta: Array | None, decisions: Sequence[Decision]
    ) -> tuple[Array, list[float] | None]:
        """`theta`, the last parameters, or those that are fitted now, once more then."""
        made = sum(one.by_model for one in decisions)
        if theta is not None and not is_fitted(made):
            return theta, None
        if len(y) > FITTED:
            random = np.random.default_rng(derive(self.params.seed, "fit", made))
            rows = np.sort(random.choice(len(y), FITTED, replace=False))
            points, y = points.take(rows), y[rows]
        found = fit(points, y, start(points.x.shape[1]) if theta is None else theta, units)
        return found, found.tolist()


def is_fitted(made: int) -> bool:
    """Whether the model's parameters are fitted for its decision number `made`, from 0: 0, 1, 2, 4, 7, 12, 20, ..."""
    at = 0
    while at < made:
        at = max(at + 1, int(1.6 * at) + 1)
    return at == made


def improvement(best: float, mean: Array, deviation: Array) -> Array:
    """By how much each candidate is expected to be below `best`, counting 0 where it is not (Mockus 1975)."""
    away = (best - mean) / deviation
    return np.asarray((best - mean) * ndtr(away) + deviation * np.exp(-away * away / 2) / ROOT_2PI)


def no_gain(decisions: Sequence[Decision]) -> bool:
    """Whether the last decisions of the model expected no more than the noise of what is observed."""
    last = [one for one in decisions if one.by_model][-CALM:]
    return len(last) == CALM and all((one.gain or 0.0) < (one.noise or 0.0) for one in last)
