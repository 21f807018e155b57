"""Classes of different sizes that count alike."""

import torch
from torch import Tensor


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class in the loss: inverse to its share of `labels` (N,), 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts).float()


def draw_balanced(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` rows of `labels` (N,), drawn with replacement so that each class is as likely as every other."""
    weights = class_weights(labels, int(labels.max()) + 1)[labels]
    return torch.multinomial(weights, count, replacement=True, generator=generator)
