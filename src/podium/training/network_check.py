"""What a network has to give before it can be trained or registered: logits of the right form, which depend on
the image alone, and a graph that torch.export takes.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from podium import own_code
from podium.errors import InputError


def check_logits(logits: Any, count: int, classes: int, parameter: str, name: str) -> None:
    """Raise InputError where `logits` of `count` images are not (count, classes) finite floats."""
    at, when = own_code.at(name), ", before any training" if parameter == "model.name" else ""
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (count, classes) or not logits.is_floating_point():
        raise InputError(
            f"{parameter}: {name} must give logits, floats of shape (images, classes), here ({count}, {classes});"
            f" it gave {own_code.described(logits)}{at}"
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"{parameter}: {name} gives logits that are not finite numbers{when}{at}")
    if classes > 1 and bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        raise InputError(
            f"{parameter}: {name} gives probabilities (they add up to 1), not logits; loss and registered model apply"
            f" the softmax themselves: return what goes into yours{at}"
        )


def check_predictions(model: nn.Module, images: Tensor, classes: int, parameter: str, name: str) -> None:
    """Raise InputError where `model`, in eval mode, gives other logits for `images` (N, C, H, W) uint8 when it is
    called again, or for the first of them alone.

    The tolerances are of rounding, which differs between sizes of batches.
    """
    model.eval()
    with torch.inference_mode():
        first, again, single = model(images), model(images), model(images[:1])
    check_logits(first, len(images), classes, parameter, name)
    check_logits(single, 1, classes, parameter, name)
    at = own_code.at(name)
    if not _alike(first, again):
        raise InputError(
            f"{parameter}: {name} gives other logits for the same images when it is called again in eval mode: it keeps"
            f" state between calls, or draws random numbers; a registered model must not{at}"
        )
    if not torch.allclose(first[:1], single, rtol=1e-2, atol=1e-3 * max(1.0, float(first.abs().max()))):
        raise InputError(
            f"{parameter}: {name} gives other logits for an image alone than for the same image among {len(images)}, in"
            f" eval mode: it looks at the other images of the batch; a registered model must not{at}"
        )


def check_export(model: nn.Module, shape: tuple[int, ...], parameter: str, name: str) -> None:
    """Raise InputError where torch can't export `model`, of uint8 images of `shape` (C, H, W)."""
    exported(model, shape, f"{parameter}: {name}", own_code.at(name))


def exported(model: nn.Module, shape: tuple[int, ...], named: str, at: str = "") -> Any:
    """The graph of a copy of `model`, on the CPU and in eval mode, for batches of any size.

    Raises InputError where torch can't export it, beginning with `named` and ending with `at`.
    """
    example = torch.zeros((2, *shape), dtype=torch.uint8)
    try:
        whole = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        return torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except own_code.RAISED as error:  # its own errors, the compiler's, those of the network
        raise InputError(
            f"{named} can't be exported, so it could not be registered: {own_code.blame(error)}. torch.export takes no"
            f" branch that depends on the values of a tensor (`if x.sum() > 0`): write torch.where{at}"
        ) from error


def _alike(first: Tensor, again: Tensor) -> bool:
    """Whether two calls gave the same: to the bit on the CPU, where a GPU may add in another order."""
    return torch.equal(first, again) if first.device.type == "cpu" else torch.allclose(first, again, 1e-3, 1e-4)
