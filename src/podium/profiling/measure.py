"""One training measured: phases by the clock, then operators and a trace under torch.profiler, of throw-away copies.

Copies, so that the real run is neither slowed nor changed, and a resumed one still has its profile.
"""

import math
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler
from torch.utils.flop_counter import FlopCounterMode

from podium.config.recipe import Recipe
from podium.errors import PodiumError
from podium.models.networks import ImageSpec
from podium.profiling.phases import Phases
from podium.training import checkpoint
from podium.training.batches import Batches, bounds
from podium.training.loop import DivergedError, TrainingRun, validate

WARM_UP = 2
"""Steps before the recorded ones: the first pays for allocations that no later one pays for."""
WAIT = 1
"""Steps before those, which torch.profiler does not look at."""
MOST_EPOCHS = 10_000
"""More is no train.epochs."""
SIDE = 1024
"""Of the square matrices whose product shows what the device can do."""


@dataclass(frozen=True)
class Operator:
    """One of torch's operators."""

    name: str
    calls: float
    """A step."""
    milliseconds: float
    """Of its own a step, on the device."""


@dataclass(frozen=True)
class Profile:
    """What was measured."""

    device: str
    """cpu or cuda."""
    steps: int
    batch: int
    """Images per step."""
    steps_an_epoch: int
    phases: dict[str, float]
    """Seconds a step by phase, without the profiler."""
    beside: dict[str, float]
    """Seconds an epoch of what is done between steps: evaluation, checkpoint, logging."""
    operators: list[Operator]
    """Slowest first."""
    flops: int
    """Floating point operations a step, of matrix products and convolutions, forward and backward."""
    peak: float
    """Floating point operations a second of a large matrix product on the same device and threads."""
    memory: int
    """Bytes: the most that torch held on the GPU, or the process on the CPU."""

    @property
    def step(self) -> float:
        """Seconds a step."""
        return sum(self.phases.values())

    @property
    def epoch(self) -> float:
        """Seconds an epoch with all that belongs to it."""
        return self.step * self.steps_an_epoch + sum(self.beside.values())

    def share(self, phase: str) -> float:
        """Of an epoch."""
        seconds = self.beside[phase] if phase in self.beside else self.phases[phase] * self.steps_an_epoch
        return seconds / self.epoch


def measure(
    recipe: Recipe,
    images: ImageSpec,
    data: Batches,
    device: torch.device,
    steps: int,
    trace: Path,
    beside: dict[str, float] | None = None,
) -> Profile:
    """Measure `steps` steps of `recipe` on `data`; a trace for TensorBoard goes to the folder `trace`.

    A training of fewer steps gets more epochs for it. `beside`: seconds an epoch between steps, as the real run had
    them; None: evaluation and checkpoint are measured. Raises PodiumError where the copy diverges.
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
        steps_an_epoch=-(-len(data) // recipe.train.batch_size),
        phases={name: seconds / timed.steps for name, seconds in timed.seconds.items()},
        beside=_beside(run, data) if beside is None else beside,
        operators=operators,
        flops=_flops(run, data, size),
        peak=_peak(device),
        memory=_memory(device),
    )


def _with_steps(recipe: Recipe, count: int, steps: int) -> Recipe:
    """`recipe` with epochs for at least `steps` steps on `count` images; a step costs the same in all of them."""
    fewest = len(bounds(math.ceil(recipe.train.data_fraction * count), recipe.train.batch_size)) - 1
    epochs = min(max(recipe.train.epochs, math.ceil(steps / fewest)), MOST_EPOCHS)
    return recipe.replace({"train.epochs": epochs})


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


def _beside(run: TrainingRun, data: Batches) -> dict[str, float]:
    """Evaluation of a sixth of the images, as many as are usually held back, and one checkpoint."""
    held = Batches(data.images[: max(len(data) // 6, 1)], data.labels[: max(len(data) // 6, 1)])
    started = time.perf_counter()
    validate(run.model, held, run.fast)
    between = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="podium-") as folder:
        checkpoint.save(Path(folder) / "x.ckpt", "profile", run.state())
    return {"evaluation": between - started, "checkpoint": time.perf_counter() - between}


def _flops(run: TrainingRun, data: Batches, size: int) -> int:
    run.model.train()
    with FlopCounterMode(display=False) as counter:
        run.train_step(data.images[:size], data.labels[:size], run.recipe.train.learning_rate)
    return int(counter.get_total_flops())


def _peak(device: torch.device) -> float:
    """The best of a few products of two large matrices, in the precision that the training uses."""
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    matrix = torch.ones((SIDE, SIDE), dtype=kind, device=device)
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
