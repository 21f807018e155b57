import shutil
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from mlflow.entities import Run

import trials
from podium.config.params import TrackingParams
from podium.tracking.histories import histories
from podium.tracking.record import search_attributes, study_id
from podium.tracking.store import Tracking, connect, find_or_create
from podium.tracking.trial_logger import TrialLogger
from podium.tracking.trial_runs import TrialRuns, runs_of


@pytest.fixture
def tracking(store: TrackingParams) -> Tracking:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return connect(store)


def _objective(trial: optuna.Trial) -> float:
    """Trials 0 and 3 complete, 1 is pruned, 2 fails."""
    x = trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_categorical("kind", ["a", "b"])
    for step in range(1, 4):
        trial.report(x + step, step)
    if trial.number == 1:
        raise optuna.TrialPruned
    if trial.number == 2:
        raise ValueError("no")
    return x + 10


class Plain(NamedTuple):
    """A study that Optuna's own loop ran with the callback, and the store that the callback filled."""

    study: optuna.Study
    tracking: Tracking

    def runs(self) -> dict[str, Run]:
        """The trials' runs by name."""
        return {str(run.info.run_name).partition(" ")[0]: run for run in runs_of(self.tracking, "plain")}


@pytest.fixture(scope="module")
def plain(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = tmp_path_factory.mktemp("plain")
    shutil.copy(mlflow_template, folder / "mlflow.db")
    tracking = connect(TrackingParams(uri=f"sqlite:///{folder}/mlflow.db"))
    study = optuna.create_study(study_name="plain", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(_objective, n_trials=4, catch=(ValueError,), callbacks=[TrialLogger(tracking)])
    return Plain(study, tracking)


def test_plain_study_has_a_run_a_trial_with_its_status(plain: Plain) -> None:
    statuses = {name: run.info.status for name, run in plain.runs().items()}
    assert statuses == {
        "trial-000": "FINISHED",
        "trial-001": "KILLED",
        "trial-002": "FAILED",
        "trial-003": "FINISHED",
    }


def test_plain_studys_runs_lie_below_one_parent(plain: Plain) -> None:
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs_of(plain.tracking, "plain")}
    assert len(parents) == 1
    assert plain.tracking.client.get_run(parents.pop()).info.run_name == "plain"


def test_runs_have_the_trials_parameters(plain: Plain) -> None:
    runs = plain.runs()
    for trial in plain.study.trials:
        run = runs[f"trial-{trial.number:03d}"]
        assert run.data.params == {name: str(value) for name, value in trial.params.items()}


def test_runs_have_the_whole_history_with_steps(plain: Plain) -> None:
    runs = plain.runs()
    for trial in plain.study.trials:
        reported = {
            step: next(iter(values))
            for (key, step), values in histories(plain.tracking, runs[f"trial-{trial.number:03d}"]).items()
            if key == "reported"
        }
        assert reported == trial.intermediate_values


def test_only_completed_trials_have_the_objective(plain: Plain) -> None:
    objectives = {name: run.data.metrics.get("objective") for name, run in plain.runs().items()}
    values = [trial.value for trial in plain.study.trials]
    assert objectives == {"trial-000": values[0], "trial-001": None, "trial-002": None, "trial-003": values[3]}
    assert plain.runs()["trial-001"].data.metrics["last_reported"] == plain.study.trials[1].value


def test_runs_last_as_long_as_their_trials(plain: Plain) -> None:
    run, trial = plain.runs()["trial-000"], plain.study.trials[0]
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    assert run.info.start_time == int(trial.datetime_start.timestamp() * 1000)
    assert run.info.end_time == int(trial.datetime_complete.timestamp() * 1000)


def _runs(tracking: Tracking) -> TrialRuns:
    """As Podium's own search logs."""
    return TrialRuns(tracking, None, search_attributes)


@pytest.mark.parametrize("again", ["the same logger", "another logger"])
def test_logging_again_repeats_nothing(tracking: Tracking, again: str) -> None:
    study, logger = trials.study_of_each_kind(), _runs(tracking)
    ended = [trial for trial in study.trials if trial.state.is_finished()]
    for trial in ended:
        logger.log(study, trial)
    before = _everything(tracking, study)
    second = logger if again == "the same logger" else _runs(tracking)
    for trial in ended:
        second.log(study, trial)
    assert _everything(tracking, study) == before


def _everything(tracking: Tracking, study: optuna.Study) -> list[Any]:
    read = tracking.client.get_metric_history
    return [
        (
            run.info.run_id,
            run.info.status,
            run.info.end_time,
            run.data.params,
            run.data.tags,
            [[(m.key, m.step, m.value, m.timestamp) for m in read(run.info.run_id, key)] for key in run.data.metrics],
        )
        for run in runs_of(tracking, study.study_name)
    ]


def test_running_trial_is_logged_epoch_by_epoch_and_then_ended(tracking: Tracking) -> None:
    study, logger = trials.study_of_each_kind(), _runs(tracking)
    trial = study.trials[4]
    run_id = logger.log(study, trial, trials.history(4, 1))
    assert logger.log(study, trial, trials.history(4, 2)) == run_id
    run = tracking.client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert [m.step for m in tracking.client.get_metric_history(run_id, "val_loss")] == [1, 2]
    assert "objective" not in run.data.metrics
    study.tell(4, 0.5)
    logger.log(study, study.trials[4], trials.history(4, 3))
    run = tracking.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert [m.step for m in tracking.client.get_metric_history(run_id, "val_loss")] == [1, 2, 3]
    assert run.data.metrics["objective"] == 0.5
    assert run.data.tags["podium.state"] == "COMPLETE"


def test_trial_of_a_killed_session_goes_on_in_its_run(tracking: Tracking) -> None:
    study = trials.study_of_each_kind()
    run_id = _runs(tracking).log(study, study.trials[4], trials.history(4, 1))
    tracking.client.set_terminated(run_id, "KILLED")
    logger = _runs(tracking)
    assert logger.log(study, study.trials[4], trials.history(4, 2)) == run_id
    assert tracking.client.get_run(run_id).info.status == "RUNNING"
    assert [m.step for m in tracking.client.get_metric_history(run_id, "val_loss")] == [1, 2]


def test_run_that_died_before_its_parameters_gets_them(tracking: Tracking) -> None:
    study = trials.study_of_each_kind()
    tags = {"podium.id": study_id(study, make=True) or "", "podium.kind": "trial", "podium.trial": "0"}
    run_id = tracking.client.create_run(tracking.experiment_id, tags=tags, run_name="trial-000").info.run_id
    assert _runs(tracking).log(study, study.trials[0]) == run_id
    run = tracking.client.get_run(run_id)
    assert run.data.params["train.epochs"] == "3"
    assert run.info.status == "FINISHED"


def test_history_longer_than_a_call_is_logged_whole(tracking: Tracking) -> None:
    study = optuna.create_study(study_name="long")
    trial = study.ask()
    trial.set_user_attr("history", trials.history(0, 450))
    study.tell(trial, 0.5)
    run_id = _runs(tracking).log(study, study.trials[0])
    read = tracking.client.get_metric_history
    keys = ("train_loss", "val_loss", "val_accuracy", "learning_rate", "seconds")
    assert [len(read(run_id, key)) for key in keys] == [450] * 5


def test_numbers_above_999_keep_their_digits(tracking: Tracking) -> None:
    study = trials.study_of_each_kind()
    trial = study.trials[0]
    trial.number = 1234
    assert tracking.client.get_run(_runs(tracking).log(study, trial)).info.run_name == "trial-1234 · 0.0300"


def test_parent_is_found_again_and_not_made_twice(tracking: Tracking) -> None:
    tags = {"podium.study": "s", "podium.kind": "search"}
    first = find_or_create(tracking, "s", tags)
    assert find_or_create(tracking, "s", tags) == first
    assert find_or_create(tracking, "s", tags | {"podium.study": "t"}) != first
    assert TrialRuns(tracking, first, search_attributes).parent(optuna.create_study(study_name="u")) == first
