"""What the checks of gpu.py train: networks, images that can be learnt, and how fast a loop goes."""

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gpu_harness import Options
from podium.config.recipe import Recipe
from podium.data.dataset import Split, open_split, write_split
from podium.models.networks import ImageSpec
from podium.training import device
from podium.training.batches import Batches
from podium.training.loop import TrainingRun
from podium.training.precision import autocast

CPU = torch.device("cpu")
CLASSES = 10
LOSSES = 5e-3
"""Difference of losses after two epochs that other kernels explain: they grow from 1e-7 by every step."""


def images(side: int) -> ImageSpec:
    return ImageSpec((3, side, side), CLASSES, (0.5,) * 3, (0.25,) * 3)


def noise(count: int, side: int, where: torch.device) -> Batches:
    """Images that can be learnt: noise, brighter in the rows that the class names."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 156, (count, 3, side, side), dtype=torch.uint8, generator=draw)
    labels = torch.arange(count) % CLASSES
    rows = torch.arange(side) * CLASSES // side
    pixels += (100 * (rows == labels[:, None])).to(torch.uint8)[:, None, :, None]
    return Batches(pixels.to(where), labels.to(where))


def recipe(**values: Any) -> Recipe:
    return Recipe().replace({name.replace("__", "."): value for name, value in values.items()})


def where(options: Options) -> torch.device:
    torch.set_num_threads(1)
    return torch.device(options.device)


def large(options: Options) -> tuple[str, int, int]:
    """A network, the side of its images and a batch: of torchvision where it is installed, else Podium's own."""
    named = "torchvision:" if find_spec("torchvision") else ""
    if options.tiny:
        return "resnet", 32, 8
    return (f"{named}resnet50", 224, 256) if named else ("resnet", 224, 64)


def network(options: Options) -> dict[str, Any]:
    name, _, batch = large(options)
    width = {"model__width": 8 if options.tiny else 64} if name == "resnet" else {}
    return {"model__name": name, "train__batch_size": batch, "train__optimizer": "sgd"} | width


def losses(run: TrainingRun) -> list[float]:
    return [epoch["train_loss"] for epoch in run.history]


class Enough(Exception):  # noqa: N818 (not an error: what was to be seen is there)
    pass


def rate(run: TrainingRun, data: Batches, batch: int, seconds: float) -> float:
    """Images a second of Podium's own loop, after its first five steps."""
    steps, began = 0, 0.0

    def after(run: TrainingRun) -> None:
        nonlocal steps, began
        steps += 1
        if steps == 5:
            device.wait(run.device)
            began = time.perf_counter()
        if steps > 5 and steps % 5 == 0 and time.perf_counter() - began > seconds:
            raise Enough

    try:
        run.train(data, None, after)
    except Enough:
        device.wait(run.device)
    return batch * (steps - 5) / (time.perf_counter() - began)


def bare(made: Recipe, data: Batches, side: int, seconds: float, kind: str) -> float:
    """Images a second of forward, loss, backward and optimizer on one batch, with the run's own network."""
    run, batch = TrainingRun(made, images(side), 0, data.labels.device), made.train.batch_size
    torch.backends.cudnn.benchmark = kind != "without cudnn.benchmark"
    model: Any = torch.compile(run.model) if kind == "compiled" else run.model
    model.train()
    pixels, labels = data.images[:batch], data.labels[:batch]
    steps, began = 0, 0.0
    while not began or time.perf_counter() - began < seconds:
        with autocast(run.device, run.fast):
            loss = F.cross_entropy(model(pixels), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        steps += 1
        if steps == 5:
            device.wait(run.device)
            began = time.perf_counter()
        elif steps % 5 == 0:
            device.wait(run.device)
    device.wait(run.device)
    return batch * (steps - 5) / (time.perf_counter() - began)


def written(folder: Path, count: int, side: int) -> Split:
    """A split of images on disk."""
    data = noise(count, side, CPU)
    names = tuple(map(str, range(CLASSES)))
    write_split(folder, folder.name, data.images[:].numpy(), data.labels.numpy(), names)
    return open_split(folder)
