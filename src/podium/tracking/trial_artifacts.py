"""Optuna's artifacts in MLflow: the files that an objective gave to `optuna.artifacts.upload_artifact`."""

import logging
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import optuna
from mlflow import MlflowClient
from optuna.artifacts import ArtifactMeta, download_artifact, get_all_artifact_meta
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import FrozenTrial

from podium.text import reason_of
from podium.tracking.refusal import is_gone, is_refused, refusal
from podium.tracking.run_names import clean
from podium.tracking.store import Tracking
from podium.tracking.study_storage import storage_of

PAUSES = (1.0, 5.0, 20.0, 60.0)
"""Seconds for which a store that did not answer is left alone: the user's study goes on meanwhile."""
TRIES = 10
"""How often an artifact is asked for that its store neither gives nor says to be gone: about seven minutes."""
IN_A_ROW = 3
"""Trials whose files fail one after the other, after which the end of the study does not wait for more of them."""
TAG = "podium.artifact."
"""How the tags of a run begin that say where an artifact lies in it; then comes its id."""
COPYING = "copying:/"
"""How their value begins until the file is there as a whole. No path in a run begins so."""

log = logging.getLogger(__name__)


class ArtifactStore(Protocol):
    """What Optuna asks of each of its stores, such as optuna.artifacts.FileSystemArtifactStore."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep `content_body` as the artifact."""

    def remove(self, artifact_id: str) -> None:
        """Remove the artifact."""


@dataclass
class _Owner:
    """A trial or a study whose files are to get into the run `run_id`."""

    study: optuna.Study
    of: optuna.Study | FrozenTrial
    run_id: str
    failures: int = 0

    def __str__(self) -> str:
        return f"trial {self.of.number}" if isinstance(self.of, FrozenTrial) else f"study {self.study.study_name}"


class Attachments:
    """Gives runs the files of their trials and studies; what can't be had or logged now, a later call tries again.

    Threads copy files at the same time: none waits for the copy of another.
    """

    def __init__(self, tracking: Tracking, store: ArtifactStore | None) -> None:
        self._tracking = tracking
        self.store = store
        """None: no files are logged."""
        self._lock = threading.Lock()
        self._pending: dict[tuple[int, int | None], _Owner] = {}
        self._unread: Counter[str] = Counter()
        """How often an artifact could not be read."""
        self._lost: set[str] = set()
        """Artifacts that are not tried again."""
        self._failures = 0
        self._not_before = 0.0
        self._warned = False

    def add(self, study: optuna.Study, of: optuna.Study | FrozenTrial, run_id: str) -> None:
        """The files of `of`, a trial of `study` or the study itself, belong into the run `run_id`."""
        if self.store is not None:
            with self._lock:
                self._pending[id(study), getattr(of, "number", None)] = _Owner(study, of, run_id)

    def log(self, *, last: bool = False) -> None:
        """Log the files of all that were added; `last`: at once, and name those that are left. Raises no error.

        Holds no lock meanwhile. Each owner is tried once; after a failure the others wait for a pause.
        """
        if self.store is None:
            return
        tried: set[tuple[int, int | None]] = set()
        failed = 0
        while failed < (IN_A_ROW if last else 1) and (last or time.monotonic() >= self._not_before):
            with self._lock:
                keys = sorted(self._pending.keys() - tried, key=lambda key: self._pending[key].failures)
                if not keys:
                    break
                tried.add(keys[0])
                owner = self._pending.pop(keys[0])
            left = True
            try:
                left = not self._attach(owner, self.store)
            finally:  # Ctrl-C, too, leaves it for later
                if left:
                    with self._lock:
                        self._pending.setdefault(keys[0], owner)
            failed = failed + 1 if left else 0
        if last and self._pending:
            some = ", ".join(str(owner) for owner in list(self._pending.values())[:5])
            log.warning("Files of %d trials or studies are not in MLflow yet (%s): `log_all` of a TrialLogger with"
                        " `artifacts` logs what is missing", len(self._pending), some)  # fmt: skip

    def _attach(self, owner: _Owner, store: ArtifactStore) -> bool:
        """Give a run those files of its owner that it lacks; whether no other try is needed. Each file is tried."""
        errors = []
        try:
            wanted = [m for m in _artifacts_of(owner) if m.artifact_id not in self._lost]
            if not wanted:
                return True
            places = _Places(self._tracking.client, owner)
            for meta in places.missing(wanted):
                try:
                    self._copy(owner, meta, places, store)
                except Exception as error:  # MLflow's clients of S3, GCS and Azure raise anything
                    if not self._is_refused(owner, meta, error):
                        errors.append(error)
        except Exception as error:  # as well as a study's storage
            errors.append(error)
        if not errors:
            self._failures = 0
            return True
        if any(is_gone(error) for error in errors):
            log.warning("The run of %s was deleted before it had its files. %s", owner, reason_of(errors[0]))
            return True
        self._fail(owner, errors[0])
        return False

    def _copy(self, owner: _Owner, meta: ArtifactMeta, places: "_Places", store: ArtifactStore) -> None:
        """Copy one artifact to its place in the run. One that is lost is named, and gets none."""
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / meta.filename
            try:
                download_artifact(artifact_store=store, file_path=str(file), artifact_id=meta.artifact_id)
            except Exception as error:
                self._unread[meta.artifact_id] += 1
                if not isinstance(error, ArtifactNotFound) and self._unread[meta.artifact_id] < TRIES:
                    raise
                self._give_up("can't be read", owner, meta, error)
                return
            folder = places.begin(meta)
            self._tracking.client.log_artifact(owner.run_id, str(file), folder)
        places.end(meta)

    def _is_refused(self, owner: _Owner, meta: ArtifactMeta, error: Exception) -> bool:
        """Whether MLflow never takes this file, which is then not tried again."""
        if not is_refused(error):
            return False
        if refusal(error, self._tracking.uri, self._tracking.experiment):
            return False
        self._give_up("is refused by MLflow", owner, meta, error)
        return True

    def _give_up(self, what: str, owner: _Owner, meta: ArtifactMeta, error: Exception) -> None:
        self._lost.add(meta.artifact_id)
        reason = f"{type(error).__name__}: {reason_of(error)}"
        log.warning("The artifact %s (%s) of %s %s. %s", meta.filename, meta.artifact_id, owner, what, reason)

    def _fail(self, owner: _Owner, error: Exception) -> None:
        owner.failures += 1
        self._not_before = time.monotonic() + PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        if not self._warned:
            self._warned = True
            reason = f"{type(error).__name__}: {reason_of(error)}"
            log.warning("Files of %s can't be logged now, they are tried again later. %s", owner, reason)


