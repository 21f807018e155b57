"""How long a computation takes on one thread of this machine, whatever else runs on it.

Two things keep other programs out of the figure. Processor time of the thread, instead of time by the clock: waiting
for a core does not count. And a reference computation in turns with what is measured: what still slows both, a shared
cache or a lower clock rate, cancels in their ratio. That ratio times the reference's shortest time gives milliseconds
of this machine when it is quiet.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

ROUNDS = 60
"""Turns at most."""
FEWEST = 10
PATIENCE = 2.0
"""Seconds for them; a large network gets fewer turns."""
BUSY = 1.3
"""Where the reference takes so many times its own processor time by the clock, the machine is busy."""

_shortest = [float("inf")]
"""Milliseconds of the reference, the least that this process has seen."""


@dataclass(frozen=True)
class Latency:
    """What was measured."""

    milliseconds: float
    """Of a quiet machine."""
    ratio: float
    """To the reference computation."""
    crowding: float
    """Time by the clock over processor time of the reference; 1 where nothing else ran."""

    @property
    def busy(self) -> bool:
        """Whether other programs took the cores meanwhile."""
        return self.crowding > BUSY


def in_turns(runs: list[Callable[[int], object]], quantile: float = 0.5) -> list[Latency]:
    """The `quantile` of the time of each of `runs`, called with the number of its turn, and the reference between them.

    On one intra-op thread, so that its processor time is all there is. Small networks are slowed more by other programs
    than the reference is; with `quantile` 0, the shortest turns of both, that shows least.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _measured([_reference, *runs], quantile)
    finally:
        torch.set_num_threads(threads)


def _measured(runs: list[Callable[[int], object]], quantile: float) -> list[Latency]:
    for run in runs:  # the first pass allocates
        run(0)
    taken: list[list[float]] = []
    clock: list[float] = []
    end = time.perf_counter() + PATIENCE
    while len(taken) < FEWEST or (len(taken) < ROUNDS and time.perf_counter() < end):
        turn = [_timed(run, len(taken)) for run in runs]
        taken.append([used for used, _ in turn])
        clock.append(turn[0][1])
    own = np.array(taken)
    reference = own[:, 0]
    _shortest[0] = min(_shortest[0], float(reference.min()))
    crowding = float(np.sum(clock) / reference.sum())
    ratios = np.quantile(own[:, 1:], quantile, axis=0) / np.quantile(reference, min(quantile, 0.5))
    return [Latency(float(ratio) * _shortest[0], float(ratio), crowding) for ratio in ratios]


def _timed(run: Callable[[int], object], turn: int) -> tuple[float, float]:
    """Milliseconds of processor time of this thread, and by the clock."""
    began, used = time.perf_counter(), time.thread_time()
    run(turn)
    return 1000 * (time.thread_time() - used), 1000 * (time.perf_counter() - began)


def _reference(turn: int) -> object:
    """A convolution and a matrix product: about half a millisecond on a core of 2026."""
    images, kernel, matrix = _operands()
    return F.conv2d(images, kernel, padding=1), matrix @ matrix


@cache
def _operands() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = (1, 32, 32, 32), (32, 32, 3, 3), (192, 192)
    images, kernel, matrix = (torch.randn(shape, generator=draw) for shape in shapes)
    return images, kernel, matrix
