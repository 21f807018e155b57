"""A trial while it is with a worker: its configuration, its task, what was received of it, and how it is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.config.params import SearchParams
from podium.config.recipe import Recipe
from podium.training.epochs import Epoch
from podium.training.seeds import derive
from podium.tuning import optuna_private
from podium.tuning.messages import Ended, Task
from podium.tuning.study import suggest


class Watcher(Protocol):
    """Something that follows every trial: the tracking mirror, the progress bar."""

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """An epoch of a running trial has ended."""

    def rested(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """A trial has left its worker and rests, RUNNING in the study: it may go on later."""

    def ended(self, trial: FrozenTrial) -> None:
        """A trial has ended and is recorded in the study."""

    def note(self, line: str) -> None:
        """Log a line that a person may want to read."""


@dataclass
class RunningTrial:
    """One attempt at a trial, and everything that was received of the trial."""

    study: optuna.Study
    trial: optuna.Trial
    task: Task
    reported: frozenset[int] = frozenset()
    """Epochs that were reported before the trial was interrupted: they are judged already, all but the last."""
    epochs: dict[int, Epoch] = field(default_factory=dict)
    """Each epoch as first received, with the figures that came later: one that is trained again takes other seconds,
    and is recorded already."""
    restarts: int = 0
    """How often it was handed to another worker for the loss of one that had begun it."""

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.task.number

    @property
    def history(self) -> list[Epoch]:
        """The epochs in order. Of an earlier session's there are those that were recorded, until the worker ends."""
        return [self.epochs[number] for number in sorted(self.epochs)]

    @property
    def is_whole(self) -> bool:
        """Whether its last epoch is known, and nothing but that is needed of it."""
        recipe, asked = self.task.recipe["train"], self.task.calibrate
        return len(self.history) >= recipe["epochs"] and not asked and recipe.get("program") is None

    @property
    def longest_epoch(self) -> float:
        """Seconds of its longest epoch; 0.0 while none is known."""
        return max((epoch["seconds"] for epoch in self.history), default=0.0)

    @property
    def frozen(self) -> FrozenTrial:
        """The trial as the study has it now."""
        return optuna_private.frozen(self.study, self.trial)

    def log(self, history: Sequence[Epoch]) -> None:
        """Add the epochs of `history` that are new, and new figures of the others."""
        for epoch in history:
            number = int(epoch["epoch"])
            self.epochs[number] = epoch | self.epochs.get(number, {})

    def report(self, epoch: Epoch, metric: str | None, earlier: Sequence[Epoch] = ()) -> int:
        """Record the end of an epoch, unless that was done before, and what `earlier` ones have got since; returns the
        epoch's number.

        Without a `metric` Optuna is not told: it takes no report where there are several.
        """
        number = int(epoch["epoch"])
        self.log([*earlier, epoch])
        if metric is not None and number not in self.reported:
            self.trial.report(epoch[metric], number)
        return number

    def next_attempt(self, *, charged: bool = True) -> "RunningTrial":
        """The trial as it is handed to another worker; `charged`: as one of its restarts."""
        task = replace(self.task, attempt=self.task.attempt + 1)
        reported, restarts = self.reported | frozenset(self.epochs), self.restarts + charged
        return RunningTrial(self.study, self.trial, task, reported, self.epochs, restarts)

    def within(self, seconds: float | None) -> Task:
        """Its task, to be stopped after `seconds` where that is a number."""
        return self.task if seconds is None else replace(self.task, stop_after=max(0.0, seconds))

    def fail(self, ended: Ended) -> None:
        """Record why the trial fails; `tell` has to follow."""
        if ended.diverged:
            self.trial.set_user_attr("diverged", True)
        self.trial.set_user_attr("reason", ended.reason)
        if ended.trace:
            self.trial.set_user_attr("traceback", ended.trace)

    def tell(self, state: TrialState, value: float | Sequence[float] | None = None) -> FrozenTrial:
        """Record the trial's end and remove its checkpoint. `value`: one for each metric, where there are several."""
        self.trial.set_user_attr("history", self.history)
        self.study.tell(self.number, value, state=state)
        Path(self.task.checkpoint).unlink(missing_ok=True)
        return self.frozen

    def leave(self) -> None:
        """Let the trial stay RUNNING in the study, with what was received of it: the next session resumes it."""
        if self.epochs:
            self.trial.set_user_attr("history", self.history)


def configure(trial: optuna.Trial, params: SearchParams, base: Recipe) -> tuple[Recipe, int]:
    """What a trial trains, on which seed: as recorded with it, or asked for now and recorded."""
    recorded = trial.user_attrs
    if "recipe" in recorded and "seed" in recorded:
        return base.replace(recorded["recipe"]), int(recorded["seed"])
    recipe = suggest(trial, params, base)
    seed = derive(params.seed, "trial", trial.number)
    trial.set_user_attr("seed", seed)
    trial.set_user_attr("recipe", recipe.flat())
    return recipe, seed
