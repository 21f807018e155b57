"""Rectangles that become the mean colour, in some of the images."""

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, pixels

if TYPE_CHECKING:
    from torch import Tensor

AREA = (0.02, 0.33)
RATIO = 3.3
"""Of the sides. Both are the paper's, and torchvision's."""


class Erasing(Augmentation):
    """Z. Zhong et al., Random Erasing Data Augmentation, AAAI 2020."""

    NAME: ClassVar[str] = "erasing"
    ORDER: ClassVar[int] = 31

    erasing: float = Field(default=0.25, ge=0, le=1)
    """Probability that a rectangle of an image gets the mean colour; 0: off. It takes 2 to 33% of the area."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Some of the images with a rectangle, each at a place of its own."""
        import torch

        count, _, height, width = images.shape
        area = pixels.uniform(draw, count, *AREA)
        ratio = pixels.uniform(draw, count, -math.log(RATIO), math.log(RATIO)).exp()
        inside = []
        for length, fraction in ((height, (area * ratio).sqrt()), (width, (area / ratio).sqrt())):
            side = (fraction * length).round().clamp(1, length)
            start = (pixels.uniform(draw, count, 0, 1) * (length - side + 1)).floor()
            place = torch.arange(length, device=images.device)
            inside.append((place >= start[:, None]) & (place < (start + side)[:, None]))
        erased = pixels.uniform(draw, count, 0, 1) < self.erasing
        rectangle = inside[0][:, :, None] & inside[1][:, None, :] & erased[:, None, None]
        return torch.where(rectangle.unsqueeze(1), draw.colour, images)
