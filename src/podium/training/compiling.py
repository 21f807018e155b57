"""torch.compile: of one network because it was asked for, of a trial's where measured steps say that it pays."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from podium.training.device import own_numbers, wait
from podium.training.memory_errors import out_of_memory
from podium.training.precision import autocast

COMPILED_IMAGES = 64
"""Images of the step that finds out whether it works."""
ROUNDS = 3
"""Steps timed of each kind; the fastest counts."""
LEAST = 10.0
"""Seconds that compiling is taken to need where it was not measured yet: a training that could not win so many is not
tried."""
MOST_GAIN = 0.5
"""The part of a step's time that compiling is taken to save at most, likewise."""


def compile_network(
    model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: torch.dtype | None
) -> list[str]:
    """Compile `model` in place, once a copy of it was compiled and took a step on images of `shape` (C, H, W).

    Where that fails, also for want of memory, `model` stays as it is, and the returned message says why. `fast`: under
    autocast in that type, as the training is.
    """
    try:
        why = _tried(model, shape, min(batch_size, COMPILED_IMAGES), fast)
    except Exception as error:  # of memory: what is not compiled may do with what there is
        why = _failed(error)
    if why:
        return [f"retrain.compile: {why}"]
    model.compile()
    return []


_fails: dict[tuple[object, ...], str] = {}
"""What `fails_here` has found in this process: trials that rest come back again and again."""


def fails_here(model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: torch.dtype | None) -> list[str]:
    """Why `model`, which was compiled where its training began, can't be compiled here, as a sentence; else nothing.

    Memory that does not suffice is none of these reasons: its error is raised, for the step fits in more parts.
    """
    key = _key(model, shape, batch_size, fast)
    if key not in _fails:
        _fails[key] = "" if _known.get(key) is not None else _tried(model, shape, batch_size, fast)
    return [f"search.compile: {_fails[key]}"] if _fails[key] else []


def _tried(model: nn.Module, shape: tuple[int, int, int], count: int, fast: torch.dtype | None) -> str:
    """Why a compiled copy of `model` takes no step on `count` images; empty: it does. Raises what tells of memory."""
    trial = copy.deepcopy(model).train()
    try:
        _step(torch.compile(trial), trial, shape, count, fast)()
    except Exception as error:  # a missing compiler, an operator that it does not know, its own bugs
        if out_of_memory(error):
            raise
        return _failed(error)
    return ""


def _key(model: nn.Module, shape: tuple[int, int, int], count: int, fast: torch.dtype | None) -> tuple[object, ...]:
    return str(model), shape, count, fast, next(model.parameters()).device


@dataclass(frozen=True)
class Measured:
    """Seconds of a step of one network, as it is and compiled, and of compiling it."""

    plain: float
    compiled: float
    took: float

    def gain(self, steps: int) -> float:
        """Seconds that `steps` steps save, less those of compiling once more."""
        return steps * (self.plain - self.compiled) - self.took


_known: dict[tuple[object, ...], Measured | None] = {}
"""What this process has measured; None: it does not work."""


def pays(
    model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: torch.dtype | None, steps: int
) -> tuple[bool, list[str]]:
    """Whether a compiled `model` makes `steps` steps on `batch_size` images of `shape` (C, H, W) shorter, and a
    sentence the first time.

    Both are measured on a copy, once a network and process, and not where the steps are too short or too few to win.
    """
    where = next(model.parameters()).device
    key = _key(model, shape, batch_size, fast)
    notes: list[str] = []
    if key not in _known:
        plain = _seconds(_step(copy.deepcopy(model).train(), None, shape, batch_size, fast), where)
        if steps * plain * MOST_GAIN < LEAST:
            return False, notes
        _known[key], why = _compiled(model, shape, batch_size, fast, plain)
        notes = [f"search.compile: {why}"]
    found = _known[key]
    return found is not None and found.gain(steps) > 0, notes


def _compiled(
    model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: torch.dtype | None, plain: float
) -> tuple[Measured | None, str]:
    """What a compiled copy of `model` takes, where it works, and what to say."""
    where = next(model.parameters()).device
    trial = copy.deepcopy(model).train()
    began = time.perf_counter()
    try:
        step = _step(torch.compile(trial), trial, shape, batch_size, fast)
        step()
        wait(where)
        took = time.perf_counter() - began
        found = Measured(plain, _seconds(step, where), took)
    except Exception as error:  # as above
        return None, _failed(error)
    text = (
        f"a step of {batch_size} images takes {1000 * found.compiled:.1f} ms compiled, {1000 * plain:.1f} ms as it is"
    )
    least = "no number of steps is" if found.plain <= found.compiled else f"{took / (plain - found.compiled):,.0f} are"
    return found, f"{text}; compiling took {took:.0f} s, which {least} worth"


def _step(
    network: Callable[[Tensor], Tensor],
    owner: nn.Module | None,
    shape: tuple[int, int, int],
    count: int,
    fast: torch.dtype | None,
) -> Callable[[], None]:
    """A forward and a backward pass of `network` on `count` black images; `owner` has its weights where it is none."""
    weights = owner or network
    if not isinstance(weights, nn.Module):
        raise TypeError("the network has no weights")
    where = next(weights.parameters()).device
    images = torch.zeros((count, *shape), dtype=torch.uint8, device=where)

    def step() -> None:
        with own_numbers(where), autocast(where, fast):
            loss = network(images).float().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        weights.zero_grad(set_to_none=True)

    return step


def _seconds(step: Callable[[], None], where: torch.device) -> float:
    """Of the fastest of a few; the first pays for what no later one pays for."""
    best = float("inf")
    for turn in range(ROUNDS + 1):
        began = time.perf_counter()
        step()
        wait(where)
        if turn:
            best = min(best, time.perf_counter() - began)
    return best


def _failed(error: Exception) -> str:
    why = " ".join(str(error).split())[:300]
    return f"torch.compile does not work here ({type(error).__name__}: {why}); trained without it"
