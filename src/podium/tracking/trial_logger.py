"""Optuna's trials in MLflow: one run per trial below one parent run per study, by a callback that stands alone."""

import logging
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self

import mlflow
import optuna
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from podium.text import reason_of
from podium.tracking.record import STATUS, user_attributes
from podium.tracking.run_names import OTHERS_A_CALL, STUDY_ID, key_of, text_of
from podium.tracking.store import Tracking
from podium.tracking.trial_runs import TrialRuns, log_summary

PAUSES = (1.0, 5.0, 20.0, 60.0)
"""Seconds for which a store that did not answer is left alone: the user's study goes on meanwhile."""

Ending = Literal["FINISHED", "KILLED", "FAILED"]
log = logging.getLogger(__name__)


@dataclass
class _Family:
    """What a TrialLogger knows of one study."""

    study: optuna.Study
    open: bool = False
    """Whether its parent run is RUNNING because of this logger, which then has to end it."""
    missed: dict[int, FrozenTrial] = field(default_factory=dict)
    """Trials that MLflow did not take yet."""


class TrialLogger:
    """An Optuna callback that logs each trial to MLflow as it ends, from any number of threads and processes.

        with TrialLogger(connect()) as logger:
            study.optimize(objective, callbacks=[logger])

    COMPLETE, PRUNED and FAIL become FINISHED, KILLED and FAILED. The trials' runs lie below one run per study, which
    ends with a summary at the end of the block (without one: when the logger is no longer used); or below the run
    that is active when the logger is made, which stays the user's own. No error of MLflow's ends the study: trials
    that it does not take are logged later, at the latest at the end.
    """

    def __init__(self, tracking: Tracking) -> None:
        active = _active_run(tracking)
        tracking = replace(tracking, experiment_id=active.info.experiment_id) if active else tracking
        self._runs = TrialRuns(tracking, active.info.run_id if active else None, user_attributes)
        self._state = _State(self._runs, owns_parents=active is None)
        self._finalizer = weakref.finalize(self, self._state.close, "FINISHED")

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Log `trial`, which has ended. Raises nothing of MLflow's."""
        self._state.add(study, [trial])

    def log_all(self, study: optuna.Study) -> None:
        """Log those trials of `study` that have ended and have no run, such as those of a time without a logger."""
        ended = study.get_trials(states=tuple(s for s in STATUS if s.is_finished()))
        self._state.add(study, ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        self.close("KILLED" if interrupted else "FAILED" if kind else "FINISHED")

    def close(self, status: Ending = "FINISHED") -> None:
        """Log what MLflow did not take before, and end the parent runs; a later trial opens its parent again."""
        self._state.close(status)


class _State:
    """All of a TrialLogger but itself, so that it can be closed when the logger is gone."""

    def __init__(self, runs: TrialRuns, *, owns_parents: bool) -> None:
        self._runs = runs
        self._owns_parents = owns_parents
        self._lock = threading.RLock()
        self._families: dict[int, _Family] = {}
        self._failures = 0
        self._not_before = 0.0
        self._warned = False

    def add(self, study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
        with self._lock:
            family = self._families.setdefault(id(study), _Family(study))
            family.missed |= {trial.number: trial for trial in trials}
            if time.monotonic() >= self._not_before:
                self._flush(family)

    def close(self, status: Ending) -> None:
        with self._lock:
            for family in self._families.values():
                if (not family.missed or self._flush(family)) and family.open:
                    self._end(family, status)
            self._families = {key: family for key, family in self._families.items() if family.open or family.missed}

    def _flush(self, family: _Family) -> bool:
        """Log what is to be logged of one study. Returns whether MLflow took it all."""
        try:
            self._open(family)
            written = self._runs.log_ended(family.study, family.missed.values())
            for number in list(family.missed):
                if number not in written:
                    self._log(family, number)
                del family.missed[number]
        except Exception as error:  # whatever MLflow has against it, the user's study goes on
            self._fail(error, len(family.missed))
            return False
        self._failures = 0
        return True

    def _log(self, family: _Family, number: int) -> None:
        try:
            self._runs.log(family.study, family.missed[number])
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self._warn(f"MLflow refuses trial {number}", error)  # for good: it keeps no other one out

    def _open(self, family: _Family) -> None:
        if self._owns_parents and not family.open:
            client, run_id = self._runs.tracking.client, self._runs.parent(family.study)
            if client.get_run(run_id).info.status != "RUNNING":
                client.update_run(run_id, status="RUNNING")
            family.open = True

    def _end(self, family: _Family, status: Ending) -> None:
        """End the parent run of a study, with what there is to say of all of it."""
        try:
            run_id, study = self._runs.parent(family.study), family.study
            log_summary(self._runs.tracking, run_id, study)
            own = {f"user.{name}": value for name, value in study.user_attrs.items() if name != STUDY_ID}
            facts = own | {"podium.directions": " ".join(d.name.lower() for d in study.directions)}
            tags = [RunTag(key_of(name), text_of(value)) for name, value in facts.items()]
            for start in range(0, len(tags), OTHERS_A_CALL):
                self._runs.tracking.client.log_batch(run_id, tags=tags[start : start + OTHERS_A_CALL])
            self._runs.tracking.client.set_terminated(run_id, status)
            family.open = False
        except Exception as error:
            self._fail(error, 0)

    def _fail(self, error: Exception, missed: int) -> None:
        self._not_before = time.monotonic() + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        later = f"; {missed} trials are logged later" if missed else ""
        self._runs.forget_parents()
        self._warn(f"MLflow does not take what it is sent{later}", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s. %s: %s", what, type(error).__name__, reason_of(error))


def _active_run(tracking: Tracking) -> Run | None:
    """The run that the user has opened in this thread and store, if there is one."""
    active = mlflow.active_run()
    if active is None:
        return None
    try:
        return tracking.client.get_run(active.info.run_id)
    except MlflowException:  # of another store
        return None
