"""What a retraining leaves while it runs: checkpoints, and a line now and then where there is no terminal."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podium.errors import InterruptedSearchError
from podium.training import checkpoint
from podium.training.loop import TrainingRun

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class Lines:
    """A line now and then where there is no terminal for a bar."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str, *, last: bool) -> None:
        """Print `text` if it is time, or the last."""
        if not sys.stderr.isatty() and (last or time.monotonic() - self._said >= LINE_EVERY):
            self._said = time.monotonic()
            print(text, flush=True)


@dataclass
class Keeper:
    """Saves the run every few seconds and at every epoch, and ends it when a signal came."""

    path: Path
    identity: str
    every: float
    received: list[int]
    on_save: Callable[[TrainingRun], None]

    def __post_init__(self) -> None:
        self._saved = time.monotonic()
        self.saving = self.logging = 0.0
        """Seconds in all."""

    def after_step(self, run: TrainingRun) -> None:
        """Save where it is time. Raises InterruptedSearchError, the run saved, where a signal came."""
        if self.received:
            self.save(run)
            raise InterruptedSearchError(
                f"stopped in epoch {run.epoch + 1} of {run.recipe.train.epochs}, saved; `dvc repro` goes on from here",
                self.received[0],
            )
        if time.monotonic() - self._saved >= self.every:
            self.save(run)

    def save(self, run: TrainingRun) -> None:
        """Save now."""
        started = time.monotonic()
        checkpoint.save(self.path, self.identity, run.state())
        self._saved = time.monotonic()
        self.on_save(run)
        self.saving += self._saved - started
        self.logging += time.monotonic() - self._saved
