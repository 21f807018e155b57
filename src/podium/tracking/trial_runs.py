"""The runs of trials in MLflow: made, completed, found again; one per trial below one parent run per study."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import optuna
from mlflow.entities import DatasetInput, Run, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.doubles import Calls
from podium.tracking.histories import histories, newest
from podium.tracking.piecewise import log_parts
from podium.tracking.record import Reader, Record, record_of, study_id
from podium.tracking.run_names import (
    ID_TAG,
    KIND_TAG,
    LEFT_OUT_TAG,
    METRICS_A_CALL,
    OTHERS_A_CALL,
    STUDY_TAG,
    TRIAL_TAG,
    clean,
    run_name,
)
from podium.tracking.sqlite_reading import status_of
from podium.tracking.store import Tracking, database, find_or_create, making, origin, search
from podium.tracking.study_summary import note_of, objectives, summary_of

PARENT, NAME, NOTE = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
"""Tags that MLflow's documentation names."""
SHORT = 200
"""Characters of a tag's value that also an old server takes."""
FEW = 3
"""Trials whose runs are looked up one by one: a server gives 500 runs in one call."""


@dataclass
class Known:
    """The runs of trials that are known: by the study's id and the trial's number, and of which studies all are."""

    runs: dict[tuple[str, int], str] = field(default_factory=dict)
    studies: set[str] = field(default_factory=set)
    lost: set[tuple[str, int]] = field(default_factory=set)
    """Trials whose run was perhaps made by others, or by a call whose answer was lost: it is looked for."""
    calls: Calls = field(default_factory=Calls)
    """Those that made runs."""


