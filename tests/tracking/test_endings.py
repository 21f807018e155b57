"""What TrialLogger leaves where the study's storage, MLflow or the program ends before it does."""

import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial

from podium import TrialLogger
from podium.errors import InputError
from podium.tracking import trial_logger
from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.record import search_attributes
from podium.tracking.recorded_run import dataset_input
from podium.tracking.store import Tracking, search
from podium.tracking.trial_check import images_of
from podium.tracking.trial_runs import TrialRuns, runs_of


def _objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def _broken(trial: optuna.Trial) -> float:
    raise RuntimeError("the user's own")


def _statuses(tracking: Tracking) -> list[str]:
    runs = tracking.client.search_runs([tracking.experiment_id], "tags.`podium.kind` = 'search'")
    return [run.info.status for run in runs]


def test_error_of_the_user_is_the_one_that_comes_out_where_the_studys_storage_is_away(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: Any, **options: Any) -> Any:
        raise StorageInternalError("the database is away")

    studies = [optuna.create_study(), optuna.create_study()]
    logger = TrialLogger(tracking)
    for study in studies:
        study.optimize(_objective, 1, callbacks=[logger])
    monkeypatch.setattr(studies[0], "get_trials", away)
    with pytest.raises(RuntimeError, match="the user's own"), logger:
        studies[1].optimize(_broken, 1, callbacks=[logger])
    assert _statuses(tracking) == ["FAILED", "FAILED"]


def test_parent_of_a_block_that_failed_stays_failed_when_mlflow_is_there_again(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: Any, **options: Any) -> Any:
        raise MlflowException("the server is away")

    logger = TrialLogger(tracking)
    study = optuna.create_study()
    study.optimize(_objective, 1, callbacks=[logger])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", away)
        with pytest.raises(RuntimeError), logger:
            study.optimize(_broken, 1, callbacks=[logger])
    assert _statuses(tracking) == ["RUNNING"]
    logger.close()
    assert _statuses(tracking) == ["FAILED"]
    study.optimize(_objective, 1, callbacks=[logger])
    logger.close()
    assert _statuses(tracking) == ["FINISHED"]


def test_forked_process_ends_at_sigterm_as_any(tracking: Tracking) -> None:
    with TrialLogger(tracking):
        child = os.fork()
        if not child:
            os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("loggers", [(0, 0), (0, 1)], ids=["one twice", "two that are not nested"])
