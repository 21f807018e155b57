"""A small residual network for small images, 8 to 64 pixels: width and depth are hyperparameters.

K. He et al., Deep Residual Learning, CVPR 2016, with two of the changes that T. He et al., Bag of Tricks, CVPR 2019
measured: shortcuts that average before they halve, and residual branches that begin at zero.
"""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.models.networks import ImageSpec, Network

if TYPE_CHECKING:
    from torch import nn

STAGES = 3
FIRST_SIDE = 16
"""Pixels of the first stage's maps at most: half of the time of a 28x28 image would be spent above it."""
LARGE = 32
"""Above so many pixels the first convolution has a stride of 2."""


PARTS = (3, 1)
"""Of a batch, to a network and to the descriptors beside it: a linear layer needs to see fewer images."""


class Resnet(Network):
    """Residual blocks in three stages."""

    NAME: ClassVar[str] = "resnet"

    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the first of the three stages. Each next one has twice as many."""
    depth: int = Field(default=1, ge=1, le=32)
    """Residual blocks in each of the three stages."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of the last layer's inputs set to zero in training."""
    members: int = Field(default=1, ge=1, le=64)
    """Networks whose probabilities are averaged; each learns from a part of every batch. With few images,
    such an ensemble is better than one network trained for as long; predicting takes `members` times as long. A step
    takes as long as with one network, and each member needs as many epochs as one network would: raise train.epochs."""
    descriptors: bool = False
    """For each network also a linear layer on edges and colours, as another member. It learns from a quarter of every
    batch, on Fisher vectors, which are computed from the pixels without training: with few images its errors differ
    from the network's."""

    def build(self, images: ImageSpec) -> "nn.Module":
        """A stem, three stages of `depth` blocks of `width`, twice and four times as many channels, a linear layer."""
        from torch import nn

        from podium.models.fisher import FisherVectors
        from podium.models.members import together

        if not self.descriptors:
            return together([self._one(images) for _ in range(self.members)])
        channels, *sides = images.shape
        networks: list[nn.Module] = []
        for _ in range(self.members):
            networks += [self._one(images), FisherVectors(channels, min(sides), images.classes)]
        return together(networks, PARTS * self.members)

    def _one(self, images: ImageSpec) -> "nn.Module":
        from torch import nn

        from podium.models.layers import ResidualBlock

        layers, wide = _stem(images.shape, self.width), self.width
        for stage in range(STAGES):
            outputs = self.width * 2**stage
            for block in range(self.depth):
                layers.append(ResidualBlock(wide, outputs, 2 if stage and not block else 1))
                wide = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        layers += [nn.Dropout(self.dropout)] if self.dropout else []
        return nn.Sequential(*layers, nn.Linear(wide, images.classes))


def _stem(shape: tuple[int, int, int], wide: int) -> "list[nn.Module]":
    """The first convolution, and poolings until the maps are small."""
    from torch import nn

    channels, height, width = shape
    side = max(height, width)
    stride = 2 if side > LARGE else 1
    layers: list[nn.Module] = [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
    side = -(-side // stride)
    while side > FIRST_SIDE:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        side = -(-side // 2)
    return layers
