"""The fraction of right predictions: the first, or among the k most probable."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from podium.metrics.confusion import Confusion, Floats
    from podium.metrics.scored import Scored


class Accuracy(Metric):
    """The fraction of the images whose most probable class is theirs."""

    NAME: ClassVar[str] = "accuracy"
    PERCENT: ClassVar[bool] = True
    EACH_EPOCH: ClassVar[bool] = True
    OF_LABELS: ClassVar[bool] = True

    def each(self, scored: "Scored") -> "Tensor":
        """1 for each that is right, else 0."""
        return scored.predicted == scored.labels

    def of_confusion(self, confusion: "Confusion") -> "Floats":
        """The diagonal's share."""
        return confusion.ratio(confusion.agreed, confusion.whole)


class TopK(Metric):
    """The fraction of the images whose class is among the k most probable; as scikit-learn's top_k_accuracy_score.

    Of equal probabilities the later class comes first, as there. Undefined where there are no more than k classes.
    """

    NAME: ClassVar[str] = "top_k"
    PERCENT: ClassVar[bool] = True

    k: Annotated[int, Field(ge=1)] = 5
    """Classes that may be named for an image."""

    @property
    def label(self) -> str:
        """Such as top_5."""
        return f"top_{self.k}"

    def each(self, scored: "Scored") -> "Tensor":
        """1 for each whose class is among them, else 0."""
        return scored.for_each(self._each)

    def _each(self, scored: "Scored") -> "Tensor":
        import torch

        probabilities, labels = scored.probabilities, scored.labels[:, None]
        own = probabilities.gather(1, labels)
        later = torch.arange(scored.count, device=labels.device) > labels
        before = ((probabilities > own) | ((probabilities == own) & later)).sum(1)
        return before < self.k if self.k < scored.count else torch.full_like(own[:, 0], math.nan)

    def undefined(self, images: Mapping[str, int]) -> str:
        """More classes than may be named are needed."""
        return super().undefined(images) or (
            "" if len(images) > self.k else f"there are {len(images)} classes, so it is 1 for every model: lower k"
        )
