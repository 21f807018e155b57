"""Epochs spent until a search has the best: random, TPE, TPE with each pruner, and real promotion, replayed.

Nothing is trained. A proposed configuration gets the curve of the nearest one in a recorded table (curves.py),
stretched to its number of epochs, so a search of a hundred trials takes a second and twenty seeds are affordable. One
worker.

  random, tpe     every trial to its last epoch
  tpe + <pruner>  Optuna's pruners as search.pruner names them; what is pruned never goes on
  one epoch       every configuration for one epoch, then the best of them to their end, best first
  asha, pasha     real promotion (Li et al. 2020; Bohdal et al. 2023): what stops at a rung is kept, and goes on from
                  there when its rung promotes it
  shipped         params.yaml as it stands, its first guess included

    python benchmarks/fidelity.py --seconds digits    (bare, letters, photos, icons: problems.py)

simulates the seconds of two workers instead, with the search's own drivers and fresh noise: simulation.py. --slower 10
is what trainings would show that take ten times as long; --limit ends a search.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

import curves
import simulation
import worlds
from measuring import ROOT, axes, parser, publish, table
from podium.components import Choice
from podium.config.params import SearchParams, load
from podium.config.recipe import Recipe
from podium.tuning.study import ask, build_pruner, distribution, exists, point, suggest
from problems import PROBLEMS
from promotion import Ladder, Paused

Spent = tuple[int, float]
"""Epochs trained so far, and the value of a trial that then came to its end."""
WEIGHTS = {"train.learning_rate": 3.0, "train.optimizer": 2.0}
"""How much more than the others a dimension counts in a distance: these two decide most of the accuracy."""
TARGETS = {"best": 0.001, "one image less": 0.0047}
"""How far below the table's best value a search may stay: 0.1 point, and one of 271 images more."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10, help="replays of each (default 10)")
    options.add_argument("--trials", type=int, default=200, help="trials of each at most (default 200)")
    options.add_argument("--only", help="some of the strategies, with commas")
    options.add_argument("--seconds", metavar="PROBLEM", help="simulate seconds on this problem, without a first guess")
    options.add_argument("--slower", type=float, help="--seconds: how many times as long an epoch takes (default 1)")
    options.add_argument("--limit", type=float, help="--seconds: of a search at most (default 400)")
    arguments = options.parse_args()
    if problem := _wrong(arguments):
        options.error(problem)
    arguments.slower, arguments.limit = arguments.slower or 1.0, arguments.limit or 400.0
    if arguments.quick:
        arguments.seeds, arguments.trials, arguments.limit = 2, 20, 30.0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments.seconds:
        seconds(arguments)
        return
    world = World.open()
    named = strategies(world)
    chosen = arguments.only.split(",") if arguments.only else list(named)
    found = {name: replay(world, named[name], arguments) for name in chosen}
    text = f"{len(world.table)} configurations, best {world.best:.4f}; {arguments.seeds} seeds\n" + tell(
        found, arguments
    )
    publish("fidelity", text, {"best": world.best, "searches": found}, draw(found, arguments), quick=arguments.quick)


def _wrong(arguments: argparse.Namespace) -> str:
    """What can't be done with these arguments; empty: nothing."""
    problem, recorded = arguments.seconds, [name for name in PROBLEMS if curves.table(name).is_file()]
    if problem is not None and problem not in recorded:
        return f"--seconds must be one of {', '.join(recorded)}, which benchmarks/curves.py recorded; got {problem}"
    for name in ("slower", "limit"):
        value = getattr(arguments, name)
        if value is not None and problem is None:
            return (
                f"--{name} goes with --seconds PROBLEM only; got --{name} {value:g} without it: add it, or leave it out"
            )
        if value is not None and not 0 < value < float("inf"):
            return f"--{name} must be a number above 0; got {value:g}"
    known = list(simulation.SEARCHES) if problem is not None else list(strategies(World.open()))
    if wrong := [name for name in (arguments.only or "").split(",") if arguments.only and name not in known]:
        return f"--only must name some of {', '.join(known)}, with commas; got {', '.join(wrong)}"
    return ""


