"""Classes of different sizes that count alike."""

import torch
from torch import Tensor


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class in the loss: inverse to its share of `labels` (N,), 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts).float()
