"""The far side of the Ray pool: a trial as a task of the cluster, and the mailbox between the tasks and their driver.

The mailbox is an actor on the driver's node. A worker's report waits in it for the driver's answer. It holds nothing
that matters: killed, it is started again by Ray, which repeats the calls that had no answer, and the pool knows those
that it has seen.

The driver imports this module, so torch is imported within `train`.
"""

import asyncio
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import ray

from podium.tuning.messages import Ended, Lost, Report, Resumed, Task
from podium.tuning.pools import cannot_load, unless_broken
from podium.tuning.pools.ray_places import Spot

if TYPE_CHECKING:
    from podium.tuning.work import TrialData

CONCURRENT = 100_000
"""Calls that may wait at the same time: two a trial."""
BROKEN = 4
"""Exit code of a worker that is of no more use."""

_loaded: "dict[str, TrialData]" = {}
"""The images of the search at hand: a process trains one trial after another."""
_pauses: dict[str, threading.Event] = {}
"""Whether a search pauses, by its mailbox."""


@dataclass(frozen=True)
class Setup:
    """What every trial of a search needs besides its task."""

    images: Any
    """See data.shared.share."""
    mailbox: Any
    """The actor's handle."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int
    shared: bool
    """Whether a checkpoint's path leads to the same file on every node."""
    folder: str = ""
    """The project's, where every node has it; else empty."""
    gpus: float = 0.0
    """What a trial reserves; of a GPU that it shares it takes that part of the memory."""


@dataclass(frozen=True)
class Began:
    """A trial has been placed: from now on its worker can be paused."""

    number: int
    attempt: int
    pid: int
    host: str
    node: str
    """Ray's id of the node."""
    gpu: str = ""
    """Ray's id of its GPU there; empty: it has none, or several."""
    ready: bool = False
    """Whether it has loaded its images: no trial is to blame for what happens before."""

    @property
    def where(self) -> str:
        """The worker, as people find it."""
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Held:
    """A trial has come to a GPU that is given up. Its task keeps it, and the trial needs another place."""

    number: int
    attempt: int
    task: str
    """Ray's id of the task."""
    spot: Spot


@dataclass(frozen=True)
class Saved:
    """A trial's checkpoint, where no folder is shared."""

    number: int
    attempt: int
    content: bytes


Message = Began | Held | Saved | Resumed | Report | Lost


class Mailbox:
    """The actor's class. Every method is a coroutine of the actor's one thread."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._arrived = asyncio.Event()
        self._pausing = asyncio.Event()
        self._waiting: dict[tuple[int, int], asyncio.Future[bool]] = {}

    async def leave(self, message: Message) -> None:
        """Leave a message that needs no answer."""
        self._messages.append(message)
        self._arrived.set()

    async def report(self, report: Report) -> bool:
        """Leave a report; returns whether to continue, once the driver has answered."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[report.number, report.attempt] = future
        await self.leave(report)
        return await future

    async def answer(self, number: int, attempt: int, go_on: bool) -> None:
        """Answer the report of this attempt that waits, if one does."""
        future = self._waiting.pop((number, attempt), None)
        if future is not None and not future.done():
            future.set_result(go_on)

    async def take(self, patience: float) -> list[Message]:
        """What has arrived since the last call; waits up to `patience` seconds for something to arrive."""
        if not self._messages:
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), patience)
        messages, self._messages = self._messages, []
        return messages

    async def pause(self) -> None:
        """The search pauses: every `paused` returns."""
        self._pausing.set()

    async def paused(self) -> bool:
        """Wait until the search pauses."""
        return await self._pausing.wait()


def train(task: Task, setup: Setup, content: bytes | None, held: Collection[Spot]) -> Ended:
    """Train one trial, from the checkpoint `content` if there is one, and return how it ended.

    Where the worker is to blame, it reports that it is lost and exits: Ray starts another one for the next task.
    On one of the GPUs `held`, which are given up, it trains nothing and stays until it is cancelled.
    """
    node, gpu = ray.get_runtime_context().get_node_id(), _gpu()
    if Spot(node, gpu) in held:
        _hold(task, setup, Spot(node, gpu))
    import torch

    if setup.folder:
        os.chdir(setup.folder)  # weights that a network begins with lie in data/
    torch.set_num_threads(setup.threads)
    here = Began(task.number, task.attempt, os.getpid(), socket.gethostname(), node, gpu)
    began = setup.mailbox.leave.remote(here)
    pausing = _pausing(setup.mailbox)
    try:
        trial_data = _trial_data(setup)
    except Exception as error:
        _exit(setup, cannot_load(task, error), began)
    ray.get(began)
    ray.get(setup.mailbox.leave.remote(replace(here, ready=True)))  # known before anything can kill this process
    ended = unless_broken(_train(task, trial_data, setup, content, pausing.is_set))
    if isinstance(ended, Lost):
        _exit(setup, ended, began)
    return ended


def _gpu() -> str:
    """Ray's id of the GPU that this task has, or has a share of; empty: it has none, or several."""
    found = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return found[0] if len(found) == 1 else ""


def _hold(task: Task, setup: Setup, spot: Spot) -> NoReturn:
    """Keep the GPU, without a look at it: one that is broken may hang whoever asks."""
    here = str(ray.get_runtime_context().get_task_id())
    ray.get(setup.mailbox.leave.remote(Held(task.number, task.attempt, here, spot)))
    while True:
        time.sleep(3600)


def _train(
    task: Task, trial_data: "TrialData", setup: Setup, content: bytes | None, pausing: Callable[[], bool]
) -> Ended:
    from podium.tuning.work import run_trial

    leave = setup.mailbox.leave.remote
    if setup.shared:
        return run_trial(task, trial_data, _reporter(setup), pausing, resumed=leave)
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        path = Path(folder) / "trial.ckpt"
        if content is not None:
            path.write_bytes(content)

        def saved() -> None:
            ray.get(leave(Saved(task.number, task.attempt, path.read_bytes())))

        here = replace(task, checkpoint=str(path))
        return run_trial(here, trial_data, _reporter(setup), pausing, saved, leave)


def _exit(setup: Setup, lost: Lost, began: Any) -> NoReturn:
    ray.get(began)  # an actor of coroutines need not take two calls in their order, and who is lost must be known
    ray.get(setup.mailbox.leave.remote(lost))
    os._exit(BROKEN)


def _reporter(setup: Setup) -> Callable[[Report], bool]:
    return lambda report: bool(ray.get(setup.mailbox.report.remote(report)))


def _pausing(mailbox: Any) -> threading.Event:
    """An event that is set when the search of `mailbox` pauses; one call waits for it for all trials of the process."""
    name = str(mailbox)
    if name not in _pauses:
        event = threading.Event()
        mailbox.paused.remote().future().add_done_callback(lambda future: event.set())
        _pauses.clear()
        _pauses[name] = event
    return _pauses[name]


def _trial_data(setup: Setup) -> "TrialData":
    from podium.data.shared import read_only_arrays, received
    from podium.training import device
    from podium.tuning.work import TrialData

    name = str(setup.images)
    if name not in _loaded:
        _loaded.clear()  # those of an earlier search
        where = device.pick(setup.device)
        memory = device.share_of_memory(where, setup.gpus)
        if memory is not None:
            device.limit_memory(where, memory)
        with read_only_arrays():
            _loaded[name] = TrialData.of(*received(setup.images), where, memory)
    return _loaded[name]
