"""A trial that is with a worker, as the driver knows it, and who is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial

from podium.training.history import Epoch
from podium.tuning.messages import Task


class Watcher(Protocol):
    """Something that is told of every trial: the tracking mirror, the progress bar."""

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """An epoch of a running trial has ended."""

    def ended(self, trial: FrozenTrial) -> None:
        """A trial has been told to the study."""

    def note(self, line: str) -> None:
        """Something a person may want to know."""


@dataclass
class Live:
    """One attempt at a trial, and everything that was heard of the trial."""

    trial: optuna.Trial
    task: Task
    reported: frozenset[int] = frozenset()
    """Epochs that were reported before the trial was interrupted: they are judged already, all but the last."""
    epochs: dict[int, Epoch] = field(default_factory=dict)
    """What was first heard of each epoch: one that is trained again takes other seconds, and is recorded already."""

    @property
    def history(self) -> list[Epoch]:
        """The epochs in order. Of an earlier session's there are those that were recorded, until the worker ends."""
        return [self.epochs[number] for number in sorted(self.epochs)]

    def hear(self, history: Sequence[Epoch]) -> None:
        """Add the epochs of `history` that are new."""
        for epoch in history:
            self.epochs.setdefault(int(epoch["epoch"]), epoch)
