"""Mirror images."""

from typing import TYPE_CHECKING, ClassVar

from podium.training.augmentations import Augmentation, Draw

if TYPE_CHECKING:
    from torch import Tensor


class Flip(Augmentation):
    """Half of the images are mirrored left to right."""

    NAME: ClassVar[str] = "flip"
    ORDER: ClassVar[int] = 20

    flip: bool = True
    """Mirror half of the images left to right; only if a mirrored image is of the same class."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Each image or its mirror image."""
        import torch

        mirrored = torch.rand(len(images), 1, generator=draw.generator, device=images.device) < 0.5
        return torch.where(mirrored[:, :, None, None], images.flip(3), images)
