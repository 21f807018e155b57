"""Networks. Each takes raw uint8 images: normalisation is its first layer, so training and serving can't differ."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from podium.errors import InputError
from podium.recipe import ModelParams

SMALLEST = 5
"""Two unpadded 3x3 convolutions leave nothing of a smaller image."""
LARGEST_UNPOOLED = 6
"""A map larger than this is halved: 8x8 images keep the classic 64 * 4 * 4 = 1024 features, larger ones stay small."""


class Normalize(nn.Module):
    """(N, C, H, W) uint8 to float with the training images' mean 0 and standard deviation 1 in each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # One multiply and one add a pixel: x / 255 / std - mean / std.
        deviation = torch.tensor(std).clamp_min(1 / 255).view(1, -1, 1, 1)  # a channel may be constant
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(mean).view(1, -1, 1, 1) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise `images`; the result is float32."""
        return torch.addcmul(self.offset, images.float(), self.scale)  # type: ignore[arg-type]


def build_model(
    params: ModelParams,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Sequential:
    """The network that `params` names for images of `shape` (C, H, W): uint8 (N, C, H, W) in, logits (N, classes) out.

    Raises InputError where the network can't take that shape.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST:
        raise InputError(
            f"model.name: cnn takes images of at least {SMALLEST}x{SMALLEST} pixels (8x8 gives the classic 1024"
            f" features); got {height}x{width}"
        )
    body, (height, width) = _cnn_body(channels, height, width, params.width)
    features = 2 * params.width * height * width
    head = [nn.Flatten(), nn.Linear(features, params.hidden), nn.ReLU()]
    head += [nn.Dropout(params.dropout)] if params.dropout else []
    return nn.Sequential(Normalize(mean, std), *body, *head, nn.Linear(params.hidden, classes))


def _cnn_body(channels: int, height: int, width: int, wide: int) -> tuple[list[nn.Module], tuple[int, int]]:
    """Two 3x3 convolutions without padding, each with a ReLU; a large map is halved once after the first one and as
    often as it takes after the second."""
    layers: list[nn.Module] = [nn.Conv2d(channels, wide, 3), nn.ReLU()]
    sides = _halve(layers, (height - 2, width - 2), at_most=1)
    layers += [nn.Conv2d(wide, 2 * wide, 3), nn.ReLU()]
    return layers, _halve(layers, (sides[0] - 2, sides[1] - 2), at_most=32)


def _halve(layers: list[nn.Module], sides: tuple[int, int], at_most: int) -> tuple[int, int]:
    """Append poolings of each side that is above LARGEST_UNPOOLED; returns the sides that are left."""
    for _ in range(at_most):
        if max(sides) <= LARGEST_UNPOOLED:
            break
        factors = tuple(2 if side > LARGEST_UNPOOLED else 1 for side in sides)
        layers.append(nn.MaxPool2d(factors))
        sides = (sides[0] // factors[0], sides[1] // factors[1])
    return sides
