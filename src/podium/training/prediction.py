"""Probabilities from a network, and the temperature that makes them calibrated: one number that changes no prediction.

C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017. The labels are softened as in J. Platt,
Probabilistic Outputs for Support Vector Machines, 1999: among few images without an error certainty has no bound else.
"""

from collections.abc import Callable
from contextlib import closing, suppress

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from podium.data.shards import Images
from podium.errors import InputError, RefusedError
from podium.training.batches import Batches
from podium.training.device import describe, set_kernels
from podium.training.footprint import halved, images_per_pass
from podium.training.precision import autocast

Into = Callable[[tuple[int, int]], NDArray[np.float32]]
"""What gives an array of a shape to write to; called again where all is predicted again, with smaller batches."""


def _in_memory(shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


def predict_probabilities(
    model: nn.Module,
    images: Images,
    *,
    batch_size: int = 512,
    device: str = "cpu",
    into: Into = _in_memory,
) -> NDArray[np.float32]:
    """The probability of each class for each of `images`: (N, C, H, W) uint8 in, (N, K) out.

    `into`: where they are written as they come, such as a file's memory map.

    The softmax is taken in float32, as in the served graph. Only one batch at a time is read, so `images` may be a
    memory map larger than memory. `model` gives logits (N, K); it is left on `device` and in eval mode. An exported
    graph has one mode and one device, those it was traced in. Raises InputError for other images.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        raise InputError(
            "images: must be (N, C, H, W) of type uint8 with at least one image;"
            f" got {images.shape} of type {images.dtype}"
        )
    with suppress(NotImplementedError):  # how an exported graph answers eval()
        model.eval()
    model.to(device)
    found: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            # A copy: torch warns of arrays that it may not write to.
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            part = model(batch).float().softmax(1).cpu().numpy()
            if found is None:  # held once: of a million images of a thousand classes these are 4 GB
                found = into((len(images), part.shape[1]))
            found[start : start + len(part)] = part
    return found if found is not None else np.empty((0, 0), np.float32)


TOLERANCE = {"cuda": 1e-4, "mps": 1e-3}
"""Largest difference of a probability between float32 on a device and on the CPU that rounding explains: ten times
what other kernels and another order of sums do on CUDA; Metal's exponentials and divisions are less exact (its fast
math). Nothing is evaluated in TF32 or 16 bits: they differ by 1e-3 to 1e-1, and the registered model computes in
float32. Chosen on paper, not on a device."""
SAMPLE = 64
"""Images at the start of a set, and as many spread over the rest, that the CPU predicts too."""


def predict_on(
    model: nn.Module, images: Images, where: torch.device, into: Into = _in_memory
) -> tuple[NDArray[np.float32], float]:
    """`predict_probabilities` on `where`, and by how much a sample of them differs at most from the CPU's.

    The CPU's stand in the result where there are some, the first SAMPLE among them; `model` is left on the CPU. On the
    CPU the difference is 0. Raises RefusedError where it is above TOLERANCE, or no number.
    """
    if where.type == "cpu":
        return predict_probabilities(model, images, into=into), 0.0
    set_kernels(where, deterministic=False)  # float32 itself, no TF32
    size = images_per_pass(model.to(where), torch.from_numpy(np.array(images[:1])).to(where), 512, None)
    found = halved(
        lambda size: predict_probabilities(model, images, batch_size=size, device=str(where), into=into), size, where
    )
    spread = np.linspace(SAMPLE, len(images) - 1, SAMPLE if len(images) > SAMPLE else 0)
    rows = np.unique(np.concatenate([np.arange(min(SAMPLE, len(images))), spread]).astype(np.int64))
    reference = predict_probabilities(model, images[rows])
    off = float(np.abs(found[rows] - reference).max())
    limit = TOLERANCE[where.type]
    if not off <= limit:  # not `>`: a NaN must not pass
        raise RefusedError(
            f"runtime.device: on {describe(where)} a probability differs from the CPU's by up to {off:.2g} in"
            f" {len(rows)} images; rounding of float32 explains {limit:g}. Set runtime.device: cpu, and see what is"
            " wrong with the device, its driver or torch"
        )
    found[rows] = reference
    return found, off


BOUNDS = (0.2, 5.0)
"""Temperatures that are believed."""
BATCH = 1024
PRECISION = 1e-4


def temperature_of(model: nn.Module, data: Batches, fast: torch.dtype | None) -> float:
    """The temperature that suits `model` on images it was not trained on; `fast`: as validated, under autocast."""
    return fit_temperature(*logits_of(model, data, fast))


def logits_of(model: nn.Module, data: Batches, fast: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Logits (N, K) float64 and labels (N,) of `data`, on the CPU; `fast`: as validated, under autocast."""
    model.eval()
    first = data.images[torch.arange(1, device=data.labels.device)]
    size = images_per_pass(model, first, BATCH, fast)
    return halved(lambda size: _logits(model, data, fast, size), size, data.labels.device)


def _logits(model: nn.Module, data: Batches, fast: torch.dtype | None, size: int) -> tuple[Tensor, Tensor]:
    logits, labels = [], []
    with (
        torch.inference_mode(),
        autocast(data.labels.device, fast),
        closing(data.feed(torch.arange(len(data)), size)) as batches,
    ):
        for images, own in batches:
            logits.append(model(images).cpu().double())
            labels.append(own.cpu())
    return torch.cat(logits), torch.cat(labels)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The divisor of `logits` (N, K) float64 by which `labels` (N,) become most likely, within BOUNDS.

    The negative log likelihood is convex in 1 / temperature; its minimum is bracketed by golden sections.
    """
    smoothing = logits.shape[1] / ((logits.shape[1] - 1) * (len(labels) + 2))  # the label's own share: 1 - 1 / (N + 2)

    def loss(inverse: float) -> float:
        return float(F.cross_entropy(logits * inverse, labels, label_smoothing=smoothing))

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    ratio = (5**0.5 - 1) / 2
    while high - low > PRECISION:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return round(2 / (low + high), 4)
