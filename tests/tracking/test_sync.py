import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

import trials
from podium.config.params import TrackingParams
from podium.tracking.histories import histories
from podium.tracking.record import record_of, search_attributes
from podium.tracking.repair import end_open_runs, repair, superseded
from podium.tracking.store import Tracking, connect
from podium.tracking.trial_check import Difference, differences
from podium.tracking.trial_runs import TrialRuns, log_summary, runs_of

LATER = 10**13
"""Milliseconds since 1970: after whatever the tests log."""


class Mirrored:
    """A study of each kind of trial, and its true image in MLflow."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.client: MlflowClient = tracking.client
        self.messages: list[str] = []
        self.study = trials.study_of_each_kind()
        logger = TrialRuns(tracking, None, search_attributes)
        self.parent = logger.parent(self.study)
        for trial in self.study.trials:
            if trial.state.is_finished():
                logger.log(self.study, trial)
        logger.log(self.study, self.study.trials[4], trials.history(4, 2))

    def runs(self, number: int) -> list[Run]:
        return [run for run in runs_of(self.tracking, "search-1234") if run.data.tags["podium.trial"] == str(number)]

    def run(self, number: int) -> str:
        (run,) = self.runs(number)
        return str(run.info.run_id)

    def make(self, number: int, *, status: str = "RUNNING", **keep: Any) -> str:
        """Another run for trial `number`, with only so many of its first `metrics` and `params`."""
        record = record_of(
            self.study,
            self.study.trials[min(number, 4)],
            trials.history(4, 2) if number == 4 else None,
            search_attributes,
        )
        tags = record.tags | {"podium.trial": str(number), "mlflow.parentRunId": self.parent}
        start = keep.get("start", record.start)
        run_id = self.client.create_run(self.tracking.experiment_id, start, tags, f"trial-{number:03d}").info.run_id
        metrics, params = record.metrics[: keep.get("metrics", 0)], record.entities()[: keep.get("params", 0)]
        self.client.log_batch(run_id, metrics, params)
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return str(run_id)

    def replace(self, number: int, **keep: Any) -> str:
        """Put a run made by `make` in the place of the one of trial `number`."""
        self.client.delete_run(self.run(number))
        return self.make(number, **keep)

    def sql(self, statement: str, number: int) -> None:
        """Change MLflow's own database for the run of trial `number`."""
        with closing(sqlite3.connect(self.tracking.uri.removeprefix("sqlite:///"))) as connection, connection:
            where = " AND key = 'objective'" if "latest_metrics" in statement else ""
            connection.execute(f"{statement} WHERE run_uuid = ?{where}", (self.run(number),))

    def differences(self) -> list[Difference]:
        return differences(self.tracking, self.study, parent=self.parent)

    def repair(self, *, thorough: bool = True) -> list[Difference]:
        runs = TrialRuns(self.tracking, self.parent, search_attributes)
        return repair(self.tracking, self.study, runs, thorough=thorough, message=self.messages.append)

    def everything(self) -> dict[str, Any]:
        """All that MLflow holds, by run."""
        return {
            run.info.run_id: (
                run.info.status,
                run.info.end_time,
                run.info.run_name,
                run.data.params,
                run.data.tags,
                histories(self.tracking, run),
            )
            for run in runs_of(self.tracking, "search-1234")
        }


@pytest.fixture
def mirrored(store: TrackingParams) -> Mirrored:
    return Mirrored(connect(store))


def test_true_image_has_no_difference_and_is_left_alone(mirrored: Mirrored) -> None:
    before = mirrored.everything()
    assert mirrored.differences() == []
    assert mirrored.repair() == []
    assert mirrored.everything() == before


def test_summary_is_the_newest_though_the_clock_was_set_back(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_summary(mirrored.tracking, mirrored.parent, mirrored.study)
    mirrored.study.add_trial(optuna.trial.create_trial(value=0.99, user_attrs={"history": []}))
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)  # 1970
    log_summary(mirrored.tracking, mirrored.parent, mirrored.study)
    shown = mirrored.client.get_run(mirrored.parent).data.metrics
    assert (shown["best_objective"], shown["trials_complete"]) == (0.99, 3)


