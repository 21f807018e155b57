"""Checks of gpu.py within one process: a training on the device beside the CPU, itself, and the bare step."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from gpu_harness import Options, Result, check, judged, timed
from gpu_trainings import (
    CPU,
    LOSSES,
    Enough,
    bare,
    images,
    large,
    losses,
    network,
    noise,
    rate,
    recipe,
    where,
    written,
)
from podium.registry.exported import export_graph, largest_difference, load_graph
from podium.training import checkpoint, device, footprint
from podium.training.batches import Batches
from podium.training.compiling import compile_network
from podium.training.loop import TrainingRun
from podium.training.precision import auto, autocast
from podium.training.prediction import TOLERANCE, predict_on
from podium.training.ranks import SharedRun
from podium.training.saver import snapshot
from podium.training.trained import digest_of
from podium.training.validation import validate


@check(1, "facts", 30)
def _facts(options: Options) -> Result:
    here = where(options)
    found = [f"torch {torch.__version__}", device.describe(here), f"auto precision {auto(here)}"]
    found += [f"{device.memory(here) / 2**30:.1f} GiB"]
    if options.is_cuda:
        found += [f"capability {torch.cuda.get_device_capability(here)}", f"CUDA {torch.version.cuda}"]
        found += [f"cuDNN {torch.backends.cudnn.version()}"]  # type: ignore[no-untyped-call]
    return Result("PASS", ", ".join(found))


@check(2, "losses on the device are the CPU's (float32)", 60)
def _same_losses(options: Options) -> Result:
    here, worst = where(options), dict[str, float]()
    networks: dict[str, dict[str, Any]] = {"resnet": {}, "cnn": {"train__ema": 0.9, "train__balance": "loss"}}
    for optimizer in ("sgd",) if options.tiny else ("sgd", "adamw", "muon"):
        for name, more in networks.items():
            values = {"model__name": name, "model__width": 8, "train__epochs": 2, "train__batch_size": 64, **more}
            made = recipe(train__precision="float32", train__optimizer=optimizer, **values)
            runs = [TrainingRun(made, images(32), 0, one) for one in (CPU, here)]
            for run in runs:
                run.train(noise(256, 32, run.device), noise(128, 32, run.device))
            apart = [abs(a - b) for a, b in zip(losses(runs[0]), losses(runs[1]), strict=True)]
            worst[f"{optimizer} {name}"] = max(apart)
    text = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return judged(max(worst.values()) <= LOSSES, f"{text} (limit {LOSSES:g})")


@check(3, "each precision trains; augmentations, blends and average with it", 60)
def _precisions(options: Options) -> Result:
    here, found, good = where(options), list[str](), True
    changes = {"train__shift": 4, "train__flip": True, "train__cutout": 8, "train__mixup": 0.2, "train__cutmix": 1.0}
    kinds = ("auto", "float32", "tf32", "bfloat16", "float16") if options.is_cuda else ("auto", "float32")
    for kind in kinds:
        made = recipe(model__name="resnet", model__width=8, train__epochs=2, train__batch_size=64, train__ema=0.9,
                      train__precision=kind, **changes)  # fmt: skip
        run = TrainingRun(made, images(32), 0, here)
        history = run.train(noise(512, 32, here), noise(128, 32, here))
        good &= history[-1]["train_loss"] < history[0]["train_loss"] and run.loss_scale.skipped < 8
        used = "float32" if run.fast is None else str(run.fast).removeprefix("torch.")
        found.append(f"{kind} ({used}) {history[-1]['train_loss']:.3f}, skipped {run.loss_scale.skipped}")
        kernel = next(p for p in run.model.parameters() if p.dim() == 4 and p.shape[1] > 1)
        good &= not options.is_cuda or kernel.is_contiguous(memory_format=torch.channels_last)
    return judged(good, "; ".join(found))


@check(4, "same bits twice and after a resume, with train.deterministic", 90)
def _resumes(options: Options) -> Result:
    here, found, good = where(options), list[str](), True
    every = (("sgd", "auto"), ("adamw", "float16"), ("muon", "auto"))
    for optimizer, kind in every[:1] if options.tiny else every:
        made = recipe(model__name="resnet", model__width=8, train__epochs=3, train__batch_size=64, train__shift=2,
                      train__optimizer=optimizer, train__precision=kind, train__ema=0.9,
                      train__deterministic=True)  # fmt: skip
        data, saved = noise(320, 32, here), list[bytes]()

        def stop(run: TrainingRun, saved: list[bytes] = saved) -> None:
            if (run.epoch, run.step) == (1, 3):
                saved.append(checkpoint.dumps("x", snapshot(run.state())))
                raise Enough

        digests = list[str]()
        for resumed in (False, False, True):  # each is made where it begins: random numbers are the process's
            run = TrainingRun(made, images(32), 0, here)
            if resumed:
                with suppress(Enough):
                    run.train(data, None, stop)
                run = TrainingRun(made, images(32), 0, here)
                run.restore(checkpoint.loads(saved[0], "x"))
            run.train(data, None)
            digests.append(digest_of(run.result.state_dict()))
        good &= len(set(digests)) == 1
        same = ["equal" if digests[0] == other else "NOT equal" for other in digests[1:]]
        found.append(f"{optimizer} {kind}: twice {same[0]}, resumed {same[1]}")
    device.set_kernels(here)
    return judged(good, "; ".join(found))


@check(5, "a step beside the bare step", 120)
def _speed(options: Options) -> Result:
    here, seconds = where(options), 0.2 if options.tiny else 4.0
    name, side, batch = large(options)
    made, data = recipe(train__epochs=10_000, **network(options)), noise(4 * batch, side, here)
    kinds = ("bare",) if options.tiny else ("bare", "without cudnn.benchmark", "compiled")
    found = {kind: bare(made, data, side, seconds, kind) for kind in kinds}
    device.set_kernels(here)
    ours = rate(TrainingRun(made, images(side), 0, here), data, batch, seconds)
    text = ", ".join(f"{kind} {value:,.0f}" for kind, value in found.items())
    share = ours / found["bare"]
    return timed(options, share >= 0.95, f"{name} {side} px batch {batch}, images/s: Podium {ours:,.0f}, {text};"
                                         f" {share:.2f} of the bare step (0.95)")  # fmt: skip


@check(6, "small images: the default network on the device and on one CPU thread", 60)
def _small(options: Options) -> Result:
    here, seconds, found = where(options), 0.2 if options.tiny else 3.0, list[str]()
    for one in dict.fromkeys((CPU, here)):
        run = TrainingRun(recipe(train__epochs=10_000, train__batch_size=32), images(8), 0, one)
        found.append(f"{one}: {rate(run, noise(1200, 8, one), 32, seconds):,.0f} images/s")
    return Result("PASS", ", ".join(found))


@check(7, "streamed from the map beside images on the device", 90)
def _streamed(options: Options) -> Result:
    here, seconds = where(options), 0.2 if options.tiny else 4.0
    name, side, batch = large(options)
    made, found = recipe(train__epochs=10_000, **network(options)), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        split = written(Path(folder) / "train", 200 if options.tiny else 8_000, side)
        kinds: dict[str, Callable[..., Batches]] = {"streamed": Batches.mapped, "on the device": Batches.of}
        for kind, of in kinds.items():
            found[kind] = rate(TrainingRun(made, images(side), 0, here), of([split], here), batch, seconds)
    share = found["streamed"] / found["on the device"]
    text = ", ".join(f"{kind} {value:,.0f} images/s" for kind, value in found.items())
    return timed(options, share >= 0.9, f"{name} {side} px: {text}; {share:.2f} (0.9)")


@check(8, "memory of a step and of a validation: measured beside the estimate", 60, cuda="it has a peak of its tensors")
def _memory(options: Options) -> Result:
    here, found, good = where(options), list[str](), True
    name, side, batch = large(options)
    run, data = TrainingRun(recipe(**network(options)), images(side), 0, here), noise(batch, side, here)

    def step(count: int) -> None:
        run.train_step(data.images[:count], data.labels[:count], 1e-3)

    def validation(count: int) -> None:
        with torch.inference_mode(), autocast(here, run.fast):
            run.model(data.images[:count])

    per_step = footprint._measured_step(run.model, run.loss, run.shape, run.fast)
    run.model.eval()
    per_pass = footprint.bytes_of(validation)
    for what, work, (fixed, each) in (
        ("step", lambda: step(batch), per_step),
        ("validation", lambda: validate(run.model, data, run.fast), per_pass),
    ):
        run.model.train()
        work()  # cuDNN has timed its kernels, the optimizer has its moments
        device.wait(here)
        device.release(here)
        footprint.forget_peak(here)
        before = torch.cuda.memory_allocated(here)
        work()
        device.wait(here)
        used = footprint.peak(here) - before
        estimate = footprint.MARGIN * (fixed + each * batch)
        found.append(f"{what} of {batch} {used / 2**30:.2f} GiB, estimate {estimate / 2**30:.2f}")
        good &= well_estimated(used, estimate)
    return judged(
        good, f"{name} {side} px: {'; '.join(found)} (limit: the estimate, and no less than 1/{LOOSEST:g} of it)"
    )


LOOSEST = 4.0
"""How many times what is used an estimate of memory may be: far more would divide batches that fit."""


def well_estimated(used: float, estimate: float) -> bool:
    """Whether a plan by `estimate` has room for what is `used`, and not far too much."""
    return estimate / LOOSEST <= used <= estimate


@check(9, "a checkpoint: its copy, its file, its size", 60)
def _checkpoint(options: Options) -> Result:
    here = where(options)
    _, side, _ = large(options)
    made = recipe(**network(options) | {"train__optimizer": "adamw", "train__batch_size": 4, "train__ema": 0.99})
    run, data = TrainingRun(made, images(side), 0, here), noise(4, side, here)
    run.model.train()
    run.train_step(data.images[:], data.labels, 1e-3)
    device.wait(here)
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder) / "x.ckpt", time.perf_counter()
        state = snapshot(run.state())
        copied = time.perf_counter()
        checkpoint.save(path, "x", state)
        ended, size = time.perf_counter(), path.stat().st_size
        whole = checkpoint.load(path, "x")
    same = whole is not None and digest_of(whole["model"]) == digest_of(state["model"])
    text = (
        f"{size / 1e6:.0f} MB: copy {copied - began:.3f} s (the training waits), file {ended - copied:.2f} s beside it"
    )
    return judged(same, text)


@check(10, "torch.compile", 180)
def _compiled(options: Options) -> Result:
    here = where(options)
    made = recipe(model__name="cnn", train__epochs=2, train__batch_size=64)
    plain, run = (TrainingRun(made, images(32), 0, here) for _ in range(2))
    plain.train(noise(300, 32, here), None)
    began = time.perf_counter()
    if notes := compile_network(run.model, (3, 32, 32), 64, run.fast):
        return Result("FAIL" if options.is_cuda else "SKIP", notes[0])
    took = time.perf_counter() - began
    run.train(noise(300, 32, here), None)
    off = max(abs(a - b) for a, b in zip(losses(plain), losses(run), strict=True))
    return judged(off < 0.05, f"compiled in {took:.0f} s; losses differ by {off:.1e} (limit 0.05)")


@check(11, "the exported CPU graph beside the model on the device, in float32", 60)
def _parity(options: Options) -> Result:
    here = where(options)
    run = TrainingRun(recipe(model__name="resnet", model__width=16, train__epochs=1), images(32), 0, here)
    run.train(noise(512, 32, here), None)
    pixels = noise(200, 32, CPU).images[:].numpy()
    with tempfile.TemporaryDirectory() as folder:
        export_graph(run.model, torch.zeros((2, 3, 32, 32), dtype=torch.uint8), Path(folder) / "g.pt2")
        graph = load_graph(Path(folder) / "g.pt2")(pixels)
    found, sampled = predict_on(run.model.cpu(), pixels, here)
    off, limit = largest_difference(found, graph), TOLERANCE.get(here.type, 1e-5)
    return judged(off <= limit, f"differ by {off:.1e}, evaluate's sample by {sampled:.1e} (limit {limit:g})")


@check(12, "ranks: a world of one beside one process", 60)
def _ranks(options: Options) -> Result:
    here = torch.device("cuda", 0) if options.is_cuda else where(options)
    backend = "nccl" if options.is_cuda else "gloo"
    made = recipe(model__name="resnet", model__width=8, train__epochs=2, train__batch_size=64,
                  train__precision="float32", train__ema=0.9)  # fmt: skip
    alone = TrainingRun(made, images(32), 0, here)
    alone.train(noise(300, 32, here), None)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            one = SharedRun(made, images(32), 0, here)
            one.train(noise(300, 32, here), None)
        finally:
            dist.destroy_process_group()
    off = float(np.max(np.abs(np.subtract(losses(one), losses(alone)))))
    return judged(off <= LOSSES, f"{backend}: losses differ by {off:.1e} (limit {LOSSES:g})")
