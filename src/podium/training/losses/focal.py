"""The focal loss, which leaves easy images to themselves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.losses import Loss

if TYPE_CHECKING:
    from torch import Tensor


class Focal(Loss):
    """Cross-entropy times (1 - p)^gamma. T.-Y. Lin et al., Focal Loss for Dense Object Detection, ICCV 2017."""

    NAME: ClassVar[str] = "focal"

    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    """Reduces the weight of images that are classified well already; 0: cross-entropy."""

    def build(self, weights: "Tensor | None") -> "Callable[[Tensor, Tensor], Tensor]":
        """Logits (B, classes) and targets (B,) to the batch's mean, by the classes' weights where there are some."""
        import torch

        def loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
            log_p = logits.float().log_softmax(1).gather(1, targets[:, None]).squeeze(1)
            each = -((1 - log_p.exp()) ** self.focal_gamma) * log_p
            count = torch.ones_like(each) if weights is None else weights[targets]
            return (each * count).sum() / count.sum()

        return loss
