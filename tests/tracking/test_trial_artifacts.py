"""Files that an objective gives to Optuna's own artifact store get into the trials' runs."""

import logging
import threading
from pathlib import Path
from typing import Any, BinaryIO

import mlflow
import optuna
import pytest
from mlflow.exceptions import MlflowException
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from podium import TrialLogger
from podium.config.params import TrackingParams
from podium.tracking import trial_artifacts
from podium.tracking.store import Tracking, connect, making
from podium.tracking.trial_runs import parent_of, runs_of


@pytest.fixture
def tracking(store: TrackingParams) -> Tracking:
    return connect(store)


@pytest.fixture
def files(tmp_path: Path) -> FileSystemArtifactStore:
    (tmp_path / "artifacts").mkdir()
    return FileSystemArtifactStore(str(tmp_path / "artifacts"))


CONTENTS = {"empty.bin": b"", "with a space, \N{SNOWMAN}.txt": b"two", "model.pt": b"\0" * 5000}


def _objective(trial: optuna.Trial, files: FileSystemArtifactStore, folder: Path) -> float:
    for name, content in CONTENTS.items() if trial.number != 1 else ():
        (folder / name).write_bytes(content)
        upload_artifact(artifact_store=files, file_path=str(folder / name), study_or_trial=trial)
    return trial.suggest_float("x", 0, 1)


def _read(tracking: Tracking, run_id: str, folder: Path) -> dict[str, bytes]:
    found = {}
    for one in tracking.client.list_artifacts(run_id):
        some = tracking.client.list_artifacts(run_id, one.path) if one.is_dir else [one]
        for file in some:
            found[file.path] = Path(tracking.client.download_artifacts(run_id, file.path, str(folder))).read_bytes()
    return found


def test_files_of_trials_and_study_are_in_their_runs(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path
) -> None:
    study = optuna.create_study(study_name="with files")
    with TrialLogger(tracking, artifacts=files) as logger:
        study.optimize(lambda trial: _objective(trial, files, tmp_path), 3, callbacks=[logger])
        for content in (b"first", b"second"):
            (tmp_path / "note.md").write_bytes(content)
            upload_artifact(artifact_store=files, file_path=str(tmp_path / "note.md"), study_or_trial=study)
    (tmp_path / "got").mkdir()
    runs = runs_of(tracking, study)
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert [_read(tracking, run.info.run_id, tmp_path / "got") for run in runs] == [CONTENTS, {}, CONTENTS]
    parent = _read(tracking, parent_of(tracking, study), tmp_path / "got")
    assert sorted(parent.values()) == [b"first", b"second"]
    assert "note.md" in parent


