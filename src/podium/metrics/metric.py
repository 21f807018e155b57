"""What a metric is, whatever its family: a name, a direction, and how its values are shown.

A family of metrics is one file of this package: it declares its metrics and holds the code that computes them.
`classification` is the first.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number by which models are compared."""

    name: str
    """As params.yaml, MLflow and metrics.json have it."""
    maximize: bool
    """Whether a higher value is better."""
    format: Callable[[float], str]
    """A value as people read it."""

    @property
    def sign(self) -> int:
        """1 if a higher value is better, else -1: of `sign * value` the largest is the best."""
        return 1 if self.maximize else -1

    @property
    def direction(self) -> str:
        """maximize or minimize, as Optuna calls it."""
        return "maximize" if self.maximize else "minimize"


def as_percent(share: float) -> str:
    """`share` as 99.63%."""
    return f"{100 * share:.2f}%"


def as_decimal(value: float) -> str:
    """`value` as 0.0123."""
    return f"{value:.4f}"
