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
        deviation = torch.tensor(std).clamp_min(1e-6).view(1, -1, 1, 1)
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
    """Two 3x3 convolutions without padding, each with a ReLU; larger maps are halved after each one."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, wide), (wide, 2 * wide)):
        layers += [nn.Conv2d(inputs, outputs, 3), nn.ReLU()]
        height, width = height - 2, width - 2
        if min(height, width) > LARGEST_UNPOOLED:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return layers, (height, width)
