"""Runs that no study describes: a search's own and a retraining's, with a record of all that was written on them.

Whatever is logged to such a run is first added to its record, a file in mlruns/runs. So MLflow can be compared with it,
and a run that was changed, deleted or lost is made what it was.
"""

import hashlib
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict, ValidationError

from podium import paths
from podium.errors import PodiumError
from podium.private_names import say
from podium.text import reason_of
from podium.tracking.project_id import refuse_while_planned
from podium.tracking.refusal import NO_SUCH_RUN
from podium.tracking.run_files import log_file
from podium.tracking.run_names import (
    ID_TAG,
    LIMIT,
    LONGEST_NAME,
    LONGEST_PARAM,
    METRICS_A_CALL,
    OTHERS_A_CALL,
    PROJECT_TAG,
    RETRAIN_TAG,
    SUPERSEDED_TAG,
    clean,
    is_id,
)
from podium.tracking.store import Tracking, end_run, find_or_create, making, search

NAME, NOTE, NOTE_DIGEST = "mlflow.runName", "mlflow.note.content", "podium.note"
FORMER_NAME = "podium.former_name"
"""The tag that keeps the name that somebody gave a run of ours, where `podium sync` gave it its own again."""
REPLACES = "podium.replaces"
"""The tag of a run that was made again: the id of the one that was deleted for good."""
ENDED = ("FINISHED", "FAILED", "KILLED")
FOLDER = "runs"


class Record(BaseModel):
    """What one run is to hold."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    identity: dict[str, str]
    """The tags by which it is found."""
    run_id: str = ""
    former: list[str] = []
    """Ids that it had before: it was deleted for good and made again."""
    status: str = "RUNNING"
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    metrics: dict[str, dict[int, float]] = {}
    """By name and step."""
    dataset: tuple[str, str] | None = None
    """Name and digest of the images."""
    artifacts: dict[str, tuple[str, str]] = {}
    """By their path in the run: SHA-256, and the file in the project that they were."""
    note: str = ""

    @property
    def key(self) -> str:
        """The name of its file; empty: it is kept in none."""
        own = self.identity.get(RETRAIN_TAG) or self.identity.get(ID_TAG)
        return f"{self.identity.get('podium.kind', 'run')}-{own}" if own else ""

    def add_file(self, path: Path, folder: str) -> None:
        """Add the file `path` as an artifact in `folder`."""
        self.artifacts[f"{folder}/{path.name}"] = (_sha(path), clean(path.as_posix()))


class RecordedRun:
    """One run in MLflow that is written to through here only."""

    def __init__(self, tracking: Tracking, record: Record) -> None:
        self.tracking = tracking
        self.record = record

    @staticmethod
    def open(tracking: Tracking, name: str, identity: dict[str, str]) -> "RecordedRun":
        """The run with the tags `identity`: found, restored where it was deleted, or made and called `name`."""
        name = clean(name, LONGEST_NAME)
        opened = RecordedRun(tracking, begun(Record(name=name, identity=identity)))
        with making(tracking):
            run = found(tracking, opened.record) if opened.run_id else None
            if run is not None and any(run.data.tags.get(key) != value for key, value in identity.items()):
                send(tracking, opened.run_id, tags=identity)  # somebody changed them: no other run takes its place
            if opened.run_id and run is None:
                _say_where(tracking, opened.record)
            run_id = find_or_create(tracking, name, identity, opened.run_id)
        if not opened.run_id and (status := tracking.client.get_run(run_id).info.status) in ENDED:
            opened.record.status = status  # its record is gone, or of a time before there were records
        opened.is_now(run_id)
        return opened

    @property
    def run_id(self) -> str:
        """Its id in MLflow."""
        return self.record.run_id

    def is_now(self, run_id: str) -> None:
        """Take `run_id` for its id from now on."""
        if self.record.run_id not in ("", run_id):
            self.record.former.append(self.record.run_id)
            send(self.tracking, run_id, tags={REPLACES: self.record.run_id})
        self.record.run_id = run_id
        save(self.record)

    def log(
        self,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all of these."""
        params = {key: clean(value, LONGEST_PARAM) for key, value in (params or {}).items()}
        tags = {key: clean(value) for key, value in (tags or {}).items()}
        for metric in metrics:
            self.record.metrics.setdefault(metric.key, {})[metric.step] = metric.value
        self.record.params |= params
        self.record.tags |= tags
        save(self.record)
        send(self.tracking, self.run_id, metrics, params, tags)

    def log_images(self, source: str, digest: str) -> None:
        """Log the prepared images of `source` as an input, with their digest; a second time changes nothing."""
        images = dataset_input(source, digest)
        self.record.dataset = (images.dataset.name, images.dataset.digest)
        save(self.record)
        self.tracking.client.log_inputs(self.run_id, [images])

    def log_file(self, path: Path, folder: str) -> None:
        """Log the file `path` as an artifact in `folder`."""
        self.record.add_file(path, folder)
        save(self.record)
        log_file(self.tracking, self.run_id, path, folder)

    def remove_files(self, folder: str, names: Sequence[str]) -> list[str]:
        """Remove the artifacts `names` of `folder`, those that are there.

        Returns the paths of those that are left: some stores of artifacts remove nothing.
        """
        paths_of = [f"{folder}/{name}" for name in names]
        for path in paths_of:
            self.record.artifacts.pop(path, None)
        save(self.record)
        there = {one.path for one in self.tracking.client.list_artifacts(self.run_id, folder)}
        left = [path for path in paths_of if path in there]
        if not left:
            return []
        where = self.tracking.client.get_run(self.run_id).info.artifact_uri

        def remove() -> list[str]:
            """MLflow has no public way to remove an artifact."""
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            artifacts = get_artifact_repository(where, tracking_uri=self.tracking.uri)
            delete = artifacts.delete_artifacts
            try:
                while left:
                    delete(left[0])  # type: ignore[no-untyped-call]
                    left.pop(0)
            except NotImplementedError:  # what MLflow raises for DBFS, HDFS, SFTP and others
                return left
            return []

        try:
            return remove()
        except (ImportError, AttributeError, TypeError) as error:
            say("mlflow", "artifacts that are out of date are not removed", error)
            return left

    def log_note(self, note: str) -> None:
        """Put `note` on its page, unless a person has changed what is there."""
        self.record.note = clean(note)
        save(self.record)
        tags = self.tracking.client.get_run(self.run_id).data.tags
        if NOTE not in tags or _digest(tags[NOTE]) == tags.get(NOTE_DIGEST):
            send(self.tracking, self.run_id, tags=_note_tags(self.record.note))

    def set_status(self, status: str) -> None:
        """RUNNING, or how it ended."""
        self.record.status = status
        save(self.record)
        if status in ENDED:
            end_run(self.tracking, self.run_id, status)
        else:
            self.tracking.client.update_run(self.run_id, status=status)


