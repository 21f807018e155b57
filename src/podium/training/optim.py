"""Optimizers and learning rates."""

import math

import torch
from torch import nn

from podium.config.recipe import TrainParams
from podium.models.build import zoo_of
from podium.training import eager
from podium.training.muon import Group, MuonAndAdamW

Optimizer = torch.optim.Optimizer | MuonAndAdamW


def build_optimizer(model: nn.Module, params: TrainParams) -> Optimizer:
    """The optimizer that `params` names; biases and other vectors are not decayed, frozen weights are left out.

    Each group's `scale` is its learning rate as a share of the schedule's: see `set_rate`.
    """
    eager.without_compiler()
    groups = _groups(model, params)
    hidden = [p for p in model.parameters() if p.requires_grad and p.dim() > 1][1:-1]
    if params.optimizer == "muon" and hidden:
        return MuonAndAdamW(groups, hidden, params.learning_rate, params.momentum)
    if params.optimizer in ("adamw", "muon"):
        return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)
    nesterov = params.momentum > 0
    return torch.optim.SGD(groups, lr=params.learning_rate, momentum=params.momentum, nesterov=nesterov, fused=True)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Make `rate` the learning rate of the next step, each group's in its proportion."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def learning_rate(params: TrainParams, step: int, total: int) -> float:
    """The learning rate of step `step` of `total`: it follows from the position alone, so nothing need be saved.

    cosine: Loshchilov and Hutter 2017, without restarts. one_cycle: Smith and Topin 2018, with a line from the peak to
    zero. Both begin with a line from zero to the peak.
    """
    peak = params.learning_rate
    if params.schedule == "constant":
        return peak
    warm = params.warmup * total
    rising = (step + 1) / (warm + 1)
    left = (total - step) / (total - warm) if step >= warm else 1.0
    falling = left if params.schedule == "one_cycle" else 0.5 * (1 - math.cos(math.pi * left))
    return peak * min(1.0, rising, falling)


def _groups(model: nn.Module, params: TrainParams) -> list[Group]:
    """Weights and vectors apart, and the backbone of torchvision's networks apart where it learns more slowly."""
    zoo = zoo_of(model) if params.backbone_rate < 1 else None
    head = {id(p) for p in zoo.head.parameters()} if zoo else set()
    groups: dict[tuple[bool, bool], Group] = {}
    for parameter in (p for p in model.parameters() if p.requires_grad):
        vector, slower = parameter.dim() <= 1, bool(zoo) and id(parameter) not in head
        decay, scale = 0.0 if vector else params.weight_decay, params.backbone_rate if slower else 1.0
        group = groups.setdefault((vector, slower), {"params": [], "weight_decay": decay, "scale": scale})
        group["params"].append(parameter)
    return [groups[kind] for kind in sorted(groups)]
