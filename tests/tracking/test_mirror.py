import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from sqlalchemy import sql
from urllib3.util import connection

import tiny
import trials
from podium import paths
from podium.config.params import RuntimeParams, TrackingParams
from podium.locks import locked
from podium.tracking import mirror as mirrors
from podium.tracking import recorded_run, view
from podium.tracking import store as store_module
from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.mirror import Mirror, Parent
from podium.tracking.record import search_attributes
from podium.tracking.search_run import SearchRun, log_to_search
from podium.tracking.store import connect, database, search
from podium.tracking.trial_check import differences, images_of
from podium.tracking.trial_runs import TrialRuns, runs_of
from podium.tuning.driver import Driver
from podium.tuning.messages import Report, Task
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from podium.tuning.upkeep import sync_all
from tuning.scripted import Script, ScriptedPool, dies, epoch, search_params
from waiting import until


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "PAUSES", (0.01,))
    monkeypatch.setattr(mirrors, "PATIENCE", 0.05)


@pytest.fixture
def study() -> optuna.Study:
    return trials.study_of_each_kind()


def _open(study: optuna.Study, store: TrackingParams, lines: list[str] | None = None) -> Mirror:
    said = lines if lines is not None else []
    return Mirror(study, store, Parent(study.study_name, {"podium.source": "tiny"}), said.append)


def _log(mirror: Mirror, study: optuna.Study) -> None:
    for trial in study.trials:
        if trial.state.is_finished():
            mirror.ended(trial)


def _runs(store: TrackingParams, study: optuna.Study) -> list[Run]:
    return runs_of(connect(store), study.study_name)


def _parent(mirror: Mirror, store: TrackingParams) -> Run:
    assert mirror.parent_run_id is not None
    return connect(store).client.get_run(mirror.parent_run_id)


def test_trials_are_in_mlflow_when_the_mirror_has_closed(study: optuna.Study, store: TrackingParams) -> None:
    mirror = _open(study, store)
    _log(mirror, study)
    mirror.close()
    assert mirror.error == ""
    assert differences(connect(store), study) == []
    parent = _parent(mirror, store)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["podium.source"] == "tiny"
    assert parent.data.metrics == {
        "trials_complete": 2,
        "trials_pruned": 1,
        "trials_fail": 1,
        "best_objective": 0.06,
        "best_trial": 3,
    }


def test_trials_that_an_earlier_session_missed_are_logged(study: optuna.Study, store: TrackingParams) -> None:
    mirror = _open(study, store)
    mirror.close()
    assert differences(connect(store), study) == []


