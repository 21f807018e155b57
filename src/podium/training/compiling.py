"""torch.compile, with a message where it does not work."""

import copy

import torch
from torch import nn

from podium.training.device import own_numbers
from podium.training.precision import autocast

COMPILED_IMAGES = 64
"""Images of the step that finds out whether it works."""


def compile_network(
    model: nn.Module, shape: tuple[int, int, int], batch_size: int, fast: torch.dtype | None
) -> list[str]:
    """Compile `model` in place, once a copy of it was compiled and took a step on images of `shape` (C, H, W).

    Where that fails `model` stays as it is, and the returned message says why. `fast`: under autocast in that type, as
    the training is.
    """
    trial = copy.deepcopy(model).train()
    device = next(model.parameters()).device
    images = torch.zeros((min(batch_size, COMPILED_IMAGES), *shape), dtype=torch.uint8, device=device)
    try:
        with own_numbers(device), autocast(device, fast):
            torch.compile(trial)(images).float().sum().backward()
    except Exception as error:  # a missing compiler, an operator that it does not know, its own bugs
        why = " ".join(str(error).split())[:300]
        return [
            f"retrain.compile: torch.compile does not work here ({type(error).__name__}: {why}); trained without it"
        ]
    model.compile()
    return []
