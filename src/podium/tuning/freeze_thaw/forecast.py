"""What the model of the curves expects of the trials that a freeze-thaw search left at rest, for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr, ndtri

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.data.dataset import write_json
from podium.tuning.freeze_thaw import decisions as decided
from podium.tuning.freeze_thaw.curve_model import Array, CurveModel, start
from podium.tuning.freeze_thaw.decisions import trained
from podium.tuning.freeze_thaw.limit_model import Excess, excess_of, log_feasible
from podium.tuning.freeze_thaw.observed import Curve, Observed, curves_of
from podium.tuning.freeze_thaw.planner import Candidates, Planner, improvement

SHOWN = 6
"""Trials, the most promising ones."""
BAND = 0.8
"""The probability that a curve without the noise between epochs lies within its band, as the model sees it."""
POINTS = 40
"""Epochs of a predicted curve at most."""
MORE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Further epochs of one trial for which the expected gain is worked out."""
MINUTE = 60.0
"""Seconds."""


def forecast(study: optuna.Study, params: SearchParams, base: Recipe) -> dict[str, Any] | None:
    """The predicted curves of the most promising trials that could go on, and what more epochs are expected to gain.

    A pure function of the study. `trials`: number, epochs trained, and by further epoch the metric's expected value and
    the ends of its band. `gains`: for at most so many more epochs of the one trial with the largest expected
    improvement, that improvement in the logarithm of the error; `minute`: the same of what a worker trains in a minute,
    where the times of epochs are known. None: the search had no model, or no trial could go on.
    """
    trials, decisions = study.get_trials(deepcopy=False), decided.read(study)
    if not any(one.theta for one in decisions):
        return None
    planner = Planner(params, base, study.direction)
    curves = curves_of(trials, planner.places, planner.metrics)
    observed = planner.observed(curves)
    candidates = planner.candidates(trials, curves, _left(trials), [])
    if observed is None or not candidates.places:
        return None
    theta = next(np.array(one.theta) for one in reversed(decisions) if one.theta)
    model = CurveModel(observed.points, observed.y, theta)
    excess, fitted = excess_of(curves), [one.limits_theta for one in decisions if one.limits_theta]
    limits_theta = np.array(fitted[-1]) if fitted else start(observed.points.x.shape[1])  # an earlier Podium: none
    ends = candidates.points(candidates.totals)
    mean, deviation = model.predict(ends)
    hope = log_ndtr((observed.best - mean) / deviation) + log_feasible(excess, limits_theta, ends)
    order = np.argsort(-hope, kind="stable")[:SHOWN]
    return {
        "best": _rounded(observed.errors.values(observed.best)),
        "trials": [_curve(model, observed, candidates, int(row)) for row in order],
        "gains": _gains(model, observed, candidates, excess, limits_theta),
        **_minute(model, observed, candidates, excess, limits_theta, _timed(params, curves, candidates)),
    }


def _left(trials: Sequence[FrozenTrial]) -> list[int]:
    """The trials that have trained and have epochs left."""
    ended = (TrialState.PRUNED, TrialState.RUNNING, TrialState.COMPLETE)
    return [t.number for t in trials if t.state in ended and 0 < trained(t) < _total(t)]


def _total(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("recipe", {}).get("train.epochs", 0))


def _one(candidates: Candidates, row: int, count: int) -> Candidates:
    """One of `candidates`, so many times."""
    fields = (candidates.epochs, candidates.numbers, candidates.seconds)
    return Candidates([candidates.places[row]] * count, *(np.repeat(values[row], count) for values in fields))


def _curve(model: CurveModel, observed: Observed, candidates: Candidates, row: int) -> dict[str, Any]:
    first, last = int(candidates.epochs[row]), int(candidates.totals[row])
    epochs = np.unique(np.linspace(first, last, min(POINTS, last - first + 1)).round())
    mean, deviation = model.predict(_one(candidates, row, len(epochs)).points(epochs))
    wide = ndtri((1 + BAND) / 2) * deviation
    better, worse = observed.errors.values(mean - wide), observed.errors.values(mean + wide)
    columns = {"expected": observed.errors.values(mean), "low": np.minimum(better, worse),
               "high": np.maximum(better, worse)}  # fmt: skip
    shown = {name: [_rounded(value) for value in values] for name, values in columns.items()}
    return {"trial": int(candidates.numbers[row]), "epochs": first, "epoch": [int(e) for e in epochs]} | shown


def _gains(
    model: CurveModel, observed: Observed, candidates: Candidates, excess: Excess | None, limits_theta: Array
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for more in MORE:
        gains = _improvements(model, observed, candidates, excess, limits_theta, more=more)
        row = int(np.argmax(gains))
        now = {"epochs": more, "trial": int(candidates.numbers[row]), "gain": _rounded(gains[row])}
        before = found[-1] if found else now  # who may train longer may stop there
        found.append(now if now["gain"] >= before["gain"] else before | {"epochs": more})
        if more >= (candidates.totals - candidates.epochs).max():
            break
    return found


def _improvements(
    model: CurveModel,
    observed: Observed,
    candidates: Candidates,
    excess: Excess | None,
    limits_theta: Array,
    *,
    more: Array | int,
) -> Array:
    """What each candidate is expected to gain by so many `more` epochs of its training."""
    points = candidates.points(np.minimum(candidates.epochs + more, candidates.totals))
    gains = improvement(observed.best, *model.predict(points)) * np.exp(log_feasible(excess, limits_theta, points))
    return np.asarray(gains)


def _timed(params: SearchParams, curves: Sequence[Curve], candidates: Candidates) -> Array | None:
    """The seconds of an epoch of each candidate: its own, else what the others' let expect. None: nothing is known, or
    the search is deterministic and counts epochs."""
    own = {curve.number: curve.seconds for curve in curves if curve.seconds}
    if params.deterministic or not own:
        return None
    both = zip(candidates.numbers, candidates.seconds, strict=True)
    return np.array([own.get(int(number)) or guessed for number, guessed in both])


def _minute(
    model: CurveModel,
    observed: Observed,
    candidates: Candidates,
    excess: Excess | None,
    limits_theta: Array,
    seconds: Array | None,
) -> dict[str, Any]:
    """`minute`: the trial that is expected to gain most in another minute of one worker, which is more epochs of a
    small network than of a large one; where no epoch ends within a minute, in the time of the shortest. Nothing where
    no time is known."""
    if seconds is None:
        return {}
    within = max(MINUTE, float(seconds.min()))
    epochs = np.minimum(np.floor(within / seconds), candidates.totals - candidates.epochs)
    gains = _improvements(model, observed, candidates, excess, limits_theta, more=epochs)
    row = int(np.argmax(np.where(epochs >= 1, gains, -1.0)))
    took = _rounded(epochs[row] * seconds[row])
    found = {"trial": int(candidates.numbers[row]), "epochs": int(epochs[row]), "seconds": took}
    return {"minute": found | {"gain": _rounded(gains[row])}}


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")


def write_forecast(path: Path, study: optuna.Study, params: SearchParams, base: Recipe) -> None:
    """Write what `forecast` gives as JSON; a search by another method has no such file."""
    path.unlink(missing_ok=True)
    if params.method == "thaw" and (found := forecast(study, params, base)) is not None:
        write_json(path, found)
