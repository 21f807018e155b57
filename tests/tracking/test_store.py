"""A store that is made on first use."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import sql

from podium.errors import PodiumError
from podium.tracking import fresh_database, store


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _open_files(folder: Path) -> list[str]:
    """The files of `folder` that this process has open, removed ones too."""
    links = Path("/proc/self/fd")
    found = [str(link.readlink()) for link in links.iterdir() if link.is_symlink()]
    return sorted({Path(name).name for name in found if name.startswith(f"{folder}/")})


def test_database_whose_making_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(asked: str) -> None:
        with closing(sqlite3.connect(asked.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")  # the first migration of many
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fresh_database, "_migrate", killed)
        with pytest.raises(KeyboardInterrupt):
            store.open_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()
    assert store.open_store(f"sqlite:///{tmp_path}/mlflow.db").experiment_id
    assert _files(tmp_path) == ["mlflow.db", "mlflow.lock"]


def test_database_that_was_removed_is_made_again_in_the_same_process(tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    uri = f"sqlite:///{folder}/mlflow.db"
    first = store.open_store(uri)
    first.client.create_run(first.experiment_id)
    first.client.create_registered_model("digits")
    shutil.rmtree(folder)
    again = store.open_store(uri)
    assert store.search(again, {}) == []
    again.client.create_registered_model("digits")  # the registry's store has forgotten the removed file too
    run = again.client.create_run(again.experiment_id)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT run_uuid FROM runs").fetchall() == [(run.info.run_id,)]
    assert {e.name for e in again.client.search_experiments()} == {"Default", "podium"}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux lists a process's open files so")
def test_fresh_database_stays_open_under_no_other_name(tmp_path: Path) -> None:
    store.open_store(f"sqlite:///{tmp_path}/mlflow.db")
    names = [name for name in _open_files(tmp_path) if name.startswith("mlflow.db")]
    assert names == ["mlflow.db"]
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    assert f"sqlite:///{tmp_path}/mlflow.db.new" not in SqlAlchemyStore._engine_map


def test_database_is_made_by_the_public_client_where_mlflow_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(*_: Any) -> None:
        raise AttributeError("no _engine_map")

    monkeypatch.setattr(fresh_database, "_migrate", changed)
    monkeypatch.setattr(fresh_database, "_forget", changed)
    tracking = store.open_store(f"sqlite:///{tmp_path}/mlflow.db")
    tracking.client.create_run(tracking.experiment_id)
    assert "in a process of its own" in caplog.text
    assert "has to start again" in caplog.text
    assert "no _engine_map" in caplog.text
    assert _files(tmp_path) == ["mlflow.db", "mlflow.lock"]


def test_store_on_a_file_system_that_says_it_is_read_only_is_read(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the answer of `statvfs` is replaced; the next test has such a file system, where it may make one."""
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    uri, lock = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "mlflow.lock"
    made = store.open_store(uri)
    lock.unlink()
    lock.mkdir()  # nobody can write it, root neither
    with pytest.raises(PodiumError, match=r"mlflow\.lock can't be written"):
        store.open_store(uri)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert store.open_store(uri).experiment_id == made.experiment_id


def _may_mount() -> bool:
    """Whether this user may mount something in a namespace of its own."""
    tool = shutil.which("unshare")
    return tool is not None and subprocess.run([tool, "-rm", "true"], capture_output=True, check=False).returncode == 0


OPEN = """
import sys
from podium.tracking.store import open_store, search
tracking = open_store(sys.argv[1])
print(tracking.experiment_id, len(search(tracking, {})))
"""


@pytest.mark.slow
def test_store_on_a_read_only_mount_is_read_and_left_as_it_is(mlflow_template: Path, tmp_path: Path) -> None:
    if not _may_mount():
        pytest.skip("this user may not mount a folder read-only in a namespace of its own")
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(mlflow_template, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    made = store.open_store(uri)
    made.client.create_run(made.experiment_id)
    (folder / "mlflow.lock").unlink()
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$4"'
    command = ["unshare", "-rm", "sh", "-ec", mount, "sh", str(folder), sys.executable, OPEN, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [made.experiment_id, "1"], done.stderr
    assert _files(folder) == ["mlflow.db"]


def test_database_that_another_program_holds_is_said_to_be_held(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, patient = f"sqlite:///{shutil.copy(mlflow_template, tmp_path)}", sql.text
    store.open_store(uri, "held")
    monkeypatch.setattr(sql, "text", lambda words: patient(words.replace("20000", "1")))  # ms for which MLflow waits
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(PodiumError, match=r"database is locked. Another program has locked it .* end that, or"):
            store.open_store(uri, "held")
    assert store.open_store(uri, "held").experiment_id


def test_address_may_end_with_options_of_sqlites_driver(mlflow_template: Path, tmp_path: Path) -> None:
    """Its options were taken for a part of the file's name."""
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    tracking = store.open_store(f"sqlite:///{tmp_path}/mlflow.db?timeout=60")
    made = tracking.client.create_run(tracking.experiment_id, tags={"mine": "1"})
    assert [run.info.run_id for run in store.search(tracking, {"mine": "1"})] == [made.info.run_id]
    assert {name for name in _files(tmp_path) if "timeout" in name} == set()
