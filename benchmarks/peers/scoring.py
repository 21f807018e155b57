"""Accuracy as Podium's `evaluate` counts it: a group of duplicates counts once. NumPy only, for every environment."""

from pathlib import Path

import numpy as np


def accuracy(right: np.ndarray, folder: Path) -> float:
    """The fraction of `right` (N,) bool, in the order of the split in `folder`; each of n duplicates counts 1/n."""
    path = folder / "duplicates.npy"
    numbers = np.load(path) if path.exists() else np.arange(len(right))
    _, group, size = np.unique(numbers, return_inverse=True, return_counts=True)
    return float(np.average(right, weights=1 / size[group]))
