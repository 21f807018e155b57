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
from podium.text import counted
from podium.tracking.pareto_front import is_feasible
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

    def spent(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], seconds: float) -> str:
        """Why no further trial is to be started, or an empty string.

        `seconds` is the search's time over all sessions.
        """
        started = sum(t.state != TrialState.WAITING for t in trials if is_own(t))
        if started >= self.n_trials:
            return f"search.n_trials: {counted(started, 'trial')} started"
        if self.timeout is not None and seconds >= self.timeout:
            return f"search.timeout: {seconds:.0f} s of {self.timeout:g} s have passed"
        if self.plateau is not None and (since := since_best(trials, directions)) >= self.plateau:
            what = "better one" if len(directions) == 1 else "new one on the Pareto front"
            return f"search.plateau: {counted(since, 'trial')} without a {what}"
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


def since_best(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> int:
    """How many trials of this study's own have ended since the best complete one, itself not counted.

    Of several metrics: since the last one that was new on the Pareto front. 0 while none is complete.
    """
    signs = [1 if direction == StudyDirection.MAXIMIZE else -1 for direction in directions]
    front: list[list[float]] = []
    since = 0
    for trial in (t for t in trials if t.state.is_finished()):
        counts = trial.state == TrialState.COMPLETE and trial.values and is_feasible(trial)
        point = [sign * value for sign, value in zip(signs, trial.values, strict=True)] if counts else []
        if point and not any(_is_covered(point, other) for other in front):
            front, since = [*(other for other in front if not _is_covered(other, point)), point], 0
        else:
            since += is_own(trial)
    return since if front else 0


def _is_covered(point: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `other` is at least as good in everything."""
    return all(mine <= theirs for mine, theirs in zip(point, other, strict=True))


class Clock:
    """The time that a search has taken over all its sessions, stored in its study.

    It begins where the last session's ended, and runs from `began` on, a time of `time.monotonic`; from its making on
    where there is none.
    """

    def __init__(self, study: optuna.Study, began: float | None = None) -> None:
        self._study = study
        self.earlier: float = study.user_attrs.get("seconds", 0.0)
        """Seconds of the sessions before this one."""
        self._saved = time.monotonic()
        self._began = self._saved if began is None else began

    def seconds(self) -> float:
        """The search's time over all sessions."""
        return self.earlier + time.monotonic() - self._began

    def save(self, *, now: bool = True) -> None:
        """Store the time in the study, now or where that was not done for a while."""
        if now or time.monotonic() - self._saved >= SAVE_EVERY:
            self._saved = time.monotonic()
            self._study.set_user_attr("seconds", round(self.seconds(), 3))
