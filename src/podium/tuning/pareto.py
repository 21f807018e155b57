"""The Pareto front of a search for several metrics, and which of its trials a person would rather have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from podium.config.aims import Aim
from podium.text import number
from podium.tracking.pareto_front import best_trials


def first(trial: FrozenTrial) -> float | None:
    """The value of the first metric; None where the trial has none. Of several metrics `trial.value` raises."""
    return trial.values[0] if trial.values else None


def front(study: optuna.Study) -> set[int]:
    """The numbers of the trials on the Pareto front of several metrics: those that keep search.limits, if any do not.

    Of a study with one metric there is no front.
    """
    return {trial.number for trial in best_trials(study)} if len(study.directions) > 1 else set()


@dataclass(frozen=True)
class Preference:
    """`select.rule` over one front: which of several values is rather to be had."""

    aims: Sequence[Aim]
    rule: Any
    best: Sequence[float]
    """Of each metric on the front."""
    worst: Sequence[float]

    @staticmethod
    def of(rule: Any, aims: Sequence[Aim], values: Sequence[Sequence[float]]) -> "Preference":
        """`values`: of each trial on the front, one for each of `aims`."""
        columns = list(zip(aims, zip(*values, strict=True), strict=False))  # of no values there are none
        best = [max(column) if aim.sign > 0 else min(column) for aim, column in columns]
        worst = [min(column) if aim.sign > 0 else max(column) for aim, column in columns]
        return Preference(aims, rule, best, worst)

    def score(self, values: Sequence[float]) -> tuple[float, ...]:
        """The larger, the better. By `first` equal values of the first metric are decided by the next; equal weighted
        sums by the metrics that count 0, so nothing is preferred to what is better in one of them.

        knee and weights: how far the values are behind the best ones, each as a fraction of its range on the front, in
        a weighted sum. With two metrics and equal weights the best is the point of the front that is farthest from the
        line through its ends: I. Das, On characterizing the "knee" of the Pareto curve, Structural Optimization 18,
        1999. With more it is another one, as a rule: the plane through the ends leans as they lie.
        """
        signed = {aim.name: aim.sign * value for aim, value in zip(self.aims, values, strict=True)}
        if self.rule == "first":
            return tuple(signed.values())
        weights = self.rule["weights"] if isinstance(self.rule, Mapping) else {}
        behind = 0.0
        for aim, value, best, worst in zip(self.aims, values, self.best, self.worst, strict=True):
            # Halves: the ends of an own metric's range may be as far apart as floats are.
            span = (
                abs(best / 2 - worst / 2) or 0.5
            )  # equal on the whole front: nothing to choose by, unless it ends worse
            behind += weights.get(aim.name, 1.0) * (aim.sign * (best / 2 - value / 2) / span)
        return -behind, *(value for name, value in signed.items() if not weights.get(name, 1.0))


def given_up(
    chosen: Mapping[str, Any], others: Sequence[Mapping[str, Any]], aims: Sequence[Aim]
) -> list[dict[str, Any]]:
    """For each of `aims` by how much the best of `others` is better than `chosen`, and which that is.

    What is shown as equal is no loss. Each has its `trial`, and the `means` of its fresh runs by the metrics' names;
    one that lacks a metric does not count for it.
    """
    found = []
    for aim in aims:
        known = [one for one in others if aim.name in one["means"]]
        if not known:
            continue
        best = max(known, key=lambda one: aim.sign * one["means"][aim.name])
        by = aim.sign * (best["means"][aim.name] - chosen["means"][aim.name])
        if by > 0 and number(best["means"][aim.name]) != number(chosen["means"][aim.name]):
            found.append({"metric": aim.name, "by": by, "trial": best["trial"], "means": dict(best["means"])})
    return found


def shown(values: Mapping[str, float], aims: Sequence[Aim]) -> str:
    """`accuracy 0.9812, latency_ms 0.31`: `values` by the metrics' names, as far as they are known."""
    return ", ".join(f"{aim.name} {number(values[aim.name])}" for aim in aims if aim.name in values)
