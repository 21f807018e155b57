"""When a search has had enough, and the time that it has taken.

Both are totals over every resume, so that no kill and no number of workers overshoots.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from podium.config.params import SearchParams
from podium.tuning.feasibility import is_feasible
from podium.tuning.inherit import is_own

SAVE_EVERY = 10.0
"""Seconds of the search's time that a kill in the middle of a long trial may lose."""


@dataclass(frozen=True)
class Budget:
    """The limits of a search."""

    n_trials: int
    timeout: float | None = None
    plateau: int | None = None
    max_failures: int | None = None

    @staticmethod
    def of(params: SearchParams) -> "Budget":
        """The limits in `params`."""
        return Budget(params.n_trials, params.timeout, params.plateau, params.max_failures)

    def spent(self, trials: Sequence[FrozenTrial], direction: StudyDirection, seconds: float) -> str:
        """Why no further trial is to be started, or an empty string.

        `seconds` is the search's time over all sessions.
        """
        started = sum(t.state != TrialState.WAITING for t in trials if is_own(t))
        if started >= self.n_trials:
            return f"search.n_trials: {started} trials have been started"
        if self.timeout is not None and seconds >= self.timeout:
            return f"search.timeout: {seconds:.0f} s of {self.timeout:g} s have passed"
        if self.plateau is not None and (since := since_best(trials, direction)) >= self.plateau:
            return f"search.plateau: {since} trials without a better one"
        return ""

    def failures(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The last trials, by number, where so many in a row failed that the search should end; else nothing."""
        ended = [t for t in trials if t.state.is_finished() and is_own(t)]
        row: list[FrozenTrial] = []
        for trial in reversed(ended):
            if trial.state != TrialState.FAIL:
                break
            row.insert(0, trial)
        return row if self.max_failures is not None and len(row) >= self.max_failures else []


def since_best(trials: Sequence[FrozenTrial], direction: StudyDirection) -> int:
    """How many trials of this study's own have ended since the best complete one, itself not counted.

    0 while none is complete.
    """
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    best, since, any_complete = float("-inf"), 0, False
    for trial in (t for t in trials if t.state.is_finished()):
        counts = trial.state == TrialState.COMPLETE and trial.value is not None and is_feasible(trial)
        value = sign * (trial.value or 0.0) if counts else float("-inf")
        if value > best:
            best, since, any_complete = value, 0, True
        else:
            since += is_own(trial)
    return since if any_complete else 0


class Clock:
    """The time that a search has taken over all its sessions, stored in its study.

    It runs from its making on, and begins where the last session's ended.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self.earlier: float = study.user_attrs.get("seconds", 0.0)
        """Seconds of the sessions before this one."""
        self._started = self._saved = time.monotonic()

    def seconds(self) -> float:
        """The search's time over all sessions."""
        return self.earlier + time.monotonic() - self._started

    def save(self, *, now: bool = True) -> None:
        """Store the time in the study, now or where that was not done for a while."""
        if now or time.monotonic() - self._saved >= SAVE_EVERY:
            self._saved = time.monotonic()
            self._study.set_user_attr("seconds", round(self.seconds(), 3))
