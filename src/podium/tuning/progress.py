"""What a person sees of a search: three lines that move on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import Counter, deque
from statistics import fmean
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from podium.text import counted, number
from podium.tracking.pareto_front import is_feasible
from podium.training.epochs import Epoch
from podium.tuning.inherit import is_own
from podium.tuning.pareto import first, front

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""
DRAW_EVERY = 0.2
"""Seconds between updates on a terminal: an epoch that ends in between costs next to nothing."""
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""tqdm's own picture but for its time left, which takes every trial to be as long as the last ones."""
RECENT = 30
"""Trials from whose durations the next ones' are estimated: pruning makes later ones shorter."""
SHOWN = 6
"""Running trials that are shown by name."""


class Progress:
    """A watcher that shows counts by state, the best trial, the running trials, and the time left."""

    def __init__(
        self,
        study: optuna.Study,
        n_trials: int,
        title: str,
        metric: str = "",
        *,
        rests: bool = False,
        max_epochs: int | None = None,
    ) -> None:
        """`rests`: trials may rest, and how long one takes from its beginning to its end says nothing of time left;
        `max_epochs`: the budget of epochs, if there is one.
        """
        self._study = study
        self._several = len(study.directions) > 1 and study.study_name.startswith("search-")
        self._sign = 1 if study.directions[0] == StudyDirection.MAXIMIZE else -1
        self._states: Counter[TrialState] = Counter()
        self._best: FrozenTrial | None = None
        self._over = 0
        self._metric = metric or ("accuracy" if self._sign == 1 else "loss")
        self._running: dict[int, tuple[int, int, float | None]] = {}
        """Epochs that have ended, epochs that are planned, and the last value of each running trial."""
        self._rests, self._max_epochs = rests, max_epochs
        own = (trial for trial in study.get_trials(deepcopy=False) if is_own(trial))
        self._epochs = {trial.number: len(trial.intermediate_values) for trial in own}
        """Epochs that have ended, of each trial: one that is trained again is no other."""
        self._resting: set[int] = set()
        """Trials that may go on later."""
        self._at_once = 1
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._terminal = sys.stderr.isatty()
        self._total = n_trials
        self._drawn, self._printed = 0.0, time.monotonic()
        self._title = title
        for trial in study.get_trials(deepcopy=False):
            self._count(trial)
            if rests and trial.state == TrialState.RUNNING:
                self._resting.add(trial.number)
        hidden: dict[str, Any] = {"disable": not self._terminal, "dynamic_ncols": True}
        self._bar = tqdm(total=n_trials, initial=self._done, desc=title, bar_format=BAR, **hidden)
        self._below = [tqdm(bar_format="{desc}", position=k, leave=False, **hidden) for k in (1, 2)]
        self._draw()

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """An epoch has ended."""
        planned = trial.user_attrs.get("recipe", {}).get("train.epochs", 0)
        self._running[trial.number] = (
            len(history),
            planned,
            history[-1].get("val_" + self._metric) if history else None,
        )
        self._resting.discard(trial.number)
        self._epochs[trial.number] = len(trial.intermediate_values)
        self._at_once = max(self._at_once, len(self._running))
        if self._terminal and time.monotonic() - self._drawn >= DRAW_EVERY:
            self._draw()

    def rested(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """A trial rests."""
        self._running.pop(trial.number, None)
        self._resting.add(trial.number)
        if self._terminal and time.monotonic() - self._drawn >= DRAW_EVERY:
            self._draw()
        elif not self._terminal and time.monotonic() - self._printed >= LINE_EVERY:
            self._print()

    def ended(self, trial: FrozenTrial) -> None:
        """Count a trial."""
        self._count(trial)
        self._running.pop(trial.number, None)
        self._resting.discard(trial.number)
        if trial.duration is not None:
            self._recent.append(trial.duration.total_seconds())
        self._bar.update()
        if self._terminal:
            self._draw()
            return
        if time.monotonic() - self._printed >= LINE_EVERY or self._done == self._total:
            self._print()

    def _print(self) -> None:
        self._printed = time.monotonic()
        parts = [f"{self._done}/{self._total}  {self._counts()}", self._best_one(), self._workers(), self._left()]
        print(f"{self._title}: {'; '.join(part for part in parts if part)}", flush=True)

    def note(self, line: str) -> None:
        """Print a line without breaking the bar."""
        if self._terminal:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        for line in reversed(self._below):
            line.close()
        self._bar.close()

    def _draw(self) -> None:
        if not self._terminal:
            return
        self._drawn = time.monotonic()
        self._bar.set_postfix_str("; ".join(part for part in (self._counts(), self._left()) if part))
        for line, text in zip(self._below, (self._best_one(with_settings=True), self._workers()), strict=True):
            line.set_description_str(text)

    @property
    def _done(self) -> int:
        return sum(self._states.values())

    def _count(self, trial: FrozenTrial) -> None:
        if not trial.state.is_finished() or not is_own(trial):
            return
        self._states[trial.state] += 1
        self._over += not is_feasible(trial)
        value = first(trial)
        if trial.state == TrialState.COMPLETE and value is not None and is_feasible(trial):
            best = None if self._best is None else first(self._best)
            if best is None or self._sign * value > self._sign * best:
                self._best = trial

    def _counts(self) -> str:
        states = self._states
        text = f"{states[TrialState.COMPLETE]} complete, {states[TrialState.PRUNED]} pruned"
        text += f", {len(self._resting)} resting" if self._resting else ""
        text += f", {states[TrialState.FAIL]} failed" if states[TrialState.FAIL] else ""
        return text + (f"; {self._over} of them over search.limits" if self._over else "")

    def _best_one(self, *, with_settings: bool = False) -> str:
        if self._best is None:
            return ""
        text = f"{number(first(self._best) or 0.0)} (trial {self._best.number})"
        text = f"best {self._metric} {text}" if self._several else f"best {text}"
        if self._several:
            text = f"{counted(len(front(self._study)), 'trial')} on the Pareto front; {text}"
        if not with_settings:
            return text
        return text + ": " + ", ".join(_setting(name, value) for name, value in sorted(self._best.params.items()))

    def _workers(self) -> str:
        """Which trial is in which epoch, on each worker."""
        parts = [self._worker(number) for number in sorted(self._running)[:SHOWN]]
        more = len(self._running) - len(parts)
        return "; ".join(parts) + (f"; and {more} more" if more else "")

    def _worker(self, trial: int) -> str:
        epoch, planned, value = self._running[trial]
        text = f"trial {trial}: epoch {epoch}/{planned}"
        return text if value is None else f"{text}, val {self._metric} {number(value)}"

    def _left(self) -> str:
        """From the last trials' own durations and how many are trained at once; nothing before one has ended."""
        if self._rests:
            epochs = sum(self._epochs.values())
            return f"{epochs} of {self._max_epochs} epochs" if self._max_epochs else f"{epochs} epochs"
        if not self._recent:
            return ""
        under_way = sum(epoch / planned for epoch, planned, _ in self._running.values() if planned)
        seconds = fmean(self._recent) * max(self._total - self._done - under_way, 0.0) / self._at_once
        return f"about {_duration(seconds)} left" if seconds >= 1 else ""


def _setting(name: str, value: Any) -> str:
    return f"{name.split('.', 1)[1]} {f'{value:.3g}' if isinstance(value, float) else value}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
