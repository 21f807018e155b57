"""Runs that have ended, written to MLflow's own database in one transaction.

Through MLflow's client a trial takes six transactions and its objects' bookkeeping: 15 ms of a processor, where a short
trial trains for a second. Most trials are short and come when they have ended, so their rows are known beforehand: they
are written to MLflow's tables at once. A run is then there whole or not at all. Servers and other databases than SQLite
get the client's calls; both ways leave the same rows (a test).

This reaches into parts of MLflow that are private, all of them named in `_private`. Where MLflow is not as it is known
here, for whatever reason, nothing is written, a message says so once, and the client's calls do the work.
"""

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy import text

from podium.text import reason_of
from podium.tracking.record import Record

MEASURED = {"run_uuid", "key", "value", "timestamp", "step", "is_nan"}
COLUMNS = {
    "SqlRun": {
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status", "start_time",
        "end_time", "deleted_time", "source_version", "lifecycle_stage", "artifact_uri", "experiment_id",
    },
    "SqlTag": {"run_uuid", "key", "value"},
    "SqlParam": {"run_uuid", "key", "value"},
    "SqlMetric": MEASURED,
    "SqlLatestMetric": MEASURED,
    "SqlDataset": {
        "dataset_uuid", "experiment_id", "name", "digest", "dataset_source_type", "dataset_source", "dataset_schema",
        "dataset_profile",
    },
    "SqlInput": {
        "input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step",
    },
    "SqlInputTag": {"input_uuid", "name", "value"},
}  # fmt: skip
"""The tables of a run and of its inputs, as this module knows them."""

FIRST = """
UPDATE latest_metrics SET rowid = rowid + (SELECT MIN(0, MIN(rowid)) - MAX(rowid) - 1 FROM latest_metrics)
WHERE key = :key AND run_uuid IN (SELECT value FROM json_each(:run_ids)) AND rowid >
(SELECT MIN(other.rowid) FROM latest_metrics other WHERE other.run_uuid = latest_metrics.run_uuid)
"""
"""MLflow has no order for the metrics of a run: SQLite returns them by the number of their row. What is moved gets a
number below all there are. A number that is free again may go to another row: -rowid would be given twice."""

log = logging.getLogger(__name__)


