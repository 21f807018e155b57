"""Random search."""

from typing import TYPE_CHECKING, ClassVar

from podium.tuning.samplers import Sampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Random(Sampler):
    """Independent draws. J. Bergstra and Y. Bengio, JMLR 2012."""

    NAME: ClassVar[str] = "random"

    def build(self, seed: int) -> "BaseSampler":
        """Optuna's."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)
