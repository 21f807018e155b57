"""A trial that has ended, written in one transaction: MLflow's tables hold what its client would have put there."""

import math
import shutil
import sqlite3
import sys
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

import trials
from podium.config.params import TrackingParams
from podium.tracking import direct_sqlite, trial_runs
from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.histories import histories
from podium.tracking.record import Record, record_of, search_attributes, study_id
from podium.tracking.repair import repair
from podium.tracking.store import Tracking, connect
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import TrialRuns, runs_of


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


def _runs(tracking: Tracking, parent_run_id: str | None = None) -> TrialRuns:
    return TrialRuns(tracking, parent_run_id, search_attributes)


def _copy(tracking: Tracking, folder: Path) -> Tracking:
    shutil.copy(tracking.uri.removeprefix("sqlite:///"), folder / "copy.db")
    uri = f"sqlite:///{folder}/copy.db"
    return Tracking(type(tracking.client)(uri), uri, tracking.experiment_id)


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
    other = _copy(tracking, tmp_path)
    for some in [study.trials] if together else [[trial] for trial in study.trials]:
        assert _runs(tracking, parent).log_ended(study, some) == {trial.number for trial in some}
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    for trial in study.trials:
        _runs(other, parent).log(study, trial)
    one, two = rows(tracking), rows(other)
    assert len(one["runs"]) == 7
    assert len(one["metrics"]) > 60
    assert one == two


def _renamed(module: str, name: str) -> Callable[[pytest.MonkeyPatch, Tracking], None]:
    return lambda patch, tracking: patch.delattr(f"{module}.{name}")


def _gone(module: str) -> Callable[[pytest.MonkeyPatch, Tracking], None]:
    def change(patch: pytest.MonkeyPatch, tracking: Tracking) -> None:
        patch.delattr(module)
        patch.setitem(sys.modules, module, None)

    return change


def _other_column(patch: pytest.MonkeyPatch, tracking: Tracking) -> None:
    patch.setitem(direct_sqlite.COLUMNS, "SqlRun", direct_sqlite.COLUMNS["SqlRun"] | {"new"})


def _column_of_the_database(patch: pytest.MonkeyPatch, tracking: Tracking) -> None:
    """MLflow's class knows the column by the same name; the database does not have it."""
    patch.setattr(direct_sqlite, "_run", lambda *arguments: {"run_uuid": None})


def _other_signature(patch: pytest.MonkeyPatch, tracking: Tracking) -> None:
    patch.setattr("mlflow.utils.validation._validate_batch_log_data", lambda metrics: None)


def _fails_while_writing(patch: pytest.MonkeyPatch, tracking: Tracking) -> None:
    patch.setattr(direct_sqlite, "_latest", lambda metrics: [metrics[0], metrics[0]])


MODELS = "mlflow.store.tracking.dbmodels.models"
STORE = "mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore"
CHANGES: dict[str, Callable[[pytest.MonkeyPatch, Tracking], None]] = {
    **{name: _renamed(MODELS, name) for name in ("SqlRun", "SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric")},
    "SqlExperiment": _renamed(MODELS, "SqlExperiment"),
    "models": _gone(MODELS),
    "sqlalchemy_store": _gone("mlflow.store.tracking.sqlalchemy_store"),
    "uri": _gone("mlflow.utils.uri"),
    "append_to_uri_path": _renamed("mlflow.utils.uri", "append_to_uri_path"),
    "ARTIFACTS_FOLDER_NAME": lambda patch, tracking: patch.setattr(
        direct_sqlite, "_private", _without(direct_sqlite._private, "artifacts")
    ),
    "_validate_batch_log_data": _renamed("mlflow.utils.validation", "_validate_batch_log_data"),
    "sanitize_metric_value": lambda patch, tracking: patch.setattr(
        direct_sqlite, "_private", _without(direct_sqlite._private, "sanitize")
    ),
    "ManagedSessionMaker": lambda patch, tracking: patch.setattr(
        direct_sqlite, "_private", _without(direct_sqlite._private, "session")
    ),
    "_tracking_client": lambda patch, tracking: patch.setattr(
        direct_sqlite,
        "_private",
        lambda client: direct_sqlite._Private(client.no_such_client),  # type: ignore[call-arg]
    ),
    "other column": _other_column,
    "column of the database": _column_of_the_database,
    "other signature": _other_signature,
    "fails while writing": _fails_while_writing,
}


def _without(private: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """MLflow with a part that does not do what it is asked."""
    return lambda client: private(client)._replace(**{name: None})


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_of_mlflows_private_parts_costs_one_message_and_no_trial(
    tracking: Tracking,
    study: optuna.Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[pytest.MonkeyPatch, Tracking], None],
) -> None:
    parent = tracking.client.create_run(tracking.experiment_id, 0, run_name="parent").info.run_id
    other = _copy(tracking, tmp_path)
    study_id(study, make=True)
    assert len(_runs(other, parent).log_ended(study, study.trials)) == 6
    with monkeypatch.context() as patch:
        change(patch, tracking)
        runs = _runs(tracking, parent)
        for trial in study.trials:
            assert runs.log_ended(study, [trial]) == set()
            _as_if_unchanged(patch, runs, study, trial)
    (message,) = [record.getMessage() for record in caplog.records if record.name == direct_sqlite.__name__]
    assert "MLflow's client logs the trials" in message
    assert rows(tracking) == rows(other)


def _as_if_unchanged(patch: pytest.MonkeyPatch, runs: TrialRuns, study: optuna.Study, trial: FrozenTrial) -> None:
    """Log by the client, which uses those parts itself: a real change of MLflow's would have them elsewhere."""
    patch.undo()
    runs.log(study, trial)


