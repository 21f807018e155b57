"""Binary cross-entropy, one class against the rest."""

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.losses import Loss

if TYPE_CHECKING:
    from torch import Tensor


class BinaryCrossEntropy(Loss):
    """The mean over the classes of each one's binary cross-entropy. R. Wightman et al., ResNet strikes back, 2021."""

    NAME: ClassVar[str] = "bce"

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the target spread evenly over the classes."""

    def build(self, weights: "Tensor | None") -> "Callable[[Tensor, Tensor], Tensor]":
        """Logits (B, classes) and targets (B,) to the batch's mean, by the classes' weights where there are some."""
        import torch.nn.functional as F

        def loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
            classes = logits.shape[1]
            wanted = F.one_hot(targets, classes).float()
            wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / classes
            each = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none").sum(1)
            return each.mean() if weights is None else (each * weights[targets]).sum() / weights[targets].sum()

        return loss