def test_sigterm_is_as_before_after_the_last_of_blocks_that_overlap(
    tracking: Tracking, loggers: tuple[int, int]
) -> None:
    made = [TrialLogger(tracking), TrialLogger(tracking)]
    blocks = [ExitStack(), ExitStack()]
    for block, number in zip(blocks, loggers, strict=True):
        block.enter_context(made[number])
    blocks[0].close()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    blocks[1].close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _interrupted(trial: optuna.Trial) -> float:
    raise KeyboardInterrupt


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("objective", "parent"), [(_broken, "FAILED"), (_interrupted, "KILLED")])
def test_first_trial_is_logged_where_its_error_ends_the_block(
    tracking: Tracking, objective: Any, parent: str, jobs: int
) -> None:
    study = optuna.create_study()
    with pytest.raises((RuntimeError, KeyboardInterrupt)), TrialLogger(tracking) as logger:
        study.optimize(objective, 4, n_jobs=jobs, callbacks=[logger])
    assert _statuses(tracking) == [parent]
    logged = runs_of(tracking, study)
    assert [run.info.status for run in logged] == ["FAILED"] * len(study.trials)
    assert logged


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("first", [0, 1])
def test_trial_that_has_ended_is_logged_where_a_callback_before_the_logger_raises(
    tracking: Tracking, first: int, jobs: int
) -> None:
    """Optuna calls no further callback then."""

    def stop(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.number >= first:
            raise RuntimeError("the user's own")

    study = optuna.create_study()
    with pytest.raises(RuntimeError, match="the user's own"), TrialLogger(tracking) as logger:
        study.optimize(_objective, 4, n_jobs=jobs, callbacks=[stop, logger])
    runs = runs_of(tracking, study)
    assert _statuses(tracking) == ["FAILED"]
    if jobs == 1:
        assert [run.data.metrics["objective"] for run in runs] == [trial.value for trial in study.trials]
    assert runs


def test_parent_runs_until_the_last_of_several_loggers_ends(tracking: Tracking) -> None:
    """As processes on one storage do: the first that ended left it FINISHED while the others went on."""
    study = optuna.create_study(study_name="shared")
    with TrialLogger(tracking) as last:
        study.optimize(_objective, 1, callbacks=[last])
        with TrialLogger(tracking) as first:
            study.optimize(_objective, 1, callbacks=[first])
        assert _statuses(tracking) == ["FINISHED"]
        study.optimize(_objective, 1, callbacks=[last])
        assert _statuses(tracking) == ["RUNNING"]
    assert _statuses(tracking) == ["FINISHED"]


def test_trial_of_an_inner_study_is_not_taken_for_one_of_the_outer(tracking: Tracking) -> None:
    def outer(trial: optuna.Trial) -> float:
        inner = optuna.create_study()
        inner.optimize(_objective, 3)
        inner.optimize(_broken, 1)
        return 1.0

    study = optuna.create_study()
    study.optimize(_objective, 4)  # before there was a logger
    with pytest.raises(RuntimeError, match="the user's own"), TrialLogger(tracking) as logger:
        study.optimize(outer, 1, callbacks=[logger])
    assert [run.data.tags["podium.trial"] for run in runs_of(tracking, study)] == ["4"]


def test_trial_that_study_ask_returned_is_logged_and_what_is_no_trial_is_refused(tracking: Tracking) -> None:
    study = optuna.create_study()
    with TrialLogger(tracking) as logger:
        for _ in range(2):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
            logger(study, trial)
        with pytest.raises(InputError, match="trial: must be one of Optuna's, got int"):
            logger(study, 1)  # type: ignore[arg-type]
    assert [run.data.metrics["objective"] for run in runs_of(tracking, study)] == [t.value for t in study.trials]
    assert _statuses(tracking) == ["FINISHED"]


@pytest.mark.parametrize("callbacks", [None, 5, [print], "another logger"])
def test_study_that_was_not_to_call_the_logger_is_not_logged(tracking: Tracking, callbacks: Any) -> None:
    study = optuna.create_study()
    called = [TrialLogger(tracking)] if callbacks == "another logger" else callbacks
    with pytest.raises((RuntimeError, TypeError)), TrialLogger(tracking):
        study.optimize(_broken, 1, callbacks=called)
    assert _statuses(tracking) == []


@pytest.mark.parametrize("way", ["direct", "client"])
def test_trials_that_end_while_the_experiment_is_deleted_are_logged_when_it_is_restored(
    tracking: Tracking, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if way == "client":
        monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    monkeypatch.setattr(trial_logger, "PAUSES", (0.0,))
    study = optuna.create_study()

    def delete_and_restore(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.number == 0:
            tracking.client.delete_experiment(tracking.experiment_id)
        if trial.number == 2:
            tracking.client.restore_experiment(tracking.experiment_id)

    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 4, callbacks=[logger, delete_and_restore])
    assert sorted(run.data.tags["podium.trial"] for run in runs_of(tracking, study)) == ["0", "1", "2", "3"]
    assert _statuses(tracking) == ["FINISHED"]
    (message,) = [r.getMessage() for r in caplog.records if r.name == trial_logger.__name__]
    assert "1 trial to be logged later" in message
    assert "must be in the 'active' state" in message


def test_two_loggers_of_one_experiment_in_one_process_log_each_trial_once(tracking: Tracking) -> None:
    study = optuna.create_study()
    with TrialLogger(tracking) as one, TrialLogger(tracking) as other:
        study.optimize(_objective, 3, callbacks=[one, other])
    assert sorted(run.data.tags["podium.trial"] for run in runs_of(tracking, study)) == ["0", "1", "2"]
    assert _statuses(tracking) == ["FINISHED"]


@pytest.mark.parametrize("fails", ["log_batch", "log_inputs", "set_terminated"])
def test_trial_whose_logging_breaks_off_half_way_is_logged_whole(
    tracking: Tracking, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    answers, real = [MlflowException("400: no")], getattr(MlflowClient, fails)

    def once(*arguments: Any, **named: Any) -> Any:
        if answers:
            raise answers.pop()
        return real(*arguments, **named)

    study = optuna.create_study()
    images = dataset_input("mine", "d" * 32)
    logger = TrialRuns(tracking, None, search_attributes, images)
    study.optimize(_objective, 2)
    logger.parent(study)
    monkeypatch.setattr(MlflowClient, fails, once)
    with pytest.raises(MlflowException, match="400"):
        logger.log(study, study.trials[0])
    for trial in study.trials:
        logger.log(study, trial)
    assert not answers
    runs = runs_of(tracking, study)
    assert [run.info.status for run in runs] == ["FINISHED"] * 2
    for run in runs:
        trial = study.trials[int(run.data.tags["podium.trial"])]
        assert float(run.data.params["x"]) == trial.params["x"]
        assert run.data.metrics["objective"] == trial.value
        assert images_of(run) == [("mine", "d" * 32)]


@pytest.mark.parametrize("lost", ["every answer", "the first answer"])
def test_run_that_was_made_though_the_answer_was_lost_has_no_double(
    tracking: Tracking, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLflow's client does where a proxy answers 502 after the server has done what it was asked."""
    server = replace(tracking, uri="http://127.0.0.1:1")
    monkeypatch.setattr(trial_logger, "PAUSES", (0.0,))
    create, first = MlflowClient.create_run, {"search", "1"}

    def repeated(client: MlflowClient, experiment_id: str, *others: Any, **named: Any) -> Any:
        tags = named.get("tags") or others[1]
        what = tags.get("podium.trial") or tags["podium.kind"]
        made = [create(client, experiment_id, *others, **named) for _ in range(3 if what in first else 1)]
        if what in first and lost == "every answer":
            first.discard(what)
            raise MlflowException("too many 502 error responses")
        first.discard(what)
        return made[-1]

    monkeypatch.setattr(MlflowClient, "create_run", repeated)
    study = optuna.create_study()
    with TrialLogger(server) as logger:
        study.optimize(_objective, 3, callbacks=[logger])
    assert not first
    assert _statuses(tracking) == ["FINISHED"]
    runs = runs_of(tracking, study)
    assert sorted(run.data.tags["podium.trial"] for run in runs) == ["0", "1", "2"]
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs}
    assert [run.info.run_id for run in search(tracking, {"podium.kind": "search"})] == list(parents)
    assert all(float(run.data.params["x"]) == run.data.metrics["objective"] for run in runs)
    assert {run.info.status for run in runs} == {"FINISHED"}
