"""Metrics of the classes' recalls: each class counts alike, however few images it has."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from podium.metrics.confusion import Confusion, Floats


class BalancedAccuracy(Metric):
    """The mean over the classes that occur of the fraction of each one's images that are predicted right.

    As scikit-learn's balanced_accuracy_score.
    """

    NAME: ClassVar[str] = "balanced_accuracy"
    PERCENT: ClassVar[bool] = True
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """0 to 1."""
        return confusion.mean(confusion.recalls)


class MinRecall(Metric):
    """The lowest recall of a class that occurs."""

    NAME: ClassVar[str] = "min_recall"
    PERCENT: ClassVar[bool] = True
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """0 to 1; nan without images."""
        return confusion.lowest(confusion.recalls)
