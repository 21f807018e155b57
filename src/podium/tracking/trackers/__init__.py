"""Other trackers that get what MLflow gets, a file each: `tracking.also` names them.

MLflow stays the record: `podium sync` compares and repairs it alone. A tracker gets what happens while it is named, and
what it raises ends no search.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

METHODS = ("start", "log", "end")
NOT_METRICS = ("epoch", "seconds")
"""Of what an epoch has: these are no curves."""


@dataclass(frozen=True)
class TrackedRun:
    """A run, as a tracker is told of it."""

    kind: str
    """trial (of a search or its confirmation), retrain, or train."""
    study: str
    """The title of the search; empty for a retraining and `podium train`."""
    name: str
    """Such as trial-007; unique within kind and study."""
    folder: Path
    """Where files about this run may be written; it does not exist yet."""
    params: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The whole configuration by dotted names: text, numbers, yes or no."""


class Tracker(Component):
    """A tracker: told of each run's start, of each of its epochs once and in order, and of its end.

    A run that goes on after a kill is started again, with all of its epochs. One thread makes all calls.
    """

    def start(self, run: TrackedRun) -> None:
        """A run has begun, or goes on in a new session."""
        raise NotImplementedError

    def log(self, run: TrackedRun, values: Mapping[str, float], epoch: int) -> None:
        """The metrics of an epoch (from 1 on): train_loss, val_loss, val_accuracy, learning_rate, or your loop's."""
        raise NotImplementedError

    def end(self, run: TrackedRun, state: str, value: float | None) -> None:
        """A run has ended: COMPLETE, PRUNED or FAIL, with the objective's value where it has one."""
        raise NotImplementedError


class OwnTracker(Tracker):
    """Somebody's own class with the three methods, made once with its `arguments`."""

    chosen: Choice

    def check(self) -> None:
        """Make it. Raises InputError where it can't be made, or lacks a method."""
        missing = [name for name in METHODS if not callable(getattr(self._object, name, None))]
        if missing:
            raise InputError(
                f"tracking.also: {self.chosen.name} must have the methods {', '.join(METHODS)} (docs/extend.md); it has"
                f" no {', '.join(missing)}{own_code.at(self.chosen.name)}"
            )

    def start(self, run: TrackedRun) -> None:
        """What its own does."""
        self._object.start(run)

    def log(self, run: TrackedRun, values: Mapping[str, float], epoch: int) -> None:
        """What its own does."""
        self._object.log(run, values, epoch)

    def end(self, run: TrackedRun, state: str, value: float | None) -> None:
        """What its own does."""
        self._object.end(run, state, value)

    @cached_property
    def _object(self) -> Any:
        found = components.load("tracker", self.chosen.name)
        return own_code.call(found, self.chosen.name, "tracking.also", dict(self.chosen.arguments), {})


def metrics_of(epoch: Mapping[str, float]) -> dict[str, float]:
    """What a tracker gets of an epoch."""
    return {name: value for name, value in epoch.items() if name not in NOT_METRICS}


def wrap(choice: Choice) -> Tracker:
    """Somebody's own tracker as one of ours."""
    return OwnTracker(chosen=choice)
