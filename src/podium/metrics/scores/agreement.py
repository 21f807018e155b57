"""How far predictions and labels agree beyond what chance gives."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor


class Mcc(Metric):
    """Matthews correlation coefficient for several classes (J. Gorodkin, Computational Biology and Chemistry, 2004).

    As scikit-learn's matthews_corrcoef: 0 where all predictions or all labels are of one class. With such labels it
    says nothing of a model, so nothing is searched for or compared by it.
    """

    NAME: ClassVar[str] = "mcc"
    RANGE: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    OF_LABELS: ClassVar[bool] = True

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """-1 to 1."""
        actual, predicted, whole = confusion.sum(-1), confusion.sum(-2), confusion.sum((-2, -1))
        together = confusion.diagonal(dim1=-2, dim2=-1).sum(-1) * whole - (actual * predicted).sum(-1)
        of_labels = whole.square() - actual.square().sum(-1)
        of_predictions = whole.square() - predicted.square().sum(-1)
        found = together / (of_labels * of_predictions).sqrt()
        return found.masked_fill((of_predictions == 0) | (of_labels == 0), 0.0)

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

    def of_confusion(self, confusion: "Tensor") -> "Tensor":
        """-1 to 1; nan where labels and predictions are all of one class."""
        import torch

        places = torch.arange(confusion.shape[-1], dtype=torch.float64, device=confusion.device)
        apart = (places[:, None] - places).abs()
        weights = {"none": (apart > 0).double(), "linear": apart, "quadratic": apart.square()}[self.penalty]
        expected = confusion.sum(-1)[..., :, None] * confusion.sum(-2)[..., None, :]
        expected = expected / confusion.sum((-2, -1))[..., None, None]
        return 1 - (weights * confusion).sum((-2, -1)) / (weights * expected).sum((-2, -1))

    def undefined(self, images: Mapping[str, int]) -> str:
        """With images of one class there is nothing to agree on beyond chance."""
        return "" if sum(map(bool, images.values())) > 1 else "all images are of one class"
