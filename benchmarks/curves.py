"""A recorded table of learning curves: configurations of the default space on the digits, each trained to its end.

`python benchmarks/curves.py --count 300` trains what is missing of benchmarks/curves.csv (some seconds of one core a
configuration) and adds it line by line, so that it may be killed and go on. Configurations follow from their number.
`fidelity.py` replays searches on it in a second each.
"""

import argparse
import csv
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from podium.config.recipe import Recipe

TABLE = Path(__file__).with_suffix(".csv")
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Curve:
    """One configuration, trained to its last epoch."""

    number: int
    recipe: Recipe
    accuracy: tuple[float, ...]
    """On the validation images, after each epoch."""
    seconds: float
    """Of one core, for an epoch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="configurations in all (default 300)")
    arguments = parser.parse_args()
    record(arguments.count)


@cache
def load() -> tuple[Curve, ...]:
    """Every curve of the table."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(_read(row) for row in csv.DictReader(file))


def columns() -> list[str]:
    """The names in the table's first line."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def record(count: int) -> None:
    """Train the configurations below `count` that the table does not have."""
    import torch

    from podium.tuning.work import TrialData

    torch.set_num_threads(1)
    done = {curve.number for curve in load()} if TABLE.is_file() else set()
    with tempfile.TemporaryDirectory() as folder:
        material = TrialData.load(_prepare(Path(folder)), torch.device("cpu"))
        for number in (n for n in range(-1, count) if n not in done):
            _append(_train(number, material))
            print(f"{number + 1} of {count}", flush=True)


def configuration(number: int) -> Recipe:
    """Configuration `number`: drawn at random from the default space; -1 is the one that a search tries first."""
    import optuna

    from podium.config.params import load as load_params
    from podium.tuning.study import suggest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    params = load_params(ROOT / "params.yaml")
    if number < 0:
        return params.recipe()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return suggest(study.ask(), params.search, params.recipe())


def _train(number: int, material: Any) -> Curve:
    from podium.training.loop import DivergedError, TrainingRun

    recipe = configuration(number)
    run = TrainingRun(recipe, material.images, number, material.device)
    started = time.process_time()
    with suppress(DivergedError):  # what it had until then is its curve
        run.train(material.train, material.val)
    seconds = (time.process_time() - started) / max(1, len(run.history))
    return Curve(number, recipe, tuple(epoch["val_accuracy"] for epoch in run.history), seconds)


def _prepare(folder: Path) -> Path:
    from podium.config.params import DoctorParams, PrepareParams
    from podium.stages import prepare

    prepare.prepare(PrepareParams(), DoctorParams(), folder / "prepared", folder / "sealed", folder / "decoded")
    return folder / "prepared"


def _append(curve: Curve) -> None:
    row = {"number": curve.number, **curve.recipe.flat(), "seconds": round(curve.seconds, 4)}
    row["val_accuracy"] = " ".join(f"{value:.4f}" for value in curve.accuracy)
    fresh = not TABLE.is_file()
    with TABLE.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        elif columns() != list(row):
            raise SystemExit(f"{TABLE} was recorded by another Podium, with other columns: remove it and record anew")
        writer.writerow(row)


def _read(row: dict[str, str]) -> Curve:
    defaults = Recipe().flat()
    values: dict[str, Any] = {
        name: row[name] == "True" if isinstance(default, bool) else type(default)(row[name])
        for name, default in defaults.items()
        if name in row
    }
    accuracy = tuple(float(value) for value in row["val_accuracy"].split())
    return Curve(int(row["number"]), Recipe().replace(values), accuracy, float(row["seconds"]))


if __name__ == "__main__":
    main()
