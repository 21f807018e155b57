"""The search space as Optuna sees it, and a trial's parameters as a recipe."""

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from podium.config.dimension import Dimension, Value
from podium.config.recipe import Recipe
from podium.tuning.optuna_private import contains
from podium.tuning.unread import is_unread


def suggest(trial: optuna.Trial, space: dict[str, Dimension], base: Recipe) -> Recipe:
    """Ask `trial` for a value of every dimension that exists, and return `base` with those values in place."""
    recipe = base
    for name in ordered(space):
        if exists(space[name], recipe):
            recipe = recipe.replace({name: _suggest(trial, name, distribution(name, space[name]))})
    return recipe


def ordered(space: dict[str, Dimension]) -> list[str]:
    """The dimensions' names, those that depend on others last: the order in which values are asked for."""
    return sorted(space, key=lambda name: (bool(space[name].when), name))


def exists(dimension: Dimension, recipe: Recipe) -> bool:
    """Whether `dimension` exists for the fields of `recipe`."""
    fields = recipe.flat()
    return all(fields[other] in values for other, values in dimension.when.items())


def distribution(name: str, dimension: Dimension) -> BaseDistribution:
    """The Optuna distribution of `dimension` for the field `name`: whole numbers where the field is one."""
    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if isinstance(Recipe().flat()[name], int):
        return IntDistribution(int(low or 0), int(high or 0), log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low or 0), float(high or 0), log=dimension.log, step=step)


def point(space: dict[str, Dimension], recipe: Recipe, base: Recipe) -> dict[str, Value] | str:
    """The values of `space` at which it gives `recipe`; where it can't, a sentence that says why.

    Where a dimension does not exist, its field is that of `base`. Fields that the training leaves unread may differ.
    """
    fields, fixed = recipe.flat(), base.flat()
    values: dict[str, Value] = {}
    for name, value in fields.items():
        if name in space and exists(space[name], recipe):
            if not contains(distribution(name, space[name]), value):
                return f"{name} {value!r} is outside the space"
            values[name] = value
        elif value != fixed[name] and not is_unread(name, recipe):
            return f"{name} is {fixed[name]!r} now and was {value!r}"
    return values


def _suggest(trial: optuna.Trial, name: str, spread: BaseDistribution) -> Any:
    if isinstance(spread, CategoricalDistribution):
        return trial.suggest_categorical(name, spread.choices)
    if isinstance(spread, IntDistribution):
        return trial.suggest_int(name, spread.low, spread.high, step=spread.step, log=spread.log)
    if isinstance(spread, FloatDistribution):
        return trial.suggest_float(name, spread.low, spread.high, step=spread.step, log=spread.log)
    raise TypeError(f"{name}: {spread} is no distribution of the search")
