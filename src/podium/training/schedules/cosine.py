"""A linear warm-up, then a cosine down to zero."""

import math
from typing import ClassVar

from podium.training.schedules.warm_up import WarmUp


class Cosine(WarmUp):
    """I. Loshchilov and F. Hutter, SGDR, ICLR 2017, without restarts."""

    NAME: ClassVar[str] = "cosine"

    def falling(self, left: float) -> float:
        """Half a cosine."""
        return 0.5 * (1 - math.cos(math.pi * left))