def test_empty_store_is_filled(store: TrackingParams) -> None:
    study, tracking = trials.study_of_each_kind(), connect(store)
    assert [(d.trial, d.what, d.mlflow) for d in differences(tracking, study)] == [(n, "runs", "0") for n in range(4)]
    repair(tracking, study, TrialRuns(tracking, None, search_attributes))
    assert differences(tracking, study) == []
    assert len(runs_of(tracking, study.study_name)) == 4  # the running trial's run is made with its first epochs


DAMAGES: dict[str, tuple[int, Callable[[Mirrored], Any], str]] = {
    "run deleted": (0, lambda m: m.client.delete_run(m.run(0)), "runs"),
    "run doubled": (0, lambda m: m.make(0, metrics=99, params=99, status="FINISHED"), "runs"),
    "run doubled by an empty one": (1, lambda m: m.make(1), "runs"),
    "run doubled by an empty older one": (1, lambda m: m.make(1, start=1), "runs"),
    "run for ever RUNNING": (2, lambda m: m.client.update_run(m.run(2), "RUNNING"), "status"),
    "run cut off after its making": (0, lambda m: m.replace(0), "status"),
    "run cut off in its parameters": (0, lambda m: m.replace(0, params=5), "train.weight_decay"),
    "run cut off in its history": (0, lambda m: m.replace(0, metrics=7, params=99), "val_loss at step 2"),
    "run with all but its status": (3, lambda m: m.replace(3, metrics=99, params=99), "status"),
    "pruned trial FINISHED": (1, lambda m: m.client.set_terminated(m.run(1), "FINISHED"), "status"),
    "complete trial KILLED": (0, lambda m: m.client.set_terminated(m.run(0), "KILLED"), "status"),
    "running trial FINISHED": (4, lambda m: m.client.set_terminated(m.run(4), "FINISHED"), "status"),
    "parameter changed": (0, lambda m: _with_param(m, 0, "train.epochs", "7"), "train.epochs"),
    "running trial's parameter changed": (4, lambda m: _with_param(m, 4, "train.epochs", "77"), "train.epochs"),
    "running trial without parameters": (4, lambda m: m.replace(4, metrics=99), "train.epochs"),
    "running trial doubled": (4, lambda m: m.make(4), "runs"),
    "value changed": (0, lambda m: m.client.log_metric(m.run(0), "val_loss", 9.0, LATER, 2), "val_loss at step 2"),
    "last value changed": (0, lambda m: m.client.log_metric(m.run(0), "val_loss", 9.0, LATER, 3), "val_loss at step 3"),
    "pruned trial's objective": (1, lambda m: m.client.log_metric(m.run(1), "objective", 0.5), "objective at step 0"),
    "objective shown changed": (
        0,
        lambda m: m.sql("UPDATE latest_metrics SET value = 0.999", 0),
        "objective as it is shown",
    ),
    "objective no longer shown": (0, lambda m: m.sql("DELETE FROM latest_metrics", 0), "objective as it is shown"),
    "end removed": (0, lambda m: m.sql("UPDATE runs SET end_time = NULL", 0), "end"),
    "id's tag deleted": (0, lambda m: m.client.delete_tag(m.run(0), "podium.id"), "tag podium.id"),
    "kind changed": (0, lambda m: m.client.set_tag(m.run(0), "podium.kind", "mine"), "tag podium.kind"),
    "kind's tag deleted": (1, lambda m: m.client.delete_tag(m.run(1), "podium.kind"), "tag podium.kind"),
    "state's tag changed": (1, lambda m: m.client.set_tag(m.run(1), "podium.state", "FAIL"), "tag podium.state"),
    "seed's tag deleted": (1, lambda m: m.client.delete_tag(m.run(1), "podium.seed"), "tag podium.seed"),
    "run of a trial that is not there": (7, lambda m: m.make(7), "trial"),
    "run of a trial that waits": (5, lambda m: m.make(5), "trial"),
}
NOTICED_ONLY_BY_READING_EVERYTHING = {"value changed"}
KEPT = {
    "objective shown changed",
    "objective no longer shown",
    "end removed",
    "id's tag deleted",
    "run doubled by an empty one",
    "run doubled by an empty older one",
    "run for ever RUNNING",
    "run with all but its status",
    "pruned trial FINISHED",
    "complete trial KILLED",
    "running trial FINISHED",
    "state's tag changed",
    "seed's tag deleted",
    "running trial without parameters",
    "run cut off after its making",
    "run cut off in its parameters",
    "run cut off in its history",
}
"""Damages after which the trial's run can be mended: a new one would lose what a person wrote on it."""


