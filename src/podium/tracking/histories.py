"""The histories of many runs' metrics, in as few calls as the store allows."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from podium.private_names import say
from podium.tracking.sqlite_reading import History, read_histories
from podium.tracking.store import Tracking, database

RUNS_A_CALL = 100
"""Runs whose history of one metric a server returns at once."""
VALUES_A_CALL = 25_000
"""Values that it returns at most; it leaves out what is beyond."""
AT_ONCE = 4
"""Calls at a time, as many as MLflow's server has workers by default. With 8 on a machine
with a load of 15 workers of the server were restarted."""
TOGETHER = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
"""The call with which MLflow's pages draw the curves of many runs."""


def newest(tracking: Tracking, run: Run, values: Mapping[str, float]) -> list[Metric]:
    """`values` as metrics that MLflow shows instead of those that `run` has, also where the clock was set back since.

    Of one step MLflow shows the value of the latest time.
    """
    found, now = [], int(time.time() * 1000)
    for key, value in values.items():
        known = tracking.client.get_metric_history(run.info.run_id, key) if key in run.data.metrics else []
        found.append(Metric(key, value, max([now, *(metric.timestamp + 1 for metric in known)]), 0))
    return found


def histories(tracking: Tracking, run: Run) -> History:
    """Every metric of `run`."""
    return histories_of(tracking, [run])[str(run.info.run_id)]


def histories_of(tracking: Tracking, runs: Sequence[Run]) -> dict[str, History]:
    """Every metric of each of `runs`, by the run's id."""
    local = database(tracking.uri)
    ids = [str(run.info.run_id) for run in runs]
    read = read_histories(local, ids) if local else None
    if read is not None:
        return read
    found: dict[str, History] = {run_id: defaultdict(set) for run_id in ids}
    for values in _answers(tracking, _calls(runs), at_once=len(runs) > 1):
        for run_id, key, step, value in values:
            found[run_id][key, step].add(value)
    return {run_id: dict(history) for run_id, history in found.items()}


def _answers(
    tracking: Tracking, calls: Sequence[tuple[str, list[str]]], *, at_once: bool
) -> Iterator[list[tuple[str, str, int, float]]]:
    """What the server answers to each of `calls`; one after the other: at its end Python lets nobody start a thread."""
    if not at_once:
        yield from (_ask(tracking, *call) for call in calls)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda call: _ask(tracking, *call), calls)


def _calls(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """A metric, and the runs that are asked for it together."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        for key in run.data.metrics:
            by_key[key].append(str(run.info.run_id))
    return [
        (key, ids[first : first + RUNS_A_CALL])
        for key, ids in by_key.items()
        for first in range(0, len(ids), RUNS_A_CALL)
    ]


def _ask(tracking: Tracking, key: str, run_ids: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Run, name, step and value of what `run_ids` have of the metric `key`."""
    together = _together(tracking.uri, key, run_ids) if len(run_ids) > 1 else None
    if together is not None:
        return together
    each = ((run_id, tracking.client.get_metric_history(run_id, key)) for run_id in run_ids)
    return [(run_id, key, metric.step, metric.value) for run_id, metrics in each for metric in metrics]


def _together(uri: str, key: str, run_ids: Sequence[str]) -> list[tuple[str, str, int, float]] | None:
    """The same in one call; None: the store has no such call, or there are more values than it returns."""
    if not uri.startswith(("http://", "https://")):
        return None
    asked = {"run_id": list(run_ids), "metric_key": key, "max_results": VALUES_A_CALL}
    try:
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        answer: Any = http_request(get_default_host_creds(uri), TOGETHER, "GET", params=asked)  # type: ignore[no-untyped-call]
        rows = answer.json()["metrics"] if answer.status_code == 200 else None
    except (MlflowException, ValueError, KeyError):  # a proxy that lets only the public calls through
        return None
    except Exception as error:
        say("mlflow", "the history of each run is asked for by itself, which takes longer", error)
        return None
    if rows is None or len(rows) >= VALUES_A_CALL:
        return None
    return [(str(row["run_id"]), key, int(row["step"]), float(row["value"])) for row in rows]
