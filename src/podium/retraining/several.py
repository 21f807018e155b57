"""The retraining on several devices: Ray Train's TorchTrainer around the same training run, on as many ranks.

Ray Train places the ranks, connects them and starts them again when one is lost with its process or node, on fewer of
them where no more are left (between `runtime.min_devices` and `runtime.devices`). Every rank then goes on from the last
checkpoint, which rank 0 leaves with this process at each epoch's end and every few seconds.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray

from podium import cluster
from podium.config.params import RuntimeParams
from podium.data.shared import is_shared, share
from podium.errors import InputError, PodiumError
from podium.retraining.desk import Desk
from podium.retraining.rank import Job, rank
from podium.training import checkpoint
from podium.training.loop import DivergedError, TrainingRun

POLL = 0.5
"""Seconds that a question to the desk waits."""


def train(
    run: TrainingRun,
    identity: str,
    prepared: Path,
    runtime: RuntimeParams,
    stopping: Callable[[], bool],
    on_news: Callable[[TrainingRun], None],
) -> None:
    """Train `run` to its end on `runtime.devices` ranks; `on_news` is called whenever it has come further.

    Returns early where `stopping` turned true and the ranks have saved. Raises DivergedError as the run itself does,
    PodiumError where ranks were lost more often than `runtime.max_restarts`.
    """
    with cluster.opened(runtime, runtime.devices * runtime.threads), tempfile.TemporaryDirectory() as scratch:
        cuda = _uses_cuda(runtime)
        start = checkpoint.dumps(identity, run.state()) if run.epoch or run.step else None
        desk: Any = ray.remote(Desk).options(**cluster.on_this_node()).remote(start)
        seconds, folder = runtime.checkpoint_seconds, str(Path.cwd()) if is_shared(runtime) else ""
        job = Job(
            run.recipe.nested(),
            run.seed,
            identity,
            share(prepared, runtime),
            desk,
            seconds,
            runtime.threads,
            cuda,
            folder,
        )
        trainer = _trainer(job, runtime, cuda, scratch)
        done = _in_a_thread(trainer.fit)
        while not done.done():
            if stopping():
                ray.get(desk.stop.remote())
            _hear(run, identity, desk, on_news)
            time.sleep(POLL)
        _hear(run, identity, desk, on_news)
        error = done.exception()
    if error is not None:
        raise PodiumError(
            f"the retraining on {runtime.devices} devices failed (runtime.max_restarts {runtime.max_restarts}):"
            f" {_last_line(error)}; what is saved stays saved, run again to go on"
        ) from None


def _hear(run: TrainingRun, identity: str, desk: Any, on_news: Callable[[TrainingRun], None]) -> None:
    content, diverged = ray.get(desk.news.remote())
    if content is not None:
        run.restore(checkpoint.loads(content, identity))
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
