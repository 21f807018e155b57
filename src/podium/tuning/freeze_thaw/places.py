"""Configurations as points: drawn from a unit cube, and as features that the model of the curves compares.

A range is one feature from 0 to 1, on its own scale; so are choices that are numbers. Other choices are one feature
each, half as far apart. A dimension that does not exist for a configuration is in the middle.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.space import Dimension, is_whole
from podium.tuning.feasibility import network_of
from podium.tuning.shared_epochs import EPOCHS, dimension_of, longest
from podium.tuning.study import ordered

Array = NDArray[np.float64]
WIDE = 8
"""Choices that are positive numbers, and 0 beside them, are compared by their logarithms from this ratio of the largest
to the smallest."""
NETWORK = "model."
"""How the names of the fields begin that decide what a network costs."""
MIDDLE = 0.5
"""The feature of a number that a configuration does not have; and how far apart two names are."""


@dataclass(frozen=True)
class Place:
    """A configuration."""

    values: dict[str, Any]
    """What a trial is asked for, by dimension."""
    x: Array
    """Its features, (D,), each from 0 to 1."""
    total: int
    """Epochs of its whole training."""


class Places:
    """The configurations of one search space."""

    def __init__(self, params: SearchParams, base: Recipe) -> None:
        self._params, self._base = params, base
        self._fields = base.flat()
        self.names = ordered(params.space)
        """The dimensions, those that depend on others last."""
        self._deciding = sorted({*self.names, *(one for name in self.names for one in params.space[name].when)})
        """The dimensions, and the fields that say whether there are others."""
        self._shared: dict[tuple[Any, ...], int | None] = {}
        self._networks: dict[tuple[Any, ...], str] = {}
        self._known: dict[tuple[Any, ...], Place] = {}
        """Of trials: a search looks at all of them for every decision."""

    def at(self, cube: Array) -> Place:
        """The configuration at a point of the unit cube, (dimensions,)."""
        values: dict[str, Any] = {}
        for name, u in zip(self.names, cube, strict=True):
            dimension = self._params.space[name]
            if self._is_there(dimension, self._fields | values):
                values[name] = value_at(name, dimension, float(u))
        total = self._serves_all(values)
        fields = self._fields | values | ({} if total is None else {EPOCHS: total})
        asked = {name: value for name, value in values.items() if total is None or name != EPOCHS}
        return Place(asked, self._features(fields), int(fields[EPOCHS]))

    def of(self, recipe: Mapping[str, Any]) -> Place:
        """The configuration of a trial whose `recipe` is known by dotted names."""
        key = (recipe[EPOCHS], *(recipe.get(name) for name in self._deciding))
        if key not in self._known:
            self._known[key] = self._of(recipe)
        return self._known[key]

    def _of(self, recipe: Mapping[str, Any]) -> Place:
        space = self._params.space
        there = (name for name in self.names if name in recipe and self._is_there(space[name], recipe))
        values = {name: recipe[name] for name in there}
        return Place(values, self._features(recipe), int(recipe[EPOCHS]))

    def network(self, place: Place) -> str:
        """What decides the costs of a configuration: see feasibility."""
        key = tuple((name, value) for name, value in place.values.items() if name.startswith(NETWORK))
        if key not in self._networks:
            self._networks[key] = network_of(self._base.replace(dict(key)).flat())
        return self._networks[key]

    def costly(self, place: Place) -> Array:
        """What decides the costs of a configuration as features, each range on a logarithmic scale: costs are powers of
        widths and depths."""
        names = [name for name in self.names if name.startswith(NETWORK)]
        found = [
            one for name in names for one in features(_logarithmic(self._params.space[name]), place.values.get(name))
        ]
        return np.array(found)

    def _features(self, fields: Mapping[str, Any]) -> Array:
        found: list[float] = []
        for name in self.names:
            dimension = self._params.space[name]
            there = name in fields and self._is_there(dimension, fields)
            found += features(dimension, fields[name] if there else None)
        return np.array(found)

    @staticmethod
    def _is_there(dimension: Dimension, fields: Mapping[str, Any]) -> bool:
        return all(fields.get(other) in wanted for other, wanted in dimension.when.items())

    def _serves_all(self, values: dict[str, Any]) -> int | None:
        """The epochs of a training that serves all values of `train.epochs`; None where it does not.

        It follows from what is named and which arguments are given, no number: so it is worked out once for each.
        """
        key = tuple((name, value if isinstance(value, str | bool) else None) for name, value in values.items())
        if key not in self._shared:
            dimension = dimension_of(self._params, self._base.replace(values))
            self._shared[key] = None if dimension is None else longest(dimension)
        return self._shared[key]


def value_at(name: str, dimension: Dimension, u: float) -> Any:
    """The value of `dimension`, that of the field `name`, at the fraction `u` (0 to 1, 1 excluded) of its range."""
    if dimension.choices is not None:
        return dimension.choices[int(u * len(dimension.choices))]
    low, high = dimension.low or 0, dimension.high or 0
    if is_whole(name, dimension):
        if dimension.log:
            ends = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(ends[0] + u * (ends[1] - ends[0]))), int(low)), int(high))
        step = int(dimension.step or 1)
        return int(low) + step * int(u * ((int(high) - int(low)) // step + 1))
    if dimension.step:  # 6 times 0.1 is 0.6000000000000001, which a range up to 0.6 does not have
        return float(min(low + dimension.step * int(u * (round((high - low) / dimension.step) + 1)), high))
    if dimension.log:
        return min(max(math.exp(math.log(low) + u * (math.log(high) - math.log(low))), low), high)
    return float(low + u * (high - low))


def _logarithmic(dimension: Dimension) -> Dimension:
    """`dimension` on a logarithmic scale where it is a range above 0."""
    above = dimension.choices is None and dimension.low is not None and dimension.low > 0
    return dimension.model_copy(update={"log": True, "step": None}) if above else dimension


def features(dimension: Dimension, value: Any) -> list[float]:
    """`value` of `dimension` as the model compares it; None: the configuration does not have it."""
    choices = dimension.choices
    if choices is not None and any(isinstance(one, str | bool) for one in choices):
        return [MIDDLE * (value is not None and one == value) for one in choices]
    low, high = (float(edge(dimension.values())) for edge in (min, max))
    if value is None or low == high:
        return [MIDDLE]
    if choices is not None and low == 0 and (lowest := _below(sorted(float(one) for one in choices if one))):
        low, value = lowest, value or lowest
    log = dimension.log or (choices is not None and low > 0 and high / low >= WIDE)
    scale = math.log if log else float
    return [(scale(float(value)) - scale(low)) / (scale(high) - scale(low))]


def _below(numbers: Sequence[float]) -> float | None:
    """Where 0 stands on a logarithmic scale beside the choices `numbers`, such as 0.00001, 0.0001, 0.001: as far below
    the smallest as that is below the next. None: they are compared as they are."""
    return numbers[0] ** 2 / numbers[1] if len(numbers) > 1 and numbers[-1] / numbers[0] >= WIDE else None
