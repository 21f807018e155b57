"""The time that a search has taken, over all its sessions: kept in its study."""

import time

import optuna

KEEP_EVERY = 10.0
"""Seconds of the search's time that a kill in the middle of a long trial may lose."""


class Clock:
    """Runs from its making on, and goes on where the last session's was kept."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self.earlier: float = study.user_attrs.get("seconds", 0.0)
        """Seconds of the sessions before this one."""
        self._started = self._kept = time.monotonic()

    def seconds(self) -> float:
        """The search's time over all sessions."""
        return self.earlier + time.monotonic() - self._started

    def keep(self, *, now: bool = True) -> None:
        """Keep the time in the study, now or where that was not done for a while."""
        if now or time.monotonic() - self._kept >= KEEP_EVERY:
            self._kept = time.monotonic()
            self._study.set_user_attr("seconds", round(self.seconds(), 3))
