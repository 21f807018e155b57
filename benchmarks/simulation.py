"""Seconds until a search has what holds on fresh seeds: its own driver over recorded curves, a second a search.

Two simulated workers; start-up, handing a trial over and the driver's own time for a decision count. What is
compared is the product: drivers, samplers, pruners, the model of the curves. What is looked up is what a training
shows (worlds.py): the mean of its configuration with fresh noise. So it is known what a choice is worth on fresh seeds.

  seen        the search has a value within one validation image of the best: mostly the luck of many draws
  one image   one of its three best is truly within one image of the best, on the mean of all seeds: `select` trains
              these again on fresh seeds, and chooses from them
  best        one of its three best is truly the best

The best is the highest mean of any recorded configuration.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import InMemoryStorage

from measuring import table
from podium.config.params import RuntimeParams, SearchParams
from podium.config.recipe import Recipe
from podium.config.space import Dimension
from podium.training.epochs import Epoch
from podium.tuning.driver import Driver
from podium.tuning.freeze_thaw.thaw_driver import ThawDriver
from podium.tuning.messages import Task
from podium.tuning.shared_epochs import best_epoch, dimension_of
from podium.tuning.starts import START
from podium.tuning.study import open_study
from simulated_pool import SimulatedPool
from worlds import World

SEARCHES: dict[str, dict[str, Any]] = {
    "tpe + median": {"sampler": "tpe", "pruner": "median"},
    "tpe + halving": {"sampler": "tpe", "pruner": "halving"},
    "random + halving": {"sampler": "random", "pruner": "halving"},
    "shared random + halving": {"sampler": "random", "pruner": "halving", "shared_epochs": True},
    "shared tpe + median": {"sampler": "tpe", "pruner": "median", "shared_epochs": True},
    "thaw": {"method": "thaw", "timeout": 1e9},
}
"""What is compared, as values of the section search."""
DECISION = {"optuna": 0.015, "thaw": 0.04}
"""Seconds of the driver for a task: what trial_cost.py measured for a trial, and that with the model of the curves."""
TOP = 3
"""Configurations that are confirmed."""
TARGETS = {"seen": 1.27, "one image": 1.27, "best": 0.27}
"""By how many validation images the best may be missed: of the digits' 271 these are 0.0047 and 0.001."""
COUNTS = "one image"
"""The target by which searches are compared."""
Enqueued = Sequence[dict[str, Any]]
"""Configurations that a search begins with, by dimension."""


@dataclass
class Outcome:
    """A simulated search."""

    seed: int
    had: dict[str, float] = field(default_factory=dict)
    """Seconds to each target; one that was not reached is missing."""
    seconds: float = 0.0
    trials: int = 0
    epochs: int = 0
    processor: float = 0.0
    """Processor seconds of the driver per task that it handed out."""
    held: float = 0.0
    """What the last choice is truly worth."""


class Incumbents:
    """What a search would choose, as it goes, and what that is worth."""

    def __init__(self, world: World, params: SearchParams, outcome: Outcome) -> None:
        self._world, self._params, self._outcome = world, params, outcome
        self._targets = {name: world.best - images / world.images for name, images in TARGETS.items()}
        self._values: dict[int, tuple[float, float]] = {}
        """Of each trial that has a result: its value, and what that is worth."""
        self._known: dict[int, tuple[Recipe, Dimension | None, NDArray[np.float64]]] = {}
        """Of each trial its configuration, the dimension all of whose values it serves, and its mean curve."""

    def seen(self, at: float, task: Task, history: list[Epoch]) -> None:
        """An epoch has ended."""
        if task.number not in self._known:
            recipe = Recipe.model_validate(task.recipe)
            self._known[task.number] = recipe, dimension_of(self._params, recipe), self._world.mean(recipe)
        recipe, dimension, mean = self._known[task.number]
        if dimension is None:
            found = (len(history), history[-1]["val_accuracy"]) if len(history) == recipe.train.epochs else None
        else:
            values = {int(epoch["epoch"]): epoch["val_accuracy"] for epoch in history}
            found = best_epoch(values, dimension, optuna.study.StudyDirection.MAXIMIZE)
        if found is None or (task.number in self._values and self._values[task.number][0] == found[1]):
            return
        self._values[task.number] = found[1], float(mean[found[0] - 1])
        ranked = sorted(self._values.values(), key=lambda one: -one[0])[:TOP]
        worth = max(worth for _, worth in ranked)
        self._outcome.held = ranked[0][1]
        for name, value in {"seen": ranked[0][0], "one image": worth, "best": worth}.items():
            if value >= self._targets[name] - 1e-9:
                self._outcome.had.setdefault(name, at)


