"""One training that serves every value of `train.epochs`.

Where nothing in a configuration depends on how many epochs there will be (a constant learning rate, no own training
loop), its first n epochs are a training of n epochs, bit for bit. So `train.epochs` is no dimension of it: it trains to
the largest value, and each value of the dimension on the way is a result.

Which one counts is decided by smoothed values: the single highest of forty epochs is mostly luck.
"""

from collections.abc import Mapping
from statistics import fmean

from optuna.study import StudyDirection

from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.space import Dimension, Value

EPOCHS = "train.epochs"
WINDOW = 5
"""Epochs whose mean is the value of the last of them."""
BEST = "best_epoch"
"""User attribute of a completed trial that serves all values of the dimension: the number of epochs that it is for."""


def dimension_of(params: SearchParams, recipe: Recipe) -> Dimension | None:
    """The dimension of `train.epochs` where one training of `recipe` serves all its values, else None.

    A dimension that exists for some configurations only, or that others depend on, is asked for as any other is.
    """
    dimension = params.space.get(EPOCHS)
    if dimension is None or not params.shares_epochs or dimension.when or recipe.train.uses_total():
        return None
    return None if any(EPOCHS in other.when for other in params.space.values()) else dimension


def longest(dimension: Dimension) -> int:
    """The largest number of epochs in `dimension`."""
    return max(int(value) for value in dimension.values())


def allowed(dimension: Dimension, epochs: int) -> list[int]:
    """The values of `dimension` up to `epochs`, in order."""
    if dimension.choices is not None:
        return sorted(int(value) for value in dimension.choices if int(value) <= epochs)
    return list(range(_whole(dimension.low), min(_whole(dimension.high), epochs) + 1, _whole(dimension.step or 1)))


def _whole(value: Value | None) -> int:
    return int(value or 0)


def smoothed(values: Mapping[int, float], epoch: int) -> float:
    """The mean of the last WINDOW of `values` (by epoch, from 1) until `epoch`."""
    return fmean(values[e] for e in range(max(1, epoch - WINDOW + 1), epoch + 1) if e in values)


def best_epoch(
    values: Mapping[int, float], dimension: Dimension, direction: StudyDirection
) -> tuple[int, float] | None:
    """The number of epochs, out of `dimension`, with the best smoothed value, and that value; the fewest of equal ones.

    `values`: the metric by epoch, from 1, as far as it was trained. None: not as far as the smallest number.
    """
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    trained = max(values, default=0)
    found = {epoch: smoothed(values, epoch) for epoch in allowed(dimension, trained)}
    if not found:
        return None
    best = max(found, key=lambda epoch: (sign * found[epoch], -epoch))
    return best, found[best]
