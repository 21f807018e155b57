"""Optuna's trials in MLflow: one run per trial below one parent run per study, by a callback that stands alone."""

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

import mlflow
import optuna
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from podium.errors import InputError, PodiumError
from podium.text import counted, reason_of
from podium.tracking import termination
from podium.tracking.broken_off import broken_off
from podium.tracking.family import Ending, Family
from podium.tracking.piecewise import log_parts
from podium.tracking.record import STATUS, is_copy, user_attributes
from podium.tracking.refusal import is_gone, is_refused, refusal
from podium.tracking.run_names import key_of, text_of
from podium.tracking.store import STORE_ERRORS, Tracking, end_run, making
from podium.tracking.trial_artifacts import PAUSES, ArtifactStore, Attachments
from podium.tracking.trial_runs import Known, TrialRuns, log_summary

OURS = "podium:"
"""How attributes of a study begin that are no user's."""
AWAY = (*STORE_ERRORS, PodiumError)
"""What is raised where the store is away or refuses; all else comes of what a trial holds."""

ENDED = tuple(state for state in STATUS if state.is_finished())
UNREAD = "the study can't be read: trials for which Optuna calls nobody may be missing"
_shared: weakref.WeakValueDictionary[tuple[str, str, str | None], Known] = weakref.WeakValueDictionary()
"""What the loggers of this process know together, by store, experiment and the user's own run above."""
_shared_lock = threading.Lock()
log = logging.getLogger(__name__)


