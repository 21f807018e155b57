"""Many runs read from MLflow's own SQLite database, a query per table.

MLflow's client makes objects of an ORM of every row, 2 ms a run, and asks for each metric's history by itself: 10,000
runs take minutes. Where the tables are not as they are known here, whatever the reason, the functions return None, and
the client does the work.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)

from podium.private_names import say

History = dict[tuple[str, int], set[float]]
"""Every metric of a run by name and step: one value, unless somebody logged another at the same step."""
RUNS = (
    "SELECT run_uuid, user_id, status, start_time, end_time, lifecycle_stage, artifact_uri, name FROM runs"
    " WHERE run_uuid IN (SELECT value FROM json_each(?)) ORDER BY start_time, run_uuid"
)
PARAMS = "SELECT run_uuid, key, value FROM params WHERE run_uuid IN (SELECT value FROM json_each(?))"
TAGS = "SELECT run_uuid, key, value FROM tags WHERE run_uuid IN (SELECT value FROM json_each(?))"
LATEST = (
    "SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics"
    " WHERE run_uuid IN (SELECT value FROM json_each(?))"
)
HISTORY = "SELECT run_uuid, key, step, value, is_nan FROM metrics WHERE run_uuid IN (SELECT value FROM json_each(?))"
IMAGES = (
    "SELECT i.destination_id, i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source, t.name, t.value"
    " FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id LEFT JOIN input_tags t USING (input_uuid)"
    " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN'"
    " AND i.destination_id IN (SELECT value FROM json_each(?))"
)


def read_runs(
    database: Path, experiment_id: str, tags: Mapping[str, str], *, deleted: bool = False, status: str = ""
) -> list[Run] | None:
    """The experiment's runs that have all of `tags` and, if one is given, the `status`, the oldest first.

    With `deleted` those too that can be restored.
    """
    try:
        with _opened(database) as connection:
            ids = _ids(connection, experiment_id, tags, deleted=deleted, status=status)
            return _runs(connection, experiment_id, ids)
    except (sqlite3.Error, TypeError, AttributeError) as error:  # TypeError: a column that was never empty is
        _say(error)
        return None


def read_histories(database: Path, run_ids: Sequence[str]) -> dict[str, History] | None:
    """Every metric of each of `run_ids`."""
    found: dict[str, History] = {run_id: defaultdict(set) for run_id in run_ids}
    try:
        with _opened(database) as connection:
            for run_id, key, step, value, is_nan in connection.execute(HISTORY, (_json(run_ids),)):
                found[run_id][key, step].add(math.nan if is_nan else value)
    except sqlite3.Error as error:
        _say(error)
        return None
    return {run_id: dict(history) for run_id, history in found.items()}


def status_of(database: Path, run_id: str) -> str | None:
    """The status of a run, such as RUNNING; empty: there is none, or it was deleted."""
    try:
        with _opened(database) as connection:
            query = "SELECT status FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
            row = connection.execute(query, (run_id,)).fetchone()
            return str(row[0]) if row else ""
    except sqlite3.Error as error:
        _say(error)
        return None


def _say(error: Exception) -> None:
    """Say that the tables are others; not that the database is away or locked, which the client says better."""
    if not isinstance(error, sqlite3.Error) or "no such" in str(error):
        say("mlflow", "its client reads the runs, some ms each slower", error)


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    """The database as it is at one moment; it is never written to."""
    address = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection


def _ids(
    connection: sqlite3.Connection, experiment_id: str, tags: Mapping[str, str], *, deleted: bool, status: str
) -> list[str]:
    where, values = ["experiment_id = ?"], [experiment_id]
    if not deleted:
        where.append("lifecycle_stage = 'active'")
    if status:
        where.append("status = ?")
        values.append(status)
    for key, value in tags.items():
        where.append("run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)")
        values += [key, value]
    rows = connection.execute(f"SELECT run_uuid FROM runs WHERE {' AND '.join(where)}", values)  # noqa: S608 (only ours)
    return [run_id for (run_id,) in rows]


def _runs(connection: sqlite3.Connection, experiment_id: str, ids: list[str]) -> list[Run]:
    wanted = (_json(ids),)
    params, tags, metrics = defaultdict(list), defaultdict(list), defaultdict(list)
    for run_id, key, value in connection.execute(PARAMS, wanted):
        params[run_id].append(Param(key, value))
    for run_id, key, value in connection.execute(TAGS, wanted):
        tags[run_id].append(RunTag(key, value))
    for run_id, key, value, at, step, is_nan in connection.execute(LATEST, wanted):
        metrics[run_id].append(Metric(key, math.nan if is_nan else value, at, step))
    inputs = _inputs(connection, wanted)
    runs = []
    for run_id, user, status, start, end, stage, artifacts, name in connection.execute(RUNS, wanted):
        info = RunInfo(
            run_id=run_id,
            experiment_id=experiment_id,
            user_id=user or "",
            status=status,
            start_time=start,
            end_time=end,
            lifecycle_stage=stage,
            artifact_uri=artifacts,
            run_name=name,
        )
        data = RunData(metrics[run_id], params[run_id], tags[run_id])
        runs.append(Run(info, data, RunInputs(inputs.get(run_id, []))))
    return runs


def _inputs(connection: sqlite3.Connection, wanted: tuple[str]) -> dict[str, list[DatasetInput]]:
    found: dict[str, dict[str, DatasetInput]] = defaultdict(dict)
    for run_id, edge, name, digest, kind, source, tag, value in connection.execute(IMAGES, wanted):
        one = found[run_id].setdefault(edge, DatasetInput(Dataset(name, digest, kind, source), []))
        if tag is not None:
            one.tags.append(InputTag(tag, value))
    return {run_id: list(edges.values()) for run_id, edges in found.items()}


def _json(ids: Sequence[Any]) -> str:
    """Ids as one argument: SQLite takes 32,766 of them at most."""
    return "[" + ",".join(f'"{one}"' for one in ids) + "]"
