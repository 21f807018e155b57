"""The history of a training run, epoch by epoch."""

import csv
from collections.abc import Sequence
from pathlib import Path

Epoch = dict[str, float]
"""A finished epoch: epoch (from 1), train_loss, learning_rate, seconds, and val_loss, val_accuracy where validated."""

COLUMNS = ("epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate")
"""What of an epoch is the same whenever it is trained again: its seconds are not."""


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write `history` as CSV, one row an epoch."""
    columns = [name for name in COLUMNS if any(name in epoch for epoch in history)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**epoch, "epoch": int(epoch["epoch"])} for epoch in history)
