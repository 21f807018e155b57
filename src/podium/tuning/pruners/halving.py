"""Successive halving."""

from typing import TYPE_CHECKING, ClassVar

from podium.tuning.pruners import Rungs

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class Halving(Rungs):
    """K. Jamieson and A. Talwalkar, AISTATS 2016; asynchronous: L. Li et al., MLSys 2020, without promotion."""

    NAME: ClassVar[str] = "halving"

    def build(self, longest: int | None) -> "BasePruner":
        """Optuna's."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(min_resource=max(1, self.pruner_warmup), reduction_factor=self.pruner_factor)
