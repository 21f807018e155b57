"""What becomes of a trial that trains no further: its result, and whether that keeps what it is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from podium.config import aims, limits
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.training.epochs import Epoch
from podium.tuning.feasibility import COSTS, MEASURED
from podium.tuning.shared_epochs import best_epoch, dimension_of


@dataclass(frozen=True)
class Ending:
    """The result of a trial and its judgement."""

    figures: Mapping[str, float]
    """What search.limits may look at: its costs, and where it has a result the metrics of that epoch."""
    epoch: int | None = None
    """The epoch, from 1, that the result is of; None: there is none, and the trial is pruned."""
    values: tuple[float, ...] = ()
    """Of each metric that is searched for."""
    shared: bool = False
    """Whether the epoch was chosen: one training serves all values of `train.epochs`."""
    problem: str = ""
    """Why a trial with a result fails: that lacks what search.limits or search.metric looks at."""
    over: str = ""
    """The limits that it breaks, in words."""

    @property
    def is_result(self) -> bool:
        """Whether the trial is complete and keeps the limits."""
        return self.epoch is not None and not self.problem and not self.over


def ending_of(
    trial: FrozenTrial,
    recipe: Recipe,
    history: Sequence[Epoch],
    params: SearchParams,
    direction: StudyDirection,
    *,
    whole: bool,
) -> Ending:
    """What becomes of `trial`, which trained `recipe` for the epochs of `history`; `whole`: its last epoch has ended.

    What Podium measured of the module that an own training loop returned counts, not what that has reported.
    Where one training serves all values of `train.epochs`, it is complete from the smallest of them on. `direction` is
    that of the first metric.
    """
    costs = trial.user_attrs.get(COSTS, {})
    wanted = params.aims
    dimension = dimension_of(params, recipe)
    if dimension is None:
        found = (len(history), history[-1].get(wanted[0].key)) if whole and history else None
    else:
        known = {epoch: value for epoch, value in trial.intermediate_values.items() if epoch <= len(history)}
        found = best_epoch(known, dimension, direction)
    if found is None:
        return Ending(costs, over=limits.described(limits.of_costs(params.limits), costs))
    epoch, value = found
    measured = trial.user_attrs.get(MEASURED, {}) if dimension is None else {}
    value = measured.get(wanted[0].key, value)
    figures = {**costs, **history[epoch - 1], **measured}
    values = aims.values(wanted, figures) if len(wanted) > 1 or value is None else [value]
    judged = limits.excess(params.limits, figures)
    problem = ""
    if missing := [name for name in params.limits if name not in judged]:
        problem = f"search.limits: its last epoch has no {', '.join(missing)}"
    elif isinstance(values, str):
        problem = f"search.metric: its last epoch has no {values}"
    told = () if isinstance(values, str) else tuple(values)
    return Ending(figures, epoch, told, dimension is not None, problem, limits.described(params.limits, figures))