def seconds(arguments: argparse.Namespace) -> None:
    """Simulated searches of one problem, seed by seed."""
    world, limit = worlds.World.open(arguments.seconds), arguments.limit * arguments.slower
    names = arguments.only.split(",") if arguments.only else list(simulation.SEARCHES)
    found: dict[str, list[simulation.Outcome]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:
            search = simulation.SEARCHES[name]
            found[name].append(simulation.simulate(world, search, seed, limit=limit, slower=arguments.slower))
        print(f"seed {seed}: " + ", ".join(f"{name} {those[-1].had}" for name, those in found.items()), flush=True)
    text = (
        f"{world.problem.name}: {world.problem.about}; {len(world.table)} configurations, best {world.best:.4f}"
        f" ({world.images} images); {arguments.seeds} seeds up to {limit:g} s; epochs {arguments.slower:g} x as long"
        f"\nquartile / median / quartile\n{simulation.rows_of(found)}"
    )
    content = {"best": world.best, "seed_spread": world.seed_spread,
               "searches": {name: [asdict(one) for one in those] for name, those in found.items()}}  # fmt: skip
    slower = "" if arguments.slower == 1 else f"_x{arguments.slower:g}"
    publish(f"fidelity_{world.problem.name}{slower}", text, content, quick=arguments.quick)


@dataclass(frozen=True)
class World:
    """The table, and the search that params.yaml describes."""

    table: tuple[curves.Curve, ...]
    params: SearchParams
    base: Recipe
    places: Any
    """(configurations, dimensions): each one's position in the space."""

    @staticmethod
    def open() -> "World":
        """Read the table and params.yaml."""
        params = load(ROOT / "params.yaml")
        table = tuple(curve for curve in curves.load() if curve.accuracy)
        places = np.array([_place(curve.recipe, params.search) for curve in table])
        return World(table, params.search, params.recipe(), places)

    @property
    def best(self) -> float:
        """The best value of a configuration that was trained to its end."""
        return max(curve.accuracy[-1] for curve in self.table if len(curve.accuracy) == curve.recipe.train.epochs)

    def curve(self, recipe: Recipe) -> list[float]:
        """The values of `recipe` after each of its epochs; shorter where the training failed."""
        nearest = self.table[int(np.abs(self.places - _place(recipe, self.params)).sum(axis=1).argmin())]
        whole, recorded = recipe.train.epochs, nearest.recipe.train.epochs
        steps = [max(1, round(epoch * recorded / whole)) for epoch in range(1, whole + 1)]
        return [nearest.accuracy[step - 1] for step in steps if step <= len(nearest.accuracy)]


def _place(recipe: Recipe, params: SearchParams) -> Any:
    """The position of `recipe` in the space: every dimension from 0 to its weight, a choice as one place of many."""
    fields, place = recipe.flat(), []
    for name, dimension in sorted(params.space.items()):
        weight = WEIGHTS.get(name, 1.0)
        if dimension.choices is not None and isinstance(dimension.choices[0], str):
            place += [weight / 2 * (fields[name] == choice) for choice in dimension.choices]
            continue
        low, high = (min(dimension.values()), max(dimension.values()))
        log = dimension.log or name == "train.batch_size"
        scale: Callable[[Any], float] = np.log if log else float
        there = exists(dimension, recipe)
        place.append(
            weight * (scale(fields[name]) - scale(low)) / (scale(high) - scale(low)) if there else 0.5 * weight
        )
    return np.array(place)


Strategy = Callable[[int, int], Iterator[Spent]]
"""(seed, trials) to what was spent when."""


def strategies(world: World) -> dict[str, Strategy]:
    """Every search that is compared."""
    plain = world.params.model_copy(update={"defaults_first": False, "pruner": Choice(name="none")})
    made: dict[str, Strategy] = {
        "random": partial(pruned, world, plain.model_copy(update={"sampler": Choice(name="random")})),
        "tpe": partial(pruned, world, plain),
        "one epoch": partial(one_epoch, world, plain),
    }
    for pruner in ("median", "halving", "hyperband"):
        made[f"tpe + {pruner}"] = partial(pruned, world, plain.model_copy(update={"pruner": Choice(name=pruner)}))
    for sampler in ("random", "tpe"):
        searched = plain.model_copy(update={"sampler": Choice(name=sampler)})
        made[f"{sampler} + asha"] = partial(promoted, world, searched, False)
    made["tpe + pasha"] = partial(promoted, world, plain, True)
    made["shipped"] = partial(pruned, world, world.params)
    return made


def pruned(world: World, params: SearchParams, seed: int, trials: int) -> Iterator[Spent]:
    """Optuna's way: a trial goes on until it is pruned for good."""
    params = params.model_copy(update={"seed": seed})
    study = optuna.create_study(direction="maximize", pruner=build_pruner(params))
    if params.defaults_first:
        study.enqueue_trial(_start(world, params))
    spent = 0
    for _ in range(trials):
        trial = ask(study, params)
        recipe = suggest(trial, params, world.base)
        values = world.curve(recipe)
        for epoch, value in enumerate(values, 1):
            spent += 1
            trial.report(value, epoch)
            if epoch < recipe.train.epochs and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            if len(values) < recipe.train.epochs:
                study.tell(trial, state=TrialState.FAIL)
                continue
            study.tell(trial, values[-1])
            yield spent, values[-1]


def _start(world: World, params: SearchParams) -> dict[str, Any]:
    values = point(params.space, world.base, world.base)
    assert not isinstance(values, str), values
    return dict(values)


def one_epoch(world: World, params: SearchParams, seed: int, trials: int) -> Iterator[Spent]:
    """The baseline of Egele et al. 2023: one epoch says enough."""
    params = params.model_copy(update={"seed": seed})
    study = optuna.create_study(direction="maximize")
    found = []
    for _ in range(trials):
        trial = ask(study, params)
        recipe = suggest(trial, params, world.base)
        values = world.curve(recipe)
        study.tell(trial, values[0] if values else 0.0)
        found.append((values[0] if values else 0.0, recipe, values))
    spent = trials
    for _, recipe, values in sorted(found, key=lambda one: -one[0]):
        spent += recipe.train.epochs - 1
        if len(values) == recipe.train.epochs:
            yield spent, values[-1]


def promoted(world: World, params: SearchParams, progressive: bool, seed: int, trials: int) -> Iterator[Spent]:
    """Real promotion: what stops at a rung goes on from there as soon as its rung promotes it."""
    params = params.model_copy(update={"seed": seed})
    rungs = params.made("pruner", Choice(name="halving"))
    ladder = Ladder(max(1, rungs.pruner_warmup), rungs.pruner_factor, progressive)
    paused: list[Paused] = []
    spent = 0
    while True:
        one = ladder.promote(paused)
        if one is None:
            if len(paused) >= trials:
                return
            recipe = _propose(world, params, paused)
            one = Paused(len(paused), recipe, world.curve(recipe))
            paused.append(one)
        spent += ladder.train(one)
        if one.whole:
            yield spent, one.values[-1]


def _propose(world: World, params: SearchParams, paused: list[Paused]) -> Recipe:
    """What the sampler asks for next, when what has stopped is to it what a pruned trial is."""
    study = optuna.create_study(direction="maximize")
    for one in paused:
        at = point(params.space, one.recipe, world.base)
        assert not isinstance(at, str), at
        values = dict(enumerate(one.values[: one.epochs], 1))
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if one.whole else TrialState.PRUNED,
                value=one.values[one.epochs - 1] if one.epochs else 0.0,
                params=at,
                distributions={name: distribution(name, params.space[name]) for name in at},
                intermediate_values=values,
            )
        )
    return suggest(ask(study, params), params, world.base)


