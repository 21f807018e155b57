"""A project that was moved: its paths follow, unless two copies share one database."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from podium.config.params import TrackingParams
from podium.errors import RefusedError
from podium.registry import versions
from podium.tracking.store import Move, connect, moved, relocate
from registered import NAME, Project, register, write_images, write_model

pytestmark = pytest.mark.slow


@pytest.fixture
def whole(store: TrackingParams, tmp_path: Path) -> Project:
    """A project with its artifacts below its own mlruns, and one version."""
    write_images(tmp_path)
    project = Project(tmp_path, store)
    write_model(project, 1)
    register(project)
    return project


def at(folder: Path) -> Project:
    """The project in `folder`, as its relative tracking.uri finds it."""
    return Project(folder, TrackingParams(uri=f"sqlite:///{folder}/mlruns/mlflow.db"))


def answers(project: Project) -> None:
    versions.load(project.tracking, versions.find(project.tracking, NAME, 1)).check_predictions()


@pytest.mark.parametrize("name", ["moved", "with a space, and ümlaut"])
def test_moved_project_follows_by_itself_and_its_models_load(whole: Project, tmp_path: Path, name: str) -> None:
    there = tmp_path.with_name(tmp_path.name + name)
    tmp_path.rename(there)
    os.chdir(there)
    answers(at(there))
    database = there / "mlruns/mlflow.db"
    assert (moved(database, "podium"), relocate(database, "podium")) == (None, None)
    with sqlite3.connect(database) as connection:
        assert str(tmp_path) + "/" not in "\n".join(connection.iterdump())
    there.rename(tmp_path)
    os.chdir(tmp_path)
    answers(at(tmp_path))


def test_copied_project_has_a_database_of_its_own(whole: Project, tmp_path: Path) -> None:
    there = tmp_path.with_name(tmp_path.name + "-copy")
    shutil.copytree(tmp_path, there)
    done = relocate(there / "mlruns/mlflow.db", "podium")
    assert done is not None
    assert done[0] == Move(tmp_path / "mlruns", there / "mlruns")
    shutil.rmtree(there / "data")
    answers(at(there))
    answers(whole)
    assert moved(tmp_path / "mlruns/mlflow.db", "podium") is None


def test_copies_that_share_a_database_are_refused_and_left_alone(whole: Project, tmp_path: Path) -> None:
    there = tmp_path.with_name(tmp_path.name + "-linked")
    shutil.copytree(tmp_path, there, copy_function=os.link)  # what `cp -al` does
    before = (tmp_path / "mlruns/mlflow.db").read_bytes()
    with pytest.raises(RefusedError, match="two copies of the project would share one database"):
        relocate(there / "mlruns/mlflow.db", "podium")
    with pytest.raises(RefusedError, match="is one and the same file as"):
        connect(at(there).store)
    assert (tmp_path / "mlruns/mlflow.db").read_bytes() == before


def test_folder_that_is_only_reached_by_a_link_has_not_moved(whole: Project, tmp_path: Path) -> None:
    there = tmp_path.with_name(tmp_path.name + "-link")
    there.symlink_to(tmp_path)
    assert moved(there / "mlruns/mlflow.db", "podium") is None


def test_database_without_its_artifacts_is_left_alone(whole: Project, tmp_path: Path) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    shutil.copy(tmp_path / "mlruns/mlflow.db", there)
    assert moved(there / "mlflow.db", "podium") is None


@pytest.mark.parametrize("content", [None, b""])
def test_store_that_has_yet_to_be_made_has_not_moved(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "artifacts").mkdir()
    if content is not None:
        (tmp_path / "mlflow.db").write_bytes(content)
    assert moved(tmp_path / "mlflow.db", "podium") is None


def test_artifacts_on_another_service_stay_where_they_are(whole: Project, tmp_path: Path) -> None:
    database = tmp_path / "mlruns/mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE experiments SET artifact_location = 's3://bucket/artifacts'")
    assert moved(database, "podium") is None