def _with_param(mirrored: Mirrored, number: int, key: str, value: str) -> None:
    run_id = mirrored.replace(number)
    mirrored.client.log_batch(run_id, params=[Param(key, value)])


TOGETHER = [
    "run cut off in its history",
    "pruned trial FINISHED",
    "run for ever RUNNING",
    "run with all but its status",
    "running trial without parameters",
    "run of a trial that waits",
    "run of a trial that is not there",
]
"""A damage a trial: what a restored backup and a killed search leave together."""


ADDITIONS: dict[str, Callable[[Mirrored, str], Any]] = {
    "metric": lambda m, run_id: m.client.log_metric(run_id, "mine", 0.5),
    "metric with steps": lambda m, run_id: m.client.log_batch(run_id, [Metric("mine", k, LATER, k) for k in range(3)]),
    "epoch of another step": lambda m, run_id: m.client.log_metric(run_id, "val_accuracy", 0.5, step=99),
    "metric called reported": lambda m, run_id: m.client.log_metric(run_id, "reported", 0.5, step=1),
    "parameter": lambda m, run_id: m.client.log_param(run_id, "extra", 1),
    "tag": lambda m, run_id: m.client.set_tag(run_id, "reviewed", "yes"),
    "note": lambda m, run_id: m.client.set_tag(run_id, "mlflow.note.content", "look at this one"),
    "artifact": lambda m, run_id: m.client.log_text(run_id, "hello", "mine.txt"),
}


@pytest.mark.parametrize("thorough", [True, False])
def test_what_a_person_added_is_no_difference_and_stays(mirrored: Mirrored, thorough: bool) -> None:
    for add in ADDITIONS.values():
        for number in (0, 1, 4):
            add(mirrored, mirrored.run(number))
    before = mirrored.everything()
    assert mirrored.differences() == []
    assert mirrored.repair(thorough=thorough) == []
    assert mirrored.everything() == before


def test_run_that_is_completed_keeps_what_a_person_added(mirrored: Mirrored) -> None:
    run_id = mirrored.replace(0, metrics=7, params=5)
    for add in ADDITIONS.values():
        add(mirrored, run_id)
    assert mirrored.repair() != []
    assert mirrored.differences() == []
    run = mirrored.client.get_run(mirrored.run(0))
    assert run.info.run_id == run_id
    assert (run.data.metrics["mine"], run.data.params["extra"], run.data.tags["reviewed"]) == (2.0, "1", "yes")
    assert run.data.tags["mlflow.note.content"] == "look at this one"
    assert [file.path for file in mirrored.client.list_artifacts(run_id)] == ["mine.txt"]
    assert superseded(mirrored.tracking, mirrored.study) == []


def test_run_that_contradicts_is_moved_aside_whole_and_listed(mirrored: Mirrored) -> None:
    run_id = mirrored.run(0)
    for add in ADDITIONS.values():
        add(mirrored, run_id)
    mirrored.client.log_metric(run_id, "val_loss", 9.0, LATER, 2)
    before = histories(mirrored.tracking, mirrored.client.get_run(run_id))
    mirrored.repair()
    assert mirrored.differences() == []
    assert mirrored.run(0) != run_id
    (aside,) = superseded(mirrored.tracking, mirrored.study)
    assert (aside.info.run_id, aside.info.run_name) == (run_id, "trial-000 · 0.0300 (superseded)")
    assert aside.info.status == "FINISHED"
    assert aside.data.tags["podium.superseded"] == "val_loss at step 2 is 0.25 in the study, 0.25, 9.0 here"
    assert aside.data.tags["mlflow.note.content"] == "look at this one"
    assert histories(mirrored.tracking, aside) == before
    (message,) = mirrored.messages
    assert run_id in message
    assert "val_loss at step 2" in message