class TrialRuns:
    """The runs of trials: made, completed, found again. Logging a trial again adds what is missing, repeats nothing."""

    def __init__(
        self,
        tracking: Tracking,
        parent_run_id: str | None,
        read: Reader,
        images: DatasetInput | None = None,
        known: Known | None = None,
    ) -> None:
        """`known` may be shared by all that log to one parent run: what one has made, no other makes again."""
        self.tracking = tracking
        self.read = read
        self.images = images
        self._given = parent_run_id
        self._parents: dict[str, str] = {}
        self._known = known or Known()
        self._logged: dict[str, set[tuple[str, int]]] = {}
        self._direct = DirectSqlite(tracking.client, tracking.uri, tracking.experiment_id, images)

    def log(self, study: optuna.Study, trial: FrozenTrial, history: Sequence[Mapping[str, float]] | None = None) -> str:
        """Log `trial` as it stands, a running one with its `history` so far. Returns the run's id."""
        own = id_of(self.tracking, study)
        if self.log_ended(study, [trial]):
            return self._known.runs[own, trial.number]
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
        own = id_of(self.tracking, study)
        ended = [t for t in trials if t.state.is_finished() and t.datetime_start]
        fresh = [t for t in ended if self._run(study, t.number) is None]
        records = [record_of(study, trial, None, self.read) for trial in fresh]
        run_ids = self._direct.write([(record, self._tags(study, record)) for record in records])
        written = {trial.number: run_id for trial, run_id in zip(fresh, run_ids, strict=False)}
        self._known.runs |= {(own, number): run_id for number, run_id in written.items()}
        return set(written)

    def log_parts(self, study: optuna.Study, trial: FrozenTrial) -> tuple[str, list[str]]:
        """As `log`, for a trial that has ended and of which the store refuses a part.

        Returns the run's id and the names of what it refuses, which the run's tag LEFT_OUT_TAG has too.
        """
        record = record_of(study, trial, None, self.read)
        run_id = self._run(study, trial.number)
        if run_id is None:
            needed = {key: record.tags[key] for key in (STUDY_TAG, ID_TAG, KIND_TAG, TRIAL_TAG)}
            run_id = self._create(study, trial.number, replace(record, tags=needed))
        tags = [RunTag(key, value) for key, value in record.tags.items()]
        refused = log_parts(self.tracking, run_id, [*record.metrics, *record.entities(), *tags])
        left = [*filter(None, [record.tags.get(LEFT_OUT_TAG)]), *refused]
        if left:
            self.tracking.client.set_tag(run_id, LEFT_OUT_TAG, clean(", ".join(left), SHORT))
        self._end(run_id, record, fresh=True)
        return run_id, refused

    def run_of(self, study: optuna.Study, number: int) -> str:
        """The id of the run as which trial `number` was logged."""
        return self._known.runs[id_of(self.tracking, study), number]

    def show_objective_first(self, study: optuna.Study) -> None:
        """Also in runs from a time when it was logged last: MLflow's page that compares runs begins with it."""
        own = id_of(self.tracking, study)
        runs = [run_id for (owner, _), run_id in self._known.runs.items() if owner == own]
        self._direct.show_first(objectives(study)[0], runs)

    def parent(self, study: optuna.Study) -> str:
        """The id of the run above those of the study's trials, made where there is none."""
        own = id_of(self.tracking, study)
        if own not in self._parents:
            self._parents[own] = self._given or parent_of(self.tracking, study)
        return self._parents[own]

    def know(self, study: optuna.Study, runs: Iterable[Run]) -> None:
        """Take these, all there are of `study`, for its trials' runs; those that are deleted or no trial's are left."""
        own = id_of(self.tracking, study)
        self._take(own, runs, {})
        self._known.studies.add(own)

    def _take(self, own: str, runs: Iterable[Run], before: Mapping[tuple[str, int], str]) -> None:
        """Take the best of the active `runs` of each trial: see `_worth`; of equals the one that is or was known."""
        for number, some in _by_number(runs, "active").items():
            known = self._known.runs.get((own, number), before.get((own, number)))
            if (own, number) in self._known.runs and known not in [run.info.run_id for run in some]:
                continue  # made since they were looked up
            best = max(some, key=lambda run: (*_worth(run), run.info.run_id == known))
            self._known.runs[own, number] = best.info.run_id

    def forget(self, study: optuna.Study, number: int, run_id: str | None) -> None:
        """Take `run_id` for the run of trial `number` from now on; None: it has none."""
        self._known.runs.pop((id_of(self.tracking, study), number), None)
        if run_id is not None:
            self._known.runs[id_of(self.tracking, study), number] = run_id
            self._logged.pop(run_id, None)

    def look_again(self, study: optuna.Study, numbers: Collection[int]) -> None:
        """Look up the runs of `study` again: some were made by others since, or deleted.

        Of the trials `numbers` the deleted ones are restored where no other is left. Where these are `FEW`, and the
        others known, only theirs are looked up: each trial that fails asks for its own, and there may be thousands.
        """
        own = id_of(self.tracking, study)
        few = own in self._known.studies and len(numbers) <= FEW
        keys = (
            [(own, number) for number in numbers] if few else [key for key in list(self._known.runs) if key[0] == own]
        )
        self._known.studies.discard(own)
        before = {key: run_id for key in keys if (run_id := self._known.runs.pop(key, None))}
        runs = self._alone(own, numbers) if few else runs_of(self.tracking, study, deleted=True)
        self._take(own, runs, before)
        self._known.studies.add(own)
        for number, some in _by_number(reversed(runs), "deleted").items():
            if number in numbers and (own, number) not in self._known.runs:
                run_id = max(some, key=_worth).info.run_id
                self.tracking.client.restore_run(run_id)
                self._known.runs[own, number] = run_id
                self._logged.pop(run_id, None)

    def lose(self, study: optuna.Study, number: int) -> None:
        """Somebody has deleted the run of trial `number`: when it is logged, look whether it has another one."""
        self.forget(study, number, None)
        self._known.lost.add((id_of(self.tracking, study), number))

    def delete_doubles(self, study: optuna.Study) -> None:
        """Delete the empty runs that calls of this process made beside those that were logged: see `doubles`."""
        if not self._known.calls or database(self.tracking.uri) is not None:
            return  # no answer of a file is lost
        own = id_of(self.tracking, study)
        for number, some in _by_number(runs_of(self.tracking, study, status="RUNNING"), "active").items():
            if kept := self._known.runs.get((own, number)):
                self._known.calls.take_away(self.tracking.client, some, kept)

    def is_active(self, run_id: str) -> bool:
        """Whether the run is there and not deleted."""
        return bool(self.status_of(run_id))

    def status_of(self, run_id: str) -> str:
        """The status of the run, such as RUNNING; empty: there is none, or it was deleted."""
        local = database(self.tracking.uri)
        status = status_of(local, run_id) if local else None
        if status is None:
            try:
                info = self.tracking.client.get_run(run_id).info
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return ""
            status = str(info.status) if info.lifecycle_stage == "active" else ""
        return status

    def forget_parents(self) -> None:
        """Look for the parent runs again: somebody may have deleted one."""
        self._parents.clear()

    def _end(self, run_id: str, record: Record, fresh: bool) -> None:
        client = self.tracking.client
        if not fresh and client.get_run(run_id).info.run_name == record.name:  # a person's name stays
            client.update_run(run_id, name=record.title)
        client.set_terminated(run_id, record.status, record.end)
        if not fresh:  # it had its epochs before its result
            self._direct.show_first(record.metrics[0].key, [run_id])
        self._logged.pop(run_id, None)  # done with; the memory of a thousand of them would grow

    def _run(self, study: optuna.Study, number: int) -> str | None:
        """The run of trial `number`, if there is one. The study's runs are looked up once, a lost one alone."""
        own = id_of(self.tracking, study)
        if own not in self._known.studies:
            self.know(study, runs_of(self.tracking, study))
        elif (own, number) in self._known.lost:
            self._take(own, self._alone(own, [number], deleted=False), {})
        self._known.lost.discard((own, number))
        return self._known.runs.get((own, number))

    def _alone(self, own: str, numbers: Iterable[int], *, deleted: bool = True) -> list[Run]:
        """The runs of the trials `numbers` of the study with the id `own`, looked up without all others."""
        found: list[Run] = []
        for number in numbers:
            tags = {ID_TAG: own, KIND_TAG: "trial", TRIAL_TAG: str(number)}
            found += search(self.tracking, tags, deleted=deleted)
        return found

    def _tags(self, study: optuna.Study, record: Record) -> dict[str, str]:
        return origin() | record.tags | {PARENT: self.parent(study), NAME: record.title}

    def _create(self, study: optuna.Study, number: int, record: Record) -> str:
        tags = self._tags(study, record)
        own = id_of(self.tracking, study)
        try:
            with self._known.calls.call() as call:
                tags |= {} if database(self.tracking.uri) else call
                run = self.tracking.client.create_run(self.tracking.experiment_id, record.start, tags, record.title)
        except (MlflowException, OSError) as error:
            if not isinstance(error, MlflowException) or error.error_code != "INVALID_PARAMETER_VALUE":
                self._known.lost.add((own, number))  # it may have been made, and only the answer was lost
            raise
        run_id: str = run.info.run_id
        self._known.runs[own, number] = run_id
        return run_id

    def _add(self, run_id: str, record: Record, fresh: bool) -> None:
        """Log what the run does not have yet; for a fresh one that is everything, mostly in one call."""
        if fresh:
            if self.images is not None:
                self.tracking.client.log_inputs(run_id, [self.images])
            self._logged[run_id] = set()
        elif run_id not in self._logged:  # made by an earlier session: see how far it came
            self._logged[run_id] = self._reopen(run_id, record)
        logged = self._logged.pop(run_id)  # where a call fails, it is looked up what the run has
        missing = [m for m in record.metrics if (m.key, m.step) not in logged]
        params = record.entities() if fresh else []
        tags = [RunTag(k, v) for k, v in record.tags.items()] if record.end is not None and not fresh else []
        while missing or params or tags:
            others = params[:OTHERS_A_CALL]
            room = METRICS_A_CALL - 2 * OTHERS_A_CALL if others or tags else METRICS_A_CALL
            self.tracking.client.log_batch(run_id, missing[:room], others, tags[:OTHERS_A_CALL])
            logged |= {(m.key, m.step) for m in missing[:room]}
            missing, params, tags = missing[room:], params[OTHERS_A_CALL:], tags[OTHERS_A_CALL:]
        self._logged[run_id] = logged

    def _reopen(self, run_id: str, record: Record) -> set[tuple[str, int]]:
        """Go on with a run that an earlier session left: its parameters and status; which metrics it has."""
        client = self.tracking.client
        run = client.get_run(run_id)
        log_absent_params(self.tracking, record, run)
        if self.images is not None:
            client.log_inputs(run_id, [self.images])  # a second time changes nothing
        if record.end is None and run.info.status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
        return set(histories(self.tracking, run))


