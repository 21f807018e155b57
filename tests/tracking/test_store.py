"""A store that is made on first use."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest

from podium.tracking import store


def test_database_whose_making_was_interrupted_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = mlflow.MlflowClient
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def killed(asked: str, *_: Any, **__: Any) -> Any:
        with closing(sqlite3.connect(asked.removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")  # the first migration of many
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "MlflowClient", killed)
    with pytest.raises(KeyboardInterrupt):
        store.open_store(uri)
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setattr(store, "MlflowClient", real)
    assert store.open_store(uri).experiment_id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.lock"]
