"""One operation per image, at a random strength."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, operations, pixels

if TYPE_CHECKING:
    from torch import Tensor

WIDE = operations.Ranges(shear=0.99, translate=0.45, rotate=135.0, enhance=0.99, bits=6.0)
"""The paper's, with translations by a fraction of the side: 32 pixels are all of a small image."""


class TrivialAugment(Augmentation):
    """S. Mueller and F. Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art, ICCV 2021, on whole batches."""

    NAME: ClassVar[str] = "trivial_augment"
    ORDER: ClassVar[int] = 24

    trivial_augment: float = Field(default=1.0, ge=0, le=1)
    """Move, turn or recolour each image, by up to this fraction of the widest range; 0: off. One operation for each."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Each image by an operation and a strength of its own, both uniform."""
        count = len(images)
        kinds = pixels.uniform(draw, count, 0, len(operations.NAMES)).long()
        strengths = pixels.uniform(draw, count, 0, self.trivial_augment)
        return operations.change(images, draw, kinds, strengths, WIDE)