def simulate(
    world: World, search: dict[str, Any], seed: int, *, limit: float, slower: float = 1.0, workers: int = 2,
    enqueued: Enqueued = (),
) -> Outcome:  # fmt: skip
    """One search of at most `limit` seconds, or until it has all targets; each epoch takes `slower` times as long."""
    changes = {"n_trials": 100_000, "seed": seed, "max_failures": 100_000} | search
    params = SearchParams.model_validate(world.params.model_dump(exclude_unset=True) | changes)
    outcome = Outcome(seed)
    incumbents = Incumbents(world, params, outcome)
    pool = SimulatedPool(
        workers, lambda recipe, s: (world.training(recipe, s), slower * world.seconds(recipe)),
        DECISION[params.method], incumbents.seen,
    )  # fmt: skip
    study = open_study(InMemoryStorage(), "simulated", params, {})
    for values in enqueued:
        study.enqueue_trial(values, {START: "portfolio"})
    driver = ThawDriver if params.method == "thaw" else Driver

    def stopping() -> bool:
        return pool.now >= limit or len(outcome.had) == len(TARGETS)

    started = time.process_time()
    driver(study, pool, params, RuntimeParams(), world.base, Path("nowhere"), [], stopping).run()
    outcome.processor = (time.process_time() - started) / max(1, pool.handed)
    return replace(outcome, seconds=pool.now, trials=len(study.get_trials(deepcopy=False)), epochs=pool.epochs)


def seconds_of(outcomes: Sequence[Outcome], target: str) -> list[float]:
    """Each search's seconds to a target; infinite where it was not reached."""
    return [one.had.get(target, float("inf")) for one in outcomes]


def rows_of(found: dict[str, list[Outcome]], beside: str = "tpe + median") -> str:
    """A row a search: quartiles of the seconds to each target, how often it was reached, and the ratio of medians."""
    rows = []
    for name, outcomes in found.items():
        row = [name]
        for target in TARGETS:
            times = seconds_of(outcomes, target)
            low, high = np.percentile(times, [25, 75], method="nearest")
            reached = sum(np.isfinite(times))
            row.append(f"{low:.0f} / {median(times):.0f} / {high:.0f} ({reached} of {len(times)})")
        ours, theirs = (median(seconds_of(found[one], COUNTS)) if one in found else np.nan for one in (name, beside))
        row += [f"{ours / theirs:.2f}", _p(found, name, beside), f"{1000 * median(o.processor for o in outcomes):.0f}"]
        rows.append(row)
    head = ["search", *(f"{target}, s" for target in TARGETS), f"{COUNTS}: of {beside}'s", "p", "ms a task"]
    return table(head, rows)


def _p(found: dict[str, list[Outcome]], name: str, beside: str) -> str:
    """Wilcoxon's signed ranks over the seeds, of the seconds to what counts; what was not reached ties at the limit."""
    from scipy.stats import wilcoxon

    if name == beside or beside not in found:
        return ""
    ours, theirs = (
        [min(at, one.seconds) if np.isfinite(at) else one.seconds
         for at, one in zip(seconds_of(found[which], COUNTS), found[which], strict=True)]
        for which in (name, beside)
    )  # fmt: skip
    return "" if ours == theirs else f"{wilcoxon(ours, theirs).pvalue:.3g}"
