"""Random crops after the edges were repeated outward."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw

if TYPE_CHECKING:
    from torch import Tensor


class Shift(Augmentation):
    """Each image is moved by some pixels each way, its edges repeated outward."""

    NAME: ClassVar[str] = "shift"
    ORDER: ClassVar[int] = 10

    shift: int = Field(default=1, ge=0, le=64)
    """Random crop: each image is shifted by up to this many pixels; 0: off. Its edges are repeated outward."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """A crop of each image."""
        import torch

        count, channels, height, width = images.shape
        device = images.device
        span = (-self.shift, self.shift + 1)
        moves = torch.randint(*span, (2, count, 1), generator=draw.generator, device=device)
        rows = (torch.arange(height, device=device) + moves[0]).clamp_(0, height - 1)
        columns = (torch.arange(width, device=device) + moves[1]).clamp_(0, width - 1)
        pixels = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1)
        return images.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view_as(images)
