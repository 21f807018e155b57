"""The retraining on several devices: Ray Train's TorchTrainer around the same training run, on as many ranks.

Ray Train places the ranks, connects them and starts them again when one is lost with its process or node, on fewer of
them where no more are left (between `runtime.min_devices` and `runtime.devices`). Every rank then resumes from the last
checkpoint, which rank 0 leaves with an actor next to this process at each epoch's end and every few seconds.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist

from podium import cluster
from podium.config.params import RuntimeParams
from podium.config.recipe import Recipe
from podium.data.shared import is_shared, read_only_arrays, received, share
from podium.errors import InputError, PodiumError
from podium.models.networks import ImageSpec
from podium.training import checkpoint
from podium.training.batches import Batches
from podium.training.loop import DivergedError, TrainingRun
from podium.training.ranks import SharedRun, agree


class CheckpointActor:
    """Where rank 0 leaves checkpoints, for the driver and for ranks that come later: an actor next to the driver."""

    def __init__(self, content: bytes | None) -> None:
        self._content = content
        self._fresh = False
        self._stopping = False
        self._diverged = ""

    def put(self, content: bytes) -> None:
        """Leave a checkpoint."""
        self._content, self._fresh = content, True

    def newest(self) -> bytes | None:
        """The last checkpoint that was left."""
        return self._content

    def diverged(self, reason: str) -> None:
        """Record that the loss is no number any more."""
        self._diverged = reason

    def stop(self) -> None:
        """Have the ranks save and end."""
        self._stopping = True

    def stopping(self) -> bool:
        """Whether they are to."""
        return self._stopping

    def news(self) -> tuple[bytes | None, str]:
        """A checkpoint that was not asked for before, and why training diverged."""
        fresh, self._fresh = self._fresh, False
        return self._content if fresh else None, self._diverged


LOOK_EVERY = 16
"""Steps between two agreements of the ranks whether to save or to stop: each costs a message around."""


@dataclass(frozen=True)
class Job:
    """What every rank needs to know."""

    recipe: dict[str, dict[str, Any]]
    seed: int
    identity: str
    images: Any
    actor: Any
    checkpoint_seconds: float
    checkpoint_share: float
    threads: int
    cuda: bool
    folder: str
    """The project's, where every node has it; else empty."""
    splits: Sequence[str] = ("train", "val")
    """What is trained on."""


def rank(config: dict[str, Any]) -> None:
    """One rank, from the last checkpoint to the end of training or until it has to stop.

    From the start where a rank does not take the checkpoint: the driver, whose device is another one, can't tell.
    """
    from ray.train.torch import get_device

    job: Job = config["job"]
    if job.folder:
        os.chdir(job.folder)  # weights that a network begins with lie in data/
    torch.set_num_threads(job.threads)
    where = get_device() if job.cuda else torch.device("cpu")
    info, train, val = received(job.images)
    with read_only_arrays():
        # All ranks may be on this node: how many are is not known here.
        data = Batches.of(
            [{"train": train, "val": val}[name] for name in job.splits], where, sharers=dist.get_world_size()
        )
    images = ImageSpec.of(info)
    run = SharedRun(Recipe.model_validate(job.recipe), images, job.seed, where)
    if dist.get_rank() == 0:
        print("".join(f"retrain: {note}\n" for note in run.notes), end="", flush=True)
    content = ray.get(job.actor.newest.remote())
    if content is not None and (why := run.restore_together(checkpoint.loads(content, job.identity))):
        print(f"retrain starts again: {why}", flush=True)
    checkpointer = _RankCheckpointer(job)
    try:
        run.train(data, None, checkpointer.after_step, checkpointer.after_epoch)
    except _StopRank:
        return
    except DivergedError as error:
        ray.get(job.actor.diverged.remote(str(error)))


class _StopRank(Exception):  # noqa: N818 (not an error: the driver is going away)
    """The run is saved and can be resumed."""


