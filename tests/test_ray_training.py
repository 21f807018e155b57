"""The retraining divided among ranks by Ray Train, on a cluster of three nodes that loses a rank and then a node."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from podium import paths
from podium.config.params import TrackingParams
from podium.data.dataset import write_json
from podium.errors import InputError, InterruptedSearchError
from podium.retraining.winner import retrain
from podium.training import checkpoint
from podium.training.loop import TrainingRun
from podium.training.ranks import FollowingRun
from tuning.ray_cluster import TwoNodes

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
RECIPE: dict[str, Any] = {"train__epochs": 30, "train__batch_size": 8, "train__shift": 1}
LONG = RECIPE | {"train__epochs": 400}
"""One that a signal finds in its middle."""
TOLERANCE = 1e-3
"""Between the losses of one process and of several: sums in another order, over 300 steps."""


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    return tiny.prepare(tmp_path / paths.PREPARED)


def _run(recipe: dict[str, Any] = RECIPE) -> TrainingRun:
    torch.set_num_threads(1)
    return TrainingRun(tiny.recipe(**recipe), tiny.IMAGES, 3, CPU)


@pytest.fixture
def alone(prepared: Path) -> list[float]:
    """The losses of one process."""
    return _losses(prepared, RECIPE)


def _losses(prepared: Path, recipe: dict[str, Any]) -> list[float]:
    from podium.data.dataset import open_split
    from podium.training.batches import Batches

    run = _run(recipe)
    run.train(Batches.of([open_split(prepared / "train"), open_split(prepared / "val")], CPU), None)
    return [epoch["train_loss"] for epoch in run.history]


def _ranks() -> list[int]:
    """The processes of this session's ranks."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and os.getsid(int(path.name)) == os.getsid(0):
            try:
                words = (path / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"RayTrainWorker" in words:
                found.append(int(path.name))
    return found


class Steps:
    """Does one thing after another, each once the run has finished so many epochs; remembers when it went on."""

    def __init__(self, *steps: tuple[int, Callable[[], Any]]) -> None:
        self.steps = list(steps)
        self.done: list[float] = []
        self.epochs: list[int] = []

    def __call__(self, run: TrainingRun) -> None:
        self.epochs.append(run.epoch)
        if self.steps and run.epoch >= self.steps[0][0]:
            self.steps.pop(0)[1]()
            self.done.append(time.monotonic())


def test_training_outlives_a_killed_rank_and_a_removed_node(
    two_nodes: TwoNodes, prepared: Path, alone: list[float]
) -> None:
    from podium.retraining import distributed

    extra = two_nodes.add_node()
    runtime = two_nodes.runtime(devices=3, min_devices=2, max_restarts=10, checkpoint_seconds=0.5, checkpoint_share=1.0)
    steps = Steps(
        (3, lambda: os.kill(_ranks()[0], signal.SIGKILL)),
        (8, lambda: two_nodes.cluster.remove_node(extra, allow_graceful=False)),
    )
    run = _run()
    distributed.train(run, "retrain", prepared, runtime, lambda: False, steps)
    assert steps.steps == []
    assert (run.epoch, run.step) == (30, 0)
    assert [epoch["epoch"] for epoch in run.history] == list(range(1, 31))
    assert [epoch["train_loss"] for epoch in run.history] == pytest.approx(alone, abs=TOLERANCE)


def test_checkpoint_that_the_ranks_do_not_take_makes_them_begin_again(
    two_nodes: TwoNodes, prepared: Path, alone: list[float]
) -> None:
    from podium.retraining import distributed

    class OfOthers(FollowingRun):
        def state(self) -> dict[str, Any]:
            return super().state() | {"frozen": "that the driver has and the ranks do not"}

    run = OfOthers(tiny.recipe(**RECIPE), tiny.IMAGES, 3, CPU)
    run.epoch = 20
    runtime = two_nodes.runtime(devices=2, checkpoint_seconds=0.1, checkpoint_share=1.0)
    distributed.train(run, "retrain", prepared, runtime, lambda: False, lambda run: None)
    assert [epoch["epoch"] for epoch in run.history] == list(range(1, 31))
    assert [epoch["train_loss"] for epoch in run.history] == pytest.approx(alone, abs=TOLERANCE)


def test_stop_saves_the_run_and_one_process_ends_it_as_if_nothing_had_been(
    two_nodes: TwoNodes,
    tmp_path: Path,
    prepared: Path,
    store: TrackingParams,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    chosen = {"study": "search-1", "trial": 7, "seeds": [1], "recipe": tiny.recipe(**LONG).flat()}
    (tmp_path / paths.SELECTED).mkdir(parents=True)
    write_json(tmp_path / paths.SELECTED / "config.json", chosen)
    params = tiny.params(store)
    params = params.model_copy(
        update={
            "retrain": params.retrain.model_copy(update={"seed": 3}),
            "runtime": two_nodes.runtime(devices=2, checkpoint_seconds=0.1, checkpoint_share=1.0),
        }
    )

    class Stopping:
        """What stop_signals yields, with a signal that comes when the first checkpoint is there."""

        def __enter__(self) -> "Signals":
            return Signals()

        def __exit__(self, *_: object) -> None:
            return None

    class Signals(list[int]):
        def __bool__(self) -> bool:
            if not len(self) and any((paths.mlruns() / "checkpoints").glob("*.ckpt")):
                self.append(15)
            return len(self) > 0

    with monkeypatch.context() as patch:
        patch.setattr("podium.retraining.resumable.stop_signals", Stopping)
        with pytest.raises(InterruptedSearchError, match=r"of 400, saved; `dvc repro` resumes from here"):
            retrain(params, paths.PREPARED, paths.SELECTED, paths.RETRAINED)
    (path,) = (paths.mlruns() / "checkpoints").glob("*.ckpt")
    state = checkpoint.load(path, path.stem)
    assert state is not None
    in_process = params.model_copy(update={"runtime": params.runtime.model_copy(update={"devices": 1})})
    retrain(in_process, paths.PREPARED, paths.SELECTED, paths.RETRAINED)
    about = json.loads((paths.RETRAINED / "model.json").read_text(encoding="utf-8"))
    assert about["study"] == "search-1"
    history = (paths.RETRAINED / "history.csv").read_text(encoding="utf-8").splitlines()
    assert len(history) == 401
    column = history[0].split(",").index("train_loss")
    losses = [float(line.split(",")[column]) for line in history[1:]]
    assert losses[:30] == pytest.approx(_losses(prepared, LONG)[:30], abs=TOLERANCE)


def test_more_gpus_than_there_are_is_refused_with_how_many_there_are(two_nodes: TwoNodes, prepared: Path) -> None:
    from podium.retraining import distributed

    runtime = two_nodes.runtime(devices=5, device="cuda")
    with pytest.raises(InputError, match=r"cuda was asked for on 5 devices or more, and the cluster has \d GPUs"):
        distributed.train(_run(), "retrain", prepared, runtime, lambda: False, lambda run: None)
