"""The time of a search, over all of its sessions."""

import time

import optuna

KEEP_TIME = 10.0
"""Seconds of the search's time that a kill in the middle of a long trial may lose."""


class Stopwatch:
    """Runs from its making on, on top of what the study has kept of earlier sessions."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._earlier: float = study.user_attrs.get("seconds", 0.0)
        self._started = self._kept = time.monotonic()

    def seconds(self) -> float:
        """The search's time until now."""
        return self._earlier + time.monotonic() - self._started

    def keep(self, at_least_every: float = 0.0) -> None:
        """Write it to the study, where that was done `at_least_every` seconds ago or earlier."""
        now = time.monotonic()
        if now - self._kept >= at_least_every:
            self._kept = now
            self._study.set_user_attr("seconds", round(self.seconds(), 3))
