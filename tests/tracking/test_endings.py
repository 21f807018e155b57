"""What TrialLogger leaves where the study's storage, MLflow or the program ends before it does."""

import os
import signal
from contextlib import ExitStack
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError

from podium import TrialLogger, connect
from podium.config.params import TrackingParams
from podium.tracking.store import Tracking
from podium.tracking.trial_runs import runs_of


@pytest.fixture
def tracking(store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The store of the current folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made: Tracking = connect()
    return made


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


@pytest.mark.parametrize("callbacks", [None, 5, [print], "another logger"])
def test_study_that_was_not_to_call_the_logger_is_not_logged(tracking: Tracking, callbacks: Any) -> None:
    study = optuna.create_study()
    called = [TrialLogger(tracking)] if callbacks == "another logger" else callbacks
    with pytest.raises((RuntimeError, TypeError)), TrialLogger(tracking):
        study.optimize(_broken, 1, callbacks=called)
    assert _statuses(tracking) == []
