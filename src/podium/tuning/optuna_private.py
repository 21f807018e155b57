"""The marks of successive halving, without those of a verdict that nobody has acted on.

Optuna's pruner marks a rung as completed, in the storage, before it says whether the trial goes on; asked again, it
takes a trial that has the mark for one that it let go on (Optuna 5.0, pruners/_successive_halving.py; hyperband is made
of the same). So a trial would never be pruned whose driver or worker was killed between the two. Where an epoch is
judged again, the pruner is shown the study as it was when it was asked first.
"""

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

MARK = "completed_rung_"
"""What the names of the trial's system attributes begin with that say so."""


def unjudged(
    study: optuna.Study, trial: FrozenTrial, judged: Container[int | None]
) -> tuple[optuna.Study, FrozenTrial]:
    """`study` and its `trial` as they were before the study's pruner was asked about the trial's last epoch.

    They are so already where that epoch is not among those `judged` before.
    """
    marks = {key for key in trial.system_attrs if key.startswith(MARK)}
    if not marks or trial.last_step not in judged:
        return study, trial
    new = marks - _passed(study, trial)

    def change(other: FrozenTrial) -> FrozenTrial:
        return _without(other, new) if other.number == trial.number else other

    return _seen(study, _View(study._storage, change)), _without(trial, new)


def _passed(study: optuna.Study, trial: FrozenTrial) -> set[str]:
    """The marks that `trial` had before its last epoch: the pruner sets them all for a trial without competitors."""
    earlier = _without(trial, trial.system_attrs)
    earlier.intermediate_values = {k: v for k, v in trial.intermediate_values.items() if k != trial.last_step}
    listening = _Listening(study._storage, lambda other: _without(other, other.system_attrs))
    study.pruner.prune(_seen(study, listening), earlier)
    return listening.marks


class _View:
    """A storage in which every trial is what `change` makes of it."""

    def __init__(self, storage: BaseStorage, change: Callable[[FrozenTrial], FrozenTrial]) -> None:
        self._storage = storage
        self._change = change

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [self._change(trial) for trial in self._storage.get_all_trials(study_id, deepcopy, states)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


class _Listening(_View):
    """A view that is told of marks and sets none."""

    def __init__(self, storage: BaseStorage, change: Callable[[FrozenTrial], FrozenTrial]) -> None:
        super().__init__(storage, change)
        self.marks: set[str] = set()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.marks.add(key)


def _seen(study: optuna.Study, storage: Any) -> optuna.Study:
    """`study`, whose trials are those of the view `storage`."""
    seen = copy.copy(study)
    seen._storage = storage
    return seen


def _without(trial: FrozenTrial, names: Container[str]) -> FrozenTrial:
    """A copy of `trial` without the system attributes called `names`."""
    changed = copy.copy(trial)
    changed.system_attrs = {name: value for name, value in trial.system_attrs.items() if name not in names}
    return changed
