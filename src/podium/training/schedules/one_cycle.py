"""A linear warm-up, then a line down to zero."""

from typing import ClassVar

from podium.training.schedules.warm_up import WarmUp


class OneCycle(WarmUp):
    """L. Smith and N. Topin, Super-Convergence, 2018, with a line from the peak to zero."""

    NAME: ClassVar[str] = "one_cycle"

    def falling(self, left: float) -> float:
        """A line."""
        return left
