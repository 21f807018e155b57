"""`from podium import TrialLogger, connect` in anybody's study: whatever Optuna allows, and whatever happens to it."""

import datetime
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from podium import TrialLogger
from podium.locks import locked, unless_held
from podium.tracking import trial_runs
from podium.tracking.direct_sqlite import DirectSqlite
from podium.tracking.histories import histories
from podium.tracking.record import record_of, user_attributes
from podium.tracking.run_names import key_of
from podium.tracking.store import Tracking
from podium.tracking.trial_check import differences
from podium.tracking.trial_runs import runs_of
from waiting import PATIENCE


@pytest.fixture(params=["direct", "client"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which trials get into MLflow."""
    if request.param == "client":
        monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    return str(request.param)


def _study(**options: Any) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), **options)


def _objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0.0, 1.0)


def _parents(tracking: Tracking) -> list[Run]:
    runs = tracking.client.search_runs([tracking.experiment_id], "tags.`podium.kind` = 'search'")
    return list(runs)


def _runs(tracking: Tracking, study: optuna.Study) -> dict[int, Run]:
    return {int(run.data.tags["podium.trial"]): run for run in runs_of(tracking, study)}


def test_importing_podium_loads_neither_mlflow_nor_optuna() -> None:
    code = "import podium, sys; print([m for m in ('mlflow', 'optuna', 'torch') if m in sys.modules], dir(podium))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] [")
    assert "'TrialLogger'" in done.stdout
    assert "'connect'" in done.stdout


def test_name_that_podium_does_not_have_is_an_attribute_error() -> None:
    import podium

    with pytest.raises(AttributeError, match="module 'podium' has no attribute 'nothing'"):
        _ = podium.nothing


@pytest.mark.parametrize(
    ("names", "logged"),
    [
        (None, ["objective_0", "objective_1"]),
        (["accuracy", "ms per image"], ["accuracy", "ms per image"]),
        (["100 %", "objective"], [key_of("100 %"), "objective_1"]),
        (["epochs", "reported"], ["objective_0", "objective_1"]),
    ],
)
def test_several_objectives_are_logged_by_number_or_name(
    tracking: Tracking, names: list[str] | None, logged: list[str], way: str
) -> None:
    study = _study(directions=["maximize", "minimize"])
    if names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is experimental
            study.set_metric_names(names)
    with TrialLogger(tracking) as logger:
        study.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_int("n", 1, 9)), 5, callbacks=[logger])
    for trial in study.trials:
        run = _runs(tracking, study)[trial.number]
        values = dict(zip(logged, trial.values, strict=True))
        assert {key: run.data.metrics[key] for key in values} == values
    (parent,) = _parents(tracking)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_on_front"] == len(study.best_trials)
    assert parent.data.metrics["trials_complete"] == 5
    assert parent.data.tags["podium.directions"] == "maximize minimize"
    assert "| trial |" in parent.data.tags["mlflow.note.content"]


def test_constraints_are_metrics_and_the_best_is_a_feasible_one(tracking: Tracking, way: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("size", x - 0.5)
        return x

    study = _study(direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is experimental
        with TrialLogger(tracking) as logger:
            study.optimize(objective, 8, callbacks=[logger])
    runs = _runs(tracking, study)
    for trial in study.trials:
        metrics = runs[trial.number].data.metrics
        assert metrics["constraint_size"] == trial.params["x"] - 0.5
        assert metrics["feasible"] == float(trial.params["x"] <= 0.5)
    (parent,) = _parents(tracking)
    assert parent.data.metrics["best_trial"] == study.best_trial.number
    assert parent.data.metrics["best_objective"] <= 0.5


def test_study_without_a_feasible_trial_ends_too(tracking: Tracking) -> None:
    study = _study()
    study.add_trial(create_trial(value=1.0, system_attrs={"constraints": [1.0, -1.0]}))
    with TrialLogger(tracking) as logger:
        logger.log_all(study)
    (parent,) = _parents(tracking)
    assert "best_objective" not in parent.data.metrics
    assert _runs(tracking, study)[0].data.metrics["constraint_0"] == 1.0


def test_every_distribution_fixed_and_enqueued_trials(tracking: Tracking, way: str) -> None:
    space = {
        "uniform": FloatDistribution(0.0, 1.0),
        "log": FloatDistribution(1e-5, 1.0, log=True),
        "stepped": FloatDistribution(0.0, 1.0, step=0.25),
        "int": IntDistribution(0, 9),
        "int log": IntDistribution(1, 99, log=True),
        "int stepped": IntDistribution(0, 10, step=5),
        "kind": CategoricalDistribution([None, True, 3, 0.5, "a b", ""]),
    }
    study = _study()
    study.enqueue_trial({"uniform": 0.125, "kind": None}, user_attrs={"why": "first"})

    def objective(trial: optuna.Trial) -> float:
        for name, distribution in space.items():
            trial._suggest(name, distribution)
        return 0.0

    logger = TrialLogger(tracking)
    study.optimize(objective, 4, callbacks=[logger])
    runs = _runs(tracking, study)
    for trial in study.trials:
        assert runs[trial.number].data.params == {name: str(value) for name, value in trial.params.items()}
        tags = runs[trial.number].data.tags
        assert {n: tags[f"distribution.{n}"] for n in space} == {n: str(d) for n, d in space.items()}
    assert runs[0].data.params["uniform"] == "0.125"
    assert runs[0].data.tags["system.fixed_params"] == '{"uniform": 0.125, "kind": null}'
    assert runs[0].data.tags["user.why"] == "first"


def test_attributes_of_any_name_are_the_users_and_not_taken_for_podiums(tracking: Tracking, way: str) -> None:
    mine = {
        "history": [{"epoch": "x"}],
        "recipe": {"a": 1},
        "name": "mine",
        "seed": "no number",
        "reason": None,
        "traceback": 3,
        "inherited_from": {},
        "podium.study": "other",
        "mlflow.parentRunId": "other",
        "50 % 'quoted' \"twice\"": "yes",
        "": 1,
        "../up//and": 2,
        "long" * 100: "v" * 9000,
    }
    study = _study(study_name="mine")
    for name, value in mine.items():
        study.set_user_attr(name, value)

    def objective(trial: optuna.Trial) -> float:
        for name, value in mine.items():
            trial.set_user_attr(name, value)
        return trial.suggest_float("x", 0, 1)

    with TrialLogger(tracking) as logger:
        study.optimize(objective, 2, callbacks=[logger])
    run = _runs(tracking, study)[1]
    (parent,) = _parents(tracking)
    assert run.info.run_name == f"trial-001 · {study.trials[1].value:.4f}"
    assert run.data.params == {"x": str(study.trials[1].params["x"])}
    for tags in (run.data.tags, parent.data.tags):
        assert tags["user.history"] == '[{"epoch": "x"}]'
        assert tags["user.name"] == "mine"
        assert tags["user.reason"] == "null"
        assert tags["podium.study"] == "mine"
        assert tags["user.podium.study"] == tags["user.mlflow.parentRunId"] == "other"
        assert sum(key.startswith("user.") for key in tags) == len(mine)
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id


ODD = ["it's", 'the "best"', "100 %", "a b  c", "back\\slash", "ümlaut ☃", "`tick`", "x" * 400, "'; DROP TABLE runs --"]
ODD += ["%s", "..", "/a//b/", "a/b"]


def _suggest(name: str, trial: optuna.Trial) -> float:
    return trial.suggest_float(name, 0.0, 1.0)


def test_any_name_of_a_study_or_parameter(tracking: Tracking, way: str) -> None:
    for name in ODD:
        study = _study(study_name=name)
        for _ in range(2):
            with TrialLogger(tracking) as logger:
                study.optimize(partial(_suggest, name), 1, callbacks=[logger])
        runs = _runs(tracking, study)
        assert sorted(runs) == [0, 1]
        parent = tracking.client.get_run(runs[0].data.tags["mlflow.parentRunId"])
        assert parent.data.tags["podium.study"] == name
        assert parent.info.run_name == name[:250]
        assert {run.info.run_id for run in runs_of(tracking, name)} == {run.info.run_id for run in runs.values()}
        for trial in study.trials:
            assert list(runs[trial.number].data.params.values()) == [str(trial.params[name])]
    assert len(_parents(tracking)) == len(ODD)


def test_parameters_whose_names_mlflow_would_make_one_stay_two(tracking: Tracking) -> None:
    study = _study()
    study.optimize(
        lambda t: t.suggest_float("a%", 0, 1) + t.suggest_float("a'", 0, 1), 1, callbacks=[TrialLogger(tracking)]
    )
    (run,) = runs_of(tracking, study)
    assert sorted(run.data.params.values()) == sorted(str(value) for value in study.trials[0].params.values())
    assert '"a%"' in run.data.tags["podium.renamed"]


def test_hundreds_of_parameters_attributes_and_steps(tracking: Tracking, way: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        for number in range(250):
            trial.suggest_float(f"x{number}", 0, 1)
            trial.set_user_attr(f"a{number}", number)
        for step in range(2500):
            trial.report(step, step)
        return 0.0

    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(objective, 1, callbacks=[logger])
    (run,) = runs_of(tracking, study)
    assert len(run.data.params) == 250
    assert sum(key.startswith("user.") for key in run.data.tags) == 250
    assert len(tracking.client.get_metric_history(run.info.run_id, "reported")) == 2500


def test_trial_of_a_machine_whose_clock_was_before_1970_is_logged(tracking: Tracking, way: str) -> None:
    study = _study()
    for year in (1900, 1969, 1970, 2500):
        trial = create_trial(value=1.0)
        trial.datetime_start = datetime.datetime(year, 1, 1)
        trial.datetime_complete = datetime.datetime(year, 1, 2)
        study.add_trial(trial)
    with TrialLogger(tracking) as logger:
        logger.log_all(study)
    assert {run.info.status for run in _runs(tracking, study).values()} == {"FINISHED"}
    assert [run.data.metrics["duration_seconds"] for run in _runs(tracking, study).values()] == [86400.0] * 4
    assert differences(tracking, study, read=user_attributes) == []


def test_states_and_intermediate_values_are_true(tracking: Tracking, way: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        for step in range(3):
            trial.report(trial.number + step / 10, step)
        if trial.number == 1:
            raise optuna.TrialPruned
        return float("nan") if trial.number == 2 else 1.0

    study = _study()
    study.optimize(objective, 3, callbacks=[TrialLogger(tracking)])
    runs = _runs(tracking, study)
    assert {number: run.info.status for number, run in runs.items()} == {0: "FINISHED", 1: "KILLED", 2: "FAILED"}
    for number, run in runs.items():
        reported = {step: value for (key, step), value in histories(tracking, run).items() if key == "reported"}
        assert reported == {step: {number + step / 10} for step in range(3)}


def test_eight_threads_have_one_parent(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    search_runs = MlflowClient.search_runs

    def counted(*arguments: Any, **options: Any) -> Any:
        looked.append(arguments)
        return search_runs(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 24, n_jobs=8, callbacks=[logger])
    assert len(looked) <= 3  # the parent, before and after it is made, and the trials
    assert sorted(_runs(tracking, study)) == list(range(24))
    assert len(_parents(tracking)) == 1


def test_resumed_studys_parent_is_opened_again_and_ends_again(tracking: Tracking) -> None:
    seen = []
    study = _study(direction="minimize")
    for value in (0.5, 0.25, 0.75):

        def objective(trial: optuna.Trial, value: float = value) -> float:
            trial.suggest_float("x", 0, 1)
            seen.append([run.info.status for run in _parents(tracking)])
            return value

        with TrialLogger(tracking) as logger:
            study.optimize(objective, 2, callbacks=[logger])
    (parent,) = _parents(tracking)
    assert seen == [[], ["RUNNING"], *[["FINISHED"], ["RUNNING"]] * 2]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_complete"] == 6
    assert parent.data.metrics["best_objective"] == 0.25  # lower than before: the last one counts, not the largest
    assert "6 trials" in parent.data.tags["mlflow.note.content"]


def test_study_of_a_storage_is_the_same_study_in_another_process(tracking: Tracking, tmp_path: Path) -> None:
    def session() -> optuna.Study:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
        study = optuna.create_study(study_name="kept", storage=storage, load_if_exists=True)
        study.optimize(_objective, 2, callbacks=[TrialLogger(tracking)])
        return study

    session()
    assert sorted(_runs(tracking, session())) == [0, 1, 2, 3]
    assert len(_parents(tracking)) == 1


def test_two_studies_of_one_name_have_runs_of_their_own(tracking: Tracking) -> None:
    studies = [_study(study_name="same") for _ in range(2)]
    logger = TrialLogger(tracking)
    for study in studies:
        study.optimize(_objective, 3, callbacks=[logger])
    logger.close()
    one, two = (_runs(tracking, study) for study in studies)
    assert sorted(one) == sorted(two) == [0, 1, 2]
    assert not {run.info.run_id for run in one.values()} & {run.info.run_id for run in two.values()}
    parents = _parents(tracking)
    assert [run.info.status for run in parents] == ["FINISHED"] * 2
    assert len({run.data.tags["podium.id"] for run in parents}) == 2


def test_persons_note_on_the_parent_stays(tracking: Tracking) -> None:
    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 1, callbacks=[logger])
    (parent,) = _parents(tracking)
    tracking.client.set_tag(parent.info.run_id, "mlflow.note.content", "mine")
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 1, callbacks=[logger])
    (parent,) = _parents(tracking)
    assert parent.data.tags["mlflow.note.content"] == "mine"
    assert parent.data.metrics["trials_complete"] == 2


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (ValueError, "FAILED")]
)
def test_parent_says_how_the_block_ended(tracking: Tracking, error: type[BaseException], status: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise error
        return 0.0

    study = _study()
    with pytest.raises(error), TrialLogger(tracking) as logger:
        study.optimize(objective, 5, callbacks=[logger])
    (parent,) = _parents(tracking)
    assert parent.info.status == status
    assert parent.data.metrics["trials_complete"] == 2


def test_parent_ends_when_the_logger_is_no_longer_used(tracking: Tracking) -> None:
    study = _study()
    logger = TrialLogger(tracking)
    study.optimize(_objective, 2, callbacks=[logger])
    assert [run.info.status for run in _parents(tracking)] == ["RUNNING"]
    del logger
    assert [run.info.status for run in _parents(tracking)] == ["FINISHED"]


def test_active_run_of_the_user_is_the_parent_and_stays_the_users(tracking: Tracking) -> None:
    mlflow.set_tracking_uri(tracking.uri)
    other = tracking.client.create_experiment("mine")
    study = _study()
    try:
        with mlflow.start_run(experiment_id=other) as active:
            with TrialLogger(tracking) as logger:
                study.optimize(_objective, 8, n_jobs=4, callbacks=[logger])
            assert mlflow.active_run() is not None
            assert tracking.client.get_run(active.info.run_id).info.status == "RUNNING"
        runs = tracking.client.search_runs([other], "tags.`podium.kind` = 'trial'")
        assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {active.info.run_id}
        assert len(runs) == 8
        mine = tracking.client.get_run(active.info.run_id)
        assert mine.data.metrics == {}
        assert not [key for key in mine.data.tags if key.startswith("podium")]
        assert _parents(tracking) == []
    finally:
        mlflow.set_tracking_uri("")


def test_active_run_of_another_store_is_none_of_ours(tracking: Tracking, mlflow_template: Path, tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(mlflow_template.read_bytes())
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    mlflow.set_experiment("Default")  # another test may have left one of its own store
    study = _study()
    try:
        with mlflow.start_run(), TrialLogger(tracking) as logger:
            study.optimize(_objective, 1, callbacks=[logger])
    finally:
        mlflow.set_tracking_uri("")
    assert len(_parents(tracking)) == 1


def test_error_of_mlflow_ends_no_study_warns_once_and_nothing_is_lost(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*arguments: Any, **options: Any) -> Any:
        raise MlflowException("the server is away")

    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 2, callbacks=[logger])
        with monkeypatch.context() as patch:
            for name in ("create_run", "log_batch", "search_runs", "get_run"):
                patch.setattr(MlflowClient, name, away)
            patch.setattr(DirectSqlite, "write", lambda *arguments: [])
            study.optimize(_objective, 5, callbacks=[logger])
        assert len(study.trials) == 7
    (record,) = [record for record in caplog.records if record.name == "podium.tracking.trial_logger"]
    assert record.levelno == logging.WARNING
    assert "the server is away" in record.getMessage()
    assert sorted(_runs(tracking, study)) == list(range(7))
    assert [run.info.status for run in _parents(tracking)] == ["FINISHED"]


def test_trial_that_mlflow_refuses_keeps_no_other_out(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    create_run = MlflowClient.create_run

    def refuse(self: MlflowClient, experiment_id: str, *arguments: Any, **options: Any) -> Run:
        if any(str(one).startswith("trial-001") for one in arguments):
            raise MlflowException.invalid_parameter_value("not this one")
        return create_run(self, experiment_id, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", refuse)
    monkeypatch.setattr(DirectSqlite, "write", lambda *arguments: [])
    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 4, callbacks=[logger])
    assert sorted(_runs(tracking, study)) == [0, 2, 3]
    (message,) = [r.getMessage() for r in caplog.records if r.name == "podium.tracking.trial_logger"]
    assert "refuses trial 1" in message


def test_trials_of_a_time_without_a_logger_can_be_logged(tracking: Tracking) -> None:
    study = _study()
    study.optimize(_objective, 3)
    study.ask()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 1, callbacks=[logger])
        logger.log_all(study)
        logger.log_all(study)
    assert sorted(_runs(tracking, study)) == [0, 1, 2, 4]
    assert len(runs_of(tracking, study)) == 4


@pytest.mark.slow
def test_four_processes_on_one_storage_have_one_parent(tracking: Tracking, tmp_path: Path) -> None:
    code = (
        "import optuna; from podium import TrialLogger, connect\n"
        "from optuna.storages import JournalStorage; from optuna.storages.journal import JournalFileBackend\n"
        f"storage = JournalStorage(JournalFileBackend({str(tmp_path / 'journal')!r}))\n"
        "study = optuna.create_study(study_name='shared', storage=storage, load_if_exists=True)\n"
        "with TrialLogger(connect()) as logger:\n"
        "    study.optimize(lambda t: t.suggest_float('x', 0, 1), 5, callbacks=[logger])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(PATIENCE) for process in processes] == [0] * 4
    runs = runs_of(tracking, "shared")
    assert sorted(int(run.data.tags["podium.trial"]) for run in runs) == list(range(20))
    (parent,) = _parents(tracking)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_complete"] == 20
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {run.data.tags["podium.id"] for run in runs} == {parent.data.tags["podium.id"]}


class Unshown:
    """What raises as soon as it is shown."""

    def __str__(self) -> str:
        raise ValueError("no")


def _circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


NO_JSON = {
    "keys that are no text": lambda: {(0, 1): 2},
    "keys of numpy": lambda: {np.int64(3): 1},
    "circle": _circle,
    "unshown": Unshown,
    "unshown within": lambda: [Unshown()],
    "set": lambda: {1, 2},
    "bytes": lambda: b"\xff",
}


@pytest.mark.parametrize("make", NO_JSON.values(), ids=NO_JSON)
def test_attribute_that_is_no_json_keeps_nothing_out(tracking: Tracking, make: Callable[[], Any], way: str) -> None:
    study = _study()
    study.set_user_attr("mine", make())

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            trial.set_user_attr("mine", make())
            trial.suggest_categorical("kind", [3])
        return 1.0

    with TrialLogger(tracking) as logger:
        study.optimize(objective, 3, callbacks=[logger])
    runs = _runs(tracking, study)
    assert sorted(runs) == [0, 1, 2]
    (parent,) = _parents(tracking)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["user.mine"]
    assert runs[1].data.tags["user.mine"]


def test_step_that_no_database_holds_is_left_out_and_named(tracking: Tracking, way: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        trial.report(1.0, 10**20 if trial.number else 3)
        return 1.0

    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(objective, 3, callbacks=[logger])
    runs = _runs(tracking, study)
    assert sorted(runs) == [0, 1, 2]
    assert "100000000000000000000" in runs[1].data.tags["podium.left_out"]
    assert "podium.left_out" not in runs[0].data.tags
    assert [run.info.status for run in _parents(tracking)] == ["FINISHED"]


def test_trial_that_breaks_its_record_keeps_no_other_out(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(study: optuna.Study, trial: FrozenTrial, *arguments: Any) -> Any:
        if trial.number == 1:
            raise KeyError("odd")
        return record_of(study, trial, *arguments)

    monkeypatch.setattr(trial_runs, "record_of", broken)
    study = _study()
    study.optimize(_objective, 4)
    with TrialLogger(tracking) as logger:
        logger.log_all(study)
    assert sorted(_runs(tracking, study)) == [0, 2, 3]
    assert [run.info.status for run in _parents(tracking)] == ["FINISHED"]
    assert "Trial 1 can't be logged. KeyError" in caplog.text


class Unrepresented:
    """A choice that a parameter can have, whose class has its own mind about being shown."""

    def __repr__(self) -> str:
        raise ValueError("no")

    def __str__(self) -> str:
        return "mine"


def test_parameter_whose_name_or_choice_is_no_text_is_logged(
    tracking: Tracking, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Optuna in memory takes both."""

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("choice", [choice])  # type: ignore[list-item]
        return trial.suggest_float(3, 0.0, 1.0)  # type: ignore[arg-type]

    choice, study = Unrepresented(), _study()
    with warnings.catch_warnings(), TrialLogger(tracking) as logger:
        warnings.simplefilter("ignore")  # Optuna's, that no file holds such a choice
        study.optimize(objective, 1, callbacks=[logger])
    assert _runs(tracking, study)[0].data.params == {"choice": "mine", "3": str(study.trials[0].value)}
    assert caplog.text == ""


def test_failed_trial_with_a_time_zone_is_no_news_of_a_study_that_goes_on(
    tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    study, failed = _study(), create_trial(state=TrialState.FAIL)
    failed.datetime_start = failed.datetime_complete = datetime.datetime.now(datetime.UTC)
    study.add_trial(failed)
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 1, callbacks=[logger])
    assert sorted(_runs(tracking, study)) == [1]
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["search-x", "confirm-x", "x"])
def test_own_study_has_no_tag_of_a_front_that_nobody_corrects(tracking: Tracking, name: str) -> None:
    study = _study(study_name=name, directions=["minimize", "minimize"])
    with TrialLogger(tracking) as logger:
        study.optimize(lambda t: (-float(t.number), -float(t.number)), 3, callbacks=[logger])
    assert [run.data.tags.get("podium.front") for run in _runs(tracking, study).values()] == [None] * 3
    assert "front.png" not in _parents(tracking)[0].data.tags["mlflow.note.content"]


@pytest.mark.parametrize("where", ["same storage", "another storage", "same storage, the id of an older Podium"])
def test_copied_study_has_runs_of_its_own(tracking: Tracking, tmp_path: Path, where: str) -> None:
    first = f"sqlite:///{tmp_path}/one.db"
    second = first if where.startswith("same") else f"sqlite:///{tmp_path}/two.db"
    one = optuna.create_study(study_name="a", storage=first)
    with TrialLogger(tracking) as logger:
        one.optimize(lambda t: 1.0, 2, callbacks=[logger])
    if "older" in where:
        one.set_user_attr("podium:id", one.user_attrs["podium:id"].partition(" ")[0])
    optuna.copy_study(from_study_name="a", from_storage=first, to_storage=second, to_study_name="b")
    for name, storage, value in (("b", second, 22.0), ("a", first, 11.0)):
        study = optuna.load_study(study_name=name, storage=storage)
        with TrialLogger(tracking) as logger:
            study.optimize(partial(_constant, value), 2, callbacks=[logger])
    for name, storage, value in (("a", first, 11.0), ("b", second, 22.0)):
        study = optuna.load_study(study_name=name, storage=storage)
        runs = _runs(tracking, study)
        assert [runs[n].data.metrics["objective"] for n in range(4)] == [1.0, 1.0, value, value]
        assert {run.data.tags["podium.study"] for run in runs.values()} == {name}
    assert len({run.data.tags["podium.id"] for run in _parents(tracking)}) == 2


def _constant(value: float, trial: optuna.Trial) -> float:
    return value


def test_study_of_a_moved_storage_keeps_its_runs(tracking: Tracking, tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        study = optuna.create_study(study_name="a", storage=f"sqlite:///{tmp_path}/{name}", load_if_exists=True)
        with TrialLogger(tracking) as logger:
            study.optimize(_objective, 1, callbacks=[logger])
        if name == "one.db":
            (tmp_path / "one.db").rename(tmp_path / "two.db")
    assert len(_parents(tracking)) == 1
    assert sorted(_runs(tracking, study)) == [0, 1]


def test_study_moved_to_another_storage_under_its_name_keeps_its_runs(tracking: Tracking, tmp_path: Path) -> None:
    first = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "optuna.journal")))
    second = f"sqlite:///{tmp_path}/two.db"
    one = optuna.create_study(study_name="a", storage=first)
    with TrialLogger(tracking) as logger:
        one.optimize(_objective, 2, callbacks=[logger])
    optuna.create_study(study_name="another", storage=second)  # so that it has another number there
    optuna.copy_study(from_study_name="a", from_storage=first, to_storage=second)
    moved = optuna.load_study(study_name="a", storage=second)
    assert moved._study_id != one._study_id
    with TrialLogger(tracking) as logger:
        moved.optimize(_objective, 2, callbacks=[logger])
        logger.log_all(moved)
    assert len(_parents(tracking)) == 1
    assert sorted(_runs(tracking, moved)) == [0, 1, 2, 3]
    assert len(runs_of(tracking, "a")) == 4


