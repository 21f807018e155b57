"""A pipeline of tiny images that has run to its end, made once a session; tests stand in its folder and add nothing.

MLflow's artifact paths are absolute, so the folder itself is shared, not a copy.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny
from podium import paths
from podium.config.params import Params, TrackingParams
from podium.data.dataset import write_split


@dataclass(frozen=True)
class Finished:
    """Where it is, and its parameters."""

    folder: Path
    params: Params


@pytest.fixture(scope="session")
def finished_once(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """All stages but the report have run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mlruns").mkdir()
    shutil.copy(mlflow_template, folder / "mlruns/mlflow.db")
    store = TrackingParams(uri=f"sqlite:///{folder}/mlruns/mlflow.db")
    text = tiny.params_yaml(store, search="n_trials: 14")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        params = tiny.params(store, search="n_trials: 14")
        _run(params)
    return Finished(folder, params)


@pytest.fixture
def finished(finished_once: Finished, monkeypatch: pytest.MonkeyPatch) -> Finished:
    """The finished pipeline, in whose folder the test stands."""
    monkeypatch.chdir(finished_once.folder)
    monkeypatch.setenv("DVC_ROOT", str(finished_once.folder))
    return finished_once


def _run(params: Params) -> None:
    from podium.retraining.winner import retrain
    from podium.stages.evaluate import evaluate
    from podium.stages.register import Folders, register_stage
    from podium.tuning.confirm import confirm
    from podium.tuning.outcome import search

    tiny.prepare(paths.PREPARED)
    images, labels = tiny.pixels(60, seed=5)
    write_split(paths.SEALED / "test", "test", images, labels, tiny.CLASSES, sealed=True)
    search(params, paths.PREPARED, paths.SEARCH)
    confirm(params, paths.PREPARED, paths.SEARCH, paths.SELECTED)
    retrain(params, paths.PREPARED, paths.SELECTED, paths.RETRAINED)
    evaluate(params.evaluate, params.tracking, paths.SEALED, paths.RETRAINED, paths.EVALUATED)
    folders = Folders(paths.PREPARED, paths.SELECTED, paths.RETRAINED, paths.EVALUATED)
    register_stage(params.register_, params.tracking, folders, paths.REGISTERED)