class _RankCheckpointer:
    """Sends checkpoints to the actor: rank 0 decides when, and all ranks do it together."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._rank = dist.get_rank()
        self._saved = time.monotonic()
        self._cost = 0.0
        """Seconds that the last checkpoint took."""
        self._steps = 0

    def after_step(self, run: TrainingRun) -> None:
        """Every few steps, see whether it is time to save or to stop."""
        self._steps += 1  # not the epoch's: an epoch may be shorter
        if self._steps % LOOK_EVERY:
            return
        stop = save = False
        if self._rank == 0:
            stop = bool(ray.get(self._job.actor.stopping.remote()))
            save = stop or self._is_due()
        stop, save = agree(run.device, stop, save)
        if save:
            self.save(run)
        if stop:
            raise _StopRank

    def after_epoch(self, run: TrainingRun) -> None:
        """Save where it is time, and at the end."""
        (save,) = agree(run.device, run.epoch == run.recipe.train.epochs or self._is_due())
        if save:
            self.save(run)

    def save(self, run: TrainingRun) -> None:
        """Leave a checkpoint; every rank takes part in making it."""
        started = time.monotonic()
        state = run.state()
        if self._rank == 0:
            ray.get(self._job.actor.put.remote(checkpoint.dumps(self._job.identity, state)))
        self._saved = time.monotonic()
        self._cost = self._saved - started

    def _is_due(self) -> bool:
        share = self._job.checkpoint_share
        least = self._cost / share if share < 1 else 0.0
        return time.monotonic() - self._saved >= max(self._job.checkpoint_seconds, least)


POLL = 0.5
"""Seconds that a question to the actor waits."""


def train(
    run: TrainingRun,
    identity: str,
    prepared: Path,
    runtime: RuntimeParams,
    stopping: Callable[[], bool],
    on_news: Callable[[TrainingRun], None],
    splits: Sequence[str] = ("train", "val"),
) -> None:
    """Train `run` to its end on `runtime.devices` ranks; `on_news` is called whenever it has come further.

    Returns early where `stopping` turned true and the ranks have saved. Raises DivergedError as the run itself does,
    PodiumError where ranks were lost more often than `runtime.max_restarts`.
    """
    with cluster.opened(runtime, runtime.devices * runtime.threads), tempfile.TemporaryDirectory() as scratch:
        cuda = _uses_cuda(runtime)
        start = checkpoint.dumps(identity, run.state()) if run.epoch or run.step else None
        actor: Any = ray.remote(CheckpointActor).options(**cluster.on_this_node()).remote(start)
        seconds, folder = runtime.checkpoint_seconds, str(Path.cwd()) if is_shared(runtime) else ""
        job = Job(
            run.recipe.resolved(),
            run.seed,
            identity,
            share(prepared, runtime),
            actor,
            seconds,
            runtime.checkpoint_share,
            runtime.threads,
            cuda,
            folder,
            splits,
        )
        trainer = _trainer(job, runtime, cuda, scratch)
        done = _in_a_thread(trainer.fit)
        while not done.done():
            if stopping():
                ray.get(actor.stop.remote())
            _receive(run, identity, actor, on_news)
            time.sleep(POLL)
        _receive(run, identity, actor, on_news)
        error = done.exception()
    if error is not None:
        raise PodiumError(
            f"the retraining on {runtime.devices} devices failed (runtime.max_restarts {runtime.max_restarts}):"
            f" {_last_line(error)}; what was saved stays saved; run again to resume"
        ) from None


def _receive(run: TrainingRun, identity: str, actor: Any, on_news: Callable[[TrainingRun], None]) -> None:
    content, diverged = ray.get(actor.news.remote())
    if content is not None:
        try:
            run.restore(checkpoint.loads(content, identity))
        except checkpoint.TornCheckpointError as error:
            raise PodiumError(f"runtime.devices: what the ranks sent does not go with this machine: {error}") from None
        on_news(run)
    if diverged:
        raise DivergedError(diverged)


def _trainer(job: Job, runtime: RuntimeParams, cuda: bool, scratch: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    least = runtime.min_devices or runtime.devices
    count: Any = runtime.devices if least == runtime.devices else (least, runtime.devices)  # a pair: elastic
    return TorchTrainer(
        rank,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=count,
            use_gpu=cuda,
            resources_per_worker={"CPU": runtime.threads} | ({"GPU": 1} if cuda else {}),
        ),
        run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=runtime.max_restarts)),
    )


def _uses_cuda(runtime: RuntimeParams) -> bool:
    """Whether the ranks are to have a GPU each. Raises InputError where they are to and there are not enough."""
    there = sum(int(node["Resources"].get("GPU", 0)) for node in cluster.nodes() if node["Alive"])
    least = runtime.min_devices or runtime.devices
    if runtime.device == "cuda" and there < least:
        raise InputError(
            f"runtime.device: cuda was asked for on {least} devices or more, and the cluster has {there} GPUs;"
            " set runtime.device: cpu, or fewer runtime.devices"
        )
    return runtime.device != "cpu" and there >= least


def _in_a_thread(work: Callable[[], object]) -> "Future[object]":
    """`work` in a thread of its own: in the main one Ray Train would answer Ctrl-C in our place."""
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="podium-ray-train", daemon=True).start()
    return done


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
