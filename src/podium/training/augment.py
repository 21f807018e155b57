"""Augmentation of whole batches on their device: crops, mirrors, cut-outs, and blends of two images."""

import random

import torch
from torch import Tensor

from podium.config.recipe import TrainParams


def augment(images: Tensor, params: TrainParams, generator: torch.Generator, mean: Tensor | None = None) -> Tensor:
    """Move, mirror and cut each image of a batch at random: (B, C, H, W) uint8 in, the same out.

    Edges are repeated outward. `mean` (1, C, 1, 1) uint8 is the colour of what is cut out; black where it is None.
    """
    if params.shift or params.flip:
        images = _move(images, params, generator)
    if params.cutout:
        images = _cut(images, params.cutout, generator, mean)
    return images


def mix(images: Tensor, params: TrainParams, seed: int) -> tuple[Tensor, float]:
    """Blend each image with the one before it in the batch (the first with the last), all with one share.

    Returns the images and the share of each that is its own; the rest is that of `images.roll(1, 0)`, whose labels
    are `labels.roll(1)`. Everything follows from `seed`. mixup: Zhang et al. 2018, blended pixels, float32; cutmix:
    Yun et al. 2019, a box of the other image. Where params ask for both, it is one of them, each half of the time.
    """
    draw = random.Random(seed)  # noqa: S311 (no secret)
    if params.mixup and (not params.cutmix or draw.random() < 0.5):
        own = draw.betavariate(params.mixup, params.mixup)
        return torch.lerp(images.roll(1, 0).float(), images.float(), own), own
    other = draw.betavariate(params.cutmix, params.cutmix)
    height, width = images.shape[2:]
    tall, wide = (round(side * other**0.5) for side in (height, width))
    top, left = draw.randint(0, height - tall), draw.randint(0, width - wide)
    box = (..., slice(top, top + tall), slice(left, left + wide))
    mixed = images.clone()
    mixed[box] = images.roll(1, 0)[box]
    return mixed, 1 - tall * wide / (height * width)


def _move(images: Tensor, params: TrainParams, generator: torch.Generator) -> Tensor:
    """A random crop of each image after its edges were repeated outward, and a mirror of half of them."""
    count, channels, height, width = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if params.shift:
        span = (-params.shift, params.shift + 1)
        moves = torch.randint(*span, (2, count, 1), generator=generator, device=device)
        rows = (rows + moves[0]).clamp_(0, height - 1)
        columns = (columns + moves[1]).clamp_(0, width - 1)
    if params.flip:
        mirrored = torch.rand(count, 1, generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1)
    return images.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(images)


def _cut(images: Tensor, side: int, generator: torch.Generator, mean: Tensor | None) -> Tensor:
    """A square around a random pixel of each image, as far as it is inside (DeVries and Taylor 2017)."""
    count, _, height, width = images.shape
    device = images.device
    inside = []
    for length in (height, width):
        start = torch.randint(0, length, (count, 1), generator=generator, device=device) - side // 2
        place = torch.arange(length, device=device)
        inside.append((place >= start) & (place < start + side))
    square = (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
    return torch.where(square, images.new_zeros(()) if mean is None else mean, images)
