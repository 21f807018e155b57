"""What a person sees of a search: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import Counter

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from podium.history import Epoch
from podium.search.inherit import is_own

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """A watcher that shows counts by state, the best value and the time left."""

    def __init__(self, study: optuna.Study, n_trials: int, title: str) -> None:
        self._sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        self._states: Counter[TrialState] = Counter()
        self._best: FrozenTrial | None = None
        self._live = sys.stderr.isatty()
        self._total = n_trials
        self._started = self._said = time.monotonic()
        self._title = title
        for trial in study.get_trials(deepcopy=False):
            self._count(trial)
        self._earlier = self._done
        self._bar = tqdm(
            total=n_trials, initial=self._done, desc=title, unit="trial", disable=not self._live, dynamic_ncols=True
        )
        self._bar.set_postfix_str(self._counts())

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """Keep the clock moving between trials."""
        self._bar.refresh()

    def ended(self, trial: FrozenTrial) -> None:
        """Count a trial."""
        self._count(trial)
        self._bar.set_postfix_str(self._counts(), refresh=False)
        self._bar.update()
        now = time.monotonic()
        if not self._live and (now - self._said >= LINE_EVERY or self._done == self._total):
            self._said = now
            print(f"{self._title}: {self._done}/{self._total}  {self._counts()}{self._left()}", flush=True)

    def note(self, line: str) -> None:
        """Say a line without breaking the bar."""
        if self._live:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    @property
    def _done(self) -> int:
        return sum(self._states.values())

    def _count(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished() or not is_own(trial):
            return
        self._states[trial.state] += 1
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = self._best
            if best is None or best.value is None or self._sign * trial.value > self._sign * best.value:
                self._best = trial

    def _counts(self) -> str:
        states = self._states
        text = f"{states[TrialState.COMPLETE]} complete, {states[TrialState.PRUNED]} pruned"
        if states[TrialState.FAIL]:
            text += f", {states[TrialState.FAIL]} failed"
        if self._best is not None:
            text += f"; best {self._best.value:.4f} (trial {self._best.number})"
        return text

    def _left(self) -> str:
        fresh = self._done - self._earlier
        seconds = (time.monotonic() - self._started) / max(fresh, 1) * (self._total - self._done)
        return f"; about {seconds:.0f} s left" if seconds >= 1 else ""
