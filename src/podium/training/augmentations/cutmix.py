"""Boxes of other images."""

import random
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation

if TYPE_CHECKING:
    from torch import Tensor


class Cutmix(Augmentation):
    """S. Yun et al., CutMix, ICCV 2019."""

    NAME: ClassVar[str] = "cutmix"
    ORDER: ClassVar[int] = 41
    BLENDS: ClassVar[bool] = True

    cutmix: float = Field(default=1.0, ge=0, le=10)
    """Paste a box of another image into each: alpha, as for mixup; 0: off. With both, one of them is drawn in each
    step."""

    def blend(self, images: "Tensor", draw: random.Random) -> "tuple[Tensor, float]":
        """A box of the other image in each."""
        other = draw.betavariate(self.cutmix, self.cutmix)
        height, width = images.shape[2:]
        tall, wide = (round(side * other**0.5) for side in (height, width))
        top, left = draw.randint(0, height - tall), draw.randint(0, width - wide)
        box = (..., slice(top, top + tall), slice(left, left + wide))
        mixed = images.clone()
        mixed[box] = images.roll(1, 0)[box]
        return mixed, 1 - tall * wide / (height * width)
