"""Runs that have ended, brought to MLflow's own database in one transaction.

Through MLflow's client a trial takes six transactions and its objects' bookkeeping: 15 ms of a processor, where a short
trial trains for a second. Most trials are short and come when they have ended, so their rows are known beforehand: they
are written to MLflow's tables at once. A run is then there whole or not at all. Servers, other databases than SQLite,
and an MLflow whose tables are not those known here get the client's calls; both ways leave the same rows (a test).
"""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, RunTag, SourceType
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data  # what the client's log_batch checks

from podium.tracking.record import Record

MEASURED = {"run_uuid", "key", "value", "timestamp", "step", "is_nan"}
COLUMNS: dict[Any, set[str]] = {
    SqlRun: {
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
        "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id",
    },
    SqlTag: {"run_uuid", "key", "value"},
    SqlParam: {"run_uuid", "key", "value"},
    SqlMetric: MEASURED,
    SqlLatestMetric: MEASURED,
}  # fmt: skip
"""The tables of a run, as this module knows them."""


class WholeRuns:
    """Brings runs to the experiment of a client, where that can be done."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        store = client._tracking_client.store  # the client has no public way to its store
        known = all({column.name for column in table.__table__.columns} == COLUMNS[table] for table in COLUMNS)
        self._store = store if known and type(store) is SqlAlchemyStore and store.db_type == "sqlite" else None
        self._experiment_id = experiment_id

    @property
    def possible(self) -> bool:
        """Whether the store takes runs so."""
        return self._store is not None

    def bring(self, runs: Sequence[tuple[Record, dict[str, str]]]) -> list[str]:
        """Write `runs`, records of trials that have ended and their tags, as new ones: all of them or none.

        Returns their ids; none: it can't be done so, and nothing was written. Raises MlflowException where the client
        would, for names and values that MLflow does not take.
        """
        if self._store is None or not runs:
            return []
        made = [(uuid.uuid4().hex, *run) for run in runs]
        rows = [_rows(run_id, record, tags, self._store.sanitize_metric_value) for run_id, record, tags in made]
        with self._store.ManagedSessionMaker(read_only=False) as session:
            experiment = session.get(SqlExperiment, int(self._experiment_id))
            if experiment is None or experiment.lifecycle_stage != LifecycleStage.ACTIVE:
                return []
            session.execute(SqlRun.__table__.insert(), [_run(record, run_id, experiment) for run_id, record, _ in made])
            for table in (SqlTag, SqlParam, SqlMetric, SqlLatestMetric):
                values = [row for of_one in rows for row in of_one[table]]
                if values:
                    session.execute(table.__table__.insert(), values)
        return [run_id for run_id, *_ in made]


def _rows(
    run_id: str, record: Record, tags: dict[str, str], sanitized: Callable[[float], tuple[bool, float]]
) -> dict[Any, list[dict[str, Any]]]:
    """What the tables below the run's own get of `record`."""
    named = [RunTag(key, value) for key, value in (tags | {MLFLOW_RUN_NAME: record.name}).items()]
    metrics, params, named = _validate_batch_log_data(record.metrics, record.entities(), named)  # type: ignore[no-untyped-call]
    measured = _measured(metrics, run_id, sanitized)
    return {
        SqlTag: [{"run_uuid": run_id, "key": tag.key, "value": tag.value} for tag in named],
        SqlParam: [{"run_uuid": run_id, "key": param.key, "value": param.value} for param in params],
        SqlMetric: measured,
        SqlLatestMetric: _latest(measured),
    }


def _run(record: Record, run_id: str, experiment: SqlExperiment) -> dict[str, Any]:
    return {
        "run_uuid": run_id,
        "name": record.name,
        "source_type": SourceType.to_string(SourceType.UNKNOWN),
        "source_name": "",
        "entry_point_name": "",
        "user_id": "unknown",
        "status": record.status,
        "start_time": record.start,
        "end_time": record.end,
        "deleted_time": None,
        "source_version": "",
        "lifecycle_stage": LifecycleStage.ACTIVE,
        "artifact_uri": append_to_uri_path(experiment.artifact_location, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME),  # type: ignore[no-untyped-call]
        "experiment_id": experiment.experiment_id,
    }


def _measured(
    metrics: list[Metric], run_id: str, sanitized: Callable[[float], tuple[bool, float]]
) -> list[dict[str, Any]]:
    names = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
    rows: dict[tuple[Any, ...], None] = {}
    for metric in metrics:
        is_nan, value = sanitized(metric.value)
        rows[run_id, metric.key, value, metric.timestamp, metric.step, is_nan] = None
    return [dict(zip(names, row, strict=True)) for row in rows]


def _latest(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last value of each metric, by step, time and value, as MLflow has it."""
    ordered = sorted(metrics, key=lambda row: (row["step"], row["timestamp"], row["value"]))
    return list({row["key"]: row for row in ordered}.values())