def test_search_in_which_the_clock_was_set_back_does_not_end_before_its_start(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = _open(study, store)
    until(lambda: mirror.parent_run_id)
    earlier = SimpleNamespace(time=lambda: time.time() - 3600)
    monkeypatch.setattr(store_module, "time", earlier)
    mirror.close()
    info = _parent(mirror, store).info
    assert info.end_time >= info.start_time
    assert info.status == "FINISHED"


def test_interrupted_search_leaves_nothing_running(study: optuna.Study, store: TrackingParams) -> None:
    mirror = _open(study, store.model_copy(update={"flush_seconds": 1e-9}))
    for epochs in (1, 2):
        mirror.running(study.trials[4], trials.history(4, epochs))
    mirror.close(interrupted=True)
    assert _parent(mirror, store).info.status == "KILLED"
    statuses = {int(run.data.tags["podium.trial"]): run.info.status for run in _runs(store, study)}
    assert statuses == {0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "FINISHED", 4: "KILLED"}


def test_run_left_open_by_a_killed_search_does_not_stay_running(study: optuna.Study, store: TrackingParams) -> None:
    """The budget was lowered, so its trial will not go on."""
    TrialRuns(connect(store), None, search_attributes).log(study, study.trials[4], trials.history(4, 2))
    _open(study, store).close()
    assert {run.info.status for run in _runs(store, study)} == {"FINISHED", "KILLED", "FAILED"}


@pytest.mark.parametrize(("flush_seconds", "epochs"), [(1e-9, 2), (1e9, 0)])
def test_running_trial_is_live_when_it_has_lasted(
    study: optuna.Study, store: TrackingParams, flush_seconds: float, epochs: int
) -> None:
    mirror = _open(study, store.model_copy(update={"flush_seconds": flush_seconds}))
    for count in (1, 2):
        mirror.running(study.trials[4], trials.history(4, count))
    if epochs:
        until(lambda: any(run.data.metrics.get("val_accuracy") == 0.06 for run in _runs(store, study)))
    mirror.close(interrupted=True)
    live = [run for run in _runs(store, study) if run.data.tags["podium.trial"] == "4"]
    assert len(live) == min(epochs, 1)


def test_store_that_is_away_at_first_gets_everything_when_it_is_back(
    study: optuna.Study, store: TrackingParams, tmp_path: Path
) -> None:
    folder, lines = tmp_path / "mlruns", list[str]()
    shutil.move(folder, tmp_path / "away")
    folder.write_text("in the way")
    mirror = _open(study, store, lines)
    _log(mirror, study)
    until(lambda: bool(lines))
    back = tmp_path / "back"
    back.symlink_to(tmp_path / "away")
    back.replace(folder)  # at once: the mirror, which never rests, would else make a folder in between
    until(lambda: mirror.error == "" and mirror.parent_run_id is not None)
    mirror.close()
    assert mirror.error == ""
    assert len(lines) == 1
    assert "they are logged later" in lines[0]
    assert differences(connect(store), study) == []


def test_database_that_another_program_holds_is_filled_once_it_is_free(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(store)
    patient = sql.text
    monkeypatch.setattr(sql, "text", lambda words: patient(words.replace("20000", "1")))  # ms for which MLflow waits
    said: list[str] = []
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"), check_same_thread=False)) as holder:
        holder.isolation_level = None
        holder.execute("BEGIN EXCLUSIVE")

        def told(line: str) -> None:
            said.append(line)
            holder.rollback()

        mirror = Mirror(study, store, Parent(study.study_name, {}), told)
        _log(mirror, study)
        mirror.close()
    assert mirror.error == ""
    assert ["database is locked. Another program has locked it" in line for line in said] == [True]
    assert differences(connect(store), study) == []


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db", "no-such-scheme://x"])
def test_store_that_stays_away_fails_nothing_and_is_filled_the_next_time(
    study: optuna.Study, store: TrackingParams, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mirror = _open(study, store.model_copy(update={"uri": uri}))
    _log(mirror, study)
    mirror.close()
    assert mirror.error != ""
    assert mirror.parent_run_id is None
    again = _open(study, store)
    again.close()
    assert differences(connect(store), study) == []


@pytest.mark.parametrize(("interrupted", "status"), [(False, "FINISHED"), (True, "KILLED")])
def test_search_that_ended_while_the_store_was_away_is_whole_after_sync(
    store: TrackingParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool, status: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    study = trials.study_of_each_kind(open_storage(paths.mlruns() / "optuna.journal"))
    tags = {"podium.source": "digits", "podium.data_digest": "d" * 64}
    away = Mirror(study, store.model_copy(update={"uri": "http://127.0.0.1:9"}), Parent(study.study_name, tags))
    away.check()
    away.close(interrupted=interrupted)
    assert away.error != ""
    sync_all(store, repair=True)
    tracking = connect(store)
    (run,) = search(tracking, {"podium.kind": "search"})
    assert run.info.status == status
    assert {key: run.data.tags[key] for key in tags} == tags
    assert "4 trials: 2 ran to their end" in run.data.tags["mlflow.note.content"]
    assert {str(images_of(one)) for one in [run, *runs_of(tracking, study)]} == {str([("digits", "d" * 32)])}
    assert view.address(tracking).endswith("viewStateShareKey=podium")
    assert sync_all(store, repair=False) == {study.study_name: []}


def test_run_deleted_in_the_ui_does_not_keep_the_others_out(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "PATIENCE", 300.0)
    mirror = _open(study, store.model_copy(update={"flush_seconds": 1e-9}))
    for count in (1, 2):
        mirror.running(study.trials[4], trials.history(4, count))
    until(lambda: len(_runs(store, study)) == 5)
    tracking = connect(store)
    for run in _runs(store, study):
        tracking.client.delete_run(run.info.run_id)
    study._storage.set_trial_user_attr(study.trials[4]._trial_id, "history", trials.history(4, 3))
    study.tell(4, 0.5)
    mirror.ended(study.trials[4])
    mirror.close()
    assert mirror.error == ""
    assert differences(tracking, study) == []


def test_parent_of_another_study_is_left_as_it_is(study: optuna.Study, store: TrackingParams) -> None:
    search = _open(study, store)
    search.close()
    other = optuna.create_study(study_name="confirm-1")
    mirror = Mirror(other, store, Parent(study.study_name, {}, owned=False))
    other.add_trial(optuna.trial.create_trial(value=0.5, user_attrs={"name": "confirm-000-seed-1"}))
    mirror.ended(other.trials[0])
    mirror.close(interrupted=True)
    assert mirror.parent_run_id == search.parent_run_id
    assert _parent(search, store).info.status == "FINISHED"
    (run,) = runs_of(connect(store), "confirm-1")
    assert run.info.run_name == "confirm-000-seed-1 · 0.5000"
    assert run.data.tags["mlflow.parentRunId"] == search.parent_run_id


def test_two_clones_of_one_search_have_their_own_runs_and_confirmations(store: TrackingParams, tmp_path: Path) -> None:
    parents = []
    for clone in ("one", "two"):
        storage = open_storage(tmp_path / clone / "optuna.journal")
        study = trials.study_of_each_kind(storage)
        search = _open(study, store)
        search.close()
        confirmation = optuna.create_study(study_name="confirm-1", storage=storage)
        confirmation.add_trial(optuna.trial.create_trial(value=0.5))
        mirror = Mirror(confirmation, store, Parent(study.study_name, {}, owned=False))
        mirror.close()
        log_to_search(store, confirmation, study.study_name, {"confirmed_mean": 0.25}, {"which": clone})
        assert mirror.error == search.error == ""
        assert mirror.parent_run_id == search.parent_run_id
        (run,) = runs_of(connect(store), confirmation)
        assert run.data.tags["mlflow.parentRunId"] == search.parent_run_id
        assert len(runs_of(connect(store), study)) == 4
        assert _parent(search, store).data.tags["which"] == clone
        parents.append(search.parent_run_id)
    assert len(set(parents)) == 2


def test_confirmation_of_a_search_of_another_machine_finds_its_run_by_name(
    study: optuna.Study, store: TrackingParams
) -> None:
    search = _open(study, store)
    search.close()
    log_to_search(store, optuna.create_study(study_name="confirm-1"), study.study_name, {"confirmed_mean": 0.5}, {})
    assert _parent(search, store).data.metrics["confirmed_mean"] == 0.5


def test_run_that_is_moved_aside_is_said(study: optuna.Study, store: TrackingParams) -> None:
    _open(study, store).close()
    (run, *_) = _runs(store, study)
    connect(store).client.log_metric(run.info.run_id, "objective", 9.0, step=0)
    lines: list[str] = []
    _open(study, store, lines).close()
    assert [run.info.run_id in line for line in lines] == [True]
    assert differences(connect(store), study) == []


def test_trials_that_ended_before_the_store_answered_are_logged_once(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    log, logged = TrialRuns.log, list[int]()

    def count(self: TrialRuns, *others: Any) -> str:
        logged.append(others[1].number)
        return log(self, *others)

    monkeypatch.setattr(TrialRuns, "log", count)
    local = database(store.uri)
    assert local is not None
    with locked(local.with_name("mlflow.lock")):  # the mirror waits for it
        mirror = _open(study, store)
        _log(mirror, study)
    mirror.close()
    assert mirror.error == ""
    assert sorted(logged) == [0, 1, 2, 3]
    assert differences(connect(store), study) == []


def test_store_that_begins_to_say_no_is_told_once_with_what_helps(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    live = optuna.create_study(study_name="live")
    mirror = _open(live, store, lines)
    mirror.check()
    until(lambda: mirror.parent_run_id is not None)
    no, asked = RestException({"error_code": "UNAUTHENTICATED", "message": "no"}), list[int]()  # type: ignore[no-untyped-call]

    def refuse(self: TrialRuns, *others: Any) -> None:
        asked.append(1)
        raise no

    with monkeypatch.context() as patched:
        patched.setattr(TrialRuns, "log_ended", refuse)
        live.add_trials([trial for trial in study.trials if trial.state.is_finished()])
        _log(mirror, live)
        until(lambda: len(asked) > 2)
        mirror.close()
    assert len(lines) == 1
    for text in (lines[0], mirror.error):
        assert "MLFLOW_TRACKING_USERNAME" in text
        assert "Nothing was searched" not in text
    _open(live, store).close()
    assert differences(connect(store), live) == []


def test_end_that_somebody_waits_no_longer_for_leaves_the_rest(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "LONG", 0.0)
    monkeypatch.setattr(mirrors, "LOOK", 0.01)
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    log, lines, left = TrialRuns.log, list[str](), list[bool]()

    def leave() -> bool:
        left.extend([True] if lines else [])
        return bool(lines)

    def slow(self: TrialRuns, *others: Any) -> str:
        run_id = log(self, *others)
        until(lambda: len(left) > 1)
        return run_id

    live = optuna.create_study(study_name="live")
    mirror = _open(live, store, lines)
    until(lambda: mirror.parent_run_id is not None)
    live.add_trials([trial for trial in study.trials if trial.state.is_finished()])
    monkeypatch.setattr(TrialRuns, "log", slow)
    _log(mirror, live)
    mirror.close(leave=leave)
    assert mirror.error == "Yet to be logged: 3 trials"
    assert ["Ctrl-C leaves the rest" in line for line in lines] == [True]
    monkeypatch.setattr(TrialRuns, "log", log)
    _open(live, store).close()
    assert differences(connect(store), live) == []


@pytest.mark.parametrize("call", ["open", "log_ended", "finish"])
def test_call_that_does_not_come_back_is_left_and_the_rest_is_remembered(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for name in ("LOOK", "LEAVING", "FIRST"):
        monkeypatch.setattr(mirrors, name, 0.01)
    inside, back = threading.Event(), threading.Event()

    def stuck(*others: Any, **options: Any) -> Any:
        inside.set()
        until(back.is_set)
        raise MlflowException("the server is away")

    live = optuna.create_study(study_name="live")
    with monkeypatch.context() as patched:
        patched.setattr(SearchRun, call, stuck)
        mirror = _open(live, store)
        mirror.check()
        until(lambda: call == "open" or mirror.parent_run_id)
        live.add_trials([trial for trial in study.trials if trial.state.is_finished()])
        _log(mirror, live)
        mirror.close(leave=inside.is_set)
        said = mirror.error
        back.set()
        until(lambda: not mirror._thread.is_alive())
    assert said == mirror.error == "Its store had not answered yet when it was left"
    (path,) = recorded_run.files(["search"])
    record = recorded_run.read(path)
    assert (record.status, record.tags["podium.source"], "4 trials" in record.note) == ("FINISHED", "tiny", True)
    _open(live, store).close()
    assert differences(connect(store), live) == []


@pytest.mark.slow
def test_server_that_is_away_does_not_hold_up_the_end_of_a_search(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_to, tries = connection.create_connection, list[Any]()

    def count(*arguments: Any, **options: Any) -> Any:
        tries.append(arguments)
        return connect_to(*arguments, **options)

    monkeypatch.setattr(connection, "create_connection", count)
    mirror = _open(study, TrackingParams(uri="http://127.0.0.1:9"))
    mirror.close(interrupted=True)
    assert mirror.error != ""
    assert 0 < len(tries) < 16  # MLflow by itself makes 8 tries of each of the two calls, in 8 minutes


@pytest.mark.parametrize("had", [False, True])
def test_search_whose_run_was_made_and_none_of_whose_trials_was_taken_has_no_run(
    study: optuna.Study, store: TrackingParams, had: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its last line and its exit code say that MLflow has nothing of it: an empty run was taken for a record."""

    def refuse(*arguments: Any, **named: Any) -> Any:
        raise MlflowException("no", PERMISSION_DENIED)

    live = optuna.create_study(study_name="live")
    if had:
        live.add_trial(study.trials[0])
    mirror = _open(live, store)
    until(lambda: mirror.parent_run_id is not None)
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    monkeypatch.setattr(MlflowClient, "create_run", refuse)
    live.add_trial(study.trials[1])
    mirror.ended(live.trials[-1])
    mirror.close()
    assert "403" in mirror.error
    assert (mirror.parent_run_id is not None) == had


def test_trials_of_which_one_is_refused_are_logged_one_by_one(
    study: optuna.Study, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused, lines = DirectSqlite.write, list[int](), list[str]()

    def refuse(self: DirectSqlite, runs: list[Any]) -> list[str]:
        if len(runs) > 1:
            refused.append(len(runs))
            return []
        return write(self, runs)

    monkeypatch.setattr(DirectSqlite, "write", refuse)
    live = optuna.create_study(study_name="live")
    mirror = _open(live, store, lines)
    until(lambda: mirror.parent_run_id is not None)
    for trial in study.trials:
        if trial.state.is_finished():
            live.add_trial(trial)
    _log(mirror, live)
    mirror.close()
    assert refused != []
    assert lines == []
    assert mirror.error == ""
    assert differences(connect(store), live) == []


def test_trial_that_is_lost_for_good_after_another_session_keeps_the_epochs_that_were_shown(
    tmp_path: Path, store: TrackingParams
) -> None:
    often, params = store.model_copy(update={"flush_seconds": 1e-9}), search_params(n_trials=1)

    def session(script: Callable[[Task], Script], stopping: Callable[[optuna.Study], bool]) -> optuna.Study:
        study = open_study(open_storage(tmp_path / "optuna.journal"), "search", params, {})
        mirror, runtime = _open(study, often), RuntimeParams(max_restarts=0)
        pool, base = ScriptedPool(1, script), tiny.recipe(train__epochs=9)
        Driver(study, pool, params, runtime, base, tmp_path, [mirror], lambda: stopping(study)).run()
        mirror.close(interrupted=stopping(study))
        return study

    def trained(task: Task) -> Script:
        for number in (1, 2, 3):
            yield Report(task.number, task.attempt, epoch(number))

    study = session(trained, lambda study: study.trials[:1] != [] and len(study.trials[0].intermediate_values) == 3)
    assert [run.info.status for run in _runs(store, study)] == ["KILLED"]
    study = session(dies, lambda study: False)
    (trial,) = study.trials
    assert trial.state.name == "FAIL"
    assert [e["epoch"] for e in trial.user_attrs["history"]] == [1, 2, 3]
    assert differences(connect(store), study) == []
