"""The tree-structured Parzen estimator."""

import warnings
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from podium.tuning.samplers import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Tpe(Sampler):
    """J. Bergstra et al., NeurIPS 2011; multivariate: S. Falkner et al., BOHB, ICML 2018."""

    NAME: ClassVar[str] = "tpe"

    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Random trials before it begins to learn."""

    def build(self, seed: int) -> "BaseSampler":
        """Every option on which a proposal depends is named: Optuna's defaults have changed before."""
        import optuna
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            # `group` (dimensions that exist for some configurations only) is marked experimental; it is what we need.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self.startup_trials,
                n_ei_candidates=24,
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
