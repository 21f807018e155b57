"""A trial that has ended, brought in one transaction: MLflow's tables hold what its client would have put there."""

import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlRun

from podium.config.params import TrackingParams
from podium.tracking import whole_run
from podium.tracking.record import record_of
from podium.tracking.store import Tracking, connect
from podium.tracking.trial_logger import TrialLogger, runs_of
from podium.tracking.whole_run import WholeRuns


@pytest.fixture
def tracking(store: TrackingParams) -> Tracking:
    return connect(store)


@pytest.fixture
def study() -> optuna.Study:
    """Complete, pruned, failed and without any epoch; values that a database does not take as they are."""
    made = optuna.create_study(study_name="plain", sampler=optuna.samplers.RandomSampler(seed=0))
    for number in range(6):
        trial = made.ask()
        trial.suggest_float("x", 0.0, 1.0)
        odd = [0.25, math.nan, math.inf, -math.inf, -0.0, 0.5][number]
        if number != 5:
            seconds = [0.0, 0.0, 1.5]  # two epochs at the same moment
            history = [{"epoch": k + 1.0, "val_loss": odd, "same": 1.0, "seconds": s} for k, s in enumerate(seconds)]
            trial.set_user_attr("history", history)
        trial.set_user_attr("recipe", {"train.epochs": 3, "model.name": "cnn", "none": None, "empty": ""})
        trial.set_user_attr("seed", number)
        if number == 2:
            trial.set_user_attr("reason", "ValueError: 'quoted'; DROP TABLE runs -- \N{SNOWMAN}")
            trial.set_user_attr("traceback", "x" * 9000)
        state = optuna.trial.TrialState.FAIL if number == 2 else optuna.trial.TrialState.COMPLETE
        if number == 1:
            trial.report(0.5, 1)
            state = optuna.trial.TrialState.PRUNED
        made.tell(trial, 0.5 if state == optuna.trial.TrialState.COMPLETE else None, state=state)
    return made


def rows(tracking: Tracking) -> dict[str, list[tuple[Any, ...]]]:
    """Every table, with the runs' names in place of their ids."""
    connection = sqlite3.connect(tracking.uri.removeprefix("sqlite:///"))
    names = dict(connection.execute("SELECT run_uuid, name FROM runs"))
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {}
    for table in tables:
        content = connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        found[table] = sorted([_named(row, names) for row in content], key=repr)
    connection.close()
    return found


def _named(row: tuple[Any, ...], names: dict[str, str]) -> tuple[Any, ...]:
    def said(value: Any) -> Any:
        for run_id, name in names.items():
            value = value.replace(run_id, name) if isinstance(value, str) else value
        return value

    return tuple(said(value) for value in row)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
def test_rows_are_those_that_the_client_writes(
    tracking: Tracking, study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    parent = tracking.client.create_run(tracking.experiment_id, 0, run_name="parent").info.run_id
    shutil.copy(tracking.uri.removeprefix("sqlite:///"), tmp_path / "copy.db")
    other = Tracking(type(tracking.client)(f"sqlite:///{tmp_path}/copy.db"), f"sqlite:///{tmp_path}/copy.db",
                     tracking.experiment_id)  # fmt: skip
    for trials in [study.trials] if together else [[trial] for trial in study.trials]:
        assert TrialLogger(tracking, parent).bring(study, trials) == {trial.number for trial in trials}
    monkeypatch.setattr(WholeRuns, "bring", lambda *arguments: [])
    for trial in study.trials:
        TrialLogger(other, parent)(study, trial)
    one, two = rows(tracking), rows(other)
    assert len(one["runs"]) == 7
    assert len(one["metrics"]) > 60
    assert one == two


def test_other_tables_than_those_known_get_the_clients_calls(
    tracking: Tracking, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(whole_run.COLUMNS, SqlRun, whole_run.COLUMNS[SqlRun] | {"new"})
    logger = TrialLogger(tracking)
    assert WholeRuns(tracking.client, tracking.experiment_id).bring([(record_of(study, study.trials[0]), {})]) == []
    for trial in study.trials:
        logger(study, trial)
    assert len(runs_of(tracking, "plain")) == 6


def test_run_that_can_not_be_written_is_not_there_at_all(
    tracking: Tracking, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(tracking)
    monkeypatch.setattr(whole_run, "_latest", lambda metrics: [metrics[0], metrics[0]])
    with pytest.raises((MlflowException, ValueError)):
        WholeRuns(tracking.client, tracking.experiment_id).bring(
            [(record_of(study, trial), {"a": "b"}) for trial in study.trials]
        )
    assert rows(tracking) == before


def test_runs_are_brought_together_of_trials_that_have_ended_and_have_none(
    tracking: Tracking, study: optuna.Study
) -> None:
    logger = TrialLogger(tracking)
    study.ask()
    logger(study, study.trials[1])
    assert logger.bring(study, study.trials) == {0, 2, 3, 4, 5}
    assert logger.bring(study, study.trials) == set()
    for trial in study.trials[:6]:
        logger(study, trial)
    assert len(runs_of(tracking, "plain")) == 6


@pytest.mark.parametrize(
    ("name", "value"), [("layer[0].units", "1"), ("x" * 300, "1"), ("long", "v" * 7000)], ids=["key", "length", "value"]
)
def test_names_and_values_are_taken_or_refused_as_by_the_client(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    study = optuna.create_study(study_name="odd")
    trial = study.ask()
    trial.set_user_attr("recipe", {name: value})
    study.tell(trial, 0.5)

    def outcome(label: str) -> Any:
        try:
            run_id = TrialLogger(tracking, label).log(study, study.trials[0])
        except MlflowException as error:
            return str(error)
        return tracking.client.get_run(run_id).data.params

    whole = outcome("0" * 32)
    monkeypatch.setattr(WholeRuns, "bring", lambda *arguments: [])
    for run in runs_of(tracking, "odd"):
        tracking.client.delete_run(run.info.run_id)
    assert whole == outcome("0" * 32)


def test_deleted_experiment_is_refused_as_by_the_client(tracking: Tracking, study: optuna.Study) -> None:
    logger = TrialLogger(tracking, "0" * 32)
    logger(study, study.trials[0])
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        logger(study, study.trials[1])
    tracking.client.restore_experiment(tracking.experiment_id)
    assert len(runs_of(tracking, "plain")) == 1
