"""The search space as Optuna sees it, and a trial's parameters as a recipe."""

from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from podium import components
from podium.config.recipe import Recipe
from podium.config.space import Dimension, Value, is_whole, type_of


def suggest(trial: optuna.Trial, space: dict[str, Dimension], base: Recipe) -> Recipe:
    """Ask `trial` for a value of every dimension that exists, and return `base` with those values in place."""
    values: dict[str, Any] = {}
    known = base.flat()
    for name in ordered(space):
        if all((known | values).get(other) in wanted for other, wanted in space[name].when.items()):
            values[name] = _suggest(trial, name, distribution(name, space[name]))
    return base.replace(values)


def ordered(space: dict[str, Dimension]) -> list[str]:
    """The dimensions' names, those that depend on others last: the order in which values are asked for."""
    return sorted(space, key=lambda name: (bool(space[name].when), name))


def exists(dimension: Dimension, recipe: Recipe) -> bool:
    """Whether `dimension` exists for the fields of `recipe`."""
    fields = recipe.flat()
    return all(fields.get(other) in values for other, values in dimension.when.items())


def distribution(name: str, dimension: Dimension) -> BaseDistribution:
    """The Optuna distribution of `dimension` for the field `name`: whole numbers where the field is one."""
    if dimension.choices is not None:
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    if is_whole(name, dimension):
        return IntDistribution(int(low or 0), int(high or 0), log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low or 0), float(high or 0), log=dimension.log, step=step)


def point(space: dict[str, Dimension], recipe: Recipe, base: Recipe) -> dict[str, Value] | str:
    """The values of `space` at which it gives `recipe`; where it can't, a sentence that says why.

    Where a dimension does not exist, its field is that of `base`. Fields that the training leaves unread may differ.
    """
    fields = _switched_off(space, recipe) | recipe.flat()
    values: dict[str, Value] = {}
    for name, value in fields.items():
        if name in space and exists(space[name], recipe):
            if not contains(distribution(name, space[name]), value):
                return outside(name, value, space[name])
            values[name] = value
    now = base.replace(values).flat()
    for name, value in fields.items():
        if name not in values and now.get(name) != value and (value or name in now):
            return f"{name} is {now.get(name)!r} now and was {value!r}"
    return values


def _switched_off(space: dict[str, Dimension], recipe: Recipe) -> dict[str, Value]:
    """The augmentations of the space that `recipe` says nothing of: they are off."""
    switches = (f"train.{name}" for name in components.declared("augmentation"))
    return {name: type_of(name)() for name in switches if name in space and name not in recipe.flat()}


def outside(name: str, value: Any, dimension: Dimension) -> str:
    """That `value` of the field `name` is not in its dimension."""
    if dimension.choices is not None:
        return f"{value} is not among the choices of {name}"
    return f"{name} {value!r} is outside of {dimension.low} to {dimension.high}"


def contains(spread: BaseDistribution, value: Value) -> bool:
    """Whether the distribution may give `value`."""
    try:
        return bool(spread._contains(spread.to_internal_repr(value)))
    except (ValueError, TypeError):  # a choice that the distribution does not have
        return False


def _suggest(trial: optuna.Trial, name: str, spread: BaseDistribution) -> Any:
    if isinstance(spread, CategoricalDistribution):
        return trial.suggest_categorical(name, spread.choices)
    if isinstance(spread, IntDistribution):
        return trial.suggest_int(name, spread.low, spread.high, step=spread.step, log=spread.log)
    if isinstance(spread, FloatDistribution):
        return trial.suggest_float(name, spread.low, spread.high, step=spread.step, log=spread.log)
    raise TypeError(f"{name}: {spread} is no distribution of the search")
