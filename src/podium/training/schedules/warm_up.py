"""What schedules with a warm-up share."""

from typing import Annotated

from pydantic import Field

from podium.training.schedules import Schedule


class WarmUp(Schedule):
    """A line from zero to the peak, then down to zero."""

    warmup: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Fraction of the steps over which the rate rises to its peak."""

    def factor(self, step: int, total: int, epoch: int, epochs: int) -> float:
        """The lower one of both."""
        warm = self.warmup * total
        rising = (step + 1) / (warm + 1)
        left = (total - step) / (total - warm) if step >= warm else 1.0
        return min(1.0, rising, self.falling(left))

    def falling(self, left: float) -> float:
        """The factor where `left` (1 to 0) of the way down is left."""
        raise NotImplementedError
