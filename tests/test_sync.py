from collections.abc import Callable
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

import trials
from podium.config.params import TrackingParams
from podium.tracking.record import record_of
from podium.tracking.store import Tracking, connect
from podium.tracking.sync import Difference, differences, end_open_runs, repair
from podium.tracking.trial_logger import TrialLogger, histories, runs_of

LATER = 10**13
"""Milliseconds since 1970: after whatever the tests log."""


class Mirrored:
    """A study of each kind of trial, and its true image in MLflow."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.client: MlflowClient = tracking.client
        self.study = trials.study_of_each_kind()
        logger = TrialLogger(tracking)
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
        record = record_of(self.study, self.study.trials[min(number, 4)], trials.history(4, 2) if number == 4 else None)
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

    def differences(self) -> list[Difference]:
        return differences(self.tracking, self.study)

    def repair(self, *, thorough: bool = True) -> list[Difference]:
        return repair(self.tracking, self.study, TrialLogger(self.tracking, self.parent), thorough=thorough)

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


def test_empty_store_is_filled(store: TrackingParams) -> None:
    study, tracking = trials.study_of_each_kind(), connect(store)
    assert [(d.trial, d.what, d.mlflow) for d in differences(tracking, study)] == [(n, "runs", "0") for n in range(4)]
    repair(tracking, study, TrialLogger(tracking))
    assert differences(tracking, study) == []
    assert len(runs_of(tracking, study.study_name)) == 4  # the running trial's run is made with its first epochs


DAMAGES: dict[str, tuple[int, Callable[[Mirrored], Any], str]] = {
    "run deleted": (0, lambda m: m.client.delete_run(m.run(0)), "runs"),
    "run doubled": (0, lambda m: m.make(0, metrics=99, params=99, status="FINISHED"), "runs"),
    "run doubled by an empty one": (1, lambda m: m.make(1), "runs"),
    "run doubled by an empty older one": (1, lambda m: m.make(1, start=1), "runs"),
    "run for ever RUNNING": (2, lambda m: m.client.update_run(m.run(2), "RUNNING"), "status"),
    "run cut off after its making": (0, lambda m: m.replace(0), "status"),
    "run cut off in its parameters": (0, lambda m: m.replace(0, params=5), "train.momentum"),
    "run cut off in its history": (0, lambda m: m.replace(0, metrics=7, params=99), "val_loss at step 2"),
    "run with all but its status": (3, lambda m: m.replace(3, metrics=99, params=99), "status"),
    "pruned trial FINISHED": (1, lambda m: m.client.set_terminated(m.run(1), "FINISHED"), "status"),
    "complete trial KILLED": (0, lambda m: m.client.set_terminated(m.run(0), "KILLED"), "status"),
    "running trial FINISHED": (4, lambda m: m.client.set_terminated(m.run(4), "FINISHED"), "status"),
    "parameter changed": (0, lambda m: _with_param(m, 0, "train.epochs", "7"), "train.epochs"),
    "parameter added": (0, lambda m: m.client.log_param(m.run(0), "extra", 1), "extra"),
    "running trial's parameter changed": (4, lambda m: _with_param(m, 4, "train.epochs", "77"), "train.epochs"),
    "running trial without parameters": (4, lambda m: m.replace(4, metrics=99), "train.epochs"),
    "running trial doubled": (4, lambda m: m.make(4), "runs"),
    "value changed": (0, lambda m: m.client.log_metric(m.run(0), "val_loss", 9.0, LATER, 2), "val_loss at step 2"),
    "last value changed": (0, lambda m: m.client.log_metric(m.run(0), "val_loss", 9.0, LATER, 3), "val_loss at step 3"),
    "epoch added": (0, lambda m: m.client.log_metric(m.run(0), "val_loss", 0.5, step=4), "val_loss at step 4"),
    "metric added": (0, lambda m: m.client.log_metric(m.run(0), "mine", 0.5), "mine at step 0"),
    "pruned trial's objective": (1, lambda m: m.client.log_metric(m.run(1), "objective", 0.5), "objective at step 0"),
    "state's tag changed": (1, lambda m: m.client.set_tag(m.run(1), "podium.state", "FAIL"), "tag podium.state"),
    "seed's tag deleted": (1, lambda m: m.client.delete_tag(m.run(1), "podium.seed"), "tag podium.seed"),
    "name changed": (0, lambda m: m.client.update_run(m.run(0), name="mine"), "name"),
    "running trial's name changed": (4, lambda m: m.client.update_run(m.run(4), name="mine"), "name"),
    "run of a trial that is not there": (7, lambda m: m.make(7), "trial"),
    "run of a trial that waits": (5, lambda m: m.make(5), "trial"),
}
NOTICED_ONLY_BY_READING_EVERYTHING = {"value changed"}
KEPT = {
    "run doubled by an empty one",
    "run doubled by an empty older one",
    "run for ever RUNNING",
    "run with all but its status",
    "pruned trial FINISHED",
    "complete trial KILLED",
    "running trial FINISHED",
    "state's tag changed",
    "seed's tag deleted",
    "name changed",
    "running trial's name changed",
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


def test_damages_of_every_trial_are_mended_at_once(mirrored: Mirrored) -> None:
    for name in TOGETHER:
        DAMAGES[name][1](mirrored)
    found = mirrored.differences()
    assert {(DAMAGES[name][0], DAMAGES[name][2]) for name in TOGETHER} <= {(d.trial, d.what) for d in found}
    assert mirrored.repair() == found
    assert mirrored.differences() == []
    assert mirrored.repair() == []


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
    repair(mirrored.tracking, other, TrialLogger(mirrored.tracking))
    assert mirrored.differences() == []


def test_value_that_is_not_finite_is_no_difference_for_ever(store: TrackingParams) -> None:
    tracking, study = connect(store), optuna.create_study(study_name="plain")
    trial = study.ask()
    for step, value in enumerate([float("nan"), float("inf"), float("-inf")]):
        trial.report(value, step)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    TrialLogger(tracking)(study, study.trials[0])
    assert differences(tracking, study) == []


def test_difference_says_what_both_sides_hold(mirrored: Mirrored) -> None:
    mirrored.client.set_terminated(mirrored.run(1), "FINISHED")
    assert mirrored.differences() == [Difference(1, "status", "KILLED", "FINISHED")]
    mirrored.client.log_batch(mirrored.run(0), [Metric("mine", 0.5, 0, 0)])
    assert Difference(0, "mine at step 0", "None", "0.5") in mirrored.differences()
