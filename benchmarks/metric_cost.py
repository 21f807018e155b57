"""What ten more metrics cost an epoch: their own processor time against the epoch's, in turns in one training.

python benchmarks/metric_cost.py             writes docs/benchmarks/metric_cost.md; a minute
python benchmarks/metric_cost.py --rounds 3  a first look
"""

import argparse
import os
import time
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits

from podium.components import Choice
from podium.config.recipe import Recipe
from podium.data.dataset import Split
from podium.metrics import scores
from podium.metrics.scored import Scored
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


def turns(train: Batches, val: Batches, seed: int, epochs: int) -> list[tuple[float, float]]:
    """Processor seconds of each epoch with accuracy alone, and of ten metrics of the predictions that it ended with.

    In turns within one training, so that both are measured under the same load; the first epoch is left out.
    """
    recipe = Recipe().replace({"train.epochs": epochs + 1})
    classes = tuple(map(str, range(10)))
    run = TrainingRun(
        recipe, ImageSpec((1, 8, 8), 10, (0.3,), (0.3,), classes), seed, CPU, scores.of(Choice(name="accuracy"))
    )
    metrics = [scores.of(Choice(name=name)) for name in NAMES]
    found: list[tuple[float, float]] = []
    began = time.process_time()

    def on_epoch(run: TrainingRun) -> None:
        nonlocal began
        epoch = time.process_time() - began
        with torch.inference_mode():
            logits = [run.model.eval()(images).float() for images, _ in val.feed(torch.arange(len(val)), 64)]
            before = time.process_time()
            scored = Scored(torch.cat(logits), val.labels, classes)  # as podium.training.validation does
            for metric in metrics:
                metric.value(scored)
            found.append((epoch, time.process_time() - before))
        began = time.process_time()

    run.train(train, val, on_epoch=on_epoch)
    return found[1:]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, val = digits()
    found = [turn for seed in range(arguments.rounds) for turn in turns(train, val, seed, 10)]
    shares = sorted(ten / epoch for epoch, ten in found)
    low, middle, high = (shares[int(q * (len(shares) - 1))] for q in (0.05, 0.5, 0.95))
    lines = [
        "# What ten metrics cost",
        "",
        f"Written by `python benchmarks/metric_cost.py --rounds {arguments.rounds}`: an epoch of the default network on"
        f" the digits (1,530 images, {VALIDATION} to validate) with accuracy alone, and after each the ten metrics"
        f" {', '.join(NAMES)} of its predictions; processor time of one thread, {len(found)} turns, load"
        f" {os.getloadavg()[0]:.0f}.",
        "",
        "| epoch with accuracy alone | ten more metrics | share of the epoch (median; 5 % to 95 % of the turns) |",
        "|---|---|---|",
        f"| {1000 * median(epoch for epoch, _ in found):.1f} ms | {1000 * median(ten for _, ten in found):.2f} ms |"
        f" {100 * middle:.2f} % ({100 * low:.2f} to {100 * high:.2f} %) |",
    ]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[-1])


if __name__ == "__main__":
    main()
