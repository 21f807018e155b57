"""The sampler and the pruner of a search, each made anew for every trial: all they know is the study and a seed."""

import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

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


def build_sampler(params: SearchParams, number: int) -> BaseSampler:
    """The sampler for trial `number`: its seed follows from the study's seed and that number alone.

    So a search that was killed asks the same again. Every option on which a proposal depends is named: Optuna's
    defaults have changed before. TPE: Bergstra et al. 2011; multivariate: Falkner et al. 2018.
    """
    return NamedDraws(lambda seed: _sampler(params, seed), params.seed, "ask", number)


def _sampler(params: SearchParams, seed: int) -> BaseSampler:
    if params.sampler == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` (dimensions that exist for some configurations only) is marked experimental; it is what we need.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(
            n_startup_trials=params.startup_trials,
            n_ei_candidates=24,
            seed=seed,
            multivariate=True,
            group=True,
            constant_liar=True,
        )


def build_pruner(params: SearchParams) -> BasePruner:
    """The pruner that `params` names. halving: Jamieson and Talwalkar 2016; hyperband: Li et al. 2018."""
    if params.pruner == "median":
        return MedianPruner(n_startup_trials=params.pruner_startup, n_warmup_steps=params.pruner_warmup)
    rung = max(1, params.pruner_warmup)
    if params.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=rung, reduction_factor=params.pruner_factor)
    if params.pruner == "hyperband":
        dimension = params.space.get("train.epochs")
        longest = "auto" if dimension is None else max(int(value) for value in dimension.values())
        return HyperbandPruner(min_resource=rung, max_resource=longest, reduction_factor=params.pruner_factor)
    return NopPruner()
