"""What every network begins with, and what may be around it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(N, C, H, W) uint8 to float with the training images' mean 0 and standard deviation 1 in each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # One multiply and one add a pixel: x / 255 / std - mean / std.
        deviation = torch.tensor(std).clamp_min(1 / 255).view(1, -1, 1, 1)  # a channel may be constant
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(mean).view(1, -1, 1, 1) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise `images`; the result is float32. Blended images come as floats on the same scale of 0 to 255."""
        return torch.addcmul(self.offset, images.float(), self.scale)  # type: ignore[arg-type]


class Temperature(nn.Module):
    """Logits divided by a number: no answer changes, only how sure it is. No weight of the network's."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        """Logits of any shape."""
        return logits / self.temperature


class FlipAverage(nn.Sequential):
    """Layers one after the other; in eval mode the answer is the mean of those to each image and to its mirror."""

    def forward(self, input: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        if self.training:
            return logits
        mirrored: Tensor = super().forward(input.flip(3))  # type: ignore[no-untyped-call]
        return (logits.float() + mirrored.float()) / 2
