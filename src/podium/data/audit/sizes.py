"""How large the images of a set are, and what is made of them: a histogram, and how much a crop cuts off."""

import numpy as np
from numpy.typing import NDArray

from podium.data.decode import Preprocess

EDGES = (1, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
"""Where a bar of the histogram begins, in pixels of the shorter side; the last one is open."""


def size_counts(sizes: NDArray[np.int32]) -> dict[tuple[int, int], int]:
    """How many of `sizes` (N, 2) there are of each width and height."""
    both, counts = np.unique(sizes[:, 0].astype(np.int64) << 32 | sizes[:, 1], return_counts=True)
    return {(one >> 32, one & 0xFFFFFFFF): n for one, n in zip(both.tolist(), counts.tolist(), strict=True)}


def histogram(sizes: NDArray[np.int32]) -> list[list[int]]:
    """Bars of the shorter sides of `sizes` (N, 2): [from, below, images], from the first to the last with an image.

    `below` of the open bar is 0.
    """
    counts = np.bincount(np.searchsorted(EDGES, sizes.min(1), side="right") - 1, minlength=len(EDGES))
    filled = np.flatnonzero(counts)
    ends = [*EDGES[1:], 0]
    return [[EDGES[k], ends[k], int(counts[k])] for k in range(filled[0], filled[-1] + 1)] if len(filled) else []


def about_resizing(sizes: NDArray[np.int32], spec: Preprocess) -> str:
    """What `prepare.resize` does to images of `sizes` (N, 2: width, height): a sentence with the part that it costs."""
    own = sizes[:, 0] / sizes[:, 1].astype(np.float64)
    wanted = spec.width / spec.height
    kept = np.minimum(own / wanted, wanted / own)
    other = int((kept < 1).sum())
    if not other:
        return "Every image has the ratio of sides that is prepared: nothing is cut off, padded or stretched."
    middle, most = 100 * (1 - float(np.median(kept))), 100 * (1 - float(kept.min()))
    what = {
        "crop": f"cropped to the middle: {middle:.0f}% of an image is cut off (median; {most:.0f}% at most)",
        "pad": f"padded: {middle:.0f}% of a prepared image is background (median; {most:.0f}% at most)",
        "stretch": f"stretched: one side by a factor of up to {1 / float(kept.min()):.2g} more than the other",
    }
    return (
        f"{other:,} of {len(sizes):,} images have another ratio of sides and are {what[spec.resize]} (prepare.resize)."
    )
