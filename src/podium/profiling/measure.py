"""A training is profiled: phases by the clock, then operators and a trace under torch.profiler.

Both use throw-away copies, so that the real run is neither slowed nor changed, and a resumed run still has its profile.
The phases are taken from the real loop by hooks around its parts: nothing of it is copied here.
"""

import math
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler
from torch.utils.flop_counter import FlopCounterMode

from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.models.networks import ImageSpec
from podium.training import checkpoint
from podium.training.batches import Batches, bounds
from podium.training.device import wait
from podium.training.loop import DivergedError, TrainingRun
from podium.training.validation import validate

PHASES = ("data", "forward", "backward", "optimizer", "other")
"""data: choosing the images and augmenting them, up to the network's first layer; backward: loss and gradients."""
WARM_UP = 2
"""Steps before the recorded ones: the first pays for allocations that no later one pays for."""
WAIT = 1
"""Steps before those, which torch.profiler ignores."""
MOST_EPOCHS = 10_000
"""The upper bound of train.epochs."""
SIDE = 1024
"""Side of the square matrices whose product measures the device's peak."""


@dataclass(frozen=True)
class Operator:
    """One of torch's operators."""

    name: str
    calls: float
    """Per step."""
    milliseconds: float
    """Its own time per step, on the device."""


@dataclass(frozen=True)
class Profile:
    """What was measured."""

    device: str
    """cpu, cuda or mps."""
    steps: int
    batch: int
    """Images per step."""
    steps_per_epoch: int
    phases: dict[str, float]
    """Seconds per step by phase, without the profiler."""
    between: dict[str, float]
    """Seconds per epoch of the work between steps: evaluation, checkpoint, logging."""
    operators: list[Operator]
    """Slowest first."""
    flops: int
    """Floating point operations per step, of matrix products and convolutions, forward and backward."""
    peak: float
    """Floating point operations per second of a large matrix product on the same device and threads."""
    memory: int
    """Bytes: the most that torch held on the GPU, or the process on the CPU."""

    @property
    def step(self) -> float:
        """Seconds per step."""
        return sum(self.phases.values())

    @property
    def epoch(self) -> float:
        """Seconds per epoch, work between steps included."""
        return self.step * self.steps_per_epoch + sum(self.between.values())

    def share(self, phase: str) -> float:
        """The fraction of an epoch that `phase` takes."""
        seconds = self.between[phase] if phase in self.between else self.phases[phase] * self.steps_per_epoch
        return seconds / self.epoch


class _Enough(Exception):  # noqa: N818 (not an error: the steps asked for are done)
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
        wait(self.run.device)  # kernels run on after the call that starts them
        return time.perf_counter()

    def _annotate(self, phase: str | None) -> None:
        """Name the phase in a trace, if one is being recorded."""
        if self._range is not None:
            self._range.__exit__(None, None, None)
        self._range = record_function(phase) if phase else None
        if self._range is not None:
            self._range.__enter__()


def measure(
    recipe: Recipe,
    images: ImageSpec,
    data: Batches,
    device: torch.device,
    steps: int,
    trace: Path,
    between: dict[str, float] | None = None,
) -> Profile:
    """Measure `steps` steps of `recipe` on `data`; a trace for TensorBoard goes to the folder `trace`.

    A training of fewer steps gets more epochs for it. `between`: seconds per epoch between steps, as the real run
    had them; None: evaluation and checkpoint are measured. Raises PodiumError where the copy diverges.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    longer = _with_steps(recipe, len(data), WAIT + WARM_UP + steps)
    try:
        timed = _timed(longer, images, data, device, steps)
        operators = _traced(longer, images, data, device, steps, trace)
    except DivergedError as error:
        raise PodiumError(f"the copy of the training that was to be profiled diverged: {error}") from None
    run = TrainingRun(recipe, images, 0, device)
    size = min(recipe.train.batch_size, len(data))
    return Profile(
        device=device.type,
        steps=timed.steps,
        batch=size,
        steps_per_epoch=-(-len(data) // recipe.train.batch_size),
        phases={name: seconds / timed.steps for name, seconds in timed.seconds.items()},
        between=_between(run, data) if between is None else between,
        operators=operators,
        flops=_flops(run, data, size),
        peak=_peak(device, run.fast),
        memory=_memory(device),
    )


def _with_steps(recipe: Recipe, count: int, steps: int) -> Recipe:
    """`recipe` with epochs for at least `steps` steps on `count` images, all of them after `train.head_epochs`: a step
    costs the same in all of them."""
    fewest = len(bounds(math.ceil(recipe.train.data_fraction * count), recipe.train.batch_size)) - 1
    epochs = min(max(recipe.train.epochs, math.ceil(steps / fewest)), MOST_EPOCHS)
    return recipe.replace({"train.epochs": epochs, "train.head_epochs": 0})


def _timed(recipe: Recipe, images: ImageSpec, data: Batches, device: torch.device, steps: int) -> Phases:
    with Phases(TrainingRun(recipe, images, 0, device)) as phases:
        phases.train(data, WARM_UP)
        phases.forget()
        phases.train(data, steps)
        return phases


def _traced(
    recipe: Recipe, images: ImageSpec, data: Batches, device: torch.device, steps: int, trace: Path
) -> list[Operator]:
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with (
        Phases(TrainingRun(recipe, images, 0, device)) as phases,
        profile(
            activities=activities,
            schedule=schedule(wait=WAIT, warmup=WARM_UP, active=steps),
            on_trace_ready=tensorboard_trace_handler(str(trace), worker_name="retrain"),
            record_shapes=True,
            profile_memory=True,
        ) as profiler,
    ):
        phases.train(data, WAIT + WARM_UP + steps, profiler.step)
    recorded = phases.steps - WAIT - WARM_UP
    on_gpu = device.type == "cuda"
    events = [
        e for e in profiler.key_averages() if e.key not in phases.seconds and not e.key.startswith("ProfilerStep")
    ]
    times = [e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in events]
    found = [Operator(e.key, e.count / recorded, t / recorded / 1000) for e, t in zip(events, times, strict=True)]
    return sorted(found, key=lambda operator: -operator.milliseconds)


def _between(run: TrainingRun, data: Batches) -> dict[str, float]:
    """Evaluation of a sixth of the images, as many as are usually held back, and one checkpoint."""
    held = Batches(data.images[: max(len(data) // 6, 1)], data.labels[: max(len(data) // 6, 1)])
    started = time.perf_counter()
    validate(run.model, held, run.fast)
    validated = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        checkpoint.save(Path(folder) / "x.ckpt", "profile", run.state())
    return {"evaluation": validated - started, "checkpoint": time.perf_counter() - validated}


def _flops(run: TrainingRun, data: Batches, size: int) -> int:
    run.model.train()
    with FlopCounterMode(display=False) as counter:
        run.train_step(data.images[:size], data.labels[:size], run.recipe.train.learning_rate)
    return int(counter.get_total_flops())


def _peak(device: torch.device, fast: torch.dtype | None) -> float:
    """The best of a few products of two large matrices, in the precision that the training uses."""
    matrix = torch.ones((SIDE, SIDE), dtype=fast or torch.float32, device=device)
    best = float("inf")
    for _ in range(4):
        started = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # reading a value waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes
