"""What a search cost, what more trials could still bring, and what the networks of its trials cost to use."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import torch

from podium.config.recipe import Recipe
from podium.models.build import build_model
from podium.models.networks import ImageSpec
from podium.report.trials import Search, Timing, Trial

MEASURED = 24
"""Number of networks that are built and timed, those of the best trials first: 1,000 trials may have 1,000 networks."""
ROUNDS = 15
PATIENCE = 0.1
"""Seconds of timing per network; a large one gets fewer rounds."""


@dataclass(frozen=True)
class Spent:
    """What a search cost: the trials that this study ran itself."""

    complete: int
    pruned: int
    failed: int
    inherited: int
    """Trials inherited from earlier studies: they cost nothing here."""
    epochs: int
    """Epochs trained."""
    epochs_saved: int
    """Epochs that pruned trials did not train."""
    seconds: float | None
    """Duration of the search; None if its times are not known here."""
    seconds_saved: float | None
    """Worker-seconds that pruning saved, at each trial's own speed."""
    busy: float | None
    """Fraction of the workers' time spent on trials."""

    @property
    def fraction_saved(self) -> float:
        """Fraction of the planned epochs that pruning saved."""
        return self.epochs_saved / max(self.epochs + self.epochs_saved, 1)


@dataclass(frozen=True)
class Outlook:
    """What doubling the number of trials could gain."""

    trials: int
    """Number of trials with a value, completed or pruned."""
    gain: float
    """How much better the best of all is than the best of a random half, on average."""
    std: float | None
    """Pooled standard deviation of one configuration's values over seeds; None if none was run twice."""

    @property
    def worth_it(self) -> bool:
        """Whether the gain is larger than what another seed changes."""
        return self.gain > (self.std or 0.0)


def spent(search: Search, timing: Timing | None) -> Spent:
    """What the search cost."""
    own = [t for t in search.trials if t.own]
    pruned = [t for t in own if t.state == "PRUNED"]
    return Spent(
        complete=sum(t.state == "COMPLETE" for t in own),
        pruned=len(pruned),
        failed=sum(t.state == "FAIL" for t in own),
        inherited=len(search.trials) - len(own),
        epochs=sum(t.epochs for t in own),
        epochs_saved=sum(_epochs_saved(t) for t in pruned),
        seconds=timing.seconds if timing else None,
        seconds_saved=sum(_epochs_saved(t) * _epoch_seconds(t, timing) for t in pruned) if timing else None,
        busy=_busy(timing) if timing and not search.decisions else None,
    )


def outlook(search: Search, candidates: Sequence[dict[str, list[float]]]) -> Outlook:
    """What more trials could gain; `candidates`: confirmed configurations with their `values` over seeds.

    The expected best of a number of trials is the curve of Dodge et al., Show Your Work, EMNLP 2019, with the unbiased
    estimate of Tang et al., ACL 2020. It flattens, so the gain of the second half of the trials is about the most
    that as many more will gain. It takes trials as exchangeable; those of a sampler that learns improve over time.
    """
    values = [v for t in search.of("COMPLETE", "PRUNED") if (v := t.last_value) is not None]
    signed = [search.metric.sign * v for v in values]
    gain = max(signed, default=0.0) - best_of(signed)
    return Outlook(len(values), gain, pooled_std([c["values"] for c in candidates]))


def best_of(values: Sequence[float]) -> float:
    """The largest of a random half of `values`, on average over all halves; 0 if there are none."""
    ordered, size = sorted(values), (len(values) + 1) // 2
    ways = math.comb(len(ordered), size)
    return sum(v * (math.comb(i, size - 1) / ways) for i, v in enumerate(ordered)) if ordered else 0.0


def pooled_std(groups: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation within `groups`; None if no group has two values."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return None
    squares = sum((value - fmean(group)) ** 2 for group in several for value in group)
    return math.sqrt(squares / freedom)


@dataclass(frozen=True)
class NetworkCost:
    """What one network costs to use."""

    network: dict[str, Any]
    """The `model` section of params.yaml."""
    parameters: int
    milliseconds: float
    """Median of a forward pass of one image on one CPU thread."""


def network_costs(networks: Iterable[dict[str, Any]], shape: tuple[int, int, int], classes: int) -> list[NetworkCost]:
    """The cost of the first MEASURED distinct `networks`; images of `shape` (C, H, W)."""
    distinct: list[dict[str, Any]] = []
    for network in networks:
        if network not in distinct and len(distinct) < MEASURED:
            distinct.append(network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_cost(network, shape, classes) for network in distinct]
    finally:
        torch.set_num_threads(threads)


def _epochs_saved(trial: Trial) -> int:
    return max(trial.planned - trial.epochs, 0)


def _epoch_seconds(trial: Trial, timing: Timing | None) -> float:
    span = timing.spans.get(trial.number) if timing else None
    return span.epoch_seconds if span else 0.0


def _busy(timing: Timing) -> float | None:
    workers = len(set(timing.lanes().values()))
    whole = workers * timing.seconds
    return min(timing.busy() / whole, 1.0) if whole else None


def _cost(network: dict[str, Any], shape: tuple[int, int, int], classes: int) -> NetworkCost:
    params = Recipe().replace({f"model.{name}": value for name, value in network.items()}).model
    model = build_model(params, ImageSpec(shape, classes, (0.5,) * shape[0], (0.25,) * shape[0])).eval()
    return NetworkCost(network, sum(p.numel() for p in model.parameters()), _latency(model, shape))


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
