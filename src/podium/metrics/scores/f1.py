"""F1: the harmonic mean of precision and recall, averaged over the classes; as scikit-learn's f1_score."""

from typing import TYPE_CHECKING, ClassVar

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


def f1(confusion: "Tensor") -> "Tensor":
    """(..., K) of each class; nan for one that is neither a label nor a prediction."""
    return 2 * confusion.diagonal(dim1=-2, dim2=-1) / (confusion.sum(-1) + confusion.sum(-2))


class MacroF1(Metric):
    """The mean F1 of the classes that occur among labels or predictions."""

    NAME: ClassVar[str] = "macro_f1"
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """0 to 1."""
        return f1(confusion).nanmean(-1)


class WeightedF1(Metric):
    """The mean F1 of the classes, each by the number of its images."""

    NAME: ClassVar[str] = "weighted_f1"
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """0 to 1."""
        support = confusion.sum(-1)
        return (f1(confusion).nan_to_num() * support).sum(-1) / support.sum(-1)
