"""Workers: what the driver asks of every pool of them, and what a pool makes of a worker that is broken.

The pools: `inline` (the driver's own process), `processes` (of this machine), `ray_pool` (tasks of a cluster). What
runs on the far side of the last two is in `worker` and `ray_worker`.
"""

from collections.abc import Collection
from typing import Protocol

from podium.training.memory_errors import tells_of_memory
from podium.tuning.messages import Ended, Event, Lost, Report, Task

DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS")
"""What the messages of torch contain if a CUDA context is unusable from then on."""


class Pool(Protocol):
    """Workers that train trials. One machine, many processes or a cluster differ in nothing but this."""

    @property
    def capacity(self) -> int:
        """Trials that can be trained at the same time."""
        ...

    def submit(self, task: Task) -> None:
        """Start `task` on a free worker."""
        ...

    def events(self, timeout: float) -> list[Event]:
        """What has happened; waits up to `timeout` seconds for something to happen."""
        ...

    def answer(self, report: Report, go_on: bool) -> None:
        """Answer the worker that sent `report`: continue, or end the trial."""
        ...

    def abandon(self, numbers: Collection[int]) -> None:
        """End the workers of trials `numbers`, which hang or are too late; nothing more is heard of them."""
        ...

    def pause(self) -> None:
        """Have every running trial saved and ended as interrupted."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


def cannot_load(task: Task, error: BaseException) -> Lost:
    """The worker of `task` could not load the images: another one may."""
    reason = f"its worker could not load the images: {type(error).__name__}: {error}"
    return Lost(task.number, task.attempt, reason, charged=False)


def unless_broken(ended: Ended) -> Ended | Lost:
    """`ended`, or that the trial's worker is lost where it failed by a device that works no more in this process.

    A trial that wants more memory than there is has failed by itself.
    An error of a CUDA kernel is reported late and stays with the process: whatever it trains from then on fails too.
    """
    if ended.how != "failed" or tells_of_memory(ended.reason):
        return ended
    if not any(words in ended.reason for words in DEVICE_ERRORS):
        return ended
    return Lost(ended.number, ended.attempt, f"its worker failed with a device error: {ended.reason}")
