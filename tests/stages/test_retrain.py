import csv
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiny
from podium import paths
from podium.config.params import Params, TrackingParams
from podium.data.dataset import open_split, write_json
from podium.errors import InputError, PodiumError, RefusedError
from podium.locks import locked
from podium.models.members import Members
from podium.profiling.measure import measure
from podium.retraining.winner import retrain
from podium.tracking.histories import histories
from podium.tracking.store import connect
from podium.training import checkpoint
from podium.training.batches import Batches
from podium.training.streaming import Mapped
from podium.training.trained import TrainedModel
from stages.running import Project, end_group
from waiting import until

LOCAL = TrackingParams()
CPU = torch.device("cpu")
LONG = {"train__epochs": 60, "train__batch_size": 4, "train__shift": 1, "model__dropout": 0.2}
"""A training of some seconds."""


def _select(folder: Path, **recipe: Any) -> None:
    """What the stage `select` leaves in data/selected."""
    (folder / paths.SELECTED).mkdir(parents=True, exist_ok=True)
    chosen = {"study": "search-1", "trial": 7, "seeds": [11, 12], "recipe": tiny.recipe(**recipe).flat()}
    write_json(folder / paths.SELECTED / "config.json", chosen)


@pytest.fixture
def here(tmp_path: Path, store: TrackingParams, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project in which the test stands, and its parameters."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    tiny.prepare(tmp_path / paths.PREPARED)
    _select(tmp_path, train__epochs=4)
    return tiny.params(store)


def test_retrain_on_train_alone_leaves_the_validation_images(here: Params) -> None:
    both = _retrain(here)
    alone = _retrain(here.model_copy(update={"retrain": here.retrain.model_copy(update={"images": "train"})}))
    assert (both.splits, alone.splits) == (["train", "val"], ["train"])
    assert alone.weights_digest != both.weights_digest
    assert alone.run_id != both.run_id


def _retrain(params: Params) -> TrainedModel:
    return retrain(params, paths.PREPARED, paths.SELECTED, paths.RETRAINED)


def _run_of(params: TrackingParams) -> Run:
    """The one run called retrain."""
    tracking = connect(params)
    (run,) = tracking.client.search_runs([tracking.experiment_id], "tags.`podium.kind` = 'retrain'")
    return run


def _model(folder: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / paths.RETRAINED / "model.json").read_text(encoding="utf-8"))
    return about


def test_curves_are_there_for_tensorboard(here: Params) -> None:
    _retrain(here.model_copy(update={"retrain": here.retrain.model_copy(update={"profile_steps": 0})}))
    with (paths.RETRAINED / "history.csv").open(encoding="utf-8") as file:
        epochs = list(csv.DictReader(file))
    read = EventAccumulator(str(paths.RETRAINED / "scalars"))
    read.Reload()
    for name in ("train_loss", "learning_rate"):
        shown = [(point.step, point.value) for point in read.Scalars(name)]
        assert [step for step, _ in shown] == [int(epoch["epoch"]) for epoch in epochs] == [1, 2, 3, 4]
        assert [value for _, value in shown] == pytest.approx([float(epoch[name]) for epoch in epochs])