def send(
    tracking: Tracking,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log all of these to a run, in as few calls as MLflow's limits allow."""
    measured = list(metrics)
    others = [Param(key, value) for key, value in (params or {}).items()]
    marks = [RunTag(key, value) for key, value in (tags or {}).items()]
    while measured or others or marks:
        room = METRICS_A_CALL - 2 * OTHERS_A_CALL if others or marks else METRICS_A_CALL
        tracking.client.log_batch(run_id, measured[:room], others[:OTHERS_A_CALL], marks[:OTHERS_A_CALL])
        measured, others, marks = measured[room:], others[OTHERS_A_CALL:], marks[OTHERS_A_CALL:]


DIGEST = 32
"""Characters of the images' digest: MLflow's database has room for 36. The tag podium.data_digest holds it whole."""


def dataset_input(source: str, digest: str) -> DatasetInput:
    """The prepared images of `source` as MLflow's input of a run."""
    where = f'{{"uri": "{paths.PREPARED.as_posix()}"}}'
    images = Dataset(name=clean(source, 500), digest=digest[:DIGEST], source_type="local", source=where)
    return DatasetInput(images, [InputTag("mlflow.data.context", "training")])


def load(default: Record) -> Record:
    """The record of the run that `default` describes, or `default` where there is none yet.

    Raises PodiumError where its file is damaged.
    """
    path = _path(default.key)
    return _read(path) if default.key and path.is_file() else default


def begun(default: Record) -> Record:
    """As `load`, but a damaged file is moved aside with a message, and another record begins: the work goes on."""
    try:
        return load(default)
    except PodiumError as error:
        path = _path(default.key)
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        print(
            f"podium: {reason_of(error)}. It is moved to {aside}; what it recorded is no longer compared by `podium"
            " sync`, what is logged from now on is",
            file=sys.stderr,
        )
        return default


def save(record: Record) -> None:
    """Write `record`, whole or not at all."""
    if not record.key:
        return
    path = _path(record.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")  # a thread that was left may save, too
    text.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    text.replace(path)


def files(kinds: Iterable[str]) -> list[Path]:
    """The records of `kinds` of runs."""
    return sorted(path for kind in kinds for path in _folder().glob(f"{kind}-*.json"))


def kept() -> bool:
    """Whether this folder ever kept a record."""
    return _folder().is_dir()


def read(path: Path) -> Record:
    """The record in the file `path`. Raises PodiumError where it is damaged."""
    return _read(path)


def of_run(run_id: str) -> Record | None:
    """The record of the run that has or had the id `run_id`; None: there is none."""
    for path in sorted(_folder().glob("*.json")):
        record = _read(path)
        if run_id and run_id in (record.run_id, *record.former):
            return record
    return None


def run_now(run_id: str) -> str:
    """The present id of the run that had `run_id` when a stage wrote it down."""
    record = of_run(run_id)
    return record.run_id if record else run_id


def recorded(tracking: Tracking, run_id: str) -> RecordedRun:
    """The run that had the id `run_id` when a stage wrote it down; without a record it is just that run.

    Raises RefusedError where `podium sync --as-copy` has not ended: it may still be the original's run.
    """
    refuse_while_planned()
    return RecordedRun(tracking, of_run(run_id) or Record(name="", identity={}, run_id=run_id))


def found(tracking: Tracking, record: Record) -> Run | None:
    """The run of `record`: its own, else the oldest that is there, else one that was deleted, else None."""
    return best_of(all_of(tracking, record), record.run_id)


def all_of(tracking: Tracking, record: Record) -> list[Run]:
    """Every run with the tags of `record`, deleted ones too, the oldest first; then its own if it lost these tags."""
    found = search(tracking, record.identity, deleted=True)
    if record.run_id and all(run.info.run_id != record.run_id for run in found):
        found += _own_without_tags(tracking, record)
    return found


def best_of(runs: Sequence[Run], own: str) -> Run | None:
    """Of runs with the tags of one record, whose id is `own`, the one that is meant, as `found` says."""
    active = [run for run in runs if run.info.lifecycle_stage == "active"]
    return next((run for run in active if run.info.run_id == own), next(iter(active or runs[-1:]), None))


def _own_without_tags(tracking: Tracking, record: Record) -> list[Run]:
    """The run of `record`, of which somebody changed tags by which it is found; none, where it is another's by them."""
    try:
        run = tracking.client.get_run(record.run_id)
    except MlflowException as error:
        if error.error_code not in NO_SUCH_RUN:
            raise
        return []
    tags = run.data.tags
    ids = {key: value for key, value in record.identity.items() if key in (ID_TAG, PROJECT_TAG)}
    others = any(is_id(tags.get(key, "")) and tags[key] != value for key, value in ids.items())
    elsewhere = run.info.experiment_id != tracking.experiment_id
    return [] if others or elsewhere or SUPERSEDED_TAG in tags else [run]


def _say_where(tracking: Tracking, record: Record) -> None:
    """Say that the run of `record` is in another experiment, if it is: another one is about to be made."""
    try:
        info = tracking.client.get_run(record.run_id).info
        name = tracking.client.get_experiment(info.experiment_id).name
    except MlflowException:  # it is gone, and is made again
        return
    if info.lifecycle_stage == "active" and info.experiment_id != tracking.experiment_id:
        print(
            f"podium: the run {record.run_id} of {record.name} is in the experiment {name!r}; tracking.experiment is"
            f" {tracking.experiment!r}, so another one is made there. If somebody renamed the experiment, set"
            f" tracking.experiment to {name!r}",
            file=sys.stderr,
        )


def note_tags(record: Record) -> dict[str, str]:
    """The note of `record` as tags."""
    return _note_tags(record.note) if record.note else {}


def _note_tags(note: str) -> dict[str, str]:
    return {NOTE: note[:LIMIT], NOTE_DIGEST: _digest(note[:LIMIT])}


def _read(path: Path) -> Record:
    try:
        return Record.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise PodiumError(
            f"{path} can't be read: {' '.join(str(error).split())[:200]}. It records what Podium wrote on one run in"
            " MLflow: remove it, and the run is no longer compared with it"
        ) from None


def _path(key: str) -> Path:
    return _folder() / f"{key}.json"


def _folder() -> Path:
    return paths.mlruns() / FOLDER


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
