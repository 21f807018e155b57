"""What ten more metrics cost an epoch: whole epochs with and without them in turns, in one training.

python benchmarks/metric_cost.py             writes docs/benchmarks/metric_cost.md; some minutes
python benchmarks/metric_cost.py --pairs 20  a first look

Processor time of one thread, so what else runs on the machine costs little of it. The ten metrics are logged and
nothing is decided by them, as `evaluate.metrics` in a search: those of quick epochs are computed together, after at
most five seconds of training. A turn of the head has 40 epochs, whose metrics are computed at its end, else it has one.
Two turns after each other, one of them with the ten metrics, make a pair, and which of them comes first alternates: a
drift of the machine or of the training cancels. The interval is that of the median of the pairs' ratios, by the
bootstrap.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_digits

from podium.components import Choice
from podium.config.recipe import Recipe
from podium.metrics import scores
from podium.models.networks import ImageSpec
from podium.training.batches import Batches
from podium.training.loop import TrainingRun

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks/metric_cost.md"
NAMES = (
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "min_recall",
    "auroc",
    "average_precision",
    "brier",
    "calibration_error",
    "mcc",
    "kappa",
)
RESAMPLES = 2000
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What is trained, and how many pairs of turns of it are measured."""

    title: str
    data: Callable[[], tuple[Batches, Batches]]
    settings: dict[str, object]
    pairs: int
    turn: int = 1
    """Epochs: after the last one all metrics are complete."""


def digits() -> tuple[Batches, Batches]:
    """scikit-learn's digits: 1,530 to train on, 267 to validate."""
    found = load_digits()
    images = torch.from_numpy((found.images[:, None] * 15.9).astype("uint8"))
    return _divided(images, torch.from_numpy(found.target.astype("int64")), 267)


def drawn(count: int, classes: int, shape: tuple[int, int, int], validation: int) -> tuple[Batches, Batches]:
    """Images of noise: what they show costs no time."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=draw)
    return _divided(images, torch.arange(count) % classes, validation)


def _divided(images: torch.Tensor, labels: torch.Tensor, validation: int) -> tuple[Batches, Batches]:
    parts = (slice(validation, None), slice(validation))
    train, val = (Batches(images[part], labels[part]) for part in parts)
    return train, val


HEAD = {
    "model.name": "timm:tf_efficientnet_lite0",
    "model.weights": "imagenet",
    "model.flip_average": True,
    "train.backbone_rate": 0.0,
    "train.ema": 0.95,
}
"""Of the preset photos."""
CASES = (
    Case("digits, 10 classes, default network, 1,530 + 267 images", digits, {}, 60),
    Case(
        "100 classes, default network, 3,400 + 600 images of 8x8",
        lambda: drawn(4000, 100, (1, 8, 8), 600),
        {},
        30,
    ),
    Case(
        "`preset photos`: a head on cached features, 8 classes, 330 + 70 images",
        lambda: drawn(400, 8, (3, 64, 64), 70),
        HEAD,
        40,
        40,
    ),
)


def turns(case: Case, pairs: int) -> list[tuple[float, float]]:
    """Processor seconds of an epoch with accuracy alone and of one with ten metrics more, of each pair."""
    train, val = case.data()
    classes = tuple(map(str, range(int(train.labels.max()) + 1)))
    channels, height, width = train.images[torch.arange(1)].shape[1:]
    images = ImageSpec((channels, height, width), len(classes), (0.3,) * channels, (0.3,) * channels, classes)
    recipe = Recipe().replace(case.settings | {"train.epochs": 2 * pairs * case.turn + 1})
    run = TrainingRun(recipe, images, 0, CPU, scores.of(Choice(name="accuracy")))
    ten = [scores.of(Choice(name=name)) for name in NAMES]
    taken: list[float] = []
    began = time.process_time()

    def on_epoch(run: TrainingRun) -> None:
        nonlocal began
        if (run.epoch - 1) % case.turn == 0:  # the first epoch allocates, and computes the features
            run.metrics.complete(run.history, run.notes)
            taken.append((time.process_time() - began) / case.turn)
            run.metrics.later = ten if _has_ten(len(taken)) else []
            began = time.process_time()

    run.train(train, val, on_epoch=on_epoch)
    found = []
    for first in range(1, len(taken), 2):
        both = taken[first : first + 2]
        found.append((both[1], both[0]) if _has_ten(first) else (both[0], both[1]))
    return found


def _has_ten(turn: int) -> bool:
    """Whether turn `turn` of a training, from 0, has the ten metrics: 1, 4, 5, 8, 9 and so on."""
    return turn % 4 in (0, 1)


def row(case: Case, pairs: int) -> str:
    """Measured, as a row of the table."""
    found = turns(case, pairs)
    ratios = np.array([ten / alone for alone, ten in found])
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, 1), (0.025, 0.975))
    alone, ten = (1000 * median(one[place] for one in found) for place in (0, 1))
    share = f"{100 * (np.median(ratios) - 1):+.2f}% ({100 * (low - 1):+.2f} to {100 * (high - 1):+.2f}%)"
    return f"| {case.title} | {len(found)} | {alone:.2f} ms | {ten:.2f} ms | {share} |"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, help="of turns, of each training; writes nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        rows.append(row(case, arguments.pairs or case.pairs))
        print(rows[-1], flush=True)
    lines = [
        "# What ten metrics cost",
        "",
        "Written by `python benchmarks/metric_cost.py`: an epoch, validation included, with accuracy alone and with"
        f" {', '.join(NAMES)} besides, in turns within one training; processor time of one thread, load"
        f" {os.getloadavg()[0]:.0f}. In brackets the 95 % interval of the median of the pairs' ratios.",
        "",
        "| trained | pairs | an epoch with accuracy alone | with ten metrics more | longer by |",
        "|---|---|---|---|---|",
        *rows,
    ]
    if not arguments.pairs:
        OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
