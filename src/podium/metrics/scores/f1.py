"""F1: the harmonic mean of precision and recall, averaged over the classes; as scikit-learn's f1_score."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from podium.metrics.confusion import Confusion, Floats


class MacroF1(Metric):
    """The mean F1 of the classes that occur among labels or predictions."""

    NAME: ClassVar[str] = "macro_f1"
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """0 to 1."""
        return confusion.mean(confusion.f1)


class WeightedF1(Metric):
    """The mean F1 of the classes, each by the number of its images."""

    NAME: ClassVar[str] = "weighted_f1"
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """0 to 1."""
        both = confusion.actual + confusion.predicted
        each = confusion.ratio(2 * confusion.right * confusion.actual, both, 0.0)
        return confusion.ratio(each.sum(-1), confusion.whole)