def test_repair_deletes_no_run(mirrored: Mirrored) -> None:
    made = [mirrored.make(1), mirrored.make(7), mirrored.make(5)]
    mirrored.repair()
    assert mirrored.differences() == []
    assert {run.info.run_id for run in superseded(mirrored.tracking, mirrored.study)} == set(made)
    assert {mirrored.client.get_run(run_id).info.lifecycle_stage for run_id in made} == {"active"}
    assert {mirrored.client.get_run(run_id).info.status for run_id in made} == {"KILLED"}


def test_two_clones_with_one_studys_name_leave_each_others_runs_alone(store: TrackingParams) -> None:
    tracking = connect(store)
    one, two = Mirrored(tracking), trials.study_of_each_kind()
    before = one.everything()
    assert {d.mlflow for d in differences(tracking, two)} == {"0"}
    runs = TrialRuns(tracking, None, search_attributes)
    assert repair(tracking, two, runs) != []
    end_open_runs(tracking, two)
    assert runs.parent(two) != one.parent
    assert differences(tracking, two) == one.differences() == []
    assert len(runs_of(tracking, two)) == 4
    assert len(runs_of(tracking, one.study)) == 5
    after = one.everything()
    assert {run: after[run] for run in before} == before


def test_damages_of_every_trial_are_mended_at_once(mirrored: Mirrored) -> None:
    for name in TOGETHER:
        DAMAGES[name][1](mirrored)
    found = mirrored.differences()
    assert {(DAMAGES[name][0], DAMAGES[name][2]) for name in TOGETHER} <= {(d.trial, d.what) for d in found}
    assert mirrored.repair() == found
    assert mirrored.differences() == []
    assert mirrored.repair() == []


@pytest.mark.parametrize(
    "name", ["objective shown changed", "objective no longer shown", "end removed", "kind changed"]
)
def test_damage_of_what_pages_read_is_mended_in_the_same_run(mirrored: Mirrored, name: str) -> None:
    run_id, (number, damage, what) = mirrored.run(0), DAMAGES[name]
    damage(mirrored)
    assert [(one.trial, one.what) for one in mirrored.differences()] == [(number, what)]
    assert mirrored.repair() != []
    assert mirrored.differences() == []
    assert mirrored.run(0) == run_id
    assert mirrored.client.get_run(run_id).data.metrics["objective"] == 0.03


@pytest.mark.parametrize("doubled", [False, True], ids=["missing", "logged a second time"])
def test_run_without_its_id_is_known_by_its_parent(mirrored: Mirrored, doubled: bool) -> None:
    run_id = mirrored.run(0)
    mirrored.client.delete_tag(run_id, "podium.id")
    if doubled:  # by an earlier Podium
        mirrored.make(0, metrics=99, params=99, status="FINISHED")
    assert mirrored.differences() != []
    mirrored.repair()
    assert mirrored.differences() == []
    assert mirrored.run(0) == run_id
    assert len(superseded(mirrored.tracking, mirrored.study)) == doubled


