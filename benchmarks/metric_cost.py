"""What ten more metrics cost an epoch: the same training with them and without, by turns, in processor time.

python benchmarks/metric_cost.py             writes docs/benchmarks/metric_cost.md; a minute
python benchmarks/metric_cost.py --rounds 3  a first look
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits

from podium.components import Choice
from podium.config.recipe import Recipe
from podium.data.dataset import Split
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
VALIDATION = 267
CPU = torch.device("cpu")


def digits() -> tuple[Batches, Batches]:
    """scikit-learn's digits: 1,530 to train on, 267 to validate."""
    found = load_digits()
    images, labels = (found.images[:, None] * 15.9).astype("uint8"), found.target.astype("int64")
    names = tuple(map(str, range(10)))
    parts = (slice(VALIDATION, None), slice(VALIDATION))
    train, val = (Batches.of([Split("val", images[p], labels[p], names, str(p))], CPU) for p in parts)
    return train, val


def seconds(train: Batches, val: Batches, names: tuple[str, ...], seed: int, epochs: int) -> float:
    """Processor time of an epoch, validation included: the median of a few, after a first one."""
    recipe = Recipe().replace({"train.epochs": epochs + 1})
    spec = ImageSpec((1, 8, 8), 10, (0.3,), (0.3,), tuple(map(str, range(10))))
    run = TrainingRun(
        recipe, spec, seed, CPU, scores.of(Choice(name="accuracy")), [scores.of(Choice(name=n)) for n in names]
    )
    moments: list[float] = []
    run.train(train, val, on_epoch=lambda run: moments.append(time.process_time()))
    return median(after - before for before, after in pairwise(moments))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, val = digits()
    ratios, plain = [], []
    for seed in range(arguments.rounds):
        without, with_ten = (seconds(train, val, names, seed, 6) for names in ((), NAMES))
        ratios.append(with_ten / without)
        plain.append(without)
    lines = [
        "# What ten metrics cost",
        "",
        f"Written by `python benchmarks/metric_cost.py --rounds {arguments.rounds}`: an epoch of the default network on"
        f" the digits (1,530 images, {VALIDATION} to validate), with accuracy alone and with ten more metrics"
        f" ({', '.join(NAMES)}), by turns, in processor time of one thread.",
        "",
        "| epoch with accuracy alone | ratio with ten more metrics (median; range) |",
        "|---|---|",
        f"| {1000 * median(plain):.1f} ms | {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |",
    ]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[-1])


if __name__ == "__main__":
    main()
