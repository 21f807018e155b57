"""Other trackers beside MLflow: TensorBoard's files, people's own classes, and what happens when they fail."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiny
import trials
from own import OwnCode
from podium import own_code, paths
from podium.config.params import TrackingParams, parse
from podium.errors import InputError
from podium.tracking.also import Also
from podium.tracking.trackers import TrackedRun
from podium.tracking.trackers.tensorboard import write

CALLS = """
calls = []


class Tracker:
    def __init__(self, project: str = "podium", refuse: str = ""):
        self.project, self.refuse = project, refuse

    def start(self, run):
        calls.append(("start", self.project, run.kind, run.name, dict(run.params).get("train.epochs")))

    def log(self, run, values, epoch):
        if self.refuse == "log":
            raise OSError("the tracker is away")
        if self.refuse == "exit":
            raise SystemExit("the tracker is off")
        calls.append(("log", run.name, epoch, sorted(values)))

    def end(self, run, state, value):
        calls.append(("end", run.name, state, value))
"""


def _params(also: str) -> TrackingParams:
    return parse(tiny.params_yaml(TrackingParams()).replace("tracking: {", f"tracking: {{also: {also}, ")).tracking


def _points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(one.step, round(one.value, 6)) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


@pytest.fixture
def calls(own: OwnCode) -> list[Any]:
    own.write(CALLS, "my_tracker")
    found: list[Any] = own_code.load("my_tracker:calls", "tracking.also")
    return found


def test_tensorboard_gets_each_ended_trial_with_its_curves_and_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    study = trials.study_of_each_kind()
    also = Also(_params("[tensorboard]"))
    also.study = "digits · 2026-11-29 · 3f2a"
    for trial in study.trials[:3]:
        also.ended(trial)
    also.close()

    folder = tmp_path / "mlruns" / "tensorboard" / also.study
    assert sorted(path.name for path in folder.iterdir()) == ["trial-000", "trial-001", "trial-002"]
    complete, pruned = _points(folder / "trial-000"), _points(folder / "trial-001")
    assert complete["val_accuracy"] == [(1, 0.01), (2, 0.02), (3, 0.03)]
    assert complete["objective"] == [(0, 0.03)]
    assert "objective" not in pruned
    assert "seconds" not in complete


def test_run_that_goes_on_has_each_epoch_once(tmp_path: Path) -> None:
    write(tmp_path, trials.history(0, 2), {"a": 1, "b": [1, 2]})
    write(tmp_path, trials.history(0, 3), {"a": 1, "b": [1, 2]})
    assert [step for step, _ in _points(tmp_path)["val_loss"]] == [1, 2, 3]


def test_own_tracker_is_told_of_start_epochs_and_end_in_order(calls: list[Any]) -> None:
    also = Also(_params("[{name: 'my_tracker:Tracker', arguments: {project: faces}}]"))
    run = TrackedRun("retrain", "", "retrain-1", Path(), {"train.epochs": 3})
    for epochs in (1, 2, 2, 3):
        also.tell(run, trials.history(0, epochs))
    also.tell(run, trials.history(0, 3), "COMPLETE")
    also.close()

    assert calls[0] == ("start", "faces", "retrain", "retrain-1", 3)
    assert [one[2] for one in calls if one[0] == "log"] == [1, 2, 3]
    assert calls[-1] == ("end", "retrain-1", "COMPLETE", None)
    assert calls[1][3] == ["learning_rate", "train_loss", "val_accuracy", "val_loss"]


@pytest.mark.parametrize(("refuse", "error"), [("log", "OSError: the"), ("exit", "SystemExit: the")])
def test_tracker_that_fails_is_said_once_and_no_other_is_disturbed(calls: list[Any], refuse: str, error: str) -> None:
    messages: list[str] = []
    broken = f"{{name: 'my_tracker:Tracker', arguments: {{refuse: {refuse}, project: broken}}}}"
    also = Also(_params(f"[{broken}, 'my_tracker:Tracker']"), messages.append)
    for number in range(2):
        run = TrackedRun("trial", "a", f"trial-{number}", Path(), {})
        also.tell(run, trials.history(number, 2), "COMPLETE", 0.5)
    also.close()

    assert len(messages) == 1
    assert messages[0].startswith(f"tracking.also: my_tracker:Tracker gets nothing more of this session: {error}")
    assert [one[:3] for one in calls if one[0] == "end"] == [("end", f"trial-{n}", "COMPLETE") for n in range(2)]


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("['no_module:Tracker']", "tracking.also: no_module:Tracker: there is no module"),
        ("['my_tracker:calls']", "tracking.also: my_tracker:calls"),
        ("['builtins:dict']", "must have the methods start, log, end .docs/extend.md.; it has no start, log, end"),
        ("[{name: 'my_tracker:Tracker', arguments: {projct: x}}]", "no such argument; did you mean project"),
        ("[tensorbord]", "did you mean tensorboard"),
    ],
)
def test_tracker_that_is_none_is_refused_before_the_search(calls: list[Any], also: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Also(_params(also))


def test_no_other_tracker_costs_no_thread() -> None:
    also = Also(TrackingParams())
    also.tell(TrackedRun("trial", "", "a", Path()), [])
    also.close()
    assert not paths.mlruns().joinpath("tensorboard").exists()
