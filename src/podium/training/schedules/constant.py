"""The learning rate as it is."""

from typing import ClassVar

from podium.training.schedules import Schedule


class Constant(Schedule):
    """The same learning rate at each step."""

    NAME: ClassVar[str] = "constant"

    def factor(self, step: int, total: int, epoch: int, epochs: int) -> float:
        """1 at every step."""
        return 1.0

    def uses_total(self) -> bool:
        """It never falls."""
        return False
