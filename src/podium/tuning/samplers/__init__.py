"""Samplers of the search, a file each: `search.sampler` names them."""

from typing import TYPE_CHECKING, Any

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from podium.config.search_section import SearchParams


SHUFFLED = {"QMCSampler": "relative", "GridSampler": "all"}
"""Classes of Optuna that shuffle a sequence when they are made and walk through it trial by trial, and what they draw
from it: only such values need one seed for the whole study."""


class Sampler(Component):
    """A sampler that `search.sampler` names."""

    @property
    def from_sequence(self) -> str:
        """Which values are drawn from a sequence that is shuffled once: none ("none"), those that are drawn together
        ("relative"), or all ("all")."""
        return "none"

    def build(self, seed: int) -> "BaseSampler":
        """The sampler for one trial: all that it knows is the study and `seed`, so that a killed search asks the same
        again."""
        raise NotImplementedError


class OwnSampler(Sampler):
    """A class of optuna.samplers by its name, or somebody's own; made with its `arguments`, and a `seed` if it takes
    one."""

    chosen: Choice

    @property
    def from_sequence(self) -> str:
        """As its class, or the one of Optuna that it is made from, has it."""
        function = components.load("sampler", self.chosen.name)
        bases = function.__mro__ if isinstance(function, type) else ()
        return next((SHUFFLED[base.__name__] for base in bases if base.__name__ in SHUFFLED), "none")

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

    def try_out(self, search: "SearchParams") -> None:
        """Run a few trials that cost nothing with it. Raises InputError for what fails."""
        from podium.tuning.empty_study import play
        from podium.tuning.study import NamedDraws

        self.build(0)
        play("search.sampler", self.chosen.name, search, sampler=NamedDraws(self, 0, 0))


def wrap(choice: Choice) -> Sampler:
    """Somebody else's sampler as one of ours."""
    return OwnSampler(chosen=choice)
