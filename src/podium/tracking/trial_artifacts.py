"""Optuna's artifacts in MLflow: the files that an objective gave to `optuna.artifacts.upload_artifact`."""

import logging
import tempfile
from pathlib import Path
from typing import BinaryIO, Protocol

import optuna
from mlflow import MlflowClient
from optuna.artifacts import ArtifactMeta, download_artifact, get_all_artifact_meta
from optuna.trial import FrozenTrial

from podium.text import reason_of
from podium.tracking.study_storage import storage_of

log = logging.getLogger(__name__)


class ArtifactStore(Protocol):
    """What Optuna asks of each of its stores, such as optuna.artifacts.FileSystemArtifactStore."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The content of an artifact."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep `content_body` as the artifact."""

    def remove(self, artifact_id: str) -> None:
        """Remove the artifact."""


def artifacts_of(study: optuna.Study, owner: optuna.Study | FrozenTrial) -> list[ArtifactMeta]:
    """The files of `owner`, a trial of `study` or the study itself, the oldest first."""
    return list(get_all_artifact_meta(owner, storage=storage_of(study)))


def log_artifacts(
    client: MlflowClient, run_id: str, study: optuna.Study, owner: optuna.Study | FrozenTrial, store: ArtifactStore
) -> None:
    """Give the run `run_id` those files of `owner` that it does not have yet.

    They lie under their names; of several of one name each later one lies in a folder that is called by its id. A file
    that `store` does not give is named in a warning, and keeps no other one out. Raises what MLflow raises.
    """
    kept: set[str] = set()
    wanted: list[tuple[str, str, str | None]] = []
    for meta in artifacts_of(study, owner):
        folder = meta.artifact_id if meta.filename in kept else None
        kept.add(meta.filename)
        wanted.append((meta.artifact_id, meta.filename, folder))
    if not wanted:
        return
    there = {one.path for one in client.list_artifacts(run_id)}
    for artifact_id, name, folder in wanted:
        if (folder or name) in there:
            continue
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / name
            if _fetched(store, artifact_id, path):
                client.log_artifact(run_id, str(path), folder)


def _fetched(store: ArtifactStore, artifact_id: str, path: Path) -> bool:
    try:
        download_artifact(artifact_store=store, file_path=str(path), artifact_id=artifact_id)
    except Exception as error:  # a store may be anybody's
        reason = f"{type(error).__name__}: {reason_of(error)}"
        log.warning("The artifact %s (%s) can't be read. %s", path.name, artifact_id, reason)
        return False
    return True
