"""The mean cross-entropy."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


class LogLoss(Metric):
    """The mean negative log likelihood of the right classes, whatever the training's own loss is."""

    NAME: ClassVar[str] = "loss"
    DIRECTION: ClassVar[str] = "minimize"
    EACH_EPOCH: ClassVar[bool] = True

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """0 or more."""
        import torch.nn.functional as F

        return float(F.cross_entropy(logits.double(), labels))
