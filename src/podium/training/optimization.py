"""What a step of the training loop needs besides the model: weights in groups, their rates, averages, class weights."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from podium.config.recipe import TrainParams
from podium.errors import InputError
from podium.models.backbone import Backbone
from podium.models.build import backbone_of
from podium.private_names import say
from podium.training import eager
from podium.training.optimizers import Group
from podium.training.trained import digest_of
from podium.training.weight_roles import hidden_matrices, undecayed

HEAD_START = 10
"""Steps after which the decay of the average is about a half: the first weights are random, and are soon forgotten."""


def build_optimizer(model: nn.Module, params: TrainParams, shape: tuple[int, int, int] | None = None) -> Any:
    """The optimizer that `params` names, over the weights of `model` that learn; see podium.training.weight_roles for
    those that do not decay and those that Muon takes. `shape` (C, H, W): of an image, where it is known.

    Each group's `scale` is its learning rate as a fraction of the schedule's: see `set_rate`.
    """
    eager.without_compiler()
    optimizer = params.component("optimizer")
    hidden = hidden_matrices(model, shape) if optimizer.TAKES_HIDDEN else []
    return optimizer.build(_groups(model, params), hidden, params.learning_rate)


def set_rate(optimizer: Any, rate: float) -> None:
    """Make `rate` the learning rate of the next step, each group's in its proportion."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


class Average:
    """The exponential moving average of a network's weights and running statistics (Polyak and Juditsky 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._trained, self._averaged = (_numbers(_learning_part(one)) for one in (model, self.model))

    def update(self, step: int) -> None:
        """Take in the weights after step `step` of the whole run, counted from 0."""
        decay = min(self.decay, (1 + step) / (HEAD_START + step))
        _move(self._averaged, self._trained, 1 - decay)


def _move(averaged: list[Tensor], trained: list[Tensor], fraction: float) -> None:
    """Move each tensor of `averaged` by `fraction` towards that of `trained`, in one call where torch has its own."""
    try:
        torch._foreach_lerp_(averaged, trained, fraction)
    except (AttributeError, TypeError) as error:  # before it has changed anything
        say("torch", "the weights are averaged one tensor at a time", error)
        for one, other in zip(averaged, trained, strict=True):
            one.lerp_(other, fraction)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """The weight of each class in the loss: inverse to its share of `labels` (N,), 1 on average over the images."""
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return len(labels) / (classes * counts).float()


def _groups(model: nn.Module, params: TrainParams) -> list[Group]:
    """What decays and the rest apart, and the layers of a library's network apart where these learn more slowly."""
    backbone = backbone_of(model) if params.backbone_rate < 1 or params.layer_decay < 1 else None
    depths = _depths(backbone, params.layer_decay) if backbone else {}
    groups: dict[tuple[bool, int], Group] = {}
    kept = undecayed(model)
    for parameter in (p for p in model.parameters() if p.requires_grad):
        free, depth = id(parameter) in kept, depths.get(id(parameter), 0)
        scale = params.backbone_rate * params.layer_decay ** (depth - 1) if depth else 1.0
        group = groups.setdefault((free, depth), {"params": [], "decays": not free, "scale": scale})
        group["params"].append(parameter)
    return [groups[kind] for kind in sorted(groups)]


def _depths(backbone: Backbone, decay: float) -> dict[int, int]:
    """How many layers each parameter of `backbone`, by its id, is below the head, which is left out.

    All are 1 where no `decay` tells them apart. Raises InputError where one does, and the network has no order of its
    layers. timm's groups, as its own layer-wise decay has them (K. Clark et al., ELECTRA, ICLR 2020).
    """
    head = {id(p) for p in backbone.heads.parameters()}
    below = {name: p for name, p in backbone.network.named_parameters() if id(p) not in head}
    if decay == 1:
        return {id(p): 1 for p in below.values()}
    matcher = getattr(backbone.network, "group_matcher", None)
    if matcher is None:
        raise InputError(
            f"train.layer_decay: must be 1 where the network does not say which layers it has; got {decay:g} for"
            f" {type(backbone.network).__name__}: only networks of timm (model.name: timm:<name>) say it"
        )
    from timm.models import group_parameters

    layers = group_parameters(backbone.network, matcher(coarse=False), reverse=True)
    order = sorted({layers[name] for name in below}, reverse=True)
    return {id(p): 1 + order.index(layers[name]) for name, p in below.items()}


def _learning_part(model: nn.Module) -> nn.Module:
    """What of `model` changes in training: of a network with a frozen backbone its heads."""
    backbone = backbone_of(model)
    return backbone.heads if backbone is not None and backbone.frozen else model


def learning_state(model: nn.Module) -> dict[str, Tensor]:
    """What of the state dict of `model` changes in training: all, or without the weights of a frozen backbone."""
    own = {id(value) for value in _learning_part(model).state_dict(keep_vars=True).values()}
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items() if id(value) in own}


def frozen_state(model: nn.Module) -> dict[str, Tensor]:
    """The rest of it."""
    own = learning_state(model)
    return {name: value for name, value in model.state_dict().items() if name not in own}


def load_learning_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put back what `learning_state` returned. Raises RuntimeError where it is that of another network."""
    model.load_state_dict(frozen_state(model) | state)


class Frozen:
    """What of a network does not change for now, so that no checkpoint has it."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._known = ""

    def digest(self) -> str:
        """SHA-256 of the weights of a frozen backbone, computed once; empty where none is frozen."""
        backbone = backbone_of(self._model)
        if backbone is None or not backbone.frozen:
            return ""
        self._known = self._known or digest_of(frozen_state(self._model))
        return self._known


def _numbers(model: nn.Module) -> list[Tensor]:
    """Every weight and running statistic, each once where several layers share it; the counters of batches are whole
    numbers and decide nothing."""
    once = {id(tensor): tensor.detach() for tensor in model.state_dict(keep_vars=True).values()}
    return [tensor for tensor in once.values() if tensor.is_floating_point()]
