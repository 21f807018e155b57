"""Cross-entropy, with labels that may be smoothed."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from podium.training.losses import Loss

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss):
    """The negative log likelihood of the softmax. Smoothing: C. Szegedy et al., CVPR 2016."""

    NAME: ClassVar[str] = "cross_entropy"

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the target spread evenly over the classes."""

    def build(self, weights: "Tensor | None") -> "Callable[[Tensor, Tensor], Tensor]":
        """Logits (B, classes) and targets (B,) to the batch's mean."""
        import torch.nn.functional as F

        return partial(F.cross_entropy, weight=weights, label_smoothing=self.label_smoothing)
