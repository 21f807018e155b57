"""Hyperband: halving with several first rungs at once."""

from typing import TYPE_CHECKING, ClassVar

from podium.tuning.pruners import Rungs

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class Hyperband(Rungs):
    """L. Li et al., JMLR 2018."""

    NAME: ClassVar[str] = "hyperband"
    LOOKS_AT_RUNNING: ClassVar[bool] = True

    def build(self, longest: int | None) -> "BasePruner":
        """Optuna's."""
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(
            min_resource=max(1, self.pruner_warmup),
            max_resource="auto" if longest is None else longest,
            reduction_factor=self.pruner_factor,
        )
