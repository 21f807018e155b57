"""Probabilities from a network: the one way in which evaluation, the parity check and the gate ask a model."""

from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from podium.errors import InputError


def predict_probabilities(
    model: nn.Module, images: NDArray[np.uint8], *, batch_size: int = 512, device: str = "cpu"
) -> NDArray[np.float64]:
    """The probability of each class for each of `images`: (N, C, H, W) uint8 in, (N, K) out.

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
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            # A copy: torch warns of arrays that it may not write to.
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            parts.append(model(batch).float().softmax(1).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)
