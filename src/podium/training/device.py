"""What a training runs on: the device, its memory, the precision, and torch.compile, with a message if it fails."""

import copy
import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from podium import resources
from podium.errors import InputError


def pick(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of `runtime.device`. Raises InputError for cuda where there is none."""
    if wanted == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if wanted == "cuda":
        raise InputError(
            "runtime.device: cuda was asked for and torch sees no CUDA device"
            f" (torch {torch.__version__}, built for CUDA {torch.version.cuda or 'none'});"
            " set runtime.device: auto to train on the CPU"
        )
    return torch.device("cpu")


def describe(device: torch.device) -> str:
    """The device as people call it: `cuda NVIDIA L4`, or `cpu`."""
    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "cpu"


USABLE = 0.8
"""Of the machine's memory, or of a whole CUDA device's, that trainings may take where nothing was planned."""
_limits: dict[str, int] = {}
"""What this process may take by the plan of its pool, by the kind of device."""


def limit_memory(device: torch.device, size: int) -> None:
    """Let this process take `size` bytes of `device` at most.

    On CUDA torch's allocator holds it to that: it then fails by itself, and no neighbour does.
    """
    _limits[device.type] = size
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total), device)


def room(device: torch.device) -> int:
    """Bytes of `device` that a training of this process may still take, by plan: not what happens to be free now, for
    the same training is to be divided in the same way again.
    """
    if device.type != "cuda":
        return _limits.get(device.type, int(USABLE * resources.memory()))
    whole = int(USABLE * torch.cuda.get_device_properties(device).total_memory)
    return _limits.get("cuda", whole) - int(torch.cuda.memory_allocated(device))


def share_of_memory(device: torch.device, share: float) -> int | None:
    """Bytes of a CUDA device's memory that are `share` of it, where that is less than one device; else None."""
    if device.type != "cuda" or not 0 < share < 1:
        return None
    return int(share * torch.cuda.get_device_properties(device).total_memory)


def memory(device: torch.device) -> int:
    """Bytes that this process may use: what is free on a CUDA device; on the CPU the machine's, or its container's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return resources.memory()


PROBED = 64
"""Images a step of the probe at most: it takes a fraction of a second."""
ROUNDS = 3
"""Steps timed of each kind, in turns; the fastest counts."""

_measured: dict[tuple[str, tuple[int, ...], int], tuple[float, float]] = {}
"""What this process has probed: a search trains the same network many times."""


def choose_precision(
    wanted: Literal["auto", "float32", "bfloat16"], model: nn.Module, shape: tuple[int, int, int], batch_size: int
) -> tuple[bool, str]:
    """Whether to train `model` on images of `shape` (C, H, W) in bfloat16, and a sentence where that is not what
    was wanted and this was not logged before. Random numbers are left as they were.
    """
    device = next(model.parameters()).device
    if wanted == "float32":
        return False, ""
    if device.type == "cuda":
        return True, ""  # what tensor cores are for
    if wanted == "auto":
        return False, ""
    probed = (min(batch_size, PROBED), *shape)
    key = (str(model), probed, torch.get_num_threads())
    known = key in _measured
    if not known:
        _measured[key] = _probe(model, probed)
    single, half = _measured[key]
    if half < single or known:  # logged once, not for every trial
        return half < single, ""
    return False, (
        f"train.precision: bfloat16 is not faster here ({half * 1000:.1f} ms a step of {probed[0]} images,"
        f" float32 {single * 1000:.1f} ms): float32 is used"
    )


def _probe(model: nn.Module, shape: tuple[int, int, int, int]) -> tuple[float, float]:
    """CPU seconds of a step of `shape` in float32 and in bfloat16."""
    model = copy.deepcopy(model)
    best = [float("inf"), float("inf")]
    with torch.random.fork_rng(devices=[]):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        labels = torch.zeros(len(images), dtype=torch.int64)
        for turn in range(2 * (ROUNDS + 1)):
            started = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(turn % 2)):
                loss = F.cross_entropy(model(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if turn >= 2:  # the first of each kind pays for what no later one pays for
                best[turn % 2] = min(best[turn % 2], time.process_time() - started)
    return best[0], best[1]


COMPILED_IMAGES = 64
"""Images of the step that finds out whether it works."""


def compile_network(model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: bool) -> list[str]:
    """Compile `model` in place, once a copy of it was compiled and took a step on images of `shape` (C, H, W).

    Where that fails `model` stays as it is, and the returned message says why. `fast`: under bfloat16 autocast, as
    the training is.
    """
    trial = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    images = torch.zeros((min(batch_size, COMPILED_IMAGES), *shape), dtype=torch.uint8, device=device)
    try:
        with torch.random.fork_rng(), torch.autocast(device.type, torch.bfloat16, enabled=fast):
            torch.compile(trial)(images).float().sum().backward()
    except Exception as error:  # a missing compiler, an operator that it does not know, its own bugs
        why = " ".join(str(error).split())[:300]
        return [
            f"retrain.compile: torch.compile does not work here ({type(error).__name__}: {why}); trained without it"
        ]
    model.compile()
    return []
