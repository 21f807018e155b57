"""Squares that become the mean colour."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw

if TYPE_CHECKING:
    from torch import Tensor


class Cutout(Augmentation):
    """T. DeVries and G. Taylor, Improved Regularization with Cutout, 2017."""

    NAME: ClassVar[str] = "cutout"
    ORDER: ClassVar[int] = 30

    cutout: int = Field(default=8, ge=0, le=1024)
    """Side in pixels of a square in each image that gets the mean colour; 0: off."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """A square around a random pixel of each image, as far as it is inside."""
        import torch

        count, _, height, width = images.shape
        inside = []
        for length in (height, width):
            middle = torch.randint(0, length, (count, 1), generator=draw.generator, device=images.device)
            start = middle - self.cutout // 2
            place = torch.arange(length, device=images.device)
            inside.append((place >= start) & (place < start + self.cutout))
        square = (inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
        return torch.where(square, draw.colour, images)
