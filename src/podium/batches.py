"""Images in memory, batch by batch: one uint8 tensor on the device, and batches are rows selected from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from podium.dataset import Split
from podium.recipe import TrainParams


@dataclass(frozen=True)
class Batches:
    """Images and labels on one device."""

    images: Tensor
    """(N, C, H, W) uint8; on the CPU it shares the memory map's pages."""
    labels: Tensor
    """(N,) int64."""

    @staticmethod
    def of(splits: Sequence[Split], device: torch.device) -> "Batches":
        """The images of `splits`, one after the other, on `device`."""
        images = [torch.from_numpy(split.images) for split in splits]
        labels = [torch.from_numpy(split.labels) for split in splits]
        together = images[0] if len(images) == 1 else torch.cat(images)
        return Batches(together.to(device), torch.cat(labels).to(device))

    def __len__(self) -> int:
        return len(self.labels)


def augment(images: Tensor, params: TrainParams, generator: torch.Generator) -> Tensor:
    """Move and mirror each image of a batch at random: (B, C, H, W) in, the same out; edges are repeated outward."""
    if not params.shift and not params.flip:
        return images
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
