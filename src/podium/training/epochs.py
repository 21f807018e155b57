"""The figures of a training run, epoch by epoch."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

Epoch = dict[str, float]
"""A finished epoch: epoch (from 1), train_loss, learning_rate, seconds, and val_loss, val_accuracy where validated."""

COLUMNS = ("epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate")
"""What of an epoch is the same whenever it is trained again: its seconds are not."""


def columns_of(histories: Iterable[Sequence[Epoch]]) -> list[str]:
    """The columns of a table of `histories`: the usual ones that occur, then other metrics by name."""
    found = {name for history in histories for epoch in history for name in epoch} - {"seconds"}
    return [name for name in COLUMNS if name in found] + sorted(found - set(COLUMNS))


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write `history` as CSV, one row an epoch."""
    columns = columns_of([history])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**epoch, "epoch": int(epoch["epoch"])} for epoch in history)
