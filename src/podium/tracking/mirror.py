"""The mirror: a thread that logs the study's trials to MLflow, off the search's critical path.

The study is the truth and MLflow its image. A tracking server that is away delays the image and fails nothing: what
was missed is logged when it is back, at the next search, or by `podium sync`.
"""

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from podium import paths
from podium.config.params import TrackingParams
from podium.errors import RefusedError
from podium.text import counted, reason_of
from podium.training.epochs import Epoch

if TYPE_CHECKING:
    from podium.tracking.search_run import SearchRun

Item = tuple[FrozenTrial, list[Epoch] | None]
"""A trial as it stands, and the history of one that is running."""
GATHER = 5.0
"""Seconds that an ended trial waits for others: together they take little more of a processor than one."""
PATIENCE = 20.0
"""Seconds for which the end of a search waits for a tracking server that does not answer."""
LONGEST = 300
"""Characters of an error that are shown."""
FIRST = 30.0
"""Seconds for which a search waits for the first answer: the workers start meanwhile."""
LONG = 30.0
"""Seconds after which it is said what the end of a search waits for."""
LOOK = 0.5
"""Seconds between two looks whether somebody waits no longer for the end."""
LEAVING = 3.0
"""Seconds that a call of MLflow has for its end once nobody waits any longer."""
PAUSES = (0.5, 1, 2, 5, 10)
"""Seconds between attempts to reach it."""


@dataclass(frozen=True)
class Parent:
    """The MLflow run below which a study's trials lie."""

    study: str
    """The study whose parent run it is; a confirmation's trials lie below the search's."""
    tags: dict[str, str]
    owned: bool = True
    """Whether this session opens and closes it."""


