"""Fixtures for tests that need a real MLflow store; a `conftest.py` imports them by name.

The migrations of a fresh SQLite store take seconds: they run once a session, and each test gets a copy of the file.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from podium.config.params import TrackingParams

if TYPE_CHECKING:
    from podium.tracking.store import Tracking


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables and nothing in them but an experiment that nobody uses."""
    from podium.tracking.store import connect  # here: it takes seconds, and not every test needs it

    path = tmp_path_factory.mktemp("mlflow_template") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # MLflow makes a folder mlruns where it stands
        connect(TrackingParams(uri=f"sqlite:///{path}", experiment="template"))
    return path


@pytest.fixture
def store(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingParams]:
    """An empty store of the test's own, in tmp_path/mlruns; the test stands in tmp_path."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copy(mlflow_template, folder / "mlflow.db")
    yield TrackingParams(uri=f"sqlite:///{folder}/mlflow.db")
    _close(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture
def four_versions(store: TrackingParams, tmp_path: Path) -> "Tracking":
    """A registry with versions 1 to 4 of the model `tiny`."""
    from podium.tracking.store import connect

    opened = connect(store)
    opened.client.create_registered_model("tiny")
    for _ in range(4):
        opened.client.create_model_version("tiny", str(tmp_path))
    return opened


def _close(uri: str) -> None:
    """MLflow keeps the connections of every store of a process, tests' of thousands too."""
    for part in ("tracking", "model_registry"):
        module = sys.modules.get(f"mlflow.store.{part}.sqlalchemy_store")
        engines = module.SqlAlchemyStore._engine_map if module else {}
        if uri in engines:
            engines[uri].dispose()


@pytest.fixture
def tracking(store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> "Tracking":
    """The store of the current folder, as the public `connect()` finds it."""
    import optuna

    from podium import connect

    monkeypatch.delenv("DVC_ROOT", raising=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made: Tracking = connect()
    assert made.uri == store.uri
    return made
