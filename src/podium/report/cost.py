"""What the networks of the trials cost to use: parameters, and milliseconds an image on this machine."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from podium.config.recipe import ModelParams
from podium.models.build import build_model
from podium.models.networks import ImageSpec

LOOKED_AT = 24
"""Networks that are built and timed, those of the best trials first: a space may have one for each of 1,000 trials."""
ROUNDS = 15
PATIENCE = 0.1
"""Seconds for one network; a large one gets fewer rounds."""


@dataclass(frozen=True)
class Cost:
    """One network."""

    network: dict[str, Any]
    """The `model` section of params.yaml."""
    parameters: int
    milliseconds: float
    """Median of a forward pass of one image on one CPU thread."""


def costs(networks: Iterable[dict[str, Any]], shape: tuple[int, int, int], classes: int) -> list[Cost]:
    """The cost of the first LOOKED_AT distinct ones of `networks`; images of `shape` (C, H, W)."""
    distinct: list[dict[str, Any]] = []
    for network in networks:
        if network not in distinct and len(distinct) < LOOKED_AT:
            distinct.append(network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_cost(network, shape, classes) for network in distinct]
    finally:
        torch.set_num_threads(threads)


def _cost(network: dict[str, Any], shape: tuple[int, int, int], classes: int) -> Cost:
    params = ModelParams.model_validate(network)
    model = build_model(params, ImageSpec(shape, classes, (0.5,) * shape[0], (0.25,) * shape[0])).eval()
    return Cost(network, sum(p.numel() for p in model.parameters()), _latency(model, shape))


def _latency(model: torch.nn.Module, shape: tuple[int, int, int]) -> float:
    image = torch.zeros((1, *shape), dtype=torch.uint8)
    taken: list[float] = []
    end = time.perf_counter() + PATIENCE
    with torch.inference_mode():
        model(image)  # the first pass allocates
        while not taken or (len(taken) < ROUNDS and time.perf_counter() < end):
            started = time.perf_counter()
            model(image)
            taken.append(time.perf_counter() - started)
    return 1000 * median(taken)