def test_file_that_the_store_lost_is_named_and_keeps_nothing_out(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def objective(trial: optuna.Trial) -> float:
        value = _objective(trial, files, tmp_path)
        lost = upload_artifact(
            artifact_store=files, file_path=str(tmp_path / "model.pt"), study_or_trial=trial, mimetype="lost"
        )
        files.remove(lost)
        return value

    study = optuna.create_study()
    with caplog.at_level(logging.WARNING), TrialLogger(tracking, artifacts=files) as logger:
        study.optimize(objective, 1, callbacks=[logger])
    (run,) = runs_of(tracking, study)
    assert {one.path for one in tracking.client.list_artifacts(run.info.run_id)} == set(CONTENTS)
    assert "The artifact model.pt" in caplog.text


def test_file_that_mlflow_does_not_take_is_logged_later(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object) -> None:
        raise MlflowException("away")

    study = optuna.create_study()
    with TrialLogger(tracking, artifacts=files) as logger:
        with monkeypatch.context() as patch:
            patch.setattr(type(tracking.client), "log_artifact", away)
            study.optimize(lambda trial: _objective(trial, files, tmp_path), 1, callbacks=[logger])
        (run,) = runs_of(tracking, study)
        assert tracking.client.list_artifacts(run.info.run_id) == []
    assert {one.path for one in tracking.client.list_artifacts(run.info.run_id)} == set(CONTENTS)


class _Flaky(FileSystemArtifactStore):
    """A store that is away for the first calls."""

    def __init__(self, base_path: str, calls: int) -> None:
        super().__init__(base_path)
        self.calls = calls

    def open_reader(self, artifact_id: str) -> BinaryIO:
        self.calls -= 1
        if self.calls >= 0:
            raise ConnectionError("away")
        return super().open_reader(artifact_id)


def _put(files: FileSystemArtifactStore, folder: Path, owner: optuna.Study | optuna.Trial, content: bytes) -> None:
    (folder / "note.md").write_bytes(content)
    upload_artifact(artifact_store=files, file_path=str(folder / "note.md"), study_or_trial=owner)


def _got(tracking: Tracking, run_id: str, folder: Path) -> dict[str, bytes]:
    (folder / "got").mkdir(exist_ok=True)
    return _read(tracking, run_id, folder / "got")


def test_files_of_one_name_that_come_one_by_one_are_each_there_once_whatever_order_the_storage_has(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path
) -> None:
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/optuna.db")  # by the random ids
    logger = TrialLogger(tracking, artifacts=files)
    contents = [b"session %d" % number for number in range(4)]
    for content in contents:
        with logger:
            study.optimize(lambda trial: 0.0, 1, callbacks=[logger])
            _put(files, tmp_path, study, content)
    parent = _got(tracking, parent_of(tracking, study), tmp_path)
    assert sorted(parent.values()) == contents
    assert parent["note.md"] == contents[0]


class _UploadFailedError(Exception):
    """As boto3's S3UploadFailedError, which is none of MLflow's and no OSError."""


def test_file_that_was_cut_or_failed_in_a_client_of_any_kind_is_copied_again_as_a_whole(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(tracking.client).log_artifact

    def cut(client: Any, run_id: str, path: str, folder: str | None = None) -> None:
        whole_content = Path(path).read_bytes()
        Path(path).write_bytes(b"")
        whole(client, run_id, path, folder)
        Path(path).write_bytes(whole_content)
        raise _UploadFailedError("connection lost")

    study = optuna.create_study()
    with TrialLogger(tracking, artifacts=files) as logger:
        with monkeypatch.context() as patch:
            patch.setattr(type(tracking.client), "log_artifact", cut)
            study.optimize(lambda trial: _objective(trial, files, tmp_path), 1, callbacks=[logger])
        (run,) = runs_of(tracking, study)
        assert set(_got(tracking, run.info.run_id, tmp_path).values()) == {b""}
    assert _got(tracking, run.info.run_id, tmp_path) == CONTENTS


def test_file_that_mlflow_refuses_is_named_and_keeps_no_other_one_of_its_trial_out(
    tracking: Tracking,
    files: FileSystemArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = type(tracking.client).log_artifact

    def refuse(client: Any, run_id: str, path: str, folder: str | None = None) -> None:
        if path.endswith("empty.bin"):
            raise MlflowException.invalid_parameter_value("no such name")
        whole(client, run_id, path, folder)

    monkeypatch.setattr(type(tracking.client), "log_artifact", refuse)
    study = optuna.create_study()
    with TrialLogger(tracking, artifacts=files) as logger:
        study.optimize(lambda trial: _objective(trial, files, tmp_path), 1, callbacks=[logger])
    (run,) = runs_of(tracking, study)
    assert _got(tracking, run.info.run_id, tmp_path).keys() == CONTENTS.keys() - {"empty.bin"}
    assert "The artifact empty.bin" in caplog.text
    assert "not in MLflow yet" not in caplog.text


def test_artifact_store_that_is_away_for_a_moment_loses_nothing(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    files = _Flaky(str(tmp_path / "artifacts"), calls=2)
    study = optuna.create_study()
    with TrialLogger(tracking, artifacts=files) as logger:
        study.optimize(lambda trial: _objective(trial, files, tmp_path), 1, callbacks=[logger])
    (run,) = runs_of(tracking, study)
    assert _got(tracking, run.info.run_id, tmp_path) == CONTENTS


def test_artifact_that_its_store_never_gives_is_given_up_and_what_is_left_at_the_end_is_named(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "artifacts").mkdir()
    files = _Flaky(str(tmp_path / "artifacts"), calls=100)
    study = optuna.create_study()
    logger = TrialLogger(tracking, artifacts=files)
    study.optimize(lambda trial: _put(files, tmp_path, trial, b"") or 0.0, 1, callbacks=[logger])  # type: ignore[func-returns-value]
    logger.close()
    assert "not in MLflow yet (trial 0)" in caplog.text
    for _ in range(20):
        logger.close()
    assert 100 - files.calls == trial_artifacts.TRIES
    assert caplog.text.count("The artifact note.md") == 1


def test_files_of_a_study_below_the_users_own_run_lie_in_it_and_leave_his_own_alone(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path
) -> None:
    study = optuna.create_study()
    mlflow.set_tracking_uri(tracking.uri)
    try:
        with mlflow.start_run(experiment_id=tracking.experiment_id) as own:
            mlflow.log_text("the user's", "note.md")
            with TrialLogger(tracking, artifacts=files) as logger:
                study.optimize(lambda trial: 0.0, 1, callbacks=[logger])
                _put(files, tmp_path, study, b"the study's")
    finally:
        mlflow.set_tracking_uri("")
    found = _got(tracking, own.info.run_id, tmp_path)
    assert found.pop("note.md") == b"the user's"
    assert list(found.values()) == [b"the study's"]


def test_copies_of_files_wait_for_no_other_copy_and_hold_no_lock(
    tracking: Tracking, files: FileSystemArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, together = type(tracking.client).log_artifact, threading.Barrier(3, timeout=60)

    def wait(client: Any, *arguments: Any) -> None:
        together.wait()  # until all three copy
        with making(tracking):
            whole(client, *arguments)

    def objective(trial: optuna.Trial) -> float:
        (tmp_path / str(trial.number)).mkdir()
        _put(files, tmp_path / str(trial.number), trial, b"content")
        raise ValueError("fails: it is looked up under the lock")

    monkeypatch.setattr(type(tracking.client), "log_artifact", wait)
    study = optuna.create_study()
    with TrialLogger(tracking, artifacts=files) as logger:
        study.optimize(objective, 3, n_jobs=3, catch=ValueError, callbacks=[logger])
    found = [_got(tracking, run.info.run_id, tmp_path) for run in runs_of(tracking, study)]
    assert found == [{"note.md": b"content"}] * 3
