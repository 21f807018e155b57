"""Optimizers and learning rates."""

import math

import torch
from torch import nn

from podium import eager
from podium.recipe import TrainParams


def build_optimizer(model: nn.Module, params: TrainParams) -> torch.optim.Optimizer:
    """The optimizer that `params` names; biases and other vectors are not decayed."""
    eager.without_compiler()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)
    nesterov = params.momentum > 0
    return torch.optim.SGD(groups, lr=params.learning_rate, momentum=params.momentum, nesterov=nesterov, fused=True)


def learning_rate(params: TrainParams, step: int, total: int) -> float:
    """The learning rate of step `step` of `total`: it follows from the position alone, so nothing need be saved.

    cosine: Loshchilov and Hutter 2017, without restarts. one_cycle: Smith and Topin 2018, with linear ramps from
    zero to the peak and back to zero.
    """
    peak = params.learning_rate
    if params.schedule == "constant":
        return peak
    if params.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * step / total))
    warm = params.warmup * total
    rising = (step + 1) / (warm + 1)
    falling = (total - step) / (total - warm) if step >= warm else 1.0
    return peak * min(1.0, rising, falling)
