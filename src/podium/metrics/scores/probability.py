"""How good the probabilities are, not only the most probable class."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.metrics.scores import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from podium.metrics.confusion import Floats
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
        squares = scored.for_each(_squares)
        return squares / 2 if scored.own < 3 else squares


def _squares(scored: "Scored") -> "Tensor":
    off = scored.probabilities.clone()
    return off.scatter_(1, scored.labels[:, None], -1.0, reduce="add").square_().sum(1)


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
        import numpy as np

        bins, gaps = self._bins_and_gaps(scored)
        if scored.weights is None:
            return float(abs(np.bincount(bins, gaps)).sum() / len(gaps))
        weights = scored.weights.cpu().numpy()
        return float(abs(np.bincount(bins, weights * gaps)).sum() / weights.sum())

    def of_weights(self, scored: "Scored", weights: "Tensor") -> "Tensor":
        """(R,) 0 to 1."""
        import torch

        bins, gaps = (torch.from_numpy(each).to(weights.device) for each in self._bins_and_gaps(scored))
        sums = torch.zeros((len(weights), self.bins), dtype=torch.float64, device=weights.device)
        sums.index_add_(1, bins, weights * gaps)
        return sums.abs().sum(1) / weights.sum(1)

    def _bins_and_gaps(self, scored: "Scored") -> tuple["NDArray[np.int64]", "Floats"]:
        """(N,) of each image: the bin of its confidence, and how far that is above being right, 1, or not, 0."""
        confidence = scored.confidence.cpu().numpy()
        right = (scored.predicted == scored.labels).cpu().numpy()
        return _edges(self.bins).searchsorted(confidence), confidence - right


@lru_cache(maxsize=4)
def _edges(bins: int) -> "Floats":
    """(bins - 1,) between bins of equal width; a probability on one is of the lower bin."""
    import numpy as np

    return np.linspace(0, 1, bins + 1)[1:-1]