def test_trial_whose_error_ends_the_study_is_logged_at_the_end(tracking: Tracking) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise ValueError("no")
        return 0.0

    study = _study()
    study.add_trial(create_trial(state=TrialState.FAIL))
    with pytest.raises(ValueError, match="no"), TrialLogger(tracking) as logger:
        study.optimize(objective, 5, callbacks=[logger])
    assert {n: run.info.status for n, run in _runs(tracking, study).items()} == {1: "FINISHED", 2: "FAILED"}


PROGRAMS = """
import os
import runpy
import sys

import mlflow.store.tracking.sqlalchemy_store
import optuna
import podium.tracking.trial_logger

for path in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        runpy.run_path(path)
        break
    os.wait()
"""
"""Runs each of its arguments as a program of its own, to its own end; what takes seconds to import is there already."""
SECOND_TRIALS = {
    "end": "",
    "error": "raise ValueError('no')",
    "interrupt": "raise KeyboardInterrupt",
    "fork": "if os.fork() == 0: sys.exit(0)\n        print(os.waitstatus_to_exitcode(os.wait()[1]), *states())",
}


def test_parent_ends_with_the_program_as_that_ends(tracking: Tracking, tmp_path: Path) -> None:
    for name, second in SECOND_TRIALS.items():
        code = f"""
import os, sys, optuna
from podium import TrialLogger, connect
tracking = connect()
def states():
    return [run.info.status for run in tracking.client.search_runs([tracking.experiment_id], "run_name = 'fork'")]
def objective(trial):
    if trial.number == 1:
        {second or "pass"}
    return 1.0
optuna.create_study(study_name="{name}").optimize(objective, 2, callbacks=[TrialLogger(tracking)])
print("torch" in sys.modules)
"""
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAMS, *(f"{name}.py" for name in SECOND_TRIALS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.split() == ["False", "0", "RUNNING", "False"], done.stderr
    ended = {
        str(run.info.run_name): (run.info.status, run.data.metrics["trials_complete"]) for run in _parents(tracking)
    }
    assert ended == {
        "end": ("FINISHED", 2),
        "error": ("FAILED", 1),
        "interrupt": ("KILLED", 1),
        "fork": ("FINISHED", 2),
    }


def test_terminated_block_leaves_a_parent_that_is_killed(tracking: Tracking) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0

    study = _study()
    with pytest.raises(SystemExit) as end, TrialLogger(tracking) as logger:
        study.optimize(objective, 3, callbacks=[logger])
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert [run.info.status for run in _parents(tracking)] == ["KILLED"]


def test_handler_of_the_program_stays(tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with TrialLogger(tracking):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_deleted_run_is_restored_by_logging_all(tracking: Tracking, way: str) -> None:
    study = _study()
    with TrialLogger(tracking) as logger:
        study.optimize(_objective, 3, callbacks=[logger])
        gone = _runs(tracking, study)[1].info.run_id
        tracking.client.set_tag(gone, "mine", "yes")
        tracking.client.delete_run(gone)
        logger.log_all(study)
    runs = _runs(tracking, study)
    assert sorted(runs) == [0, 1, 2]
    assert runs[1].data.tags["mine"] == "yes"
    assert runs[1].info.run_id == gone


def test_deleted_parent_is_restored_at_the_next_trial(tracking: Tracking, way: str) -> None:
    study, logger = _study(), TrialLogger(tracking)
    study.optimize(_objective, 1, callbacks=[logger])
    (parent,) = _parents(tracking)
    tracking.client.delete_run(parent.info.run_id)
    study.optimize(_objective, 1, callbacks=[logger])
    assert [(run.info.run_id, run.info.status) for run in _parents(tracking)] == [(parent.info.run_id, "RUNNING")]
    logger.close()


def test_failed_trial_that_two_loggers_find_is_logged_once(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    optuna.create_study(study_name="shared", storage=storage)
    studies = [optuna.load_study(study_name="shared", storage=storage) for _ in range(2)]
    loggers = [TrialLogger(tracking) for _ in studies]
    for study, logger in zip(studies, loggers, strict=True):
        study.optimize(_objective, 1, callbacks=[logger])
    for _ in range(3):
        studies[0].tell(studies[0].ask(), state=TrialState.FAIL)
    held = []
    look, write = trial_runs.TrialRuns.look_again, trial_runs.TrialRuns.log_ended
    lock = Path(tracking.uri.removeprefix("sqlite:///")).parent / "mlflow.lock"

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with unless_held(locked(lock)) as free:
                held.append(not free)
            return real(*arguments)

        return call

    monkeypatch.setattr(trial_runs.TrialRuns, "look_again", noted(look))
    monkeypatch.setattr(trial_runs.TrialRuns, "log_ended", noted(write))
    for logger in loggers:
        logger.close()
    assert len(held) >= 4
    assert all(held)  # nobody logs one between look and write
    assert sorted(run.data.tags["podium.trial"] for run in runs_of(tracking, studies[0])) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("step", [10**400, 2**63], ids=["10**400", "2**63"])
def test_failed_first_trial_below_the_users_own_run_is_logged(tracking: Tracking, step: int) -> None:
    mlflow.set_tracking_uri(tracking.uri)

    def objective(trial: optuna.Trial) -> float:
        trial.report(0.5, step)
        raise ValueError

    with mlflow.start_run(experiment_id=tracking.experiment_id) as own, TrialLogger(tracking) as logger:
        study = _study()
        study.optimize(objective, 1, callbacks=[logger], catch=ValueError)
        assert study.user_attrs["podium:id"]
    (run,) = runs_of(tracking, study)
    assert run.data.tags["mlflow.parentRunId"] == own.info.run_id
    assert str(step)[:10] in run.data.tags["podium.left_out"]
