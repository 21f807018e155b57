"""Metrics of the classes' recalls: each class counts alike, however few images it has."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


def recalls(confusion: "Tensor") -> "Tensor":
    """(..., K) the recall of each class; nan for a class without images."""
    return confusion.diagonal(dim1=-2, dim2=-1) / confusion.sum(-1)


class BalancedAccuracy(Metric):
    """The mean over the classes that occur of the fraction of each one's images that are predicted right.

    As scikit-learn's balanced_accuracy_score.
    """

    NAME: ClassVar[str] = "balanced_accuracy"
    PERCENT: ClassVar[bool] = True
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """0 to 1."""
        return recalls(confusion).nanmean(-1)


class MinRecall(Metric):
    """The lowest recall of a class that occurs."""

    NAME: ClassVar[str] = "min_recall"
    PERCENT: ClassVar[bool] = True
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """0 to 1; nan without images."""
        found = recalls(confusion)
        lowest = found.nan_to_num(nan=2.0).amin(-1)
        return lowest.masked_fill(lowest > 1, float("nan"))