def test_client_that_lost_its_private_store_still_logs(
    tracking: Tracking, study: optuna.Study, caplog: pytest.LogCaptureFixture
) -> None:
    class Client:
        """MLflow's client with its public methods only."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(tracking.client, name)

    runs = _runs(
        Tracking(Client(), tracking.uri, tracking.experiment_id)  # type: ignore[arg-type]
    )
    for trial in study.trials:
        runs.log(study, trial)
    assert len(runs_of(tracking, study)) == 6
    assert sum(record.name == direct_sqlite.__name__ for record in caplog.records) == 1


def test_runs_are_logged_together_of_trials_that_have_ended_and_have_none(
    tracking: Tracking, study: optuna.Study
) -> None:
    logger = _runs(tracking)
    study.ask()
    logger.log(study, study.trials[1])
    assert logger.log_ended(study, study.trials) == {0, 2, 3, 4, 5}
    assert logger.log_ended(study, study.trials) == set()
    for trial in study.trials[:6]:
        logger.log(study, trial)
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
            run_id = _runs(tracking, label).log(study, study.trials[0])
        except MlflowException as error:
            return str(error)
        return tracking.client.get_run(run_id).data.params

    whole = outcome("0" * 32)
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    for run in runs_of(tracking, "odd"):
        tracking.client.delete_run(run.info.run_id)
    assert whole == outcome("0" * 32)


def test_deleted_experiment_is_refused_as_by_the_client(tracking: Tracking, study: optuna.Study) -> None:
    logger = _runs(tracking, "0" * 32)
    logger.log(study, study.trials[0])
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        logger.log(study, study.trials[1])
    tracking.client.restore_experiment(tracking.experiment_id)
    assert len(runs_of(tracking, "plain")) == 1


def test_histories_are_those_that_the_client_reads(
    tracking: Tracking, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = _runs(tracking, "0" * 32)
    for trial in study.trials:
        if trial.state.is_finished():
            logger.log(study, trial)
    runs = runs_of(tracking, "plain")
    tracking.client.log_metric(runs[0].info.run_id, "odd", float("nan"), step=3)
    tracking.client.log_metric(runs[0].info.run_id, "odd", float("inf"), step=4)
    runs = runs_of(tracking, "plain")
    direct = [histories(tracking, run) for run in runs]
    monkeypatch.setattr("podium.tracking.histories.read_histories", lambda *arguments: None)
    assert repr([sorted(one.items()) for one in direct]) == repr(
        [sorted(histories(tracking, run).items()) for run in runs]
    )


def _shown(tracking: Tracking, study: optuna.Study, number: int) -> list[str]:
    """The metrics of a trial's run in the order in which MLflow's pages get them."""
    (run,) = [run for run in runs_of(tracking, study) if run.data.tags["podium.trial"] == str(number)]
    return list(tracking.client.get_run(run.info.run_id).data.metrics)


def _running(trial: FrozenTrial) -> FrozenTrial:
    """The trial as it was before its end."""
    shown = copy(trial)
    shown.state, shown.values, shown.datetime_complete = optuna.trial.TrialState.RUNNING, None, None
    return shown


def _last(*arguments: Any) -> Record:
    """The record of a trial with its result last, as Podium had it until 2026-11-30."""
    record = record_of(*arguments)
    return replace(record, metrics=record.metrics[1:] + record.metrics[:1])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("way", ["at its end", "while it runs", "an older Podium"])
def test_objective_is_the_metric_that_mlflows_page_of_compared_runs_begins_with(
    tracking: Tracking, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = trials.study_of_each_kind()
    study.set_metric_names(["accuracy"])
    ended, logger = study.trials[:4], _runs(tracking)
    if way == "while it runs":
        for trial in (ended[0], ended[3]):
            logger.log(study, _running(trial), trials.history(trial.number, 2))
        assert _shown(tracking, study, 0)[0] == "val_accuracy"  # the metric that is searched for
    if way == "an older Podium":
        monkeypatch.setattr(trial_runs, "record_of", _last)
    for trial in ended:
        logger.log(study, trial)
    assert (_shown(tracking, study, 0)[0] == "objective") is (way != "an older Podium")
    before = rows(tracking)
    assert repair(tracking, study, logger, thorough=True) == []
    assert rows(tracking) == before
    assert [_shown(tracking, study, number)[0] for number in (0, 3)] == ["objective"] * 2
    assert differences(tracking, study) == []


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_objective_comes_first_also_in_a_run_whose_row_got_a_number_that_became_free(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    study = trials.study_of_each_kind()
    older, later = study.trials[0], study.trials[3]
    logger = _runs(tracking)
    logger.log(study, _running(later), trials.history(later.number, 2))
    with monkeypatch.context() as patch:
        patch.setattr(trial_runs, "record_of", _last)
        logger.log(study, older)  # its objective has the largest number there is
    logger.show_objective_first(study)
    logger.log(study, later)
    logger.show_objective_first(study)
    assert [_shown(tracking, study, trial.number)[0] for trial in (older, later)] == ["objective"] * 2
    assert caplog.text == ""


def test_order_of_metrics_that_cannot_be_changed_is_said_once(
    tracking: Tracking, study: optuna.Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(direct_sqlite, "FIRST", "UPDATE no_such_table SET x = 1")
    logger = _runs(tracking)
    logger.log_ended(study, study.trials)
    for _ in range(3):
        logger.show_objective_first(study)
    assert caplog.text.count("does not begin with objective") == 1
