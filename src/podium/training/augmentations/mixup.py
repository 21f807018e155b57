"""Blended images."""

import random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation

if TYPE_CHECKING:
    from torch import Tensor


class Mixup(Augmentation):
    """H. Zhang et al., mixup, ICLR 2018."""

    NAME: ClassVar[str] = "mixup"
    ORDER: ClassVar[int] = 40
    BLENDS: ClassVar[bool] = True

    mixup: float = Field(default=0.2, ge=0, le=10)
    """Blend pairs of images: alpha of the Beta distribution of the mixing fraction; 0: off."""

    def blend(self, images: "Tensor", draw: random.Random) -> "tuple[Tensor, float]":
        """Pixels blended, float32 on the same scale of 0 to 255."""
        import torch

        own = draw.betavariate(self.mixup, self.mixup)
        return torch.lerp(images.roll(1, 0).float(), images.float(), own), own
