"""Samplers of the search, a file each: `search.sampler` names them."""

from typing import TYPE_CHECKING, Any

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Sampler(Component):
    """A sampler that `search.sampler` names."""

    def build(self, seed: int) -> "BaseSampler":
        """The sampler for one trial: all that it knows is the study and `seed`, so that a killed search asks the same
        again."""
        raise NotImplementedError


class OwnSampler(Sampler):
    """A class of optuna.samplers by its name, or somebody's own; made with its `arguments`, and a `seed` if it takes
    one."""

    chosen: Choice

    def build(self, seed: int) -> "BaseSampler":
        """What the class makes. Raises InputError where it is no sampler."""
        import warnings

        import optuna

        function = components.load("sampler", self.chosen.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made: Any = own_code.call(
                function, self.chosen.name, "search.sampler", self.chosen.arguments, {"seed": seed}
            )
        if not isinstance(made, optuna.samplers.BaseSampler):
            raise InputError(
                f"search.sampler: {self.chosen.name} must give an optuna.samplers.BaseSampler;"
                f" it gave {type(made).__name__}"
            )
        return made


def wrap(choice: Choice) -> Sampler:
    """Somebody else's sampler as one of ours."""
    return OwnSampler(chosen=choice)
