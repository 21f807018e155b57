"""Optuna's trials in MLflow: one run per trial below one parent run per study, by a callback that stands alone."""

import hashlib
import logging
import re
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self

import mlflow
import optuna
from mlflow.entities import DatasetInput, Metric, Run, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from podium.tracking.direct_sqlite import DirectSqlite, read_histories
from podium.tracking.record import (
    ID_TAG,
    KIND_TAG,
    LONGEST_NAME,
    METRICS_A_CALL,
    OTHERS_A_CALL,
    STATUS,
    STUDY_ID,
    STUDY_TAG,
    TRIAL_TAG,
    Reader,
    Record,
    clean,
    key_of,
    note_of,
    record_of,
    study_id,
    summary_of,
    text_of,
    user_attributes,
)
from podium.tracking.store import Tracking, database, find_or_create, making, origin, search

PARENT, NAME, NOTE = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
"""Tags that MLflow's documentation names."""
PAUSES = (1.0, 5.0, 20.0, 60.0)
"""Seconds for which a store that did not answer is left alone: the user's study goes on meanwhile."""

Ending = Literal["FINISHED", "KILLED", "FAILED"]
log = logging.getLogger(__name__)


class TrialRuns:
    """The runs of trials: made, completed, found again. Logging a trial again adds what is missing, repeats nothing."""

    def __init__(
        self, tracking: Tracking, parent_run_id: str | None, read: Reader, images: DatasetInput | None = None
    ) -> None:
        self.tracking = tracking
        self.read = read
        self.images = images
        self._given = parent_run_id
        self._parents: dict[str, str] = {}
        self._runs: dict[tuple[str, int], str] = {}
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._known: set[str] = set()
        self._direct = DirectSqlite(tracking.client, tracking.uri, tracking.experiment_id, images)

    def log(self, study: optuna.Study, trial: FrozenTrial, history: Sequence[Mapping[str, float]] | None = None) -> str:
        """Log `trial` as it stands, a running one with its `history` so far. Returns the run's id."""
        own = _id_of(self.tracking, study)
        if self.log_ended(study, [trial]):
            return self._runs[own, trial.number]
        run_id = self._run(study, trial.number)
        record = record_of(study, trial, history, self.read)
        fresh = run_id is None
        run_id = run_id or self._create(study, trial.number, record)
        self._add(run_id, record, fresh)
        if record.end is not None:
            self._end(run_id, record, fresh)
        return run_id

    def log_ended(self, study: optuna.Study, trials: Iterable[FrozenTrial]) -> set[int]:
        """Log those of `trials` together that have ended and have no run yet: much cheaper than one by one.

        Returns their numbers. None, where the store does not take runs so: `log` works in every case.
        """
        if not self._direct.possible:
            return set()
        own = _id_of(self.tracking, study)
        ended = [t for t in trials if t.state.is_finished() and t.datetime_start]
        fresh = [t for t in ended if self._run(study, t.number) is None]
        records = [record_of(study, trial, None, self.read) for trial in fresh]
        run_ids = self._direct.write([(record, self._tags(study, record)) for record in records])
        written = {trial.number: run_id for trial, run_id in zip(fresh, run_ids, strict=False)}
        self._runs |= {(own, number): run_id for number, run_id in written.items()}
        return set(written)

    def parent(self, study: optuna.Study) -> str:
        """The id of the run above those of the study's trials, made where there is none."""
        own = _id_of(self.tracking, study)
        if own not in self._parents:
            self._parents[own] = self._given or parent_of(self.tracking, study)
        return self._parents[own]

    def forget(self, study: optuna.Study, number: int, run_id: str | None) -> None:
        """Take `run_id` for the run of trial `number` from now on; None: it has none."""
        self._runs.pop((_id_of(self.tracking, study), number), None)
        if run_id is not None:
            self._runs[_id_of(self.tracking, study), number] = run_id
            self._logged.pop(run_id, None)

    def forget_parents(self) -> None:
        """Look for the parent runs again: somebody may have deleted one."""
        self._parents.clear()

    def _end(self, run_id: str, record: Record, fresh: bool) -> None:
        client = self.tracking.client
        if not fresh and client.get_run(run_id).info.run_name == record.name:  # a person's name stays
            client.update_run(run_id, name=record.title)
        client.set_terminated(run_id, record.status, record.end)
        self._logged.pop(run_id, None)  # done with; the memory of a thousand of them would grow

    def _run(self, study: optuna.Study, number: int) -> str | None:
        """The run of trial `number`, if there is one. The study's runs are looked up once."""
        own = _id_of(self.tracking, study)
        if own not in self._known:
            for run in runs_of(self.tracking, study):
                self._runs.setdefault((own, number_of(run) or 0), run.info.run_id)
            self._known.add(own)
        return self._runs.get((own, number))

    def _tags(self, study: optuna.Study, record: Record) -> dict[str, str]:
        return origin() | record.tags | {PARENT: self.parent(study), NAME: record.title}

    def _create(self, study: optuna.Study, number: int, record: Record) -> str:
        tags = self._tags(study, record)
        run = self.tracking.client.create_run(self.tracking.experiment_id, record.start, tags, record.title)
        run_id: str = run.info.run_id
        if self.images is not None:
            self.tracking.client.log_inputs(run_id, [self.images])
        self._runs[_id_of(self.tracking, study), number] = run_id
        return run_id

    def _add(self, run_id: str, record: Record, fresh: bool) -> None:
        """Log what the run does not have yet; for a fresh one that is everything, mostly in one call."""
        if fresh:
            self._logged[run_id] = set()
        elif run_id not in self._logged:  # made by an earlier session: see how far it came
            self._logged[run_id] = self._reopen(run_id, record)
        logged = self._logged[run_id]
        missing = [m for m in record.metrics if (m.key, m.step) not in logged]
        params = record.entities() if fresh else []
        tags = [RunTag(k, v) for k, v in record.tags.items()] if record.end is not None and not fresh else []
        while missing or params or tags:
            others = params[:OTHERS_A_CALL]
            room = METRICS_A_CALL - 2 * OTHERS_A_CALL if others or tags else METRICS_A_CALL
            self.tracking.client.log_batch(run_id, missing[:room], others, tags[:OTHERS_A_CALL])
            logged |= {(m.key, m.step) for m in missing[:room]}
            missing, params, tags = missing[room:], params[OTHERS_A_CALL:], tags[OTHERS_A_CALL:]

    def _reopen(self, run_id: str, record: Record) -> set[tuple[str, int]]:
        """Go on with a run that an earlier session left: its parameters and status; which metrics it has."""
        client = self.tracking.client
        run = client.get_run(run_id)
        log_absent_params(self.tracking, record, run)
        if record.end is None and run.info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
        return set(histories(self.tracking, run))


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
            reason = " ".join(str(error).split("[SQL:")[0].split())[:300]
            log.warning("%s. %s: %s", what, type(error).__name__, reason)