def test_retraining_leaves_weights_history_and_profile(here: Params) -> None:
    whole = _retrain(here)
    about, model = TrainedModel.load(paths.RETRAINED)
    assert about == whole
    assert (about.study, about.trial, about.confirmation_seeds, about.device) == ("search-1", 7, [11, 12], "cpu")
    assert model(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).shape == (2, 3)
    with (paths.RETRAINED / "history.csv").open(newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert len(list((paths.RETRAINED / "profile").glob("*.pt.trace.json"))) == 1
    assert "2 steps of 16 images on cpu" in (paths.RETRAINED / "profile.md").read_text(encoding="utf-8")
    (kept,) = (paths.mlruns() / "checkpoints").iterdir()
    assert kept.suffix == ".finished"  # for a stage that is repeated though nothing has changed


def test_retraining_of_a_single_step_has_its_profile(here: Params, tmp_path: Path) -> None:
    _select(tmp_path, train__epochs=1, train__batch_size=128)
    whole = _retrain(here)
    assert TrainedModel.load(paths.RETRAINED)[0] == whole
    assert "2 steps of 80 images on cpu" in (paths.RETRAINED / "profile.md").read_text(encoding="utf-8")
    there = connect(here.tracking).client.list_artifacts(whole.run_id, "retrain")
    assert [artifact.path for artifact in there] == ["retrain/history.csv", "retrain/profile.md"]


def test_retraining_that_can_not_be_profiled_says_so_and_stands(
    here: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def diverged(*args: Any) -> None:
        raise PodiumError("it diverged")

    monkeypatch.setattr("podium.retraining.winner.measure", diverged)
    whole = _retrain(here)
    assert "retrain: no profile: it diverged" in capsys.readouterr().out
    assert _run_of(here.tracking).data.tags["podium.weights_digest"] == whole.weights_digest
    assert not (paths.RETRAINED / "profile.md").exists()


def test_model_is_kept_where_the_profiler_breaks(here: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("kineto")

    monkeypatch.setattr("podium.retraining.winner.measure", broken)
    with pytest.raises(RuntimeError, match="kineto"):
        _retrain(here)
    kept, _ = TrainedModel.load(paths.RETRAINED)
    monkeypatch.setattr("podium.retraining.winner.measure", measure)
    assert _retrain(here) == kept


def test_retraining_is_on_train_and_validation(here: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def order(run: Any, count: int) -> torch.Tensor:
        sizes.append(count)
        return torch.arange(count)

    monkeypatch.setattr("podium.training.loop.TrainingRun._order", order)
    _retrain(here)
    assert len(sizes) >= 4  # and once more for the profile
    assert set(sizes) == {80}


def test_retraining_is_a_finished_run_with_history_parameters_and_tags(here: Params) -> None:
    whole = _retrain(here)
    run = _run_of(here.tracking)
    assert run.info.run_id == whole.run_id
    assert (run.info.run_name, run.info.status) == ("retrain", "FINISHED")
    assert run.data.params == {name: str(value) for name, value in tiny.recipe(train__epochs=4).flat().items()}
    steps = [step for key, step in histories(connect(here.tracking), run) if key == "train_loss"]
    assert sorted(steps) == [1, 2, 3, 4]
    tags = {"study": "search-1", "trial": "7", "seed": "0", "confirmation_seeds": "11,12", "device": "cpu"}
    assert {name: run.data.tags[f"podium.{name}"] for name in tags} == tags
    assert run.data.tags["podium.weights_digest"] == whole.weights_digest


@pytest.mark.slow
def test_retraining_again_is_the_same_in_the_same_run(here: Params) -> None:
    first = _retrain(here)
    before = histories(connect(here.tracking), _run_of(here.tracking))
    shutil.rmtree(paths.RETRAINED)
    assert _retrain(here) == first
    assert histories(connect(here.tracking), _run_of(here.tracking)) == before


@pytest.mark.slow
def test_another_seed_gives_other_weights_in_another_run(here: Params) -> None:
    other = here.model_copy(update={"retrain": here.retrain.model_copy(update={"seed": 1, "profile_steps": 0})})
    first, second = _retrain(here), _retrain(other)
    assert first.weights_digest != second.weights_digest
    assert first.run_id != second.run_id


def _changed(params: Params, section: str, **fields: Any) -> Params:
    """`params` with other fields of a section."""
    return params.model_copy(update={section: getattr(params, section).model_copy(update=fields)})


@pytest.mark.slow
def test_compiled_retraining_is_another_run_with_a_curve_and_a_checkpoint_of_its_own(
    here: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)  # a minute of compilation is torch's own test
    compiled: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model: compiled.append(model))
    here = _changed(here, "retrain", profile_steps=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # the checkpoints stay, as after a kill
        runs = [_retrain(_changed(here, "retrain", compile=on)).run_id for on in (False, True, False, True)]
    assert len(compiled) == 2
    assert runs[0] == runs[2] != runs[1] == runs[3]
    assert len(list((paths.mlruns() / "checkpoints").iterdir())) == 2
    tracking = connect(here.tracking)
    for run_id in runs[:2]:
        steps = [step for key, step in histories(tracking, tracking.client.get_run(run_id)) if key == "train_loss"]
        assert sorted(steps) == [1, 2, 3, 4]


@pytest.fixture
def _ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that train in this process; test_ray_training.py has real ones."""

    def train(run: Any, identity: str, prepared: Path, runtime: Any, stopping: Any, on_news: Any, splits: Any) -> None:
        run.train(Batches.of([open_split(prepared / name) for name in splits], CPU), None, on_epoch=on_news)

    monkeypatch.setattr("podium.retraining.distributed.train", train)


@pytest.mark.usefixtures("_ranks")
@pytest.mark.parametrize("compiled", [False, True])
def test_retraining_on_several_devices_says_that_it_does_not_compile(
    here: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiled: bool
) -> None:
    monkeypatch.setattr(torch, "compile", None)
    _retrain(_changed(_changed(here, "retrain", compile=compiled, profile_steps=0), "runtime", devices=2))
    note = "retrain: retrain.compile: left out on 2 devices; it goes with runtime.devices: 1"
    assert (note in capsys.readouterr().out) == compiled


@pytest.mark.usefixtures("_ranks")
def test_precision_of_the_ranks_is_not_asked_of_the_process_beside_them(here: Params, tmp_path: Path) -> None:
    _select(tmp_path, train__epochs=1, train__precision="tf32")  # which this CPU does not have
    alone = _changed(here, "retrain", profile_steps=0)
    with pytest.raises(InputError, match=r"train\.precision: .* got tf32"):
        _retrain(alone)
    _retrain(_changed(_changed(alone, "runtime", devices=2), "runtime", device="cuda"))


@pytest.mark.usefixtures("_ranks")
@pytest.mark.parametrize(("devices", "kind"), [(1, torch.Tensor), (2, Mapped)])
def test_process_that_does_not_train_itself_leaves_the_images_in_their_maps(
    here: Params, monkeypatch: pytest.MonkeyPatch, devices: int, kind: type
) -> None:
    held: list[Any] = []

    def remember(recipe: Any, images: Any, data: Batches, *others: Any) -> Any:
        held.append(data.images)
        return measure(recipe, images, data, *others)

    monkeypatch.setattr("podium.retraining.winner.measure", remember)
    _retrain(_changed(here, "runtime", devices=devices))
    assert [type(images) for images in held] == [kind]
    assert "2 steps of 16 images on cpu" in (paths.RETRAINED / "profile.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_profile_is_written_when_none_is_asked_for(here: Params) -> None:
    _retrain(here.model_copy(update={"retrain": here.retrain.model_copy(update={"profile_steps": 0})}))
    assert not (paths.RETRAINED / "profile").exists()


@pytest.mark.slow
def test_torn_checkpoint_starts_the_retraining_again_and_says_so(
    here: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # the checkpoint stays, as after a kill
        whole = _retrain(here)
    (path,) = (paths.mlruns() / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert _retrain(here).weights_digest == whole.weights_digest
    assert "retrain starts again: " in capsys.readouterr().out
    assert [one.suffix for one in (paths.mlruns() / "checkpoints").iterdir()] == [".finished"]


@pytest.mark.parametrize("collected", [True, False], ids=["gone", "zombie"])  # in a container nobody may collect it
def test_retraining_that_waited_for_an_orphan_goes_on_from_what_it_left(
    here: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], collected: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)  # the checkpoint stays, as after a kill
        whole = _retrain(here)
    (finished,) = (paths.mlruns() / "checkpoints").iterdir()
    content, path = finished.read_bytes(), finished.with_suffix(".ckpt")
    finished.unlink()
    orphan = ExitStack()
    file = orphan.enter_context(paths.lock(path.stem).open("w"))
    fcntl.flock(file, fcntl.LOCK_EX)
    dead = subprocess.Popen(["true"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    if collected:
        dead.wait()
    file.write(json.dumps({"pid": 1, "host": socket.gethostname(), "since": "then", "dvc": dead.pid}))
    file.flush()

    def ends(seconds: float) -> None:
        assert _run_of(here.tracking).info.status == "FINISHED"  # whoever waits has not opened it
        path.write_bytes(content)
        orphan.close()

    monkeypatch.setattr("podium.locks.time", SimpleNamespace(monotonic=time.monotonic, ctime=time.ctime, sleep=ends))
    capsys.readouterr()
    assert _retrain(here) == whole
    assert "retrain resumes from epoch 4, step 0" in capsys.readouterr().out
    assert not path.exists()
    dead.wait()


def test_second_retraining_at_the_same_time_is_refused_and_touches_nothing(here: Params) -> None:
    _retrain(here)
    (path,) = paths.lock("").parent.glob("retrain-*.lock")
    (paths.RETRAINED / "model.json").unlink()
    with locked(path), pytest.raises(RefusedError, match=r"the retraining is already under way: process \d+ on "):
        _retrain(here)
    assert _run_of(here.tracking).info.status == "FINISHED"
    assert not (paths.RETRAINED / "model.json").exists()


def test_diverged_retraining_is_a_failed_run_and_an_error(here: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "podium.training.schedules.one_cycle.OneCycle.factor",
        lambda schedule, step, *_: 0.1 if step < 8 else float("nan"),
    )
    with pytest.raises(PodiumError, match=r"the retraining diverged: train_loss became nan .* another retrain.seed"):
        _retrain(here)
    assert _run_of(here.tracking).info.status == "FAILED"


def test_error_in_the_retraining_leaves_no_running_run(here: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        _retrain(here)
    assert _run_of(here.tracking).info.status == "FAILED"


def test_retraining_without_a_selection_names_the_stage_to_run(here: Params) -> None:
    (paths.SELECTED / "config.json").unlink()
    with pytest.raises(InputError, match=r"config.json is missing: run `dvc repro select`"):
        _retrain(here)


def test_cuda_asked_for_and_absent_is_refused_before_any_run(here: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"runtime.device: cuda was asked for"):
        _retrain(here.model_copy(update={"runtime": here.runtime.model_copy(update={"device": "cuda"})}))
    tracking = connect(here.tracking)
    assert tracking.client.search_runs([tracking.experiment_id]) == []


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path) -> Project:
    project = Project(
        tmp_path / "project",
        mlflow_template,
        tiny.params_yaml(LOCAL, "", "checkpoint_seconds: 0.05\ncheckpoint_share: 1.0"),
    )
    _select(project.folder, **LONG)
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> dict[str, Any]:
    """What is to come out."""
    project = Project(tmp_path_factory.mktemp("undisturbed") / "project", mlflow_template, tiny.params_yaml(LOCAL))
    _select(project.folder, **LONG)
    project.run("retrain")
    history = (project.folder / paths.RETRAINED / "history.csv").read_text(encoding="utf-8")
    return _model(project.folder) | {"history": history}


@pytest.mark.slow
def test_killed_retraining_gives_the_undisturbed_weights(
    project: Project, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("PODIUM_KILL_SEED", time.time()))
    print(f"PODIUM_KILL_SEED={seed}")
    draw = random.Random(seed)  # noqa: S311 (moments, not secrets)
    checkpoints = project.folder / "mlruns" / "checkpoints"
    for _ in range(2):
        process = project.start("retrain")
        for _ in range(draw.randint(1, 5)):  # 0.05 s of training apart, of some seconds
            last = _newest(checkpoints)
            until(lambda: _newest(checkpoints) != last, process)  # noqa: B023 (it is called before the next round)
        end_group(process)
    project.run("retrain")
    assert project.log("retrain").count("retrain resumes from epoch") == 2
    _assert_equal(project, undisturbed, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_leaves_a_killed_run_that_is_finished_later(
    project: Project,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    process = project.start("retrain")
    until(lambda: any((project.folder / "mlruns" / "checkpoints").glob("*.ckpt")), process)
    assert end_group(process, number) == code
    assert "of 60, saved; `dvc repro` resumes from here" in project.log("retrain")
    assert _run_of(LOCAL).info.status == "KILLED"
    project.run("retrain")
    assert "retrain resumes from epoch" in project.log("retrain")
    _assert_equal(project, undisturbed, monkeypatch)


def _newest(folder: Path) -> int:
    """When the last checkpoint was written, in nanoseconds since 1970."""
    return max((path.stat().st_mtime_ns for path in folder.glob("*.ckpt")), default=0)


def _assert_equal(project: Project, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    about = _model(project.folder)
    assert about["weights_digest"] == undisturbed["weights_digest"]
    assert (project.folder / paths.RETRAINED / "history.csv").read_text(encoding="utf-8") == undisturbed["history"]
    monkeypatch.setenv("DVC_ROOT", str(project.folder))
    run = _run_of(LOCAL)
    assert (run.info.status, run.info.run_id) == ("FINISHED", about["run_id"])
    steps = [step for key, step in histories(connect(LOCAL), run) if key == "train_loss"]
    assert sorted(steps) == list(range(1, 61))
    assert list((project.folder / paths.RETRAINED / "profile").glob("*.pt.trace.json"))


def test_winner_is_several_networks_each_trained_as_the_search_trained_one(here: Params, tmp_path: Path) -> None:
    _select(tmp_path, model__name="resnet", model__width=4, train__epochs=3, train__batch_size=4)
    whole = _retrain(here.model_copy(update={"retrain": here.retrain.model_copy(update={"members": 2})}))
    assert (whole.recipe["train"]["epochs"], whole.recipe["train"]["batch_size"]) == (6, 8)
    assert whole.recipe["model"]["members"] == 2
    _, model = TrainedModel.load(paths.RETRAINED)
    (together,) = (one for one in model.modules() if isinstance(one, Members))
    images = torch.rand(4, 3, 8, 8)
    first, second = (one(images).softmax(1) for one in together)
    assert torch.allclose(together(images).exp(), (first + second) / 2, atol=1e-5)
    assert not torch.equal(first, second)