@pytest.mark.slow
@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize(("trial", "damage", "what"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_mended_and_nothing_else_is_touched(
    mirrored: Mirrored,
    trial: int,
    damage: Callable[[Mirrored], Any],
    what: str,
    thorough: bool,
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.callspec.id.removesuffix(f"-{thorough}")
    whole = mirrored.everything()
    own = {run.info.run_id for run in mirrored.runs(trial)}
    right = set(whole) - own
    damage(mirrored)
    damaged = {run.info.run_id for run in mirrored.runs(trial)}
    found = mirrored.differences()
    assert {difference.trial for difference in found} == {trial}
    assert what in {difference.what for difference in found}
    mended = mirrored.repair(thorough=thorough)
    if name in NOTICED_ONLY_BY_READING_EVERYTHING and not thorough:
        assert mended == []
        return
    assert mended
    assert mirrored.differences() == []
    after = mirrored.everything()
    assert {run: after[run] for run in right} == {run: whole[run] for run in right}
    if name in KEPT:
        assert mirrored.run(trial) in (own & damaged or damaged)


def test_run_of_a_trial_that_was_trained_twice_over_may_have_other_seconds(mirrored: Mirrored) -> None:
    """A killed trial's epochs reach MLflow, are trained again after the last checkpoint, and take another time."""
    study = mirrored.study
    epochs = [epoch | {"seconds": epoch["seconds"] + 1} for epoch in trials.history(4)]
    study._storage.set_trial_user_attr(study.trials[4]._trial_id, "history", epochs)
    study.tell(4, 0.07)
    run_id = mirrored.run(4)
    mirrored.repair()
    assert mirrored.run(4) == run_id
    assert mirrored.differences() == []
    read = histories(mirrored.tracking, mirrored.client.get_run(run_id))
    first, second, _ = trials.history(4)
    kept = [first["seconds"], second["seconds"], epochs[2]["seconds"]]
    assert [read["seconds", step] for step in (1, 2, 3)] == [{seconds} for seconds in kept]


def test_open_runs_end_killed(mirrored: Mirrored) -> None:
    end_open_runs(mirrored.tracking, mirrored.study)
    runs = runs_of(mirrored.tracking, "search-1234")
    statuses = {int(run.data.tags["podium.trial"]): run.info.status for run in runs}
    assert statuses == {0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "FINISHED", 4: "KILLED"}
    assert mirrored.differences() == []


def test_runs_of_another_study_are_not_looked_at(mirrored: Mirrored) -> None:
    other = optuna.create_study(study_name="search-9999")
    assert differences(mirrored.tracking, other) == []
    repair(mirrored.tracking, other, TrialRuns(mirrored.tracking, None, search_attributes))
    assert mirrored.differences() == []


def test_value_that_is_not_finite_is_no_difference_for_ever(store: TrackingParams) -> None:
    tracking, study = connect(store), optuna.create_study(study_name="plain")
    trial = study.ask()
    for step, value in enumerate([float("nan"), float("inf"), float("-inf")]):
        trial.report(value, step)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    TrialRuns(tracking, None, search_attributes).log(study, study.trials[0])
    assert differences(tracking, study) == []


def test_difference_says_what_both_sides_hold(mirrored: Mirrored) -> None:
    mirrored.client.set_terminated(mirrored.run(1), "FINISHED")
    assert mirrored.differences() == [Difference(1, "status", "KILLED", "FINISHED")]
    mirrored.client.log_batch(mirrored.run(0), [Metric("objective", 0.5, 0, 9)])
    assert Difference(0, "objective at step 9", "None", "0.5") in mirrored.differences()


FORMER = {0.00042: "0.0004", 23.0: "23.0000", 71586.0: "7.159e+04", 0.93: "0.9300"}
"""How names of runs had a value until 2026-11-29."""


def test_names_of_the_former_form_are_right_and_no_persons(store: TrackingParams) -> None:
    mirrored = Mirrored(connect(store))
    names = {}
    for value, text in FORMER.items():
        number = len(mirrored.study.trials)
        mirrored.study.add_trial(optuna.trial.create_trial(value=value))
        names[number] = f"trial-{number:03d} · {text}"
    number = len(mirrored.study.trials)
    pruned = optuna.trial.TrialState.PRUNED
    mirrored.study.add_trial(optuna.trial.create_trial(state=pruned, intermediate_values={1: 23.0}))
    names[number] = f"trial-{number:03d} · pruned at 23.0000"
    mirrored.repair()
    for number, name in names.items():
        mirrored.client.update_run(mirrored.run(number), name=name)
    assert mirrored.differences() == []
    damaged, *_ = names  # is renamed when it is mended
    mirrored.client.set_terminated(mirrored.run(damaged), "FAILED")
    assert [one.what for one in mirrored.repair()] == ["status"]
    assert mirrored.differences() == []
    runs = {number: mirrored.client.get_run(mirrored.run(number)) for number in names}
    assert runs[damaged].info.run_name == f"trial-{damaged:03d} · 0.00042"
    assert not any("podium.former_name" in run.data.tags for run in runs.values())
