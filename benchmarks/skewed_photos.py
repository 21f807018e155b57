"""Skewed photographs: does a search for balanced accuracy pick another configuration than one for accuracy?

The pictures of photo_sets.py, whose features Podium computes once (`preset photos`). In each split one class, another
one each time, is cut to a tenth of its training and validation images. The same trials are ranked by both metrics, as
`search` does; the best three of each are trained on three fresh seeds, and the best mean decides, as in `select`. What
each metric has picked is then trained on training and validation images, three times, and predicts the test images.
These keep all images of the rare class: the balanced accuracy is the same number then, less by chance; in the accuracy
each of them counts a tenth.

Each arm is a set of trials: without a remedy, with train.balance loss or sampling in all of them, and all three.

    python benchmarks/skewed_photos.py --work FOLDER     (a folder of photo_accuracy.py; the images are prepared there)

What is in the folder is not done again: a run that was interrupted goes on with the next split.

The experiment that docs/decisions/2026-11-30-skewed-photos.md declares, on splits that were not looked at before:

    python benchmarks/skewed_photos.py --work FOLDER --first 8 --splits 20 --arm "all three" --name skewed_photos_more
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

from measuring import parser, publish, table
from photo_accuracy import SALTS, prepared
from photo_sets import CACHE
from podium.api import load_params
from podium.components import Choice
from podium.config.recipe import Recipe
from podium.data.dataset import DatasetInfo
from podium.data.image_files import read_files
from podium.metrics import scores
from podium.models.networks import ImageSpec
from podium.training import features
from podium.training.batches import Batches
from podium.training.loop import TrainingRun

PARTS = 7
"""Of the images one part is the test set, one the validation images."""
RARE = 0.1
"""What is left of the rare class's training and validation images."""
METRICS = ("accuracy", "balanced_accuracy")
BALANCES = ("none", "loss", "sampling")
ARMS = {"none": ("none",), "loss": ("loss",), "sampling": ("sampling",), "all three": BALANCES}
TOP, SEEDS = 3, 3
"""select.top_k and select.seeds; as many retrainings."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fresh:
    """One training of a configuration: the figures of its last epoch, and its test predictions."""

    figures: dict[str, float]
    predicted: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, eq=False)
class World:
    """One split of the pictures."""

    recipes: Sequence[Recipe]
    images: ImageSpec
    train: Batches
    val: Batches
    both: Batches
    test: Batches
    rare: int
    known: dict[tuple[int, str, int], Fresh] = field(default_factory=dict)

    def run(self, number: int, purpose: str, seed: int) -> Fresh:
        """Configuration `number` trained on `seed`; for the purpose `final` on both, predicting the test images."""
        key = number, purpose, seed
        if key not in self.known:
            metrics = [scores.of(Choice(name=name)) for name in METRICS]
            own = 1000 * self.rare + {"search": 0, "select": 100, "final": 200}[purpose] + seed
            run = TrainingRun(self.recipes[number], self.images, own, CPU, metrics[0], metrics[1:])
            final = purpose == "final"
            history = run.train(self.both if final else self.train, None if final else self.val)
            self.known[key] = Fresh(dict(history[-1]), self._predicted(run) if final else None)
        return self.known[key]

    def _predicted(self, run: TrainingRun) -> np.ndarray[Any, Any]:
        found = features.of_images(run.model, self.test, run.fast, mirrored=run.recipe.model.flip_average)
        if found is None:
            raise SystemExit("skewed_photos: the features are not cached")
        with torch.inference_mode():
            return np.asarray(features.head_of(run.result)(found.images).argmax(1))

    def picked(self, metric: str, arm: Sequence[int]) -> tuple[int, int]:
        """What `metric` picks of the configurations `arm`: by the search alone, and after the fresh seeds."""
        name = f"val_{metric}"

        def order(number: int) -> tuple[float, float]:
            found = self.run(number, "search", 0).figures
            return -found[name], found["val_loss"]

        best = sorted(arm, key=order)[:TOP]
        means = {n: fmean(self.run(n, "select", seed).figures[name] for seed in range(SEEDS)) for n in best}
        return best[0], max(best, key=lambda n: means[n])

    def tested(self, number: int) -> dict[str, float]:
        """The test figures of a configuration, the mean of its retrainings."""
        labels, count = self.test.labels.numpy(), int(self.test.labels.max()) + 1
        rows = []
        for seed in range(SEEDS):
            predicted = np.asarray(self.run(number, "final", seed).predicted)
            rows.append([float((predicted[labels == k] == k).mean()) for k in range(count)])
        recalls = np.mean(rows, 0)
        share = np.bincount(labels) * np.where(np.arange(count) == self.rare, RARE, 1.0)
        accuracy = float(recalls @ share / share.sum())
        return {"accuracy": accuracy, "balanced_accuracy": float(recalls.mean()), "rare": float(recalls[self.rare])}


def main() -> None:
    """Measure, print and write the table."""
    made = parser(__doc__)
    made.add_argument("--work", type=Path, default=CACHE / "work", help="folder of photo_accuracy.py")
    made.add_argument("--first", type=int, default=0, help="split, from 0")
    made.add_argument("--splits", type=int, default=8, help="how many")
    made.add_argument("--minutes", type=float, default=1e9, help="after which no further split is begun")
    made.add_argument("--arm", choices=ARMS, action="append", help="all of them otherwise")
    made.add_argument("--name", default="skewed_photos", help="of the file in docs/benchmarks")
    made.add_argument("--configurations", type=int, default=16, help="each with the three values of train.balance")
    options = made.parse_args()
    splits, count = (1, 2) if options.quick else (options.splits, options.configurations)
    until, arms = time.monotonic() + 60 * options.minutes, options.arm or list(ARMS)
    wanted = range(options.first, options.first + splits)
    torch.set_num_threads(1)
    work = options.work.resolve()
    os.chdir(prepared(work, "photos", SALTS[0], "photos").folder)
    done = work / f"{options.name}-{count}.jsonl"
    rows = [json.loads(line) for line in done.read_text(encoding="utf-8").splitlines()] if done.exists() else []
    rows = [row for row in rows if row["split"] in wanted]
    for split, world in _worlds([one for one in wanted if one not in {row["split"] for row in rows}], _recipes(count)):
        if time.monotonic() > until:
            break
        own = []
        for arm in arms:
            row = _row(world, [3 * one + BALANCES.index(b) for one in range(count) for b in ARMS[arm]])
            own.append({"split": split, "rare": world.images.names[world.rare], "arm": arm} | row)
            print(own[-1], flush=True)
        rows += own
        with done.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in own)
    publish(options.name, _shown(rows), {"configurations": count, "rows": rows}, quick=options.quick)


def _recipes(count: int) -> list[Recipe]:
    """Configurations drawn from the preset's space, each with every value of train.balance."""
    params, draw = load_params("params.yaml"), np.random.default_rng(0)
    found = []
    for _ in range(count):
        values: dict[str, Any] = {}
        for name, one in params.search.space.items():
            low, high = float(one.low), float(one.high)  # type: ignore[arg-type] # the preset's have both
            value = float(np.exp(draw.uniform(np.log(low), np.log(high))) if one.log else draw.uniform(low, high))
            values[name] = round(value) if isinstance(one.low, int) else value
        found += [params.recipe().replace(values | {"train.balance": balance}) for balance in BALANCES]
    return found


