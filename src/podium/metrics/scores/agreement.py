"""How far predictions and labels agree beyond what chance gives."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from podium.metrics.confusion import Confusion, Floats


@lru_cache(maxsize=4)
def _penalties(classes: int, penalty: str) -> "Floats":
    """(K, K) how an error counts, by the places of the two classes."""
    import numpy as np

    places = np.arange(classes, dtype=np.float64)
    apart = np.abs(places[:, None] - places)
    return {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart * apart}[penalty]


def _root(values: "Floats") -> "Floats":
    """Square roots, of one matrix and of many alike: NumPy has others of an array than of a number, by the last bit."""
    import numpy as np

    return np.reshape([value**0.5 for value in np.ravel(values)], np.shape(values))


class Mcc(Metric):
    """Matthews correlation coefficient for several classes (J. Gorodkin, Computational Biology and Chemistry, 2004).

    As scikit-learn's matthews_corrcoef: 0 where all predictions or all labels are of one class. With such labels it
    says nothing of a model, so nothing is searched for or compared by it.
    """

    NAME: ClassVar[str] = "mcc"
    RANGE: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """-1 to 1."""
        actual, predicted, whole = confusion.actual, confusion.predicted, confusion.whole
        together = confusion.agreed * whole - (actual * predicted).sum(-1)
        of_labels = whole * whole - (actual * actual).sum(-1)
        of_predictions = whole * whole - (predicted * predicted).sum(-1)
        return confusion.ratio(together, _root(of_labels * of_predictions), 0.0)

    def undefined(self, images: Mapping[str, int]) -> str:
        """Two classes need images."""
        return "" if sum(map(bool, images.values())) > 1 else "all images are of one class"


class Kappa(Metric):
    """Cohen's kappa: agreement beyond chance, errors by how far apart the classes are in their order.

    As scikit-learn's cohen_kappa_score (J. Cohen, Psychological Bulletin, 1968).
    """

    NAME: ClassVar[str] = "kappa"
    RANGE: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    OF_LABELS: ClassVar[bool] = True

    penalty: Literal["none", "linear", "quadratic"] = "quadratic"
    """How an error counts: none: every one alike; linear, quadratic: by the distance of the classes, or its square."""

    @property
    def label(self) -> str:
        """kappa, linear_kappa or unweighted_kappa."""
        return {"none": "unweighted_kappa", "linear": "linear_kappa", "quadratic": "kappa"}[self.penalty]

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """-1 to 1; nan where labels and predictions are all of one class."""
        weights = _penalties(confusion.table.shape[-1], self.penalty)
        seen = (weights * confusion.table).sum((-2, -1))
        expected = ((confusion.actual @ weights) * confusion.predicted).sum(-1)
        return 1 - confusion.ratio(seen * confusion.whole, expected)

    def undefined(self, images: Mapping[str, int]) -> str:
        """With images of one class there is nothing to agree on beyond chance."""
        return "" if sum(map(bool, images.values())) > 1 else "all images are of one class"
