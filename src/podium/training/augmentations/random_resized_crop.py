"""Random parts of the images, enlarged to the whole size."""

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.augmentations import Augmentation, Draw, pixels

if TYPE_CHECKING:
    from torch import Tensor


class RandomResizedCrop(Augmentation):
    """C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015: the usual crop of ImageNet's training.

    A part is never larger than the image, so resizing it never shrinks, and there is nothing to filter against aliases;
    `prepare` has shrunk the files with a filter.
    """

    NAME: ClassVar[str] = "random_resized_crop"
    ORDER: ClassVar[int] = 5

    random_resized_crop: float = Field(default=0.35, ge=0, le=1)
    """Enlarge a random part of each image, at least this fraction of its area; 0: off."""
    crop_ratio: float = Field(default=1.33, ge=1, le=10)
    """Largest factor between the crop's sides. Sides are measured as fractions of the image's."""

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """A part of each image; area, logarithm of the ratio and place are uniform."""
        import torch

        count = len(images)
        area = pixels.uniform(draw, count, self.random_resized_crop, 1.0)
        ratio = pixels.uniform(draw, count, -math.log(self.crop_ratio), math.log(self.crop_ratio)).exp()
        sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp_max_(1.0)  # width, height
        places = torch.stack([pixels.uniform(draw, count, -0.5, 0.5) for _ in sides[0]], 1)
        whole = sides.new_tensor([images.shape[3], images.shape[2]])
        return pixels.affine(draw, images, torch.diag_embed(sides), places * (1 - sides) * whole, edges=True)