class Mirror:
    """Watches a driver and keeps MLflow in step with its study."""

    def __init__(
        self, study: optuna.Study, params: TrackingParams, parent: Parent, log: Callable[[str], None] = print
    ) -> None:
        self._study = study
        self._params = params
        self._parent = parent
        self._log = log
        self._queue: queue.Queue[Item | None] = queue.Queue()
        self._gather = min(GATHER, params.flush_seconds)
        self._flushed: dict[int, float] = {}
        self._deadline: float | None = None
        self._interrupted = False
        self._checked = False
        """Whether the search has begun: nobody was to act first."""
        self._told = False
        """Whether it was said that the store says no, since it last took something."""
        self._leave = threading.Event()
        self._left_alone = False
        """Whether `close` has returned before the thread: what that finds out now is not said any more."""
        self.error = ""
        """Why MLflow is not in step, once the mirror has closed; empty: it is."""
        self.parent_run_id: str | None = None
        """The search's run; once the mirror has closed, None where MLflow took none of the trials."""
        self._recorded = False
        """Whether MLflow has a trial of the study."""
        self._refused: RefusedError | None = None
        self._tried = threading.Event()
        """Set once the store was opened or did not let itself be opened."""
        if _is_new(params.uri):
            self._tried.set()  # its migrations take seconds, and it has nothing to refuse
        self._thread = threading.Thread(target=self._work, name="podium-mirror", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Wait until the store was reached for the first time, or is away: then the search begins without it.

        Raises RefusedError where it says no, so that a person has to act before anything is searched.
        """
        self._tried.wait(FIRST)
        if self._refused is not None:
            raise RefusedError(f"{self._refused}. Nothing was searched or logged") from self._refused
        self._checked = True

    def running(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """Log a running trial's epochs, at most every few seconds: short trials cost one call at their end."""
        now = time.monotonic()
        last = self._flushed.setdefault(trial.number, now)
        if now - last >= self._params.flush_seconds:
            self._flushed[trial.number] = now
            self._queue.put((trial, list(history)))

    def rested(self, trial: FrozenTrial, history: list[Epoch]) -> None:
        """Log the epochs of a trial that rests: its run stays open, for it may go on."""
        self._flushed[trial.number] = time.monotonic()
        self._queue.put((trial, list(history)))

    def ended(self, trial: FrozenTrial) -> None:
        """Log a trial that has ended."""
        self._flushed.pop(trial.number, None)
        self._queue.put((trial, None))

    def note(self, line: str) -> None:
        """Notes are for people; the runs carry what matters of them."""

    def close(self, *, interrupted: bool = False, leave: Callable[[], bool] = lambda: False) -> None:
        """Log what is left, close the parent run, and wait for it, until `leave` says that somebody waits no longer."""
        self._interrupted = interrupted
        self._deadline = time.monotonic() + PATIENCE
        self._queue.put(None)
        until, said, last = time.monotonic() + LONG, False, math.inf
        while self._thread.is_alive() and time.monotonic() < last:
            self._thread.join(LOOK)
            if leave() and not self._leave.is_set():
                self._leave.set()
                last = time.monotonic() + LEAVING
            if not said and not self.error and time.monotonic() > until:
                said = True
                self._log("the trials are still being logged to MLflow; Ctrl-C leaves the rest to `podium sync`")
        if self._thread.is_alive():  # in a call that does not come back: it ends with the process
            self._left_alone = True
            self.error = "Its store had not answered yet when it was left"
        if self.error and not self._recorded:
            self.parent_run_id = None
        if self.error and self._checked and self._parent.owned:
            self._remember()

    def _remember(self) -> None:
        """Put into the record of the search's run what MLflow has not got, for `podium sync`."""
        from podium.tracking.search_run import remember  # with MLflow, as in `_work`

        try:
            if any(trial.state.is_finished() for trial in self._study.get_trials(deepcopy=False)):
                remember(self._study, self._parent, interrupted=self._interrupted)
        except Exception as error:  # such as a full disk: what ended the search comes out, not this
            self.error += f" Nor can the record of its run be written: {_in_a_line(error)}"

    def _work(self) -> None:
        from podium.tracking.search_run import SearchRun  # 1 s of a core, while the workers import torch on another one

        backlog: dict[int, Item] = {}
        run: SearchRun | None = None
        closing, failures = False, 0
        while not (closing and run and not backlog):
            closing = self._collect(backlog, wait=run is not None and not backlog) or closing
            try:
                if self._leaves(backlog):
                    return
                run = run or SearchRun.open(self._study, self._params, self._parent, self._log)
                for number in run.reconciled & backlog.keys():
                    del backlog[number]  # through a server it would take 15 calls to see that nothing is missing
                self.parent_run_id, self._refused = run.run_id, None
                self._recorded = self._recorded or bool(run.reconciled)
                self._tried.set()
                if self._leaves(backlog):
                    return
                for number in run.log_ended([trial for trial, history in backlog.values() if history is None]):
                    del backlog[number]
                    self._recorded = True
                for number in list(backlog):
                    if self._leaves(backlog):
                        return
                    run.log(*backlog[number])
                    del backlog[number]
                    self._recorded = True
                self._set_error("")
                failures, self._told = 0, False
            except Exception as error:  # whatever the store has against it: the trials are kept, and a message says so
                failures, run = failures + 1, None  # opening it again repairs what went wrong, such as a deleted run
                self._refused = _refusal(error, self._params)
                self._tried.set()
                if not self._wait(error, failures, closing):
                    return
        if not self._leaves(backlog):
            self._finish(run)

    def _leaves(self, backlog: dict[int, Item]) -> bool:
        """Whether nobody waits for the rest, which is said."""
        if self._leave.is_set():
            self._set_error(f"Yet to be logged: {counted(len(backlog), 'trial') if backlog else 'the end of the run'}")
        return self._leave.is_set()

    def _set_error(self, text: str) -> None:
        if not self._left_alone:
            self.error = text

    def _finish(self, run: "SearchRun") -> None:
        try:
            run.finish(interrupted=self._interrupted)
        except Exception as error:
            self._set_error(_in_a_line(error))

    def _collect(self, backlog: "dict[int, Item]", *, wait: bool) -> bool:
        """Take what has come, the newest state of each trial; returns whether the end was among it.

        To `wait` is to wait for the first one. One that has ended waits a moment for others, to go with them.
        """
        until = math.inf if wait else 0.0
        while True:
            left = until - time.monotonic()
            try:
                item = self._queue.get(left > 0, left if left < math.inf else None)
            except queue.Empty:
                return False
            if item is None:
                return True
            backlog[item[0].number] = item
            until = min(until, time.monotonic() + (self._gather if item[1] is None else 0.0))

    def _wait(self, error: Exception, failures: int, closing: bool) -> bool:
        """Pause before the next attempt. Returns False when the search has ended and patience with it."""
        self._set_error(_in_a_line(error) if self._refused is None else str(self._refused))
        if self._left_alone:
            return False
        if failures == 1 and self._refused is None:
            self._log(f"MLflow does not accept the trials just now; they are logged later. {self.error}")
        if self._refused is not None and self._checked and not self._told and not closing:
            self._told = True
            self._log(f"MLflow no longer accepts the trials; they are logged once it does. {self.error}")
        late = self._deadline is not None and time.monotonic() > self._deadline
        if closing and (late or self._leave.is_set() or self._refused is not None):
            return False
        time.sleep(PAUSES[min(failures, len(PAUSES)) - 1])
        return True


def _is_new(uri: str) -> bool:
    """Whether the store at `uri` is a file that is yet to be made, in a folder where that can be done."""
    prefix = "sqlite:///"
    path = paths.root() / uri.removeprefix(prefix)
    return uri.startswith(prefix) and not path.exists() and os.access(path.parent, os.W_OK)


def _refusal(error: Exception, params: TrackingParams) -> RefusedError | None:
    from podium.tracking.refusal import refusal  # with MLflow, as above
    from podium.tracking.store import shown

    return refusal(error, shown(params.uri), params.experiment)


def _in_a_line(error: Exception) -> str:
    """What went wrong, without the statement and the thousand values that an SQL store adds."""
    return f"{type(error).__name__}: {reason_of(error, LONGEST)}"
