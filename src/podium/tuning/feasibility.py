"""Which trials keep `search.limits`: Optuna has each limit as a constraint, so its samplers avoid what breaks one."""

from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.config import limits as rules
from podium.config.params import SearchParams
from podium.tracking.pareto_front import is_feasible
from podium.tuning.shared_epochs import BEST

COSTS, OVER = "costs", "over_limits"
"""User attributes of a trial: what its network costs, and the limits that it breaks, in words."""
MEASURED = "measured"
"""User attribute of a trial with an own training loop: the figures of the module that it returned."""
ANEW = "measures_latency"
"""User attribute of a fresh run of a known configuration: its latency is measured again, not taken from another run."""


def figures(trial_attributes: Mapping[str, Any]) -> dict[str, float]:
    """What the limits judge of a trial by its user attributes: its costs, and the metrics of its result's epoch.

    Of an own training loop the reports count only where Podium has not measured the module that it returned.
    """
    history = trial_attributes.get("history") or [{}]
    epoch = history[trial_attributes.get(BEST, len(history)) - 1]
    return {**trial_attributes.get(COSTS, {}), **epoch, **trial_attributes.get(MEASURED, {})}


def record(trial: optuna.Trial | FrozenTrial, limits: Mapping[str, float], known: Mapping[str, float]) -> bool:
    """Record on `trial` by how much it breaks each of `limits` that is known; returns whether it keeps them."""
    found = rules.excess(limits, known)
    there = trial.constraints
    for name, value in found.items():
        if name not in there:  # a driver may have been killed before it told the study of the end
            trial.set_constraint(name, value)
    if over := rules.described(limits, known):
        trial.set_user_attr(OVER, over)
    return not over


def network_of(recipe: Mapping[str, Any]) -> str:
    """What decides the costs of a configuration, by dotted names."""
    return repr(sorted((name, value) for name, value in recipe.items() if name.startswith("model.")))


class Costs:
    """The costs of every network that a trial of a study has measured: the same network costs the same everywhere."""

    def __init__(self, study: optuna.Study, params: SearchParams) -> None:
        self._limited, self._measured = rules.of_costs(params.limits), params.costs
        self._known = costs_of(study.get_trials(deepcopy=False)) if params.limits or params.costs else {}

    def of(self, trial: optuna.Trial) -> tuple[tuple[dict[str, float], dict[str, float]], list[str]]:
        """The limits of costs that the worker refuses to train beyond, the costs that are known, and what to measure.

        A latency of its own is measured for each run that asks for it.
        """
        known = self._known.get(network_of(trial.user_attrs["recipe"]), {})
        if ANEW in trial.user_attrs and rules.LATENCY in self._measured:
            known = {}
        return (self._limited, known), self._measured

    def learn(self, trial: optuna.Trial, costs: dict[str, float]) -> None:
        """Record what a worker has measured of the network of `trial`; nothing where it measured none."""
        if costs:
            self._known.setdefault(network_of(trial.user_attrs["recipe"]), costs)
            trial.set_user_attr(COSTS, costs)


def costs_of(trials: Iterable[FrozenTrial]) -> dict[str, dict[str, float]]:
    """The costs of every network that one of `trials` has measured."""
    found: dict[str, dict[str, float]] = {}
    for trial in trials:
        if COSTS in trial.user_attrs and "recipe" in trial.user_attrs:
            found.setdefault(network_of(trial.user_attrs["recipe"]), trial.user_attrs[COSTS])
    return found


def counted(study: optuna.Study) -> str:
    """How many trials break a limit, for a sentence; empty: none."""
    over = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and not is_feasible(t)]
    untrained = sum(t.state != TrialState.COMPLETE for t in over)
    return f"{len(over)} over search.limits ({untrained} of them not trained)" if over else ""
