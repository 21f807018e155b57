"""The sampler and the pruner of a search, each made anew for every trial: all they know is the study and a seed."""

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from podium.config.params import SearchParams
from podium.training.seeds import derive


class NamedDraws(BaseSampler):
    """A sampler with a seed of its own for each parameter that is drawn alone.

    A trial that was killed between two of its draws is asked for the missing ones only: they must not follow from
    how many came before.
    """

    def __init__(self, build: Callable[[int], BaseSampler], *name: str | int) -> None:
        self._build = build
        self._name = name
        self._together = build(derive(*name))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The dimensions that are drawn together."""
        space: dict[str, BaseDistribution] = self._together.infer_relative_search_space(study, trial)
        return space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Their values."""
        values: dict[str, Any] = self._together.sample_relative(study, trial, search_space)
        return values

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one that is drawn alone."""
        alone = self._build(derive(*self._name, param_name))
        return alone.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """What some samplers do before the first draw, such as choosing a point of a grid."""
        self._together.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """What some samplers do when a trial has ended, such as recording constraints."""
        self._together.after_trial(study, trial, state, values)


def build_sampler(params: SearchParams, number: int) -> BaseSampler:
    """The sampler for trial `number`: its seed follows from the study's seed and that number alone.

    So a search that was killed asks the same again.
    """
    return NamedDraws(params.component("sampler").build, params.seed, "ask", number)


def build_pruner(params: SearchParams) -> BasePruner:
    """The pruner that `params` names."""
    dimension = params.space.get("train.epochs")
    longest = None if dimension is None else max(int(value) for value in dimension.values())
    pruner: BasePruner = params.component("pruner").build(longest)
    return pruner
