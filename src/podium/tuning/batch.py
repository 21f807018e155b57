"""A search that is the same whatever the number of workers (`search.deterministic`).

Trials are asked for in batches of a fixed size, each when the one before has ended to its last trial, and a trial is
pruned by what earlier batches have shown. So nothing depends on which worker was quicker.
"""

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from podium.tuning import study as studies
from podium.tuning.driver import Driver
from podium.tuning.inherit import is_own
from podium.tuning.trial import RunningTrial


def started(trials: Sequence[FrozenTrial]) -> list[int]:
    """The numbers of the study's own trials that have been asked for, in order."""
    return sorted(t.number for t in trials if is_own(t) and t.state != TrialState.WAITING)


def first_of_batch(trials: Sequence[FrozenTrial], number: int, size: int) -> int:
    """The first trial of the batch in which trial `number` is."""
    numbers = started(trials)
    place = numbers.index(number)
    return numbers[place - place % size]


class Earlier:
    """A study as it was before trial `before`: what a pruner may look at."""

    def __init__(self, study: optuna.Study, before: int) -> None:
        self._study = study
        self._before = before

    def get_trials(self, deepcopy: bool = True, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """The trials with a lower number."""
        return [t for t in self._study.get_trials(deepcopy, states) if t.number < self._before]

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them."""
        return self.get_trials()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)


class BatchDriver(Driver):
    """A driver whose trials follow from seed and budget alone, also with several workers.

    What follows from the clock does not: `search.timeout`, `search.trial_timeout`, and workers that die too often.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._batch: list[RunningTrial] = []
        """Trials that were asked for and have no worker yet."""
        self._begun = False
        """Whether this session has had a batch: what ended earlier ones may be fixed."""

    def _fill(self, unfinished: list[FrozenTrial]) -> None:
        if not self.running and not self._batch:
            if self._begun:
                super()._end_when_nothing_works()
            self._batch, self._begun = self._next_batch(unfinished), True
        while self._is_worker_free() and self._batch:
            self._submit(self._batch.pop(0))

    def _workerless(self) -> list[RunningTrial]:
        return super()._workerless() + self._batch

    def _next_batch(self, unfinished: list[FrozenTrial]) -> list[RunningTrial]:
        """What was left of a batch, or the next one: every trial of it is configured before the first is trained."""
        batch = [self._left_running(frozen) for frozen in unfinished]
        unfinished.clear()
        if batch and self._is_filled():
            return batch
        while not self._spent():
            batch.append(self._prepare(studies.ask(self.study, self.params)))
            if self._is_filled():
                break
        return batch

    def _is_filled(self) -> bool:
        return len(started(self.study.get_trials(deepcopy=False))) % self.params.batch == 0

    def _compared(self, study: optuna.Study, number: int) -> optuna.Study:
        before = first_of_batch(study.get_trials(deepcopy=False), number, self.params.batch)
        return Earlier(study, before)  # type: ignore[return-value]

    def _end_when_nothing_works(self) -> None:
        """Not before the batch has ended: which of its trials failed first is chance."""
