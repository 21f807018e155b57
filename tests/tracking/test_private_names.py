"""MLflow and Optuna without one of the names that they do not promise: what a user asked for is done, and said once."""

import builtins
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from podium import private_names
from podium.config.params import TrackingParams
from podium.config.recipe import Recipe
from podium.errors import RefusedError
from podium.tracking import store as stores
from podium.tracking.histories import histories_of
from podium.tracking.record import set_study_id, study_id
from podium.tracking.recorded_run import RecordedRun
from podium.tracking.retrain_run import RetrainRun
from podium.tracking.run_names import STUDY_ID
from podium.tracking.sqlite_reading import read_runs
from podium.tracking.store import Tracking, connect, database, open_store
from podium.tracking.study_storage import storage_of

Act = Callable[[TrackingParams], object]


def _runs_without_origin(store: TrackingParams) -> None:
    stores.origin.cache_clear()
    try:
        assert stores.origin() == {}
    finally:
        stores.origin.cache_clear()  # the tests after this one have an origin


def _files_that_stay(store: TrackingParams) -> None:
    run = RecordedRun.open(connect(store), "one", {"kind": "one"})
    run.log_file(Path(__file__), "notes")
    assert run.remove_files("notes", [Path(__file__).name, "never"]) == [f"notes/{Path(__file__).name}"]


def _unwatched_retraining(store: TrackingParams) -> None:
    tags = {"podium.source": "digits", "podium.data_digest": "0" * 64}
    run = RetrainRun.open(store, "one", tags, Recipe())
    done = []
    with run.watching_the_machine():
        done.append(True)
    assert done == [True]


def _histories_of_a_server(store: TrackingParams) -> None:
    tracking = connect(store)
    runs = [tracking.client.create_run(tracking.experiment_id).info.run_id for _ in range(2)]
    for number, run_id in enumerate(runs):
        tracking.client.log_metric(run_id, "loss", number, step=1)
    served = Tracking(tracking.client, "http://127.0.0.1:9", tracking.experiment_id)
    found = histories_of(served, [tracking.client.get_run(one) for one in runs])
    assert [found[run_id]["loss", 1] for run_id in runs] == [{0.0}, {1.0}]


def _database_of_another_mlflow(store: TrackingParams) -> None:
    connection = sqlite3.connect(str(database(store.uri)))
    connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.commit()
    connection.close()
    with pytest.raises(RefusedError, match="of another MLflow than .*If of an older .*mlflow db upgrade"):
        open_store(store.uri)


def _runs_by_the_client(store: TrackingParams) -> None:
    tracking = connect(store)
    made = tracking.client.create_run(tracking.experiment_id, tags={"kind": "one"}).info.run_id
    assert read_runs(Path(str(database(store.uri))), tracking.experiment_id, {}) is None
    assert made in [run.info.run_id for run in stores.search(tracking, {"kind": "one"})]


def _study_with_its_id(store: TrackingParams) -> None:
    study = optuna.create_study(study_name="one", storage=optuna.storages.InMemoryStorage())
    study.optimize(lambda trial: 0.0, n_trials=1)
    set_study_id(study, "f" * 32)
    assert study.user_attrs[STUDY_ID] == f"{'f' * 32} 0 one"
    assert study_id(study) == "f" * 32
    assert isinstance(storage_of(study), BaseStorage)


def _gone(module: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The module can't be imported by Podium; MLflow itself still can."""
    plain = builtins.__import__

    def look_up(name: str, globals: Any = None, *others: Any, **named: Any) -> Any:
        if name == module and str((globals or {}).get("__name__")).startswith("podium."):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return plain(name, globals, *others, **named)

    return lambda patch: patch.setattr(builtins, "__import__", look_up)


def _without(path: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.delattr(path)


def _other_run(patch: pytest.MonkeyPatch) -> None:
    def changed(**named: Any) -> None:
        raise TypeError("RunInfo() takes no run_id")

    patch.setattr("podium.tracking.sqlite_reading.RunInfo", changed)


def _renamed_storage(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(optuna.Study, "__getattribute__", _look_up)


def _look_up(study: Any, name: str) -> Any:
    if name in ("_storage", "_study_id") and sys._getframe(1).f_globals["__name__"].startswith("podium."):
        raise AttributeError(name)
    return object.__getattribute__(study, name)


CASES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Act]] = {
    "resolve_tags": (_gone("mlflow.tracking.context.registry"), _runs_without_origin),
    "get_artifact_repository": (_gone("mlflow.store.artifact.artifact_repository_registry"), _files_that_stay),
    "SystemMetricsMonitor": (_gone("mlflow.system_metrics.system_metrics_monitor"), _unwatched_retraining),
    "SystemMetricsMonitor.finish": (
        _without("mlflow.system_metrics.system_metrics_monitor.SystemMetricsMonitor.finish"),
        _unwatched_retraining,
    ),
    "http_request": (_without("mlflow.utils.rest_utils.http_request"), _histories_of_a_server),
    "get_default_host_creds": (_without("mlflow.utils.credentials.get_default_host_creds"), _histories_of_a_server),
    "_get_alembic_config": (_gone("mlflow.store.db.utils"), _database_of_another_mlflow),
    "RunInfo": (_other_run, _runs_by_the_client),
    "Study._storage": (_renamed_storage, _study_with_its_id),
}


@pytest.mark.parametrize(("change", "act"), CASES.values(), ids=CASES)
def test_without_a_private_name_the_work_is_done_and_it_is_said_once(
    store: TrackingParams,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[pytest.MonkeyPatch], None],
    act: Act,
) -> None:
    monkeypatch.setattr(private_names, "_said", set())

    change(monkeypatch)
    act(store)
    act(store)
    assert capsys.readouterr().err.count("is not what Podium expects") == 1