def replay(world: World, strategy: Strategy, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """For each seed: the best so far over the epochs spent, until the table's best is there."""
    found = []
    for seed in range(arguments.seeds):
        best, spent, steps = 0.0, 0, []
        for spent, value in strategy(seed, arguments.trials):
            if value > best:
                best = value
                steps.append((spent, round(value, 4)))
            if best >= world.best - TARGETS["best"]:
                break
        had = {name: next((at for at, v in steps if v >= world.best - gap), None) for name, gap in TARGETS.items()}
        found.append({"seed": seed, "had": had, "spent": spent, "steps": steps})
    return found


def tell(found: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> str:
    """A row a strategy: median epochs to each target (a seed that never had it counts as infinite), and how often."""
    rows = []
    for name, runs in found.items():
        row: list[str] = [name]
        for target in TARGETS:
            had = [run["had"][target] if run["had"][target] is not None else float("inf") for run in runs]
            reached = sum(value < float("inf") for value in had)
            low, high = np.percentile(had, [25, 75], method="nearest")
            row += [f"{median(had):.0f} ({low:.0f} to {high:.0f})", f"{reached} of {len(runs)}"]
        rows.append(row)
    head = ["search", *[part for target in TARGETS for part in (f"epochs to {target} (quartiles)", "reached")]]
    return table(head, rows)


def draw(found: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> Any:
    """The median best so far over the epochs spent."""
    figure, drawn = axes(8, 4.5)
    grid = np.unique(np.geomspace(20, 6000, 120).astype(int))
    for index, (name, runs) in enumerate(found.items()):
        best = [[max((v for at, v in run["steps"] if at <= epochs), default=0.0) for run in runs] for epochs in grid]
        drawn.step(grid, [median(values) for values in best], where="post", label=name, color=f"C{index}")
    drawn.set(xscale="log", xlabel="epochs trained", ylabel="best validation accuracy, median")
    drawn.set_ylim(0.93, 1.0)
    drawn.legend(fontsize=8, loc="lower right")
    return figure


if __name__ == "__main__":
    main()
