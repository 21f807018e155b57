"""How good the probabilities are, not only the most probable class."""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from podium.metrics.scored import Scored


class LogLoss(Metric):
    """The mean negative log likelihood of the right classes in nats, whatever the training's own loss is."""

    NAME: ClassVar[str] = "loss"
    DIRECTION: ClassVar[str] = "minimize"
    RANGE: ClassVar[tuple[float, float]] = (0.0, math.inf)
    EACH_EPOCH: ClassVar[bool] = True

    def each(self, scored: "Scored") -> "Tensor":
        """0 or more."""
        import torch.nn.functional as F

        return scored.for_each(lambda some: F.cross_entropy(some.logits.double(), some.labels, reduction="none"))


class Brier(Metric):
    """The mean squared difference of the probabilities from 1 for the right class and 0 for the others.

    As scikit-learn's brier_score_loss: 0 to 2, halved for two classes (G. Brier, Monthly Weather Review, 1950).
    """

    NAME: ClassVar[str] = "brier"
    DIRECTION: ClassVar[str] = "minimize"
    RANGE: ClassVar[tuple[float, float]] = (0.0, 2.0)

    def each(self, scored: "Scored") -> "Tensor":
        """0 to 2."""
        import torch.nn.functional as F

        squares = scored.for_each(
            lambda some: (some.probabilities - F.one_hot(some.labels, some.count)).square().sum(1)
        )
        return squares / 2 if scored.own < 3 else squares


class CalibrationError(Metric):
    """Expected calibration error of the most probable class, in bins of equal width.

    C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2; as `evaluate` and the gate have it.
    """

    NAME: ClassVar[str] = "calibration_error"
    DIRECTION: ClassVar[str] = "minimize"

    bins: Annotated[int, Field(ge=2, le=1000)] = 15
    """Of the probability."""

    @property
    def label(self) -> str:
        """With the number of bins, where it is not the usual one."""
        return self.NAME if self.bins == 15 else f"{self.NAME}_{self.bins}_bins"

    def value(self, scored: "Scored") -> float:
        """0 to 1."""
        return float(self.of_weights(scored, scored.each[None])[0])

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor":
        """(R,) 0 to 1."""
        import torch

        confidence = scored.confidence
        edges = torch.linspace(0, 1, self.bins + 1, dtype=torch.float64, device=confidence.device)
        bins = torch.bucketize(confidence, edges[1:-1])
        gap = confidence - (scored.predicted == scored.labels).double()
        sums = torch.zeros((len(weights), self.bins), dtype=torch.float64, device=confidence.device)
        sums.index_add_(1, bins, weights * gap)
        return sums.abs().sum(1) / weights.sum(1)
