"""Random brightness, contrast, saturation and hue."""

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, pixels

if TYPE_CHECKING:
    from torch import Tensor

HUE = 0.25
"""Of the strength: T. Chen et al., SimCLR, ICML 2020, take 0.8 for the other three and 0.2 for the hue."""
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""Rows: brightness, and the plane of colours in which a turn changes the hue (NTSC)."""


class ColorJitter(Augmentation):
    """Brightness, contrast, saturation and hue at once, as one linear map of each image's colours.

    torchvision's ColorJitter turns the hue in HSV, which is not linear, one image at a time.
    """

    NAME: ClassVar[str] = "color_jitter"
    ORDER: ClassVar[int] = 26

    color_jitter: float = Field(default=0.4, ge=0, le=1)
    """Change brightness, contrast, saturation and hue by up to this fraction; 0: off. The hue by a quarter of it,
    of 180 degrees. Grey images have brightness and contrast only."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Each image in other colours."""
        count, strength = len(images), self.color_jitter
        bright, contrast, saturation = (
            pixels.uniform(draw, count, 1 - strength, 1 + strength).view(-1, 1, 1, 1) for _ in range(3)
        )
        turn = pixels.uniform(draw, count, -math.pi, math.pi) * HUE * strength
        changed = images.float()
        if images.shape[1] == len(YIQ):
            changed = _turned(changed, turn)
            changed = changed.lerp(pixels.grey(changed), 1 - saturation)
        middle = pixels.grey(changed).mean((1, 2, 3), keepdim=True)
        return pixels.to_bytes((middle + (changed - middle) * contrast) * bright)


def _turned(images: "Tensor", angles: "Tensor") -> "Tensor":
    """(B, 3, H, W) with the hue turned by `angles` (B,) radians."""
    import torch

    to_yiq = images.new_tensor(YIQ)
    turns = torch.eye(3, device=images.device).repeat(len(images), 1, 1)
    turns[:, 1, 1] = turns[:, 2, 2] = angles.cos()
    turns[:, 1, 2], turns[:, 2, 1] = -angles.sin(), angles.sin()
    maps = torch.linalg.inv(to_yiq) @ turns @ to_yiq
    return torch.bmm(maps, images.flatten(2)).view_as(images)