def _worlds(splits: Sequence[int], recipes: Sequence[Recipe]) -> Iterator[tuple[int, World]]:
    info = DatasetInfo.read(Path("data/prepared"))
    folders = [Path("data/prepared/train"), Path("data/prepared/val"), Path("data/sealed/test")]
    parts = [tuple(np.load(one / f"{what}.npy") for what in ("images", "labels")) for one in folders]
    images, labels = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    whole = Batches(torch.from_numpy(images), torch.from_numpy(labels), "all of skewed_photos")
    files = [one for folder, part in zip(folders, parts, strict=True) for one in read_files(folder, len(part[1]))]
    _, group = np.unique([one.group for one in files], return_inverse=True)
    for split in splits:
        rare = split % len(info.classes)
        divider = StratifiedGroupKFold(PARTS, shuffle=True, random_state=split)
        held = [rows for _, rows in divider.split(labels[:, None], labels, group)]
        learn = [np.concatenate(held[2:]), held[1]]
        draw = np.random.default_rng(split)
        train, val = (torch.from_numpy(_cut(rows, labels, rare, draw)) for rows in learn)
        both, test = torch.cat([train, val]), torch.from_numpy(held[0])
        first, second, third, fourth = (whole.taken(some) for some in (train, val, both, test))
        yield split, World(recipes, ImageSpec.of(info), first, second, third, fourth, rare)


def _cut(rows: "np.ndarray[Any, Any]", labels: "np.ndarray[Any, Any]", rare: int, draw: np.random.Generator) -> Any:
    """`rows` with a tenth of those of the class `rare`, at least one."""
    own = rows[labels[rows] == rare]
    left = draw.choice(own, max(1, round(RARE * len(own))), replace=False)
    return np.sort(np.concatenate([rows[labels[rows] != rare], left]))


def _row(world: World, arm: Sequence[int]) -> dict[str, Any]:
    """What each metric picks of `arm`, by the search alone and after the fresh seeds, and its test figures."""
    row: dict[str, Any] = {"train": int((world.train.labels == world.rare).sum())}
    picked = {metric: world.picked(metric, arm) for metric in METRICS}
    for place, how in enumerate(("search", "select")):
        for metric in METRICS:
            number = picked[metric][place]
            row[f"{how}_{metric}"] = {"configuration": number, "balance": BALANCES[number % 3]} | world.tested(number)
    return row


def _shown(rows: Sequence[dict[str, Any]]) -> str:
    """By arm how often the metrics pick differently, and how much better each pick is by each test figure."""
    lines = []
    for arm in [one for one in ARMS if any(row["arm"] == one for row in rows)]:
        own = [row for row in rows if row["arm"] == arm]
        for how in ("search", "select"):
            pairs = [[row[f"{how}_{metric}"] for metric in METRICS] for row in own]
            other = [pair for pair in pairs if pair[0]["configuration"] != pair[1]["configuration"]]
            gains = [b["balanced_accuracy"] - a["balanced_accuracy"] for a, b in other]
            cells = [
                f"{fmean(a[name] for a in side):.3f}"
                for name in ("balanced_accuracy", "rare", "accuracy")
                for side in zip(*pairs, strict=True)
            ]
            better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
            mean = sum(gains) / len(own)
            lines.append([arm, how, f"{len(other)} of {len(own)}", f"{better} / {worse}", f"{mean:+.3f}", *cells])
    head = ["train.balance", "picked by", "other pick", "better / worse", "mean gain"]
    head += [
        f"{name}: {metric}" for name in ("balanced accuracy", "rare class", "accuracy") for metric in ("acc", "bal")
    ]
    return table(head, lines)


if __name__ == "__main__":
    main()
