"""A small residual network for small images, 8 to 64 pixels: width and depth are hyperparameters.

K. He et al., Deep Residual Learning, CVPR 2016, with two of the changes that T. He et al., Bag of Tricks, CVPR 2019
measured: shortcuts that average before they halve, and residual branches that begin at zero.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from podium.config.recipe import ModelParams

STAGES = 3
FIRST_SIDE = 16
"""Pixels of the first stage's maps at most: half of the time of a 28x28 image would be spent above it."""
LARGE = 32
"""Above so many pixels the first convolution has a stride of 2."""


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        branch = F.relu(self.first_norm(self.first(maps)))
        return F.relu(self.second_norm(self.second(branch)) + self.shortcut(maps))


def layers(params: ModelParams, shape: tuple[int, int, int], classes: int) -> list[nn.Module]:
    """A stem, three stages of `depth` blocks of `width`, twice and four times as many channels, and a linear layer."""
    channels, height, width = shape
    wide = params.width
    side = max(height, width)
    stride = 2 if side > LARGE else 1
    found: list[nn.Module] = [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
    side = -(-side // stride)
    while side > FIRST_SIDE:
        found.append(nn.MaxPool2d(2, ceil_mode=True))
        side = -(-side // 2)
    for stage in range(STAGES):
        outputs = params.width * 2**stage
        for block in range(params.depth):
            found.append(Block(wide, outputs, 2 if stage and not block else 1))
            wide = outputs
    found += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    found += [nn.Dropout(params.dropout)] if params.dropout else []
    return [*found, nn.Linear(wide, classes)]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    halve: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
    return nn.Sequential(*halve, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
