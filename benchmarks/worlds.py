"""What a training of any configuration would show: recorded curves, made into a mean and fresh noise.

The mean curve of a configuration is that of the nearest recorded one, smoothed over the logarithm of epochs; in the
bare space, which three numbers describe, it is a weighted mean of its neighbours. A schedule that spans the epochs is
stretched to as many as are wanted, a constant one is not. A training shows the mean, a shift that its seed has (as
far apart as two recorded seeds of one configuration are), and the jitter of another recorded training whose error is
alike; all in the logarithm of the error, rounded to whole images. So a search never sees what a configuration is worth,
and the benchmark knows it.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import curves
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.config.space import Dimension
from podium.tuning.study import exists
from problems import PROBLEMS, Problem

Array = NDArray[np.float64]
WEIGHTS = {"train.learning_rate": 3.0, "train.optimizer": 2.0}
"""How much more than the others a dimension counts in a distance: these two decide most of the accuracy."""
SMOOTH = 0.07
"""Standard deviation of the kernel over the logarithm of epochs: 3.5 of 50."""
ALIKE = 12
"""Trainings with the most similar error, of which one lends its jitter."""
WIDTHS = {"train.learning_rate": 0.16 / 4 * 3.0, "train.batch_size": 0.55 / 3}
"""Of the kernel over the bare space, in its distances: 0.16 decades of the rate, 0.55 doublings of the batch."""
SEEDS_OF = {"digits": "bare_again", "bare": "bare_again"}
"""A table without second seeds borrows the spread of them from another of the same images."""


@dataclass(frozen=True)
class World:
    """A problem as its table knows it."""

    problem: Problem
    params: SearchParams
    base: Recipe
    table: tuple[curves.Curve, ...]
    """A training of each configuration, those that reached their last epoch."""
    images: int
    """Validation images."""

    @staticmethod
    def open(name: str) -> "World":
        """Read a problem's table."""
        problem = PROBLEMS[name]
        params = problem.params()
        table = tuple(one for one in curves.load(name) if one.seed == 0 and one.number >= 0 and one.accuracy)
        return World(problem, params.search, params.recipe(), table, _images(table))

    @cached_property
    def places(self) -> Array:
        """Each configuration's position, (configurations, features)."""
        return np.array([self.place(one.recipe) for one in self.table])

    @cached_property
    def smooth(self) -> list[Array]:
        """The logarithm of each configuration's error, by epoch, without jitter."""
        return [smoothed(self.log_error(np.array(one.accuracy))) for one in self.table]

    @cached_property
    def best(self) -> float:
        """The best value that any configuration is truly worth, at a number of epochs that the space allows."""
        return max(self._worth(one.recipe) for one in self.table if len(one.accuracy) == one.recipe.train.epochs)

    def _worth(self, recipe: Recipe) -> float:
        mean = self.mean(recipe)
        return float(mean[_shortest(self) - 1 :].max() if _is_constant(recipe) else mean[-1])

    def log_error(self, accuracy: Array) -> Array:
        """Logarithm of the error, half an image added."""
        return np.asarray(np.log(1 - accuracy + 0.5 / self.images))

    def mean(self, recipe: Recipe) -> Array:
        """What `recipe` is worth after each epoch on average over seeds; shorter where its training diverges."""
        return np.asarray(np.clip(1 + 0.5 / self.images - np.exp(self._mean_log(recipe)), 0, 1))

    def _mean_log(self, recipe: Recipe) -> Array:
        whole = recipe.train.epochs
        place = self.place(recipe)
        if self.problem.name == "bare":
            scale = np.array([WIDTHS.get(name, np.inf) for name in sorted(self.params.space)])
            away = (((self.places - place) / scale) ** 2).sum(axis=1)
            weights = np.exp(-0.5 * (away - away.min()))
            known = np.array([_to(one, curves.LONGEST) for one in self.smooth])
            return np.asarray((weights / weights.sum()) @ known)[:whole]
        row = self._nearest(recipe, place)
        recorded = self.table[row].recipe
        if _is_constant(recipe):
            return _to(self.smooth[row], whole if self._ended(row) else min(whole, len(self.smooth[row])))
        steps = np.maximum(1, np.round(np.arange(1, whole + 1) * recorded.train.epochs / whole)).astype(int)
        return np.asarray(self.smooth[row][steps[steps <= len(self.smooth[row])] - 1])

    def _ended(self, row: int) -> bool:
        return len(self.table[row].accuracy) == self.table[row].recipe.train.epochs

    def _nearest(self, recipe: Recipe, place: Array) -> int:
        """The nearest recorded configuration; of a constant schedule, epochs count only where it has too few."""
        away = np.abs(self.places - place).sum(axis=1)
        if _is_constant(recipe):
            column = sorted(self.params.space).index("train.epochs")
            column = sum(_width(self.params.space[name]) for name in sorted(self.params.space)[:column])
            away -= np.abs(self.places - place)[:, column]
            away += np.maximum(0.0, place[column] - self.places[:, column])
        return int(away.argmin())

    def training(self, recipe: Recipe, seed: int) -> Array:
        """What one training shows, by epoch; shorter than its epochs where it diverges."""
        random = np.random.default_rng(seed)
        mean = self._mean_log(recipe)
        level = mean[-1] if len(mean) else 0.0
        order = np.argsort([abs(one[-1] - level) for one in self.smooth], kind="stable")[:ALIKE]
        row = int(random.choice(order))
        jitter = self.log_error(np.array(self.table[row].accuracy)) - self.smooth[row]
        at = np.minimum(np.arange(len(mean)) * len(jitter) // max(1, len(mean)), len(jitter) - 1)
        shown = mean + jitter[at] + random.normal(0.0, self.seed_spread)
        accuracy = np.clip(1 + 0.5 / self.images - np.exp(shown), 0, 1)
        return np.asarray(np.round(accuracy * self.images) / self.images)

    @cached_property
    def seed_spread(self) -> float:
        """Standard deviation between seeds, of the logarithm of the error: of the better half of the configurations."""
        other = SEEDS_OF.get(self.problem.name, self.problem.name)
        world = self if other == self.problem.name else World.open(other)
        ends: dict[int, list[float]] = {}
        for one in curves.load(other):
            if len(one.accuracy) == one.recipe.train.epochs:
                ends.setdefault(one.number, []).append(float(smoothed(world.log_error(np.array(one.accuracy)))[-1]))
        pairs = sorted((sum(two), abs(two[0] - two[1])) for two in ends.values() if len(two) == 2)
        if not pairs:
            raise SystemExit(
                f"{other}: no configuration was recorded on two seeds: python benchmarks/curves.py {other}"
            )
        good = [gap for _, gap in pairs[: (len(pairs) + 1) // 2]]
        return float(np.sqrt(np.mean(np.square(good)) / 2))

    def seconds(self, recipe: Recipe) -> float:
        """Seconds of a core for an epoch: the median of those with the same optimizer and batch."""
        key = _cost_key(recipe)
        return self._seconds.get(key) or median(self._seconds.values())

    @cached_property
    def _seconds(self) -> dict[tuple[str, int], float]:
        found: dict[tuple[str, int], list[float]] = {}
        for one in self.table:
            found.setdefault(_cost_key(one.recipe), []).append(one.seconds)
        return {key: median(those) for key, those in found.items()}

    def place(self, recipe: Recipe) -> Array:
        """The position of `recipe`: every dimension from 0 to its weight, a named choice as one place of many."""
        fields, found = recipe.flat(), list[float]()
        for name, dimension in sorted(self.params.space.items()):
            weight = WEIGHTS.get(name, 1.0)
            if _width(dimension) > 1:
                found += [weight / 2 * (fields[name] == choice) for choice in dimension.values()]
                continue
            low, high = min(map(float, dimension.values())), max(map(float, dimension.values()))
            scale: Any = np.log if dimension.log or name == "train.batch_size" else float
            there = exists(dimension, recipe)
            found.append(
                weight * (scale(float(fields[name])) - scale(low)) / (scale(high) - scale(low)) if there else weight / 2
            )
        return np.array(found)


def smoothed(values: Array) -> Array:
    """`values` by epoch, averaged over neighbours on a logarithmic scale of epochs."""
    at = np.log(np.arange(1, len(values) + 1))
    kernel = np.exp(-0.5 * ((at[:, None] - at[None]) / SMOOTH) ** 2)
    return np.asarray(kernel @ values / kernel.sum(axis=1))


def _to(curve: Array, epochs: int) -> Array:
    """`curve` for so many epochs: beyond its end it stays as it is."""
    return curve[np.minimum(np.arange(epochs), len(curve) - 1)]


def _width(dimension: Dimension) -> int:
    """Features that a dimension has."""
    named = dimension.choices is not None and isinstance(dimension.choices[0], str)
    return len(dimension.values()) if named else 1


def _is_constant(recipe: Recipe) -> bool:
    return recipe.train.schedule.name == "constant"


def _cost_key(recipe: Recipe) -> tuple[str, int]:
    return recipe.train.optimizer.name, recipe.train.batch_size


def _shortest(world: World) -> int:
    return int(min(map(float, world.params.space["train.epochs"].values())))


def _images(table: tuple[curves.Curve, ...]) -> int:
    """How many validation images the accuracies are fractions of: the smallest number that fits all."""
    values = np.unique([value for one in table for value in one.accuracy])
    for count in range(10, 5_000):  # beyond, four decimals do not tell
        if np.abs(values * count - np.round(values * count)).max() < count * 0.6e-4:
            return count
    raise SystemExit("the accuracies are no fractions of one number of images")
