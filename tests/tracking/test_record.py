from datetime import timedelta
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import trials
from podium.tracking.record import Record, record_of, search_attributes
from podium.tracking.run_names import LIMIT


@pytest.fixture
def study() -> optuna.Study:
    return trials.study_of_each_kind()


def _record(study: optuna.Study, number: int) -> Record:
    return record_of(study, study.trials[number], None, search_attributes)


def _metrics(record: Record, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in record.metrics if metric.key == key]


@pytest.mark.parametrize(("number", "status"), [(0, "FINISHED"), (1, "KILLED"), (2, "FAILED"), (4, "RUNNING")])
def test_record_has_the_status_of_its_state(study: optuna.Study, number: int, status: str) -> None:
    assert _record(study, number).status == status


@pytest.mark.parametrize(
    ("number", "objective", "last_reported"), [(0, [(0, 0.03)], []), (1, [], [(0, 0.04)]), (2, [], []), (4, [], [])]
)
def test_objective_is_on_completed_trials_only(
    study: optuna.Study, number: int, objective: list[Any], last_reported: list[Any]
) -> None:
    record = _record(study, number)
    assert _metrics(record, "objective") == objective
    assert _metrics(record, "last_reported") == last_reported


@pytest.mark.parametrize("number", [0, 1, 2])
def test_record_of_an_ended_trial_has_every_epoch_and_field(study: optuna.Study, number: int) -> None:
    record = _record(study, number)
    for key in ("train_loss", "val_loss", "val_accuracy", "learning_rate", "seconds"):
        expected = [(int(epoch["epoch"]), epoch[key]) for epoch in trials.history(number)]
        assert _metrics(record, key) == expected
    assert _metrics(record, "trial_number") == [(0, number)]
    assert _metrics(record, "epochs") == [(0, 3)]
    assert len(_metrics(record, "duration_seconds")) == 1
    assert not _metrics(record, "epoch")


def test_record_of_a_running_trial_has_the_history_that_it_is_given(study: optuna.Study) -> None:
    record = record_of(study, study.trials[4], trials.history(4, 2), search_attributes)
    assert _metrics(record, "val_accuracy") == [(1, 0.05), (2, 0.06)]
    assert record.end is None
    assert not _metrics(record, "duration_seconds")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_running_trial_has_its_epochs_before_anything_else() -> None:
    """MLflow's page that compares runs begins with the metric that a run of a server was given first."""
    study = optuna.create_study(study_name="search-1", direction="maximize")
    study.set_metric_names(["accuracy"])
    study.enqueue_trial({})
    study.ask()
    epochs = [{"epoch": 1.0, "train_loss": 0.5, "val_accuracy": 0.9, "seconds": 1.0}]
    record = record_of(study, study.trials[0], epochs, search_attributes)
    assert [metric.key for metric in record.metrics] == ["val_accuracy", "train_loss", "seconds"]


def test_metrics_are_timed_by_their_epochs_seconds(study: optuna.Study) -> None:
    record = _record(study, 0)
    times = [metric.timestamp - record.start for metric in record.metrics if metric.key == "val_loss"]
    assert times == [375, 875, 1500]


def test_record_has_name_parameters_and_tags(study: optuna.Study) -> None:
    record = _record(study, 3)
    assert (record.name, record.title) == ("trial-003", "trial-003 · 0.0600")
    assert record.params["train.epochs"] == "6"
    assert record.params["model.name"] == "cnn"
    assert record.params["train.optimizer"] == "adamw"
    assert "train.momentum" not in record.params  # nobody reads it
    assert record.tags == {
        "podium.study": "search-1234",
        "podium.trial": "3",
        "podium.kind": "trial",
        "podium.state": "COMPLETE",
        "podium.seed": "103",
    }


def test_failed_trial_has_its_reason_and_the_end_of_its_traceback(study: optuna.Study) -> None:
    tags = _record(study, 2).tags
    assert tags["podium.reason"] == "ValueError: no"
    assert len(tags["podium.traceback"]) == LIMIT
    assert tags["podium.traceback"].endswith("x\nValueError: no")


def test_reason_longer_than_a_tag_is_cut() -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"reason": "y" * (LIMIT + 1)}))
    assert _record(study, 0).tags["podium.reason"] == "y" * LIMIT


def test_trial_with_a_name_of_its_own_keeps_it() -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=1.0, user_attrs={"name": "confirm-004-seed-1"}))
    assert _record(study, 0).name == "confirm-004-seed-1"


def test_title_says_how_a_trial_ended(study: optuna.Study) -> None:
    titles = [_record(study, number).title for number in range(5)]
    assert titles == [
        "trial-000 · 0.0300",
        "trial-001 · pruned at 0.0400",
        "trial-002 · failed",
        "trial-003 · 0.0600",
        "trial-004",
    ]


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("a\ud83d\ude00b", "a😀b"),
        ("caf\udcc3\udca9", "café"),
        ("\ud800x", "?x"),
        ("a\0b", "a?b"),
        ("plain é", "plain é"),
    ],
)
def test_text_that_no_database_takes_is_made_one_that_it_takes(text: str, taken: str) -> None:
    study = optuna.create_study()
    study.add_trial(
        create_trial(state=TrialState.FAIL, user_attrs={"reason": text, "name": text, "recipe": {"a": text}})
    )
    record = _record(study, 0)
    assert (record.name, record.tags["podium.reason"], record.params["a"]) == (taken, taken, taken)


@pytest.mark.parametrize(
    "odd",
    [
        {"history": "no"},
        {"history": [{"epoch": 1}]},
        {"recipe": 3},
        {"name": 7},
        {"history": [{"epoch": 1, "seconds": "x"}]},
    ],
)
def test_attributes_that_are_not_podiums_are_somebody_elses(odd: dict[str, Any]) -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=1.0, user_attrs=odd))
    record = _record(study, 0)
    assert [key for key in record.tags if key.startswith("user.")] == [f"user.{key}" for key in odd]


def test_trial_of_a_plain_study_has_its_parameters_and_intermediate_values() -> None:
    study = optuna.create_study()
    trial = study.ask({"x": optuna.distributions.IntDistribution(0, 9)})
    for step, value in ((2, 0.5), (1, 0.25)):
        trial.report(value, step)
    study.tell(trial, 0.75)
    record = _record(study, 0)
    assert record.params == {"x": str(trial.params["x"])}
    assert _metrics(record, "reported") == [(1, 0.25), (2, 0.5)]
    assert _metrics(record, "epochs") == [(0, 2)]
    assert _metrics(record, "objective") == [(0, 0.75)]


def test_trial_in_which_the_clock_was_set_back_ends_when_it_began(study: optuna.Study) -> None:
    trial = study.trials[0]
    assert trial.datetime_start is not None
    trial.datetime_complete = trial.datetime_start - timedelta(hours=1)
    record = record_of(study, trial, None, search_attributes)
    assert record.end == record.start
    assert _metrics(record, "duration_seconds") == [(0, 0.0)]
