"""The phases of a training step, taken from the real loop by hooks around its parts: nothing of it is copied here."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch.profiler import record_function

from podium.training.batches import Batches
from podium.training.loop import TrainingRun

PHASES = ("data", "forward", "backward", "optimizer", "other")
"""data: choosing the images and augmenting them, up to the network's first layer; backward: loss and gradients."""


class _Enough(Exception):  # noqa: N818 (not an error: so many steps were wanted)
    """The steps are done."""


class Phases:
    """Times the phases of `run`'s steps; within the block its hooks are on."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        """Steps that `seconds` is the sum of."""
        self._last = 0.0
        self._range: Any = None
        self._hooks = ExitStack()

    def __enter__(self) -> "Phases":
        model, optimizer = self.run.model, self.run.optimizer
        for handle in (
            model.register_forward_pre_hook(lambda *_: self._mark("data", "forward")),
            model.register_forward_hook(lambda *_: self._mark("forward", "backward")),
            optimizer.register_step_pre_hook(lambda *_: self._mark("backward", "optimizer")),
            optimizer.register_step_post_hook(lambda *_: self._mark("optimizer", "other")),
        ):
            self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._annotate(None)
        self._hooks.close()

    def train(self, data: Batches, steps: int, on_step: Callable[[], None] = lambda: None) -> None:
        """Train at most `steps` steps (fewer where the recipe has fewer); `on_step` is called after each."""
        done = 0

        def after(run: TrainingRun) -> None:
            nonlocal done
            done += 1
            self.steps += 1
            self._mark("other", "data")
            on_step()
            if done == steps:
                raise _Enough

        self._restart()
        try:
            self.run.train(data, None, after, lambda run: self._restart())
        except _Enough:
            return

    def forget(self) -> None:
        """Drop what was timed so far: the first steps pay for what no later one pays for."""
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0

    def _restart(self) -> None:
        self._last = self._now()
        self._annotate("data")

    def _mark(self, ended: str, begins: str) -> None:
        now = self._now()
        self.seconds[ended] += now - self._last
        self._last = now
        self._annotate(begins)

    def _now(self) -> float:
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)  # kernels run on after the call that starts them
        return time.perf_counter()

    def _annotate(self, phase: str | None) -> None:
        """Name the phase in a trace, if one is being recorded."""
        if self._range is not None:
            self._range.__exit__(None, None, None)
        self._range = record_function(phase) if phase else None
        if self._range is not None:
            self._range.__enter__()
