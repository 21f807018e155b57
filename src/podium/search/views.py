"""A study whose trials are seen otherwise than they are stored: what a sampler or a pruner of Optuna is shown."""

import copy
from collections.abc import Callable, Container
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


class View:
    """A storage in which every trial is what `change` makes of it."""

    def __init__(self, storage: BaseStorage, change: Callable[[FrozenTrial], FrozenTrial]) -> None:
        self._storage = storage
        self._change = change

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials that are in one of `states` once they are changed."""
        trials = [self._change(trial) for trial in self._storage.get_all_trials(study_id, deepcopy)]
        return [trial for trial in trials if states is None or trial.state in states]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def seen(study: optuna.Study, storage: Any) -> optuna.Study:
    """`study`, whose trials are those of the view `storage`; what it remembers of them is its own."""
    other = copy.copy(study)
    other._storage = storage
    other._thread_local = type(study._thread_local)()
    return other
