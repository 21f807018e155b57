"""What describes small parts of an image without any learning: the directions of edges, and colours.

D. Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004, on a dense grid, with the square root of
R. Arandjelovic and A. Zisserman, CVPR 2012; colours as in S. Clinchant et al., XRCE's Participation to ImageEval, 2007.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS = 8
"""Of an edge, 0 to 360 degrees."""
CELLS = 4
"""Of a part's side; each cell is described by itself."""
FLAT = 0.07
"""Norm of the edges (of images whose standard deviation is 1) below which a part counts as having few."""
MOST = 0.2
"""Of the whole that one direction in one cell may be: a single strong edge does not hide the others."""


def cells_of(side: int) -> tuple[int, ...]:
    """The sides of cells in pixels, each scale once, for images whose shorter side has `side` pixels."""
    return tuple(sorted({max(1, round(side / part)) for part in (24, 16)}))


def edges(images: Tensor, cells: Sequence[int]) -> Tensor:
    """(N, T, 128) root-SIFT descriptors of T parts of normalised images (N, C, H, W): for each of the sides `cells`,
    parts of CELLS x CELLS cells, a cell apart from each other."""
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    down = grey[:, :, 2:, 1:-1] - grey[:, :, :-2, 1:-1]
    right = grey[:, :, 1:-1, 2:] - grey[:, :, 1:-1, :-2]
    length = (down * down + right * right + 1e-8).sqrt()
    angle = torch.arange(DIRECTIONS, device=images.device).view(1, -1, 1, 1) * (2 * math.pi / DIRECTIONS)
    along = ((right / length) * angle.cos() + (down / length) * angle.sin()).clamp_min(0)
    share = along.square().square().square() * along  # by the 9th power of the cosine two neighbours get all but all
    maps = length * share
    parts = torch.cat([_unfolded(F.avg_pool2d(maps, cell) * cell) for cell in cells], 1)
    norm = parts.norm(dim=2, keepdim=True)
    found: Tensor = (parts / (norm + FLAT)).clamp(1e-6, MOST).sqrt() * (norm / (norm + FLAT))
    return found


def colours(images: Tensor, cells: Sequence[int]) -> Tensor:
    """(N, T, 32 C) mean and standard deviation of each channel in each cell of the same T parts."""
    both = torch.cat([images, images * images], 1)
    found = []
    for cell in cells:
        mean, square = F.avg_pool2d(both, cell).chunk(2, 1)
        found.append(_unfolded(torch.cat([mean, (square - mean * mean).clamp_min(1e-6).sqrt()], 1)))
    return torch.cat(found, 1)


def places(images: Tensor, cells: Sequence[int]) -> Tensor:
    """(T, 2) where the middle of each of the same parts is, -0.5 to 0.5 of the image's height and width."""
    found = []
    for cell in cells:
        rows, columns = (max(1, side // cell - CELLS + 1) for side in images.shape[2:])
        down, across = (
            (torch.arange(many, device=images.device) + CELLS / 2) / (many + CELLS - 1) - 0.5
            for many in (rows, columns)
        )
        found.append(torch.stack([down.repeat_interleave(columns), across.repeat(rows)], 1))
    return torch.cat(found)


def _unfolded(cells: Tensor) -> Tensor:
    """(N, T, 16 C) of maps of cells (N, C, h, w), which are repeated at the edge where there are fewer than CELLS."""
    missing = [max(0, CELLS - side) for side in cells.shape[2:]]
    if any(missing):
        cells = F.pad(cells, (0, missing[1], 0, missing[0]), mode="replicate")
    return F.unfold(cells, CELLS).transpose(1, 2)