def _artifacts_of(owner: _Owner) -> list[ArtifactMeta]:
    """In the order of their ids: a storage gives them in any, and all processes have to go by the same."""
    found = get_all_artifact_meta(owner.of, storage=storage_of(owner.study))
    return sorted(found, key=lambda meta: meta.artifact_id)


class _Places:
    """Where the files of an owner lie in its run, as tags of the run say: each is noted before and after its copy.

    One of a name lies under it, the others in folders that are called by their ids. So does one whose name something
    else in the run has: that is the user's own.
    """

    def __init__(self, client: MlflowClient, owner: _Owner) -> None:
        self._client = client
        self._run_id = owner.run_id
        self._shared = isinstance(owner.of, optuna.Study)
        """Whether other processes may give the run other files meanwhile; those of a trial are all there."""
        self._marks = self._read()
        self._others: set[str] | None = None

    def missing(self, wanted: list[ArtifactMeta]) -> list[ArtifactMeta]:
        """Those of `wanted` that the run does not have as a whole."""
        return [meta for meta in wanted if self._marks.get(meta.artifact_id, COPYING).startswith(COPYING)]

    def begin(self, meta: ArtifactMeta) -> str | None:
        """The folder to which `meta` is to be copied; None: under its name, where a part of it may lie already."""
        if meta.artifact_id not in self._marks:
            if self._others is None:
                self._others = {one.path for one in self._client.list_artifacts(self._run_id)}
            taken = self._others | {value.removeprefix(COPYING) for value in self._marks.values()}
            self._mark(meta, COPYING + _path(meta, in_folder=clean(meta.filename) in taken))
            if self._shared and self._is_twice(self._read(), meta):
                self._mark(meta, COPYING + _path(meta, in_folder=True))
        plain = self._marks[meta.artifact_id] == COPYING + _path(meta, in_folder=False)
        return None if plain else meta.artifact_id

    def end(self, meta: ArtifactMeta) -> None:
        """All of `meta` is there."""
        self._mark(meta, self._marks[meta.artifact_id].removeprefix(COPYING))

    def _is_twice(self, marks: dict[str, str], meta: ArtifactMeta) -> bool:
        """Whether another process has taken the place of `meta`, too: each of the two that sees it gives way."""
        own = self._marks[meta.artifact_id].removeprefix(COPYING)
        return any(own == value.removeprefix(COPYING) for key, value in marks.items() if key != meta.artifact_id)

    def _read(self) -> dict[str, str]:
        tags: dict[str, str] = self._client.get_run(self._run_id).data.tags
        return {key.removeprefix(TAG): value for key, value in tags.items() if key.startswith(TAG)}

    def _mark(self, meta: ArtifactMeta, value: str) -> None:
        self._client.set_tag(self._run_id, TAG + meta.artifact_id, value)
        self._marks[meta.artifact_id] = value


def _path(meta: ArtifactMeta, *, in_folder: bool) -> str:
    return clean(f"{meta.artifact_id}/{meta.filename}" if in_folder else meta.filename)
