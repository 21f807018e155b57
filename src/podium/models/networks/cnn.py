"""The plain network of the blog post, for images of any size."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.errors import InputError
from podium.models.networks import ImageSpec, Network

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 5
"""Two unpadded 3x3 convolutions leave nothing of a smaller image."""
LARGEST_UNPOOLED = 6
"""A map larger than this is halved: 8x8 images keep the classic 64 * 4 * 4 = 1024 features, larger ones stay small."""


class Cnn(Network):
    """Two convolutions and two fully connected layers."""

    NAME: ClassVar[str] = "cnn"
    CHANNELS_LAST: ClassVar[bool] = False

    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the first convolution. The second has twice as many."""
    hidden: int = Field(default=512, ge=1, le=8192)
    """Units of the hidden fully connected layer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the last layer's inputs set to zero in training."""

    def build(self, images: ImageSpec) -> "nn.Module":
        """Two 3x3 convolutions and two fully connected layers, the size of which follows from the images'.

        Raises InputError for images that are too small.
        """
        from torch import nn

        channels, height, width = images.shape
        if min(height, width) < SMALLEST:
            raise InputError(
                f"model.name: cnn takes images of at least {SMALLEST}x{SMALLEST} pixels (8x8 gives the classic 1024"
                f" features); got {height}x{width}; resnet takes any"
            )
        body, (height, width) = _body(channels, height, width, self.width)
        features = 2 * self.width * height * width
        head = [nn.Flatten(), nn.Linear(features, self.hidden), nn.ReLU()]
        head += [nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(*body, *head, nn.Linear(self.hidden, images.classes))


def _body(channels: int, height: int, width: int, wide: int) -> "tuple[list[nn.Module], tuple[int, int]]":
    """Two 3x3 convolutions without padding, each with a ReLU; a large map is halved once after the first one and as
    often as it takes after the second."""
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(channels, wide, 3), nn.ReLU()]
    sides = _halve(layers, (height - 2, width - 2), at_most=1)
    layers += [nn.Conv2d(wide, 2 * wide, 3), nn.ReLU()]
    return layers, _halve(layers, (sides[0] - 2, sides[1] - 2), at_most=32)


def _halve(layers: "list[nn.Module]", sides: tuple[int, int], at_most: int) -> tuple[int, int]:
    """Append poolings of each side that is above LARGEST_UNPOOLED; returns the sides that are left."""
    from torch import nn

    for _ in range(at_most):
        if max(sides) <= LARGEST_UNPOOLED:
            break
        factors = tuple(2 if side > LARGEST_UNPOOLED else 1 for side in sides)
        layers.append(nn.MaxPool2d(factors))
        sides = (sides[0] // factors[0], sides[1] // factors[1])
    return sides
