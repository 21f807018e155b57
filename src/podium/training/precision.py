"""Whether a training runs in bfloat16 (autocast): asked for, possible, and found to be faster."""

import copy
import time
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

PROBED = 64
"""Images a step of the probe at most: it takes a fraction of a second."""
ROUNDS = 3
"""Steps timed of each kind, in turns; the fastest counts."""

_measured: dict[tuple[str, tuple[int, ...], int], tuple[float, float]] = {}
"""What this process has probed: a search trains the same network many times."""


def choose(
    wanted: Literal["auto", "float32", "bfloat16"], model: nn.Module, shape: tuple[int, int, int], batch_size: int
) -> tuple[bool, str]:
    """Whether to train `model` on images of `shape` (C, H, W) in bfloat16, and a sentence where that is not what
    was wanted and not yet said. Random numbers are left as they were.
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
    if half < single or known:  # what was said once need not be said for every trial
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
