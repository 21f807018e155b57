"""Recorded learning curves: configurations of the spaces of problems.py, each trained to its last epoch.

    python benchmarks/curves.py letters --count 100

trains what is missing of benchmarks/curves/letters.csv and adds it line by line, so that it may be killed and go on.
Configurations follow from their number. A constant schedule is trained for the largest number of epochs: its training
serves all values. Every fifth configuration is trained on a second seed too: how far seeds are apart is part of the
table. `fidelity.py` replays searches on it. Two tables are of an earlier Podium, without second
seeds: the digits' and bare, which a prototype recorded on a grid. How far seeds are apart there is taken of bare_again.
"""

import argparse
import contextlib
import csv
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from photo_sets import CACHE
from podium.config.recipe import Recipe
from podium.config.space import Dimension, is_whole
from problems import PROBLEMS, SAME_SPACE, Problem

TABLES = Path(__file__).with_name("curves")
AGAIN = 5
"""Every so many configurations have a second seed."""
LONGEST = 50
"""Epochs of a constant schedule."""


@dataclass(frozen=True)
class Curve:
    """One configuration, trained to its last epoch, or until it diverged."""

    number: int
    recipe: Recipe
    accuracy: tuple[float, ...]
    """On the validation images, after each epoch."""
    seconds: float
    """Of one core, for an epoch."""
    seed: int = 0
    """Which training of this configuration, from 0."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", choices=list(PROBLEMS))
    parser.add_argument("--count", type=int, help="configurations in all (default: as many as the problem has)")
    parser.add_argument("--work", type=Path, default=CACHE / "problems", help="folder for the images")
    arguments = parser.parse_args()
    problem = PROBLEMS[arguments.problem]
    record(problem, problem.recorded if arguments.count is None else arguments.count, arguments.work)


@cache
def load(name: str = "digits") -> tuple[Curve, ...]:
    """Every curve of a problem's table."""
    params = PROBLEMS[name].params()
    base, space = params.recipe(), params.search.space
    with table(name).open(newline="", encoding="utf-8") as file:
        return tuple(_read(row, base, space) for row in csv.DictReader(file))


def table(name: str) -> Path:
    """The file of a problem's table."""
    return TABLES / f"{name}.csv"


def record(problem: Problem, count: int, work: Path) -> None:
    """Train the configurations of `problem` below `count` that its table does not have."""
    import torch

    from podium.tuning.work import TrialData

    torch.set_num_threads(1)
    done = {(curve.number, curve.seed) for curve in load(problem.name)} if table(problem.name).is_file() else set()
    data = TrialData.load(problem.prepared(work), torch.device("cpu"))
    with contextlib.chdir(work / problem.name):  # where cached features lie
        for number in sorted(range(count), key=lambda number: number % AGAIN > 0):  # those with two seeds first
            for seed in (0, 1) if number % AGAIN == 0 else (0,):
                if (number, seed) not in done:
                    _append(problem, _train(problem, number, seed, data))
            print(f"{problem.name}: configuration {number} of {count}", flush=True)


def configuration(problem: Problem, number: int) -> Recipe:
    """Configuration `number` of `problem`, drawn at random: the same for all that have the default space."""
    import optuna

    from podium.tuning.study import suggest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    params = problem.params()
    whole = PROBLEMS["digits"].params().search if problem.name in SAME_SPACE else params.search
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    drawn = suggest(study.ask(), whole, params.recipe()).replace(_left_out(problem, params.recipe()))
    return drawn.replace({"train.epochs": LONGEST}) if drawn.train.schedule.name == "constant" else drawn


def _left_out(problem: Problem, base: Recipe) -> dict[str, Any]:
    return {name: base.flat()[name] for name in problem.without}


def _train(problem: Problem, number: int, seed: int, data: Any) -> Curve:
    from podium.training.loop import DivergedError, TrainingRun

    recipe = configuration(problem, number)
    run = TrainingRun(recipe, data.images, 1000 * seed + number, data.device)
    started = time.process_time()
    with suppress(DivergedError):  # what it had until then is its curve
        run.train(data.train, data.val)
    seconds = (time.process_time() - started) / max(1, len(run.history))
    return Curve(number, recipe, tuple(epoch["val_accuracy"] for epoch in run.history), seconds, seed)


def _append(problem: Problem, curve: Curve) -> None:
    path, fields = table(problem.name), curve.recipe.flat()
    row: dict[str, Any] = {"number": curve.number, "seed": curve.seed}
    row |= {name: _shown(fields.get(name, "")) for name in sorted(problem.params().search.space)}
    row |= {"seconds": f"{curve.seconds:.4f}", "val_accuracy": " ".join(f"{value:.4f}" for value in curve.accuracy)}
    fresh = not path.is_file()
    path.parent.mkdir(exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _read(row: dict[str, str], base: Recipe, space: dict[str, Dimension]) -> Curve:
    values: dict[str, Any] = {}
    for name in sorted(space, key=lambda name: bool(space[name].when)):
        if row.get(name) and all(values.get(other) in wanted for other, wanted in space[name].when.items()):
            values[name] = _value(name, space[name], row[name])
    accuracy = tuple(float(value) for value in row["val_accuracy"].split())
    return Curve(int(row["number"]), base.replace(values), accuracy, float(row["seconds"]), int(row.get("seed", 0)))


def _value(name: str, dimension: Dimension, text: str) -> Any:
    if dimension.choices is not None:
        return next(one for one in dimension.choices if str(one) == text)
    return int(text) if is_whole(name, dimension) else float(text)


if __name__ == "__main__":
    main()