def identity_of(tracking: Tracking, study: optuna.Study) -> dict[str, str]:
    """The tags by which the parent run of `study` is found. The study gets its id where it has none."""
    return {STUDY_TAG: clean(study.study_name), KIND_TAG: "search", ID_TAG: id_of(tracking, study)}


def parent_of(tracking: Tracking, study: optuna.Study) -> str:
    """The id of the parent run of `study`, made where there is none: one, however many ask at once."""
    tags = identity_of(tracking, study)
    with making(tracking):
        return find_or_create(tracking, run_name(study.study_name), tags)


def runs_of(
    tracking: Tracking,
    study: optuna.Study | str,
    *,
    deleted: bool = False,
    numbered: bool = True,
    status: str = "",
) -> list[Run]:
    """Every trial's run of `study`, the oldest first: those with its id; by a name, those of all studies called so.

    With `deleted` those too that were deleted and can be restored; without `numbered` those too whose trial's number
    somebody changed to something else; with a `status` only those that have it.
    """
    if isinstance(study, str):
        tags = {STUDY_TAG: clean(study)}
    elif own := study_id(study):
        tags = {ID_TAG: own}
    else:
        return []
    found = search(tracking, tags | {KIND_TAG: "trial"}, deleted=deleted, status=status)
    return [run for run in found if not numbered or number_of(run) is not None]


