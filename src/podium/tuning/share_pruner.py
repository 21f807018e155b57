"""The median stopping rule for trials of different length: compared at the same share of their schedules."""

import copy
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.trial import FrozenTrial, TrialState

EPOCHS = "train.epochs"
SCHEDULE = "train.schedule"
CONSTANT = "constant"
"""The schedule under which an epoch is surely the same in a short run and in a long one. Others are taken to span the
epochs: to ask somebody's own whether it does would import torch into the driver."""


class MedianAtShare(MedianPruner):
    """Optuna's MedianPruner, which sees the other trials as if they had as many epochs as the judged one.

    Of a trial with E epochs the value at epoch e of n is that of the last of its epochs that is not beyond the share
    e / n; where none is, it is not compared with. Where all trials have the same number of epochs, or a trial is not
    Podium's, this is Optuna's rule.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether `trial` is to be stopped: its best value so far is worse than the median of the others' there."""
        length = _length(trial)
        seen = study if length is None else _Stretched(study, length)
        return bool(super().prune(seen, trial))  # type: ignore[arg-type] # as much of a study as a pruner reads


class _Stretched:
    """A study whose complete trials have `length` epochs each."""

    def __init__(self, study: optuna.Study, length: int) -> None:
        self._study = study
        self._length = length

    def get_trials(self, deepcopy: bool = True, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """The trials, those of another length stretched to this one."""
        return [_stretched(trial, self._length) for trial in self._study.get_trials(deepcopy, states)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


def _stretched(trial: FrozenTrial, length: int) -> FrozenTrial:
    own = _length(trial)
    if own is None or own == length or not trial.intermediate_values:
        return trial
    values = trial.intermediate_values
    # Whole numbers: epoch e of `length` is at the share e / length, epoch own * e // length of the trial's own.
    at = {epoch: own * epoch // length for epoch in range(1, length + 1)}
    changed = copy.copy(trial)
    changed.intermediate_values = {epoch: values[here] for epoch, here in at.items() if here in values}
    return changed


def _length(trial: FrozenTrial) -> int | None:
    """The epochs that the schedule of `trial` spans; None: it spans none, or is not known."""
    recipe = trial.user_attrs.get("recipe")
    if not isinstance(recipe, Mapping) or recipe.get(SCHEDULE) == CONSTANT or EPOCHS not in recipe:
        return None
    return int(recipe[EPOCHS])
