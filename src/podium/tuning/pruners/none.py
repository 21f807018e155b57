"""No trial is stopped."""

from typing import TYPE_CHECKING, ClassVar

from podium.tuning.pruners import Pruner

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class NoPruning(Pruner):
    """Every trial runs to its end."""

    NAME: ClassVar[str] = "none"

    def build(self, longest: int | None) -> "BasePruner":
        """Optuna's."""
        from optuna.pruners import NopPruner

        return NopPruner()