def number_of(run: Run) -> int | None:
    """The number of the trial whose run this is; None where its tag is none, since somebody changed it."""
    text = run.data.tags.get(TRIAL_TAG, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None


def _by_number(runs: Iterable[Run], stage: str) -> dict[int, list[Run]]:
    """Those of `runs` that are in the `stage` of their lifecycle, by the number of their trial."""
    found: dict[int, list[Run]] = {}
    for run in runs:
        number = number_of(run)
        if number is not None and run.info.lifecycle_stage == stage:
            found.setdefault(number, []).append(run)
    return found


def _worth(run: Run) -> tuple[bool, bool]:
    """The larger, the more there is in a run: first whether anything was logged to it, then whether it has ended."""
    return bool(run.data.params or run.data.metrics), run.info.status != "RUNNING"


def log_absent_params(tracking: Tracking, record: Record, run: Run) -> None:
    """Give `run` those parameters of `record` that it does not have."""
    absent = [p for p in record.entities() if p.key not in run.data.params]
    for start in range(0, len(absent), OTHERS_A_CALL):
        tracking.client.log_batch(run.info.run_id, params=absent[start : start + OTHERS_A_CALL])


def log_summary(tracking: Tracking, run_id: str, study: optuna.Study, *, fronts: bool = False) -> None:
    """Put the result of `study` on its parent run, and its note, unless a person has written one there.

    `fronts`: it is a search of Podium's, whose trials say whether they are on the Pareto front.
    """
    run = tracking.client.get_run(run_id)
    changed = {key: value for key, value in summary_of(study).items() if run.data.metrics.get(key) != value}
    tracking.client.log_batch(run_id, newest(tracking, run, changed))
    log_note(tracking, run_id, note_of(study, fronts=fronts), run.data.tags)


def log_note(tracking: Tracking, run_id: str, note: str, tags: Mapping[str, str]) -> None:
    """Put `note` on the page of the run with `tags`, unless a person has changed what is there."""
    if NOTE not in tags or _digest(tags[NOTE]) == tags.get("podium.note"):
        new = {NOTE: note, "podium.note": _digest(note)}
        tracking.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in new.items()])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def id_of(tracking: Tracking, study: optuna.Study) -> str:
    """The id of `study`, which gets one where it has none: one, however many processes ask at once."""
    found = study_id(study)
    if found is None:
        with making(tracking):
            found = study_id(study, make=True)
    return found or ""
