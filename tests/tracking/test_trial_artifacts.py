"""Files that an objective gives to Optuna's own artifact store get into the trials' runs."""

import logging
from pathlib import Path

import optuna
import pytest
from mlflow.exceptions import MlflowException
from optuna.artifacts import FileSystemArtifactStore, upload_artifact

from podium import TrialLogger
from podium.config.params import TrackingParams
from podium.tracking.store import Tracking, connect
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