class TrialLogger:
    """An Optuna callback that logs each trial to MLflow as it ends, from any number of threads and processes.

        with TrialLogger(connect()) as logger:
            study.optimize(objective, callbacks=[logger])

    COMPLETE, PRUNED and FAIL become FINISHED, KILLED and FAILED. The trials' runs lie below one run per study, which
    ends with a summary at the end of the block (without one: when the logger is no longer used); or below the run
    that is active when the logger is made, which stays the user's own. No error of MLflow's ends the study: trials
    that it does not take are logged later, at the latest at the end. Optuna calls nobody for a trial whose error ends
    `optimize`: it is logged at the end, as is the end itself: FAILED, or KILLED by Ctrl-C, and within the block by
    SIGTERM, which there raises SystemExit(143) unless the program handles it.

    `artifacts` is the store to which the study's `optuna.artifacts.upload_artifact` writes: the files of a trial get
    into its run, those of the study into the run above. Without one no files are logged.
    """

    def __init__(self, tracking: Tracking, *, artifacts: ArtifactStore | None = None) -> None:
        active = _active_run(tracking)
        tracking = replace(tracking, experiment_id=active.info.experiment_id) if active else tracking
        parent = active.info.run_id if active else None
        self._runs = TrialRuns(tracking, parent, user_attributes, known=_known(tracking, parent))
        self._state = _State(self._runs, artifacts, owns_parents=active is None)
        self._finalizer = weakref.finalize(self, _close_unused, self._state)
        self._waiting = 0
        """Blocks of this logger that end with SystemExit at SIGTERM."""

    def __call__(self, study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
        """Log `trial`, which has ended, as Optuna or `study.tell` returns it, or as `study.ask` did.

        Raises nothing of MLflow's; InputError where it is no trial.
        """
        self._state.add(study, [_frozen(study, trial)])

    def log_all(self, study: optuna.Study) -> None:
        """Log those trials of `study` that have ended and have no run, such as those of a time without a logger."""
        self._state.add(study, study.get_trials(deepcopy=False, states=ENDED), again=True)

    def __enter__(self) -> Self:
        self._waiting += termination.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._state.notice(trace)
            self.close(_ending(kind))
        finally:
            if self._waiting:
                self._waiting -= 1
                termination.leave()

    def close(self, status: Ending = "FINISHED") -> None:
        """Log what MLflow did not take before, and end the parent runs; a later trial opens its parent again."""
        self._state.close(status)


class _State:
    """All of a TrialLogger but itself, so that it can be closed when the logger is gone."""

    def __init__(self, runs: TrialRuns, artifacts: ArtifactStore | None, *, owns_parents: bool) -> None:
        self._runs = runs
        self._files = Attachments(runs.tracking, artifacts)
        self._owns_parents = owns_parents
        self._lock = threading.RLock()
        self._families: dict[int, Family] = {}
        self._failures = 0
        self._not_before = 0.0
        self._warned = False
        self._since = datetime.now()

    def add(self, study: optuna.Study, trials: Iterable[FrozenTrial], *, again: bool = False) -> None:
        """Log `trials`; `again`: some may have been logged, and their runs deleted since."""
        with self._lock:
            family = self._families.get(id(study)) or self._begin(study)
            family.ending = None
            family.missed |= {trial.number: trial for trial in trials}
            if time.monotonic() >= self._not_before:
                self._flush(family, again=again)
        self._files.log()

    def notice(self, trace: TracebackType | None) -> None:
        """Learn which studies and trials the error with `trace` ended: of some of them Optuna called nobody."""
        with self._lock:
            try:
                for study, numbers in broken_off(
                    trace, lambda one: isinstance(one, TrialLogger) and one._state is self
                ):
                    family = self._families.get(id(study)) or self._begin(study)
                    family.at_work |= numbers
            except Exception as error:  # the study's own storage may be away
                self._warn(UNREAD, error)

    def close(self, status: Ending) -> None:
        with self._lock:
            for family in self._own_families():
                family.ending = family.ending or status
                uncalled = self._uncalled(family)
                family.missed |= uncalled
                if family.missed:
                    self._flush(family, again=bool(uncalled))
                self._add_files_of_study(family)
        self._files.log(last=True)  # before their runs end, and without the lock: it may take long
        with self._lock:
            for family in self._own_families():
                if family.open and family.ending:
                    self._end(family, family.ending)
                self._delete_doubles(family)
            self._families = {key: family for key, family in self._families.items() if family.open or family.missed}

    def _own_families(self) -> list[Family]:
        """All but a fork's copies of what its parent process ends."""
        return [family for family in self._families.values() if family.opened_by in (0, os.getpid())]

    def _begin(self, study: optuna.Study) -> Family:
        """What is known of a study at its first trial; one that was copied has trials that are logged as its own."""
        family = self._families[id(study)] = Family(study)
        try:
            if is_copy(study):
                ended = study.get_trials(deepcopy=False, states=ENDED)
                family.missed |= {trial.number: trial for trial in ended}
                family.copied = True
            since = self._since.timestamp()  # times of trials that were added by hand may have a time zone
            before = [t for t in _failed(study) if t.datetime_complete and t.datetime_complete.timestamp() < since]
            family.failed = {trial.number for trial in before}
        except Exception as error:  # the study's own storage may be away
            self._warn(UNREAD, error)
        return family

    def _uncalled(self, family: Family) -> dict[int, FrozenTrial]:
        """Trials that failed since the logger was made, or that an error passed through: Optuna did not call it."""
        try:
            wanted = family.study.get_trials(deepcopy=False, states=ENDED) if family.at_work else []
            ended = {trial.number: trial for trial in wanted if trial.number in family.at_work}
            family.at_work = set()
            return ended | {t.number: t for t in _failed(family.study) if t.number not in family.failed}
        except Exception as error:  # else it would take the place of the error that ended the user's study
            self._warn(UNREAD, error)
            return {}

    def _flush(self, family: Family, *, again: bool = False) -> None:
        """Log what is to be logged of one study. What MLflow does not take now stays for the next time.

        Each process that has the study finds the trials that nobody was called for, and those of a copied study: under
        a lock it is seen whether another one has logged them, and then they are.
        """
        again = again or family.copied or family.broken_off
        again = again or any(trial.state == TrialState.FAIL for trial in family.missed.values())
        try:
            self._open(family)
            with making(self._runs.tracking) if again else nullcontext():
                if again:
                    self._runs.look_again(family.study, family.missed)
                for number in self._together(family):
                    self._done(family, number, self._runs.run_of(family.study, number))
                for number in list(family.missed):
                    self._log(family, number)
        except Exception as error:  # whatever MLflow has against it, the user's study goes on
            self._fail(error, len(family.missed))
        except BaseException:
            family.broken_off = True
            raise
        else:
            self._failures = 0
            family.copied = family.broken_off = False

    def _together(self, family: Family) -> set[int]:
        """Log those that can be logged together; none, where one of them can't be put into a record."""
        try:
            return self._runs.log_ended(family.study, family.missed.values())
        except AWAY:
            raise
        except Exception:  # `_log` finds the one, and names it
            return set()

    def _log(self, family: Family, number: int) -> None:
        run_id = None
        try:
            run_id = self._log_whole(family, number)
        except MlflowException as error:
            store = self._runs.tracking
            later = is_gone(error) or refusal(error, store.uri, store.experiment)
            if later or not is_refused(error):
                family.missed[number] = family.missed.pop(number)  # the others first, the next time
                raise
            run_id = self._log_parts(family, number, error)
        except AWAY:
            raise
        except Exception as error:  # the objects of a user's trial may raise anything: no other trial waits for it
            log.warning("Trial %s can't be logged. %s: %s", number, type(error).__name__, reason_of(error))
        self._done(family, number, run_id)

    def _log_parts(self, family: Family, number: int, error: MlflowException) -> str | None:
        """Log what MLflow takes of trial `number`, of which it refuses a part; None: it takes nothing."""
        run_id, what = None, f"trial {number}"
        try:
            run_id, refused = self._runs.log_parts(family.study, family.missed[number])
            what = f"{', '.join(refused)[:200] or 'a part'} of trial {number}, the rest is logged"
        except MlflowException as other:
            if not is_refused(other):
                raise
        log.warning("MLflow refuses %s. %s: %s", what, type(error).__name__, reason_of(error))
        return run_id

    def _log_whole(self, family: Family, number: int) -> str:
        """Log trial `number`, from the beginning in another run where somebody deletes its run meanwhile."""
        try:
            return self._runs.log(family.study, family.missed[number])
        except MlflowException as error:
            if not is_gone(error):
                raise
            self._runs.lose(family.study, number)
            return self._runs.log(family.study, family.missed[number])

    def _done(self, family: Family, number: int, run_id: str | None) -> None:
        """Trial `number` is logged as `run_id`, or refused for good: it keeps no other one out."""
        trial = family.missed.pop(number)
        if trial.state == TrialState.FAIL:
            family.failed.add(number)
        if run_id is not None:
            self._files.add(family.study, trial, run_id)

    def _add_files_of_study(self, family: Family) -> None:
        """Those of the study itself belong into the run above; where that is not open yet, a later end adds them."""
        if self._files.store is not None and (family.open or not self._owns_parents):
            try:
                self._files.add(family.study, family.study, self._runs.parent(family.study))
            except Exception as error:
                self._fail(error, 0)

    def _open(self, family: Family) -> None:
        """See that the parent run is there and RUNNING: somebody may have deleted it since the last trial."""
        run_id = self._runs.parent(family.study)  # gives the study its id, too, under the lock that `_flush` takes next
        if not self._owns_parents:
            return
        status = self._runs.status_of(run_id)
        if not status:
            self._runs.forget_parents()
            run_id, family.open = self._runs.parent(family.study), False
        if family.open and family.opened_by != os.getpid():
            return  # a fork leaves it to its parent process
        if status != "RUNNING":  # as another process leaves it that logs the same study and has ended before
            self._runs.tracking.client.update_run(run_id, status="RUNNING")
        family.open, family.opened_by = True, os.getpid()

    def _end(self, family: Family, status: Ending) -> None:
        """End the parent run of a study, with what there is to say of all of it."""
        try:
            run_id = self._runs.parent(family.study)
            self._summarize(family.study, run_id)
            end_run(self._runs.tracking, run_id, status)
            family.open, family.ending = False, None
        except Exception as error:
            self._fail(error, 0)

    def _delete_doubles(self, family: Family) -> None:
        """Once all else is done, and where the store takes it: they harm nothing."""
        if family.open or family.missed:
            return
        try:
            self._runs.delete_doubles(family.study)
        except Exception as error:
            self._warn("empty runs that were made twice may be left", error)

    def _summarize(self, study: optuna.Study, run_id: str) -> None:
        try:
            own = {f"user.{name}": value for name, value in study.user_attrs.items() if not name.startswith(OURS)}
            facts = own | {"podium.directions": " ".join(d.name.lower() for d in study.directions)}
            tags = [RunTag(key_of(name), text_of(value)) for name, value in facts.items()]
            if refused := log_parts(self._runs.tracking, run_id, tags):
                log.warning("MLflow refuses %s of the study's attributes", ", ".join(refused)[:200])
            log_summary(self._runs.tracking, run_id, study)
        except Exception as error:  # as in `_log`: the run ends all the same
            if isinstance(error, AWAY) and not is_refused(error):
                raise
            log.warning("The study's summary can't be logged. %s: %s", type(error).__name__, reason_of(error))

    def _fail(self, error: Exception, missed: int) -> None:
        self._not_before = time.monotonic() + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        later = f"; {counted(missed, 'trial')} to be logged later" if missed else ""
        self._runs.forget_parents()
        self._warn(f"MLflow does not accept what it is sent{later}", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s. %s: %s", what, type(error).__name__, reason_of(error))


def _known(tracking: Tracking, parent: str | None) -> Known:
    with _shared_lock:
        return _shared.setdefault((tracking.uri, tracking.experiment_id, parent), Known())


def _frozen(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> FrozenTrial:
    """`trial` as it is now."""
    if isinstance(trial, FrozenTrial):
        return trial
    if not isinstance(trial, optuna.Trial):
        raise InputError(
            f"trial: must be one of Optuna's, got {type(trial).__name__}. Call the logger with the study and what"
            " `study.tell` returns, or give it to `study.optimize` among the callbacks"
        )
    return study.get_trials(deepcopy=False)[trial.number]


def _failed(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.FAIL,))


def _ending(kind: type[BaseException] | None) -> Ending:
    """How a block or a program ended that an error of this `kind` ended."""
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED"


def _close_unused(state: _State) -> None:
    """Close what no logger uses any more. At the end of a program that an error ends, `sys` has it."""
    at_exit = not threading.main_thread().is_alive() and not hasattr(sys, "ps1")
    unhandled = getattr(sys, "last_value", None) if at_exit else None  # a prompt keeps each error there
    state.notice(unhandled.__traceback__ if unhandled is not None else None)
    state.close(_ending(type(unhandled) if unhandled is not None else None))


def _active_run(tracking: Tracking) -> Run | None:
    """The run that the user has opened in this thread and store, if there is one."""
    active = mlflow.active_run()
    if active is None:
        return None
    try:
        return tracking.client.get_run(active.info.run_id)
    except MlflowException:  # of another store
        return None
