"""Many runs read at once are what MLflow's client reads one by one."""

import math
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

import trials
from podium.config.params import TrackingParams
from podium.tracking import histories as reading
from podium.tracking import sqlite_reading, store
from podium.tracking.histories import histories_of
from podium.tracking.record import search_attributes
from podium.tracking.recorded_run import dataset_input
from podium.tracking.sqlite_reading import History
from podium.tracking.store import Tracking, connect, database, search
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import TrialRuns, runs_of


@pytest.fixture
def tracking(store: TrackingParams) -> Tracking:
    """A study of each kind of trial in MLflow, with a deleted run, a person's metrics, NaN, and odd characters."""
    tracking, study = connect(store), trials.study_of_each_kind()
    logger = TrialRuns(tracking, None, search_attributes, dataset_input("digits", "d" * 64))
    for trial in study.trials[:4]:
        logger.log(study, trial)
    logger.log(study, study.trials[4], trials.history(4, 2))
    runs = runs_of(tracking, study)
    client = tracking.client
    client.log_batch(runs[0].info.run_id, [Metric("mine", math.nan, 5, 0), Metric("mine", 2.0, 6, 3)])
    client.set_tag(runs[0].info.run_id, "it is", '50 % of "it"')
    client.delete_run(runs[1].info.run_id)
    return tracking


def _all_of(run: Run) -> tuple[Any, ...]:
    info, inputs = run.info, run.inputs.dataset_inputs if run.inputs else []
    metrics = {key: "nan" if math.isnan(value) else value for key, value in run.data.metrics.items()}
    return (
        (info.run_id, info.run_name, info.status, info.start_time, info.end_time, info.lifecycle_stage),
        (info.artifact_uri, info.experiment_id, info.user_id),
        (metrics, run.data.params, run.data.tags),
        [(one.dataset.to_dictionary(), [(tag.key, tag.value) for tag in one.tags]) for one in inputs],
    )


def _sorted(histories: dict[str, History]) -> str:
    """As text: NaN is not equal to itself."""
    return str(sorted((run_id, sorted(history.items())) for run_id, history in histories.items()))


@pytest.mark.parametrize(
    ("tags", "deleted", "status"),
    [
        ({"podium.kind": "trial"}, False, ""),
        ({"podium.kind": "trial"}, True, ""),
        ({"podium.kind": "trial"}, True, "RUNNING"),
        ({"podium.kind": "trial", "it is": '50 % of "it"'}, False, ""),
        ({"podium.kind": "search"}, False, ""),
        ({"podium.kind": "no such"}, True, ""),
    ],
)
def test_runs_of_a_local_store_are_those_of_mlflows_client(
    tracking: Tracking, tags: dict[str, str], deleted: bool, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = search(tracking, tags, deleted=deleted, status=status)
    monkeypatch.setattr(store, "read_runs", lambda *arguments, **named: None)
    theirs = search(tracking, tags, deleted=deleted, status=status)
    assert sorted(map(_all_of, ours), key=str) == sorted(map(_all_of, theirs), key=str)


@pytest.mark.parametrize("known", ["local", "server", "older server"])
def test_runs_without_a_tag_are_found_in_every_store(
    tracking: Tracking, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = search(tracking, {"podium.kind": "trial"})
    expected = [run.info.run_id for run in runs if "it is" not in run.data.tags]
    assert len(expected) == len(runs) - 1
    asked, ask = [], MlflowClient.search_runs

    def answer(client: MlflowClient, ids: list[str], words: str, *others: Any, **named: Any) -> Any:
        asked.append(words)
        if known == "older server" and "IS NULL" in words:
            raise MlflowException("Invalid clause(s) in filter string: 'IS NULL'", INVALID_PARAMETER_VALUE)
        return ask(client, ids, words, *others, **named)

    if known != "local":
        monkeypatch.setattr(store, "read_runs", lambda *arguments, **named: None)
        monkeypatch.setattr(MlflowClient, "search_runs", answer)
    found = search(tracking, {"podium.kind": "trial"}, without="it is")
    assert [run.info.run_id for run in found] == expected
    assert len(asked) == ["local", "server", "older server"].index(known)


def test_busy_server_is_asked_for_fewer_runs_at_once(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, asked, ask = search(tracking, {"podium.kind": "trial"}), list[int](), MlflowClient.search_runs
    monkeypatch.setattr(store, "read_runs", lambda *arguments, **named: None)

    def answer(client: MlflowClient, ids: list[str], words: str, view: int, size: int, **named: Any) -> Any:
        asked.append(size)
        if size > 100:
            raise MlflowException("API request failed: HTTPConnectionPool(...): Read timed out. (read timeout=20)")
        return ask(client, ids, words, view, 2, **named)

    monkeypatch.setattr(MlflowClient, "search_runs", answer)
    assert [run.info.run_id for run in search(tracking, {"podium.kind": "trial"})] == [r.info.run_id for r in runs]
    assert asked == [500, 100, 100]


def test_histories_of_a_local_store_are_those_of_mlflows_client(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = search(tracking, {"podium.kind": "trial"})
    ours = histories_of(tracking, runs)
    monkeypatch.setattr(reading, "read_histories", lambda *arguments: None)
    theirs = histories_of(tracking, runs)
    assert _sorted(ours) == _sorted(theirs)
    assert len(ours) == 4


def test_database_that_is_another_one_is_left_to_the_client(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    assert sqlite_reading.read_runs(path, "1", {}) is None
    path.write_bytes(b"not a database" * 100)
    assert sqlite_reading.read_runs(path, "1", {}) is None
    assert sqlite_reading.read_histories(path, ["a"]) is None


class Answer:
    """What a server answers to the call of its pages."""

    def __init__(self, status: int, content: Any) -> None:
        self.status_code, self._content = status, content

    def json(self) -> Any:
        return self._content


@pytest.mark.parametrize("status", [200, 404])
def test_server_is_asked_once_per_metric_and_hundred_runs_and_else_run_by_run(
    tracking: Tracking, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = search(tracking, {"podium.kind": "trial"})
    expected, asked = histories_of(tracking, runs), []

    def answer(creds: object, endpoint: str, method: str, params: dict[str, Any]) -> Answer:
        asked.append(params["metric_key"])
        rows = [
            {"run_id": run_id, "key": key, "step": step, "value": value}
            for run_id in params["run_id"]
            for (key, step), values in expected[run_id].items()
            for value in values
            if key == params["metric_key"]
        ]
        return Answer(status, {"metrics": rows})

    monkeypatch.setattr("mlflow.utils.rest_utils.http_request", answer)
    remote = Tracking(tracking.client, "http://127.0.0.1:1", tracking.experiment_id, tracking.experiment)
    assert database(remote.uri) is None
    assert _sorted(histories_of(remote, runs)) == _sorted(expected)
    assert len(asked) == len(set(asked))


def test_quick_look_sees_the_last_value_only(store: TrackingParams) -> None:
    tracking, study = connect(store), trials.study_of_each_kind()
    logger = TrialRuns(tracking, None, search_attributes)
    ids = [logger.log(study, trial) for trial in study.trials[:4]]
    client = tracking.client
    client.log_batch(ids[0], [Metric("val_loss", 9.0, 10**13, 1)])  # an epoch before the last
    assert differences(tracking, study, thorough=False) == []
    client.log_batch(ids[0], [Metric("val_loss", 9.0, 10**13, 3)])
    assert [d.what for d in differences(tracking, study, thorough=False)] == [
        "val_loss at step 1",  # a run that shows something else is read whole
        "val_loss at step 3",
    ]
    assert len(differences(tracking, study)) == 2
