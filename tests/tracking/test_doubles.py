"""Runs that a server made several times for one call: taken away where they are this process's, and empty."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException, RestException

from podium import TrialLogger, connect
from podium.config.params import TrackingParams
from podium.tracking import trial_logger
from podium.tracking.store import Tracking, find_or_create, search
from podium.tracking.trial_runs import runs_of

TAGS = {"podium.study": "s", "podium.kind": "search"}


@dataclass
class Proxy:
    """A server behind a proxy that lets MLflow's client ask three times for what is in `repeated`."""

    tracking: Tracking
    repeated: set[str] = field(default_factory=set)
    fails: bool = False
    """Whether the last answer is lost, too."""


@pytest.fixture
def proxy(store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(trial_logger, "PAUSES", (0.0,))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = Proxy(replace(connect(), uri="http://127.0.0.1:1"))
    create = MlflowClient.create_run

    def create_run(client: MlflowClient, experiment_id: str, *others: Any, **named: Any) -> Any:
        tags = named.get("tags") or others[1]
        what = tags.get("podium.trial") or tags["podium.kind"]
        runs = [create(client, experiment_id, *others, **named) for _ in range(3 if what in made.repeated else 1)]
        if what in made.repeated and made.fails:
            made.repeated.discard(what)
            raise MlflowException("too many 502 error responses")
        made.repeated.discard(what)
        return max(runs, key=lambda run: run.info.run_id)  # of runs of one time the server lists this one last

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    return made


def _x(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def _third_fails(trial: optuna.Trial) -> float:
    if trial.number == 2:
        raise ValueError("the user's own")
    return _x(trial)


def _states(tracking: Tracking, study: optuna.Study) -> list[tuple[str, str]]:
    return sorted((run.data.tags["podium.trial"], run.info.status) for run in runs_of(tracking, study))


def _refuse_to_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    """As MLflow's own permissions do for EDIT."""

    def refuse(client: MlflowClient, run_id: str) -> None:
        raise RestException({"error_code": "PERMISSION_DENIED", "message": "no"})  # type: ignore[no-untyped-call]

    monkeypatch.setattr(MlflowClient, "delete_run", refuse)


def _copy(tracking: Tracking, run_id: str, tags: dict[str, str]) -> str:
    """A copy of a run with all of its tags, as mlflow-export-import makes it."""
    run = tracking.client.get_run(run_id)
    made = tracking.client.create_run(tracking.experiment_id, run.info.start_time + 1, run.data.tags | tags)
    return str(made.info.run_id)


def _finished(tracking: Tracking, run_id: str) -> None:
    tracking.client.log_metric(run_id, "mine", 1.0)
    tracking.client.set_terminated(run_id)


def _child(tracking: Tracking, run_id: str) -> None:
    tracking.client.create_run(tracking.experiment_id, tags={"mlflow.parentRunId": run_id, "podium.kind": "mine"})


PEOPLES: dict[str, Callable[[Tracking, str], object]] = {
    "finished": _finished,
    "metric": lambda tracking, run_id: tracking.client.log_metric(run_id, "mine", 1.0),
    "parameter": lambda tracking, run_id: tracking.client.log_param(run_id, "mine", 1),
    "note": lambda tracking, run_id: tracking.client.set_tag(run_id, "mlflow.note.content", "mine"),
    "tag": lambda tracking, run_id: tracking.client.set_tag(run_id, "mine", "1"),
    "run below it": _child,
}


@pytest.mark.parametrize("put", PEOPLES.values(), ids=PEOPLES)
def test_copy_of_a_run_that_a_person_put_something_into_stays(
    proxy: Proxy, put: Callable[[Tracking, str], object]
) -> None:
    first = find_or_create(proxy.tracking, "s", TAGS)
    copy = _copy(proxy.tracking, first, {})
    put(proxy.tracking, copy)
    before = proxy.tracking.client.get_run(copy).to_dictionary()
    assert find_or_create(proxy.tracking, "s", TAGS) == first
    assert proxy.tracking.client.get_run(copy).to_dictionary() == before


def test_empty_run_of_another_processs_call_stays(proxy: Proxy) -> None:
    first = find_or_create(proxy.tracking, "s", TAGS)
    proxy.tracking.client.set_tag(first, "podium.call", "another")
    others = _copy(proxy.tracking, first, {})
    assert find_or_create(proxy.tracking, "s", TAGS) == first
    assert proxy.tracking.client.get_run(others).info.lifecycle_stage == "active"
    assert proxy.tracking.client.get_run(others).data.tags["podium.kind"] == "search"


@pytest.mark.parametrize("fails", [False, True], ids=["the first answers", "every answer"])
def test_double_that_may_not_be_deleted_is_superseded_and_stops_nothing(
    proxy: Proxy, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.fails, proxy.repeated = fails, {"search", "1"}
    _refuse_to_delete(monkeypatch)
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_x, 3, callbacks=[logger])
    assert _states(proxy.tracking, study) == [("0", "FINISHED"), ("1", "FINISHED"), ("2", "FINISHED")]
    assert [run.info.status for run in search(proxy.tracking, {"podium.kind": "search"})] == ["FINISHED"]
    aside = search(proxy.tracking, {"podium.kind": "superseded"})
    assert [run.info.status for run in aside] == ["KILLED"] * 4
    assert all("response was lost" in run.data.tags["podium.superseded"] for run in aside)


def test_parent_ends_where_the_store_fails_while_doubles_are_looked_for(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.repeated = {"1"}
    real = MlflowClient.search_runs

    def away(client: MlflowClient, experiment_ids: list[str], asked: str = "", *others: Any, **named: Any) -> Any:
        if "attributes.status = 'RUNNING'" in asked:
            raise MlflowException("the server is away")
        return real(client, experiment_ids, asked, *others, **named)

    monkeypatch.setattr(MlflowClient, "search_runs", away)
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_x, 2, callbacks=[logger])
    assert [run.info.status for run in search(proxy.tracking, {"podium.kind": "search"})] == ["FINISHED"]


def test_double_is_taken_away_though_another_trial_fails_later(proxy: Proxy) -> None:
    proxy.repeated = {"1"}
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_third_fails, 4, callbacks=[logger], catch=(ValueError,))
    wanted = [("0", "FINISHED"), ("1", "FINISHED"), ("2", "FAILED"), ("3", "FINISHED")]
    assert _states(proxy.tracking, study) == wanted
    with TrialLogger(proxy.tracking) as later:
        later.log_all(study)
    assert _states(proxy.tracking, study) == wanted
    assert all("x" in run.data.params for run in runs_of(proxy.tracking, study) if run.info.status == "FINISHED")


def test_double_below_the_users_own_run_is_taken_away(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.repeated = {"1"}
    own = proxy.tracking.client.create_run(proxy.tracking.experiment_id, tags={"podium.kind": "mine"})
    monkeypatch.setattr(trial_logger, "_active_run", lambda tracking: own)
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_x, 3, callbacks=[logger])
    assert _states(proxy.tracking, study) == [("0", "FINISHED"), ("1", "FINISHED"), ("2", "FINISHED")]
    assert proxy.tracking.client.get_run(own.info.run_id).info.status == "RUNNING"


def _while_logging(monkeypatch: pytest.MonkeyPatch, trial: str, do: Callable[[Run], object]) -> None:
    """Call `do` with the run of `trial` once, right before something is logged to it."""
    real, done = MlflowClient.log_batch, list[str]()

    def log_batch(client: MlflowClient, run_id: str, *others: Any, **named: Any) -> Any:
        run = client.get_run(run_id)
        if not done and run.data.tags.get("podium.trial") == trial:
            done.append(run_id)
            do(run)
        return real(client, run_id, *others, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)


def test_run_to_which_another_process_logs_stays(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    one = TrialLogger(proxy.tracking)
    study.optimize(_x, 1, callbacks=[one])
    proxy.repeated = {"1"}
    other = TrialLogger(replace(proxy.tracking, uri="http://127.0.0.1:2"))  # knows nothing of what the one knows
    seen = []

    def look_and_close(run: Run) -> None:
        one._state._runs.look_again(study, [])
        one.close()
        seen.append(proxy.tracking.client.get_run(run.info.run_id).info.lifecycle_stage)

    _while_logging(monkeypatch, "1", look_and_close)
    study.optimize(_x, 1, callbacks=[other])
    other.close()
    assert seen == ["active"]
    assert _states(proxy.tracking, study) == [("0", "FINISHED"), ("1", "FINISHED")]


def test_trial_whose_run_is_deleted_while_it_is_logged_gets_another(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _while_logging(monkeypatch, "1", lambda run: proxy.tracking.client.delete_run(run.info.run_id))
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_x, 3, callbacks=[logger])
    runs = {run.data.tags["podium.trial"]: run for run in runs_of(proxy.tracking, study)}
    assert sorted(runs) == ["0", "1", "2"]
    assert float(runs["1"].data.params["x"]) == study.trials[1].params["x"]
    assert not [record for record in caplog.records if record.name == trial_logger.__name__]


def test_own_doubles_are_taken_away_where_another_machines_run_is_older(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.repeated = {"search"}
    before, looks = MlflowClient.create_run, []

    def create_run(client: MlflowClient, experiment_id: str, *others: Any, **named: Any) -> Any:
        tags = {**TAGS, "podium.call": "another"}
        older = proxy.tracking.client._tracking_client.create_run(experiment_id, 1, tags)  # made since we looked
        looks.append(older.info.run_id)
        return before(client, experiment_id, *others, **named)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    assert [find_or_create(proxy.tracking, "s", TAGS)] == looks
    assert [run.info.run_id for run in search(proxy.tracking, {})] == looks


@pytest.mark.parametrize(
    ("error", "looked_for"),
    [(MlflowException("too many 502 error responses"), 1), (MlflowException.invalid_parameter_value("no"), 0)],
    ids=["lost", "refused"],
)
def test_run_whose_making_failed_is_looked_for_alone(
    proxy: Proxy, error: MlflowException, looked_for: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, find, fails, asked = MlflowClient.create_run, MlflowClient.search_runs, [error], Counter[str]()

    def create_run(client: MlflowClient, *others: Any, **named: Any) -> Any:
        if "podium.trial" in (named.get("tags") or others[2]) and fails:
            raise fails.pop()
        return create(client, *others, **named)

    def search_runs(
        client: MlflowClient, experiment_ids: list[str], where: str = "", *others: Any, **named: Any
    ) -> Any:
        if "RUNNING" not in where:
            asked["one" if "podium.trial" in where else "trials" if "= 'trial'" in where else "others"] += 1
        return find(client, experiment_ids, where, *others, **named)

    monkeypatch.setattr(MlflowClient, "create_run", create_run)
    monkeypatch.setattr(MlflowClient, "search_runs", search_runs)
    study = optuna.create_study()
    with TrialLogger(proxy.tracking) as logger:
        study.optimize(_x, 4, callbacks=[logger])
    assert (asked["trials"], asked["one"]) == (1, looked_for)
    assert len(runs_of(proxy.tracking, study)) == 4  # what is refused as a whole is tried in parts
