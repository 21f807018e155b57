"""A picture of where challenger and champion differ: the sealed images that exactly one of them answers rightly."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from podium.metrics.plots import save_figure, short
from podium.promotion.verdict import Change

COLUMNS = 8
ROWS = 3
"""Rows of images for each of the two directions; the rest are counted."""


def draw(path: Path, changed: tuple[Change, ...], images: NDArray[np.uint8]) -> None:
    """Write the picture of `changed`, at least one, to `path`; `images` are the sealed ones, (N, C, H, W) uint8."""
    gained = [change for change in changed if change.challenger == change.label]
    lost = [change for change in changed if change.challenger != change.label]
    groups = [
        (f"{len(gained)} that only the challenger gets right", gained, "#2f855a"),
        (f"{len(lost)} that only the champion gets right", lost, "#c53030"),
    ]
    heights = [max(1, -(-min(len(group), COLUMNS * ROWS) // COLUMNS)) for _, group, _ in groups]
    figure = Figure(figsize=(1.15 * COLUMNS, 1.5 * sum(heights) + 1.0), layout="constrained")
    parts = np.asarray(figure.subfigures(2, 1, height_ratios=heights)).ravel()
    for part, (title, group, color), rows in zip(parts, groups, heights, strict=True):
        hidden = len(group) - COLUMNS * ROWS
        part.suptitle(title + (f" ({hidden} of them not shown)" if hidden > 0 else ""), color=color, fontsize=11)
        cells = np.asarray(part.subplots(rows, COLUMNS, squeeze=False)).ravel()
        for axes in cells:
            axes.set_axis_off()
        for axes, change in zip(cells, group, strict=False):
            axes.imshow(_pixels(images[change.index]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(_caption(change), fontsize=7, parse_math=False)
    save_figure(figure, path)


def _caption(change: Change) -> str:
    names = (short(change.label), short(change.challenger), short(change.champion))
    return "is {}\nnew: {}\nold: {}".format(*names)


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
