"""Where the time of a training step goes: a trace for torch-tb-profiler, and a page that needs no program to read."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler

from podium.batches import Batches
from podium.fit import Images, TrainingRun
from podium.recipe import Recipe

WARM_UP = 2
"""Steps before the recorded ones: the first pays for allocations that no later one pays for."""
SHOWN = 15
"""Operators in the summary."""


def profile_training(
    recipe: Recipe, images: Images, data: Batches, device: torch.device, steps: int, out: Path
) -> None:
    """Record `steps` training steps of a throw-away copy of the run: profile/*.pt.trace.json and profile.md in `out`.

    A copy, so that the real run is neither slowed nor changed, and a resumed one still has its profile.
    """
    run = TrainingRun(recipe, images, 0, device)
    size = min(recipe.train.batch_size, len(data))
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(
        activities=activities,
        schedule=schedule(wait=1, warmup=WARM_UP, active=steps),
        on_trace_ready=tensorboard_trace_handler(str(out / "profile"), worker_name="retrain"),
        record_shapes=True,
        profile_memory=True,
    ) as profiler:
        for step in range(1 + WARM_UP + steps):
            start = step * size % max(len(data) - size + 1, 1)
            with record_function("data"):
                batch, labels = data.images[start : start + size], data.labels[start : start + size]
            with record_function("train_step"):
                run.train_step(batch, labels, recipe.train.learning_rate)
            profiler.step()
    (out / "profile.md").write_text(_summary(profiler, steps, size, device), encoding="utf-8")


def _summary(profiler: profile, steps: int, size: int, device: torch.device) -> str:
    events = [e for e in profiler.key_averages() if not e.key.startswith("ProfilerStep")]
    on_gpu = device.type == "cuda"
    whole = sum(e.self_cpu_time_total for e in events) / 1000
    own = {e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total) / 1000 for e in events}
    total = sum(own.values()) or 1.0
    counts = {e.key: e.count for e in events}
    rows = sorted(own, key=lambda key: -own[key])[:SHOWN]
    lines = [
        "# Profile of the retraining",
        "",
        f"{steps} steps of {size} images on {device.type}: {whole / steps:.2f} ms of CPU time a step"
        f" under the profiler, {steps * size / whole * 1000:,.0f} images/s.",
        "",
        "`tensorboard --logdir data/retrained/profile` shows the trace.",
        "",
        f"| operator | calls a step | own time a step, ms ({device.type}) | share |",
        "|---|---:|---:|---:|",
        *(f"| {k} | {counts[k] / steps:.1f} | {own[k] / steps:.3f} | {own[k] / total:.1%} |" for k in rows),
    ]
    return "\n".join(lines) + "\n"
