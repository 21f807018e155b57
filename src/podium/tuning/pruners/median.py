"""Trials below the median of the others are stopped."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.tuning.pruners import Warm

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class Median(Warm):
    """The median stopping rule. D. Golovin et al., Google Vizier, KDD 2017.

    Compared at the same share of their epochs where schedules span them, for a long run is behind a short one at every
    epoch of the latter and ends higher; at the same epoch where the schedule is constant. At the same share the median
    stops later than at the same epoch; the 60th percentile stops as early, and fewer of the best
    (docs/decisions/2026-11-29-workers-and-checkpoints.md).
    """

    NAME: ClassVar[str] = "median"

    pruner_startup: Annotated[int, Field(ge=0)] = 5
    """Trials that must have completed before any is pruned."""
    pruner_percentile: Annotated[float, Field(ge=0, le=100)] = 60.0
    """Percentage of the completed trials that one must beat to go on; 50: the median."""

    def build(self, longest: int | None) -> "BasePruner":
        """Optuna's rule, on values at the same share."""
        from podium.tuning.share_pruner import PercentileAtShare

        kept = 100.0 - self.pruner_percentile  # Optuna counts from the best
        return PercentileAtShare(kept, n_startup_trials=self.pruner_startup, n_warmup_steps=self.pruner_warmup)