class DirectSqlite:
    """Writes runs to the experiment of a client, where that can be done."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, images: DatasetInput | None = None) -> None:
        self.possible = uri.startswith("sqlite:")
        """Whether it is worth trying."""
        self._client = client
        self._experiment_id = experiment_id
        self._images = images
        """What each run gets as its input."""
        self._order_warned = False

    def write(self, runs: Sequence[tuple[Record, dict[str, str]]]) -> list[str]:
        """Write `runs`, records of trials that have ended and their tags, as new ones: all of them or none.

        Returns their ids; none: it can't be done so, nothing was written, and the client has to. It raises nothing.
        """
        if not self.possible or not runs:
            return []
        try:
            return _write(_private(self._client), self._experiment_id, runs, self._images)
        except Exception as error:  # whatever it is: the client's calls know better, or say what is wrong
            if not _refused(error):
                self.possible = False
                reason = f"{type(error).__name__}: {reason_of(error)}"
                log.warning("MLflow's client logs the trials, a few ms each slower than writing to SQLite: %s", reason)
            return []

    def show_first(self, key: str, run_ids: Sequence[str]) -> None:
        """Make the metric `key` the first of those of `run_ids`: MLflow's page that compares runs begins with it.

        A run gets it last where it had others while its trial was running. Raises nothing: no value depends on it.
        """
        if not self.possible or not run_ids:
            return
        try:
            with _private(self._client).session(read_only=False) as session:
                session.execute(text(FIRST), {"key": key, "run_ids": json.dumps(list(run_ids))})
        except Exception as error:
            if not self._order_warned:  # what lasts would be said of each trial
                self._order_warned = True
                log.warning("MLflow's page that compares runs does not begin with %s: %s", key, reason_of(error))


class _Private(NamedTuple):
    """The private parts of MLflow that are used."""

    tables: dict[str, Any]
    experiment: Any
    session: Callable[..., Any]
    validate: Callable[..., Any]
    sanitize: Callable[[float], tuple[bool, float]]
    artifacts: Callable[[str, str], str]


def _private(client: MlflowClient) -> _Private:
    """The only function that names them. Raises whatever comes of it where MLflow has changed."""
    from mlflow.store.tracking.dbmodels import models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.uri import append_to_uri_path
    from mlflow.utils.validation import _validate_batch_log_data  # what the client's log_batch checks

    store = client._tracking_client.store  # the client has no public way to its store
    tables = {name: getattr(models, name).__table__ for name in COLUMNS}
    other = [name for name, table in tables.items() if {column.name for column in table.columns} != COLUMNS[name]]
    if other or type(store) is not SqlAlchemyStore or store.db_type != "sqlite":
        raise TypeError(f"other columns in {', '.join(other)}" if other else f"the store is a {type(store).__name__}")

    def artifacts(location: str, run_id: str) -> str:
        return str(append_to_uri_path(location, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME))  # type: ignore[no-untyped-call]

    return _Private(
        tables,
        models.SqlExperiment,
        store.ManagedSessionMaker,
        _validate_batch_log_data,
        store.sanitize_metric_value,
        artifacts,
    )


def _refused(error: Exception) -> bool:
    """Whether MLflow is as it is known and only does not take a name or a value: its client says that better."""
    return isinstance(error, MlflowException) and error.error_code == "INVALID_PARAMETER_VALUE"


def _write(
    private: _Private,
    experiment_id: str,
    runs: Sequence[tuple[Record, dict[str, str]]],
    images: DatasetInput | None,
) -> list[str]:
    made = [(uuid.uuid4().hex, *run) for run in runs]
    rows = [_rows(private, run_id, record, tags) for run_id, record, tags in made]
    with private.session(read_only=False) as session:
        experiment = session.get(private.experiment, int(experiment_id))
        if experiment is None or experiment.lifecycle_stage != "active":
            return []
        where = experiment.artifact_location
        session.execute(
            private.tables["SqlRun"].insert(),
            [
                _run(record, tags, run_id, int(experiment_id), private.artifacts(where, run_id))
                for run_id, record, tags in made
            ],
        )
        for name in ("SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric"):
            values = [row for of_one in rows for row in of_one[name]]
            if values:
                session.execute(private.tables[name].insert(), values)
        if images is not None:
            _add_images(private, session, int(experiment_id), [run_id for run_id, *_ in made], images)
    return [run_id for run_id, *_ in made]


def _add_images(private: _Private, session: Any, experiment_id: int, run_ids: list[str], images: DatasetInput) -> None:
    """Make `images` an input of each run, as `log_inputs` does; their own row is there from the first time on."""
    table, one = private.tables["SqlDataset"], images.dataset
    where = [table.c.experiment_id == experiment_id, table.c.name == one.name, table.c.digest == one.digest]
    source = session.execute(table.select().with_only_columns(table.c.dataset_uuid).where(*where)).scalar()
    if source is None:
        source = uuid.uuid4().hex
        row = {
            "dataset_uuid": source, "experiment_id": experiment_id, "name": one.name, "digest": one.digest,
            "dataset_source_type": one.source_type, "dataset_source": one.source, "dataset_schema": one.schema,
            "dataset_profile": one.profile,
        }  # fmt: skip
        session.execute(table.insert(), [row])
    edges = [(uuid.uuid4().hex, run_id) for run_id in run_ids]
    inputs = [
        {
            "input_uuid": edge,
            "source_type": "DATASET",
            "source_id": source,
            "destination_type": "RUN",
            "destination_id": run,
        }
        for edge, run in edges
    ]
    tags = [{"input_uuid": edge, "name": tag.key, "value": tag.value} for edge, _ in edges for tag in images.tags]
    session.execute(private.tables["SqlInput"].insert(), inputs)
    session.execute(private.tables["SqlInputTag"].insert(), tags)


def _rows(private: _Private, run_id: str, record: Record, tags: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """What the tables below the run's own get of `record`."""
    named = [RunTag(key, value) for key, value in (tags | {"mlflow.runName": record.title}).items()]
    metrics, params, named = private.validate(record.metrics, record.entities(), named)
    measured = _measured(metrics, run_id, private.sanitize)
    return {
        "SqlTag": [{"run_uuid": run_id, "key": tag.key, "value": tag.value} for tag in named],
        "SqlParam": [{"run_uuid": run_id, "key": param.key, "value": param.value} for param in params],
        "SqlMetric": measured,
        "SqlLatestMetric": _latest(measured),
    }


def _run(record: Record, tags: dict[str, str], run_id: str, experiment_id: int, artifacts: str) -> dict[str, Any]:
    return {
        "run_uuid": run_id,
        "name": record.title,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": tags.get("mlflow.user", "unknown"),
        "status": record.status,
        "start_time": record.start,
        "end_time": record.end,
        "deleted_time": None,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifacts,
        "experiment_id": experiment_id,
    }


def _measured(
    metrics: list[Metric], run_id: str, sanitize: Callable[[float], tuple[bool, float]]
) -> list[dict[str, Any]]:
    names = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
    rows: dict[tuple[Any, ...], None] = {}
    for metric in metrics:
        is_nan, value = sanitize(metric.value)
        rows[run_id, metric.key, value, metric.timestamp, metric.step, is_nan] = None
    return [dict(zip(names, row, strict=True)) for row in rows]


def _latest(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last value of each metric, by step, time and value, in the order of their first ones, as MLflow has it."""
    ordered = sorted(metrics, key=lambda row: (row["step"], row["timestamp"], row["value"]))
    return list(({row["key"]: row for row in metrics} | {row["key"]: row for row in ordered}).values())
