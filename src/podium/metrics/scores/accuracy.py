"""The fraction of right predictions."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


class Accuracy(Metric):
    """The fraction of the images whose most probable class is theirs."""

    NAME: ClassVar[str] = "accuracy"
    PERCENT: ClassVar[bool] = True
    EACH_EPOCH: ClassVar[bool] = True

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """0 to 1."""
        return float((logits.argmax(1) == labels).sum()) / len(labels)
