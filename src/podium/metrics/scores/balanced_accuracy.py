"""The mean recall of the classes."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


class BalancedAccuracy(Metric):
    """The mean over the classes that occur of the fraction of each one's images that are predicted right."""

    NAME: ClassVar[str] = "balanced_accuracy"
    PERCENT: ClassVar[bool] = True

    def compute(self, logits: "Tensor", labels: "Tensor") -> float:
        """0 to 1; as scikit-learn's balanced_accuracy_score."""
        import torch

        classes = logits.shape[1]
        right = torch.bincount(labels[logits.argmax(1) == labels], minlength=classes).double()
        count = torch.bincount(labels, minlength=classes).double()
        return float((right / count)[count > 0].mean())
