"""A few operations per image, all of one strength."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, operations, pixels

if TYPE_CHECKING:
    from torch import Tensor

RANGES = operations.Ranges(shear=0.3, translate=0.45, rotate=30.0, enhance=0.9, bits=4.0)


class RandAugment(Augmentation):
    """E. Cubuk et al., RandAugment, NeurIPS 2020, on whole batches."""

    NAME: ClassVar[str] = "rand_augment"
    ORDER: ClassVar[int] = 25

    rand_augment: float = Field(default=0.3, ge=0, le=1)
    """Strength of operations that move, turn or recolour each image; 0: off. 1: the paper's range to its end."""
    rand_augment_ops: int = Field(default=2, ge=1, le=14)
    """Operations on each image, one after the other."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Each image by operations of its own, uniform."""
        count = len(images)
        for _ in range(self.rand_augment_ops):
            kinds = pixels.uniform(draw, count, 0, len(operations.NAMES)).long()
            strengths = pixels.uniform(draw, count, self.rand_augment, self.rand_augment)
            images = operations.change(images, draw, kinds, strengths, RANGES)
        return images
