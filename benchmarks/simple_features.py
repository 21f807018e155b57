"""What one describes a picture with who has no network: edges (HOG) and colours. NumPy only."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CELL = 8
"""Pixels of a cell's side."""
BINS = 9
"""Directions of an edge, 0 to 180 degrees."""
LEVELS = 4
"""Of each channel in the histogram of colours."""
GRID = 4
"""Parts of each side, of whose mean colours the rest is made."""


def described(images: Array) -> Array:
    """(N, F) float32 features of (N, 3, H, W) uint8 images, H and W at least 2 cells."""
    return np.concatenate([_edges(images), _colours(images), _places(images)], 1).astype(np.float32)


def _edges(images: Array) -> Array:
    """Histograms of oriented gradients (N. Dalal and B. Triggs, CVPR 2005): blocks of 2 x 2 cells, of norm 1."""
    count, _, height, width = images.shape
    rows, columns = height // CELL, width // CELL
    grey = images.astype(np.float32).mean(1)[:, : rows * CELL, : columns * CELL] / 255
    down, right = np.gradient(grey, axis=(1, 2))
    kinds = (np.arctan2(down, right) % np.pi / np.pi * BINS).astype(int) % BINS
    strength = np.hypot(down, right)
    cells = np.stack([np.where(kinds == one, strength, 0) for one in range(BINS)], -1)
    cells = cells.reshape(count, rows, CELL, columns, CELL, BINS).sum((2, 4))
    parts = [cells[:, i : rows - 1 + i, j : columns - 1 + j] for i in (0, 1) for j in (0, 1)]
    blocks = np.concatenate(parts, -1)
    norm = np.sqrt((blocks**2).sum(-1, keepdims=True)) + 1e-3
    found: Array = (blocks / norm).reshape(count, -1)
    return found


def _colours(images: Array) -> Array:
    """The fraction of the pixels of each colour, square roots of it: (N, LEVELS ** 3)."""
    levels = (images.astype(int) * LEVELS) >> 8
    codes = (levels[:, 0] * LEVELS + levels[:, 1]) * LEVELS + levels[:, 2]
    counts = np.stack([np.bincount(one.ravel(), minlength=LEVELS**3) for one in codes])
    found: Array = np.sqrt(counts / codes[0].size)
    return found


def _places(images: Array) -> Array:
    """Mean colours of the parts of a grid: (N, 3 * GRID ** 2)."""
    height, width = (side // GRID * GRID for side in images.shape[2:])
    parts = images[:, :, :height, :width].astype(np.float32) / 255
    parts = parts.reshape(len(images), 3, GRID, height // GRID, GRID, width // GRID)
    means: Array = parts.mean((3, 5)).reshape(len(images), -1)
    return means
