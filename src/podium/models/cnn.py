"""The plain network of the blog post, for images of any size."""

from torch import nn

from podium.config.recipe import ModelParams
from podium.errors import InputError

SMALLEST = 5
"""Two unpadded 3x3 convolutions leave nothing of a smaller image."""
LARGEST_UNPOOLED = 6
"""A map larger than this is halved: 8x8 images keep the classic 64 * 4 * 4 = 1024 features, larger ones stay small."""


def layers(params: ModelParams, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:
    """Two 3x3 convolutions and two fully connected layers, the size of which follows from `shape` (C, H, W).

    Raises InputError for images that are too small.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST:
        raise InputError(
            f"model.name: cnn takes images of at least {SMALLEST}x{SMALLEST} pixels (8x8 gives the classic 1024"
            f" features); got {height}x{width}; resnet takes any"
        )
    body, (height, width) = _body(channels, height, width, params.width)
    features = 2 * params.width * height * width
    head = [nn.Flatten(), nn.Linear(features, params.hidden), nn.ReLU()]
    head += [nn.Dropout(params.dropout)] if params.dropout else []
    return [*body, *head, nn.Linear(params.hidden, classes)]


def _body(channels: int, height: int, width: int, wide: int) -> tuple[list[nn.Module], tuple[int, int]]:
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
