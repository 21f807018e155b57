"""What several augmentations do to a batch, each image by its own numbers: move it, recolour it, draw those numbers."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from podium.training.augmentations import Draw

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as torchvision and Pillow have them."""


def uniform(draw: "Draw", count: int, low: float, high: float) -> "Tensor":
    """(count,) float32, one number for each image, on the images' device."""
    import torch

    generator: torch.Generator = draw.generator
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def affine(
    draw: "Draw", images: "Tensor", matrices: "Tensor", moves: "Tensor | None" = None, *, edges: bool = False
) -> "Tensor":
    """Each of `images` (B, C, H, W) uint8 read at other places, bilinearly; the same shape and type.

    `matrices` (B, 2, 2) and `moves` (B, 2) say where the pixel at (x, y), in pixels from the image's middle, is read.
    Outside of the image is the mean colour, or (`edges`) its edge.
    """
    import torch.nn.functional as F

    height, width = images.shape[2:]
    size = images.new_tensor([width, height], dtype=matrices.dtype)
    scaled = matrices * (size[None, None, :] / size[None, :, None])
    shift = matrices.new_zeros((len(images), 2)) if moves is None else moves * 2 / size
    theta = scaled.new_empty((len(images), 2, 3))
    theta[:, :, :2], theta[:, :, 2] = scaled, shift
    colour = draw.colour.float()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    read = F.grid_sample(images.float() - colour, grid, "bilinear", "border" if edges else "zeros", align_corners=False)
    return to_bytes(read + colour)


def rotations(degrees: "Tensor") -> "Tensor":
    """(B, 2, 2): of `affine`, for angles (B,)."""
    import torch

    angles = degrees * (math.pi / 180)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)


def grey(images: "Tensor") -> "Tensor":
    """(B, 1, H, W) float32: the brightness of (B, C, H, W); of other than three channels their mean."""
    floats = images.float()
    if images.shape[1] != len(LUMA):
        return floats.mean(1, keepdim=True)
    return (floats * floats.new_tensor(LUMA).view(1, -1, 1, 1)).sum(1, keepdim=True)


def blended(images: "Tensor", others: "Tensor", factors: "Tensor") -> "Tensor":
    """`others` at a factor of 0, `images` at 1, beyond them above 1: (B, C, H, W) float32 of uint8, factors (B,)."""
    return others + (images.float() - others) * factors.view(-1, 1, 1, 1)


def to_bytes(images: "Tensor") -> "Tensor":
    """Rounded and bounded to uint8."""
    import torch

    return images.round_().clamp_(0, 255).to(torch.uint8)
