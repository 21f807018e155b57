"""Images turned by a few degrees."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, pixels

if TYPE_CHECKING:
    from torch import Tensor


class Rotation(Augmentation):
    """Each image is turned around its middle; the corners that come from outside have the mean colour."""

    NAME: ClassVar[str] = "rotation"
    ORDER: ClassVar[int] = 22

    rotation: float = Field(default=15.0, ge=0, le=180)
    """Turn each image by up to this many degrees either way; 0: off."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """Each image at an angle of its own, uniform."""
        degrees = pixels.uniform(draw, len(images), -self.rotation, self.rotation)
        return pixels.affine(draw, images, pixels.rotations(degrees))
