import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

import tiny
from podium import paths
from podium.components import Choice
from podium.config.params import Params, TrackingParams
from podium.data.dataset import DatasetInfo
from podium.errors import InterruptedSearchError, PodiumError, RefusedError
from podium.locks import locked
from podium.tracking import mirror, recorded_run
from podium.tracking.mirror import Parent
from podium.tracking.search_run import SearchRun
from podium.tracking.store import connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from podium.tuning import session
from podium.tuning.pools import Pool
from podium.tuning.search_plan import plan_of
from podium.tuning.storage import open_storage
from podium.tuning.study import open_study
from tuning.scripted import states
from waiting import until


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def _no_luck(*_: Any) -> Any:
    raise ValueError("no luck")


def _plan(params: Params, **changes: Any) -> session.Plan:
    """A confirmation of two recipes on two seeds."""
    recipes = [tiny.recipe(train__epochs=epochs).flat() for epochs in (1, 2)]
    enqueued: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"recipe": recipes[rank], "seed": seed, "rank": rank, "name": f"c-{rank}-{seed}"})
        for rank in range(2)
        for seed in range(2)
    ]
    search = params.search.model_copy(
        update={"n_trials": 4, "space": {}, "sampler": Choice(name="random"), "pruner": Choice(name="none")}
    )
    parent = Parent("search-1", {}, owned=False)
    fields: dict[str, Any] = {
        "name": "confirm-1",
        "facts": {},
        "params": search,
        "base": params.recipe(),
        "parent": parent,
    }
    return session.Plan(**fields | {"title": "select", "enqueued": enqueued} | changes)


def _run(plan: session.Plan, prepared: Path, params: Params) -> optuna.Study:
    return session.run(plan, prepared, params.runtime, params.tracking)[0]


def _study(plan: session.Plan) -> optuna.Study:
    """The plan's study, as a killed driver may have left it: made, and nothing else."""
    return open_study(open_storage(paths.mlruns() / "optuna.journal"), plan.name, plan.params, plan.facts)


@pytest.mark.slow
@pytest.mark.parametrize("written", [0, 3])
def test_given_trials_are_all_run_whenever_the_driver_was_killed(
    prepared: Path, store: TrackingParams, written: int
) -> None:
    params = tiny.params(store)
    plan = _plan(params)
    session._enqueue(_study(plan), _plan(params, enqueued=plan.enqueued[:written]))
    study = _run(plan, prepared, params)
    assert states(study) == ["COMPLETE"] * 4
    ran = [(t.user_attrs["rank"], t.user_attrs["seed"], len(t.user_attrs["history"])) for t in study.trials]
    assert ran == [(0, 0, 1), (0, 1, 1), (1, 0, 2), (1, 1, 2)]


