"""What `tracking.also` names, told of runs by a thread of its own: a tracker that is slow delays no training."""

import copy
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from podium import paths
from podium.components import Choice
from podium.config.params import TrackingParams
from podium.own_code import RAISED, is_name
from podium.text import reason_of
from podium.tracking.trackers import OwnTracker, TrackedRun, Tracker, metrics_of
from podium.training.epochs import Epoch

PATIENCE = 30.0
"""Seconds for which the end of a search or a retraining waits for a tracker."""


@dataclass(frozen=True)
class _News:
    run: TrackedRun
    history: Sequence[Epoch]
    """All of its epochs so far."""
    state: str = ""
    """Empty: it is running."""
    value: float | None = None


class Also:
    """The trackers of `tracking.also`: a watcher of a search, and what a retraining tells of its epochs."""

    def __init__(self, params: TrackingParams, message: Callable[[str], None] = print) -> None:
        """Make them. Raises InputError where one can't be made."""
        self.study = ""
        """The title of the search."""
        self.message = message
        self._trackers = [
            (choice, made(params, choice), _folder(choice, [one.name for one in params.also[:place]]))
            for place, choice in enumerate(params.also)
        ]
        self._sent: dict[TrackedRun, int] = {}
        """How many epochs of each run that has not ended they have."""
        self._queue: queue.Queue[_News | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="podium-also", daemon=True)
        if self._trackers:
            self._thread.start()

    def tell(self, run: TrackedRun, history: Sequence[Epoch], state: str = "", value: float | None = None) -> None:
        """All epochs of `run` so far and, once it has ended, its `state` and the objective's value."""
        if self._trackers:
            self._queue.put(_News(run, list(history), state, value))

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """Nothing: a trial is told of when it has ended."""

    def rested(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """Nothing: it may go on."""

    def ended(self, trial: FrozenTrial) -> None:
        """Tell of a trial that has ended."""
        own = trial.user_attrs
        name = own.get("name") or f"trial-{trial.number:03d}"
        run = TrackedRun("trial", self.study, name, Path(), own.get("recipe", {}))
        self.tell(run, own.get("history", []), trial.state.name, _value(trial))

    def note(self, line: str) -> None:
        """Notes are for people."""

    def close(self) -> None:
        """Wait until they have got everything, for half a minute."""
        if not self._thread.is_alive():
            return
        self._queue.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.message(f"tracking.also: not everything was logged within {PATIENCE:g} s; MLflow has it all")

    def _work(self) -> None:
        while (news := self._queue.get()) is not None:
            sent = self._sent.pop(news.run, -1)
            for choice, tracker, folder in list(self._trackers):
                try:
                    _tell(tracker, folder, news, sent)
                except RAISED as error:  # whatever it has against it: it is an extra
                    self._trackers.remove((choice, tracker, folder))
                    reason = f"{type(error).__name__}: {reason_of(error)}"
                    self.message(f"tracking.also: {choice.name} gets nothing more of this session: {reason}")
            if not news.state:
                self._sent[news.run] = len(news.history)


def made(params: TrackingParams, choice: Choice) -> Tracker:
    """The tracker that `choice` names. Raises InputError where it can't be made."""
    tracker: Tracker = params.made("tracker", choice)
    if isinstance(tracker, OwnTracker):
        tracker.check()
    return tracker


def _tell(tracker: Tracker, folder: Path, news: _News, sent: int) -> None:
    """Tell `tracker` what is new, where it has the first `sent` epochs; -1: it does not know the run yet."""
    run = _placed(news.run, folder)
    if sent < 0:
        tracker.start(run)
    for epoch in news.history[max(sent, 0) :]:
        tracker.log(run, metrics_of(epoch), int(epoch["epoch"]))
    if news.state:
        tracker.end(run, news.state, news.value)


def _folder(choice: Choice, before: Sequence[str]) -> Path:
    """Where the files of a tracker go; `before`: the names of those listed above it, which may be the same."""
    if not is_name(choice.name):
        return paths.mlruns() / choice.name
    again = before.count(choice.name)
    return paths.mlruns() / "also" / (choice.name.replace(":", ".") + (f"-{again + 1}" if again else ""))


def _placed(run: TrackedRun, folder: Path) -> TrackedRun:
    """`run` with its folder below `folder`."""
    parts = [run.study, run.name] if run.study else [run.name]
    whole = folder.joinpath(*(part.replace("/", "_") for part in parts))
    return TrackedRun(run.kind, run.study, run.name, whole, copy.deepcopy(dict(run.params)))


def _value(trial: FrozenTrial) -> float | None:
    """Of a completed trial that of the first metric."""
    return trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None
