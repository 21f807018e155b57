"""Pruners of the search, a file each: `search.pruner` names them."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

    from podium.config.search_section import SearchParams


class Pruner(Component):
    """A pruner that `search.pruner` names."""

    LOOKS_AT_RUNNING: ClassVar[bool] = False
    """Whether what it decides depends on trials that are running: search.deterministic does not go with it."""

    def build(self, longest: int | None) -> "BasePruner":
        """The pruner; `longest` is the largest number of epochs that a trial may have, where the space says so."""
        raise NotImplementedError


class Warm(Pruner):
    """One that leaves the first epochs alone."""

    pruner_warmup: Annotated[int, Field(ge=0)] = 2
    """Epochs that every trial trains before it may be pruned. halving and hyperband have their first rung there."""


class Rungs(Warm):
    """One that compares at rungs."""

    pruner_factor: Annotated[int, Field(ge=2, le=10)] = 3
    """One in this many trials continues at each rung."""


class OwnPruner(Pruner):
    """A class of optuna.pruners by its name, or somebody's own; made with its `arguments`.

    An argument `wrapped_pruner` may be the name of another of optuna.pruners' classes.
    """

    chosen: Choice

    def build(self, longest: int | None) -> "BasePruner":
        """What the class makes. Raises InputError where it is no pruner."""
        import warnings

        import optuna

        given: dict[str, Any] = dict(self.chosen.arguments)
        wrapped = given.get("wrapped_pruner")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if isinstance(wrapped, str):
                given["wrapped_pruner"] = OwnPruner(chosen=Choice(name=wrapped)).build(longest)
            made = own_code.call(
                components.load("pruner", self.chosen.name), self.chosen.name, "search.pruner", given, {}
            )
        if not isinstance(made, optuna.pruners.BasePruner):
            raise InputError(
                f"search.pruner: {self.chosen.name} must give an optuna.pruners.BasePruner; it gave"
                f" {type(made).__name__}"
            )
        return made

    def try_out(self, search: "SearchParams") -> None:
        """Run a few trials that cost nothing with it. Raises InputError for what fails."""
        from podium.tuning.empty_study import play

        play("search.pruner", self.chosen.name, search, pruner=self.build(None))


def wrap(choice: Choice) -> Pruner:
    """Somebody else's pruner as one of ours."""
    return OwnPruner(chosen=choice)
