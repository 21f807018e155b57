"""TrialLogger where the program is broken off while it logs, and what it asks of MLflow for trials that fail."""

import signal
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from podium import TrialLogger
from podium.tracking import trial_logger, trial_runs
from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.run_names import TRIAL_TAG
from podium.tracking.store import Tracking, making, search
from podium.tracking.trial_runs import runs_of


@pytest.mark.parametrize("call", ["write", "create_run", "log_batch", "set_terminated"])
def test_trial_that_ctrl_c_breaks_off_while_it_is_logged_has_one_whole_run(
    tracking: Tracking, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises KeyboardInterrupt when the call returns: then it is done, and its caller does not know."""
    place: Any = DirectSqlite if call == "write" else MlflowClient
    if call != "write":
        monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    real, armed = getattr(place, call), False

    def broken_off(*arguments: Any, **named: Any) -> Any:
        nonlocal armed
        done = real(*arguments, **named)
        if armed:
            armed = False
            raise KeyboardInterrupt
        return done

    def objective(trial: optuna.Trial) -> float:
        nonlocal armed
        armed = trial.number == 1
        return trial.suggest_float("x", 0.0, 1.0)

    monkeypatch.setattr(place, call, broken_off)
    study = optuna.create_study()
    with pytest.raises(KeyboardInterrupt), TrialLogger(tracking) as logger:
        study.optimize(objective, 4, callbacks=[logger])
    runs = runs_of(tracking, study)
    assert sorted(run.data.tags[TRIAL_TAG] for run in runs) == ["0", "1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert all(run.data.metrics["objective"] == float(run.data.params["x"]) for run in runs)
    assert tracking.client.get_run(runs[0].data.tags["mlflow.parentRunId"]).info.status == "KILLED"


def test_failed_trial_has_only_its_own_run_looked_up(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs of the study were: 2 s of a server for each 500 of them, at each trial that failed."""
    whole: list[Mapping[str, str]] = []

    def noted(tracking: Tracking, tags: dict[str, str], **named: Any) -> Any:
        if TRIAL_TAG not in tags and tags.get("podium.kind") == "trial":
            whole.append(tags)
        return search(tracking, tags, **named)

    monkeypatch.setattr(trial_runs, "search", noted)
    study = optuna.create_study()
    with TrialLogger(tracking) as logger:
        study.optimize(lambda trial: None, 1, callbacks=[logger])  # type: ignore[arg-type, return-value]
        first = len(whole)
        study.optimize(lambda trial: None, 5, callbacks=[logger])  # type: ignore[arg-type, return-value]
        assert len(whole) == first
    assert sorted(run.data.tags[TRIAL_TAG] for run in runs_of(tracking, study)) == list("012345")


def _fail(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("cannot schedule new futures after interpreter shutdown")


def test_trial_whose_logging_broke_off_is_logged_whole_where_no_thread_can_be_started(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As at the end of a program that uses no `with`."""
    server = replace(tracking, uri="http://127.0.0.1:1")
    monkeypatch.setattr(trial_logger, "PAUSES", (0.0,))
    real, fails = MlflowClient.set_terminated, True

    def once(*arguments: Any, **named: Any) -> Any:
        nonlocal fails
        if fails:
            fails = False
            raise MlflowException("503")
        return real(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "set_terminated", once)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", _fail)
    study, logger = optuna.create_study(), TrialLogger(server)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), 1, callbacks=[logger])
    logger.close()
    assert [run.info.status for run in runs_of(tracking, study)] == ["FINISHED"]
    assert "can't be logged" not in caplog.text


def test_calls_wait_for_their_end_where_the_user_logs_asynchronously(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    seen: list[Any] = []
    for name in ("log_batch", "set_tag"):
        real = getattr(MlflowClient, name)

        def noted(*arguments: Any, real: Any = real, **named: Any) -> Any:
            done = real(*arguments, **named)
            seen.append(done)
            return done

        monkeypatch.setattr(MlflowClient, name, noted)
    study = optuna.create_study()
    with TrialLogger(tracking) as logger:
        study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), 1, callbacks=[logger])
    tracking.client.set_tag(runs_of(tracking, study)[0].info.run_id, "mine", "1")
    assert len(seen) > 2
    assert set(seen) == {None}  # else it is what MLflow has only queued


def test_thread_that_has_the_stores_lock_gets_it_again(tracking: Tracking) -> None:
    """Python may end a logger that nobody uses any more within another one's block: that waited for itself."""

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    try:
        with making(tracking), making(tracking):
            pass
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("where", ["another folder", "removed", "a folder in the place of the lock"])
def test_client_of_a_server_needs_no_file_where_its_program_stands(
    tracking: Tracking, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's folder may be read-only: not one trial was logged, for the lock could not be written there."""
    server = replace(tracking, uri="http://127.0.0.1:1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    if where == "removed":
        here.rmdir()
    elif where.startswith("a folder"):
        (here / "mlruns/mlflow.lock").mkdir(parents=True)
    before = sorted(here.rglob("*"))
    study = optuna.create_study()
    with TrialLogger(server) as logger:
        study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), 2, callbacks=[logger])
    assert sorted(here.rglob("*")) == before
    monkeypatch.chdir(tmp_path)
    assert [run.info.status for run in runs_of(tracking, study)] == ["FINISHED"] * 2
    assert list(tmp_path.glob("podium-*.lock"))


@pytest.mark.parametrize("refused", ["param", "tag", "metric"])
def test_trial_of_which_a_server_refuses_a_part_is_logged_without_that(
    tracking: Tracking, refused: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an older server does with long values; its run stayed RUNNING, with nothing in it."""

    def check(metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        wrong = {
            "param": any(len(one.value) > 500 for one in params),
            "tag": any(len(one.value) > 500 for one in tags),
            "metric": any(one.key == "constraint_odd" for one in metrics),
        }
        if wrong[refused]:
            raise MlflowException.invalid_parameter_value("too long")

    log_batch, create_run = MlflowClient.log_batch, MlflowClient.create_run

    def old(client: MlflowClient, run_id: str, *parts: Any, **named: Any) -> Any:
        check(*(parts or (named.get("metrics", ()), named.get("params", ()), named.get("tags", ())))[:3])
        return log_batch(client, run_id, *parts, **named)

    def old_create(client: MlflowClient, experiment_id: str, start: Any = None, tags: Any = None, *rest: Any) -> Any:
        check(tags=[RunTag(key, value) for key, value in (tags or {}).items()])
        return create_run(client, experiment_id, start, tags, *rest)

    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("long", ["x" * 600])
        trial.set_constraint("odd", -1.0)
        trial.report(0.5, 1)
        return trial.suggest_float("x", 0.0, 1.0)

    study = optuna.create_study()
    with TrialLogger(tracking) as logger:
        study.optimize(lambda trial: 0.5, 1, callbacks=[logger])
        monkeypatch.setattr(MlflowClient, "log_batch", old)
        monkeypatch.setattr(MlflowClient, "create_run", old_create)
        study.optimize(objective, 2, callbacks=[logger])
    runs = [run for run in runs_of(tracking, study) if run.data.tags[TRIAL_TAG] != "0"]
    left = {"param": {"long"}, "tag": {"distribution.long"}, "metric": {"constraint_odd"}}[refused]
    for run in runs:
        held = {*run.data.params, *run.data.tags, *run.data.metrics}
        assert run.info.status == "FINISHED"
        assert {"long", "x", "objective", "reported", "constraint_odd", "distribution.long"} - held == left
        assert run.data.tags["podium.left_out"] == ", ".join(left)
    assert len(runs) == 2
    assert f"MLflow refuses {', '.join(left)} of trial 1" in caplog.text


@pytest.mark.parametrize("refused", ["user.long", "mlflow.note.content"])
def test_run_above_the_trials_ends_where_a_server_refuses_a_part_of_it(
    tracking: Tracking, refused: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_batch = MlflowClient.log_batch

    def old(client: MlflowClient, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), *rest: Any) -> Any:
        if any(tag.key == refused for tag in tags):
            raise MlflowException.invalid_parameter_value("too long")
        return log_batch(client, run_id, metrics, params, tags, *rest)

    monkeypatch.setattr(MlflowClient, "log_batch", old)
    study = optuna.create_study()
    study.set_user_attr("long", "x")
    study.set_user_attr("other", "y")
    with TrialLogger(tracking) as logger:
        study.optimize(lambda trial: 0.5, 1, callbacks=[logger])
    (run,) = search(tracking, {"podium.kind": "search"})
    assert (run.info.status, run.data.metrics["best_objective"]) == ("FINISHED", 0.5)
    assert run.data.tags["user.other"] == "y"
    assert "refuses user.long" in caplog.text or "summary can't be logged" in caplog.text
