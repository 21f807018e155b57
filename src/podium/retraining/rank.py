"""One rank of a retraining on several devices: what it is told, what it does, what it leaves with the desk."""

import os
import time
from dataclasses import dataclass
from typing import Any

import ray
import torch
import torch.distributed as dist

from podium.config.recipe import Recipe
from podium.data.shared import read_only_arrays, received
from podium.models.networks import ImageSpec
from podium.training import checkpoint
from podium.training.batches import Batches
from podium.training.loop import DivergedError, TrainingRun
from podium.training.ranks import SharedRun, agree

LOOK_EVERY = 16
"""Steps between two agreements of the ranks whether to save or to stop: each costs a message around."""


@dataclass(frozen=True)
class Job:
    """What every rank needs to know."""

    recipe: dict[str, dict[str, Any]]
    seed: int
    identity: str
    images: Any
    desk: Any
    checkpoint_seconds: float
    threads: int
    cuda: bool
    folder: str
    """The project's, where every node has it; else empty."""


def rank(config: dict[str, Any]) -> None:
    """One rank, from the last checkpoint to the end of training or until it is told to stop."""
    from ray.train.torch import get_device

    job: Job = config["job"]
    if job.folder:
        os.chdir(job.folder)  # weights that a network begins with lie in data/
    torch.set_num_threads(job.threads)
    where = get_device() if job.cuda else torch.device("cpu")
    info, train, val = received(job.images)
    with read_only_arrays():
        # All ranks may be on this node: how many are is not known here.
        data = Batches.of([train, val], where, sharers=dist.get_world_size())
    images = ImageSpec.of(info)
    run = SharedRun(Recipe.model_validate(job.recipe), images, job.seed, where)
    content = ray.get(job.desk.newest.remote())
    if content is not None:
        run.restore(checkpoint.loads(content, job.identity))
    keeper = _RankKeeper(job)
    try:
        run.train(data, None, keeper.after_step, keeper.save)
    except _StopRank:
        return
    except DivergedError as error:
        ray.get(job.desk.diverged.remote(str(error)))


class _StopRank(Exception):  # noqa: N818 (not an error: the driver is going away)
    """The run is saved and goes on another time."""


class _RankKeeper:
    """Leaves checkpoints with the desk: rank 0 decides when, and all ranks do it together."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._rank = dist.get_rank()
        self._saved = time.monotonic()
        self._steps = 0

    def after_step(self, run: TrainingRun) -> None:
        """Every few steps, see whether it is time to save or to stop."""
        self._steps += 1  # not the epoch's: an epoch may be shorter
        if self._steps % LOOK_EVERY:
            return
        stop = save = False
        if self._rank == 0:
            stop = bool(ray.get(self._job.desk.stopping.remote()))
            save = stop or time.monotonic() - self._saved >= self._job.checkpoint_seconds
        stop, save = agree(run.device, stop, save)
        if save:
            self.save(run)
        if stop:
            raise _StopRank

    def save(self, run: TrainingRun) -> None:
        """Leave a checkpoint; every rank takes part in making it."""
        state = run.state()
        if self._rank == 0:
            ray.get(self._job.desk.put.remote(checkpoint.dumps(self._job.identity, state)))
        self._saved = time.monotonic()