def identity_of(tracking: Tracking, study: optuna.Study) -> dict[str, str]:
    """The tags by which the parent run of `study` is found. The study gets its id where it has none."""
    return {STUDY_TAG: clean(study.study_name), KIND_TAG: "search", ID_TAG: _id_of(tracking, study)}


def parent_of(tracking: Tracking, study: optuna.Study) -> str:
    """The id of the parent run of `study`, made where there is none: one, however many ask at once."""
    tags = identity_of(tracking, study)
    with making(tracking):
        return find_or_create(tracking, clean(study.study_name, LONGEST_NAME), tags)


def runs_of(
    tracking: Tracking, study: optuna.Study | str, *, deleted: bool = False, numbered: bool = True
) -> list[Run]:
    """Every trial's run of `study`, the oldest first: those with its id; by a name, those of all studies called so.

    With `deleted` those too that were deleted and can be restored; without `numbered` those too whose trial's number
    somebody changed to something else.
    """
    if isinstance(study, str):
        tags = {STUDY_TAG: clean(study)}
    elif own := study_id(study):
        tags = {ID_TAG: own}
    else:
        return []
    found = search(tracking, tags | {KIND_TAG: "trial"}, deleted=deleted)
    return [run for run in found if not numbered or number_of(run) is not None]


def number_of(run: Run) -> int | None:
    """The number of the trial whose run this is; None where its tag is none, since somebody changed it."""
    text = run.data.tags.get(TRIAL_TAG, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None


def histories(tracking: Tracking, run: Run) -> dict[tuple[str, int], set[float]]:
    """Every metric of `run` by name and step: one value, unless somebody logged another at the same step."""
    local = database(tracking.uri)
    read = read_histories(local, run.info.run_id) if local else None
    if read is not None:
        return read
    found: dict[tuple[str, int], set[float]] = defaultdict(set)
    for key in run.data.metrics:
        for metric in tracking.client.get_metric_history(run.info.run_id, key):
            found[metric.key, metric.step].add(metric.value)
    return dict(found)


def log_absent_params(tracking: Tracking, record: Record, run: Run) -> None:
    """Give `run` those parameters of `record` that it does not have."""
    absent = [p for p in record.entities() if p.key not in run.data.params]
    for start in range(0, len(absent), OTHERS_A_CALL):
        tracking.client.log_batch(run.info.run_id, params=absent[start : start + OTHERS_A_CALL])


def log_summary(tracking: Tracking, run_id: str, study: optuna.Study) -> None:
    """Put the result of `study` on its parent run, and its note, unless a person has written one there."""
    now = int(time.time() * 1000)  # later than what an earlier session logged: the last one counts
    known = tracking.client.get_run(run_id).data
    new = [Metric(key, value, now, 0) for key, value in summary_of(study).items() if known.metrics.get(key) != value]
    tracking.client.log_batch(run_id, new)
    log_note(tracking, run_id, note_of(study), known.tags)


def log_note(tracking: Tracking, run_id: str, note: str, tags: Mapping[str, str]) -> None:
    """Put `note` on the page of the run with `tags`, unless a person has changed what is there."""
    if NOTE not in tags or _digest(tags[NOTE]) == tags.get("podium.note"):
        new = {NOTE: note, "podium.note": _digest(note)}
        tracking.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in new.items()])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _id_of(tracking: Tracking, study: optuna.Study) -> str:
    """The id of `study`, which gets one where it has none: one, however many processes ask at once."""
    found = study_id(study)
    if found is None:
        with making(tracking):
            found = study_id(study, make=True)
    return found or ""


def _active_run(tracking: Tracking) -> Run | None:
    """The run that the user has opened in this thread and store, if there is one."""
    active = mlflow.active_run()
    if active is None:
        return None
    try:
        return tracking.client.get_run(active.info.run_id)
    except MlflowException:  # of another store
        return None