@pytest.mark.parametrize("written", [0, 3])
@pytest.mark.parametrize("started", [0, 1])
def test_trials_that_failed_are_all_tried_again_whenever_the_driver_was_killed(
    prepared: Path, store: TrackingParams, started: int, written: int
) -> None:
    params = tiny.params(store)
    plan = _plan(params, tries_again=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podium.tuning.work._open", _no_luck)
        _run(plan, prepared, params)
    study = _study(plan)
    assert states(study) == ["FAIL"] * 4
    session._enqueue(study, _plan(params, tries_again=True, enqueued=plan.enqueued[:written]))
    for _ in range(started if written else 0):
        study.ask()
    study = _run(plan, prepared, params)
    assert states(study) == ["FAIL"] * 4 + ["COMPLETE"] * 4
    assert [(t.user_attrs["rank"], t.user_attrs["seed"]) for t in study.trials[4:]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert differences(connect(store), study) == []


def test_ctrl_c_after_that_which_stopped_the_search_leaves_mlflow_and_what_is_left_is_remembered(
    prepared: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params, back = tiny.params(store), threading.Event()

    def stop(*given: Any) -> None:
        given[5].check()  # the mirror, as while the workers start
        signal.raise_signal(signal.SIGINT)

    def stuck(*_: Any, **__: Any) -> None:
        if not callable(signal.getsignal(signal.SIGINT)):
            raise RuntimeError("Ctrl-C would kill the process here")
        os.kill(os.getpid(), signal.SIGINT)
        until(back.is_set)

    monkeypatch.setattr(mirror, "LOOK", 0.01)
    monkeypatch.setattr(mirror, "LEAVING", 0.01)
    monkeypatch.setattr(session, "_drive", stop)
    monkeypatch.setattr(SearchRun, "finish", stuck)
    plan = _plan(params, parent=Parent("confirm-1", {}))
    ended = _study(plan)
    ended.add_trial(optuna.trial.create_trial(value=0.5))
    with pytest.raises(InterruptedSearchError):
        session.run(plan, prepared, params.runtime, params.tracking)
    back.set()
    assert "Its store had not answered yet when it was left" in capsys.readouterr().out
    (path,) = recorded_run.files(["search"])
    assert recorded_run.read(path).status == "KILLED"


def test_given_trials_have_their_own_names_below_the_searchs_parent(prepared: Path, store: TrackingParams) -> None:
    params = tiny.params(store)
    study, parent = session.run(_plan(params), prepared, params.runtime, params.tracking)
    tracking = connect(store)
    assert differences(tracking, study) == []
    runs = runs_of(tracking, "confirm-1")
    assert sorted(str(run.info.run_name).partition(" ")[0] for run in runs) == ["c-0-0", "c-0-1", "c-1-0", "c-1-1"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent}
    assert tracking.client.get_run(parent).info.run_name == "search-1"


def test_search_that_is_done_starts_no_worker(
    prepared: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny.params(store)
    first = _run(_plan(params), prepared, params)
    monkeypatch.setattr(session, "open_pool", None)
    again = _run(_plan(params), prepared, params)
    assert [t.value for t in again.trials] == [t.value for t in first.trials]


def test_trial_that_was_left_running_ends_where_no_further_one_is_wanted(prepared: Path, store: TrackingParams) -> None:
    params = tiny.params(store)
    plan = _plan(params)
    fewer = replace(plan, params=plan.params.model_copy(update={"n_trials": 2}))
    _run(fewer, prepared, params)
    _study(plan).ask()  # as a driver that was killed may leave it
    study = _run(fewer, prepared, params)
    assert states(study) == ["COMPLETE", "COMPLETE", "COMPLETE", "WAITING"]
    assert differences(connect(store), study) == []


def test_start_of_the_workers_counts_for_the_timeout(
    prepared: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, passed, real = session.open_pool, [0.0], time.monotonic

    def slow(*arguments: Any) -> Pool:
        passed[0] = 1000.0
        return opened(*arguments)

    monkeypatch.setattr(session, "open_pool", slow)
    monkeypatch.setattr("podium.tuning.budget.time", SimpleNamespace(monotonic=lambda: real() + passed[0]))
    params = tiny.params(store, "timeout: 500")
    study = _run(_plan(params), prepared, params)
    assert states(study) == ["WAITING"] * 4
    assert study.user_attrs["seconds"] >= 1000


def test_second_search_at_the_same_time_is_refused_with_its_holder(prepared: Path, store: TrackingParams) -> None:
    params = tiny.params(store)
    with (
        locked(paths.mlruns() / "locks" / "confirm-1.lock"),
        pytest.raises(RefusedError, match=r"the search confirm-1 is already under way: process \d+ on "),
    ):
        _run(_plan(params), prepared, params)


def test_search_whose_trials_all_fail_ends_with_the_reason_and_a_true_mirror(
    prepared: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = tiny.params(store, "max_failures: 3")
    plan = _plan(params)
    monkeypatch.setattr("podium.tuning.work._open", _no_luck)
    with pytest.raises(PodiumError, match=r"the last 3 trials all failed .*ValueError: no luck"):
        _run(plan, prepared, params)
    study = _study(plan)
    assert states(study) == ["FAIL", "FAIL", "FAIL", "WAITING"]
    assert differences(connect(store), study) == []


def test_tracking_server_that_is_away_delays_and_fails_nothing(
    prepared: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("podium.tracking.mirror.PATIENCE", 0.0)
    away = tiny.params(store.model_copy(update={"uri": "http://127.0.0.1:9"}))
    study = _run(_plan(away), prepared, away)
    assert states(study) == ["COMPLETE"] * 4
    assert "MLflow is not in step with the search; `podium sync` repairs that." in capsys.readouterr().out
    back = tiny.params(store)
    _run(_plan(back), prepared, back)
    assert differences(connect(store), study) == []


def test_changed_defaults_are_tried_although_the_old_ones_are_inherited(prepared: Path, store: TrackingParams) -> None:
    before = tiny.params(store, "n_trials: 2")
    info = DatasetInfo.read(prepared)
    first = _run(plan_of(before, info), prepared, before)
    after = before.model_copy(update={"train": before.train.model_copy(update={"learning_rate": 0.02})})
    second = _run(plan_of(after, info), prepared, after)
    assert first.study_name != second.study_name
    inherited = [t.user_attrs.get("inherited_from", "own") for t in second.trials]
    assert inherited == [f"{first.study_name}/0", f"{first.study_name}/1", "own", "own"]
    assert first.trials[0].params["train.learning_rate"] == 0.01
    assert second.trials[2].params["train.learning_rate"] == 0.02
    assert differences(connect(store), second) == []
