"""What each weight of a network is for, by the module that it belongs to and by its name, not by its place: which do
not decay, and which are the matrices of hidden layers.
"""

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from podium.models.build import backbone_of
from podium.models.members import Members
from podium.training.device import own_numbers

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.CrossMapLRN2d,
)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
EMBEDDED = ("pos_embed", "pos_embedding", "position_embedding", "reg_token", "relative_position_bias_table")
"""What libraries call learnt positions and tokens that are parameters of a whole network, of no layer."""
MATRICES = (nn.Linear, nn.Bilinear, *CONVOLUTIONS, nn.MultiheadAttention)
"""Modules whose weights are matrices, or kernels that are matrices when they are flattened."""
LAYERS = (nn.Linear, *CONVOLUTIONS)
"""Those that can be a network's first layer or its last."""


def undecayed(model: nn.Module) -> set[int]:
    """The ids of the parameters of `model` that no weight decay pulls to 0.

    As timm groups them: vectors and scalars, biases, what a module lists by `no_weight_decay()` (patterns of names),
    and embeddings; the weights of norms too, which may have more dimensions, and vectors that are shaped to be
    multiplied with maps, such as (C, 1, 1).
    """
    found = {id(parameter) for module, name, parameter in _owned(model) if _is_free(module, name, parameter)}
    for module in model.modules():
        listed = getattr(module, "no_weight_decay", None)
        patterns = tuple(listed() or ()) if callable(listed) else ()
        if patterns:
            found |= {id(p) for name, p in module.named_parameters() if any(fnmatch(name, one) for one in patterns)}
    return found


def _is_free(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if parameter.dim() <= 1 or name.endswith("bias") or name in EMBEDDED:
        return True
    is_vector = parameter.numel() == max(parameter.shape) and not isinstance(module, MATRICES)
    return is_vector or isinstance(module, (*NORMS, *EMBEDDINGS))


def hidden_matrices(model: nn.Module, shape: tuple[int, int, int] | None) -> list[nn.Parameter]:
    """The weights of linear layers, convolutions and attention in `model` that learn, but for those of the layer that
    gets the images and of the one that gives the logits (K. Jordan et al., Muon, 2024).

    Which these two are is seen when `model` is called with images of `shape` (C, H, W); None: the first and the last
    that it lists. Weights of other modules, which may be anything, are left out.
    """
    ends = _ends(model, shape)
    return [
        parameter
        for module, name, parameter in _owned(model)
        if isinstance(module, MATRICES)
        and parameter.requires_grad
        and parameter.dim() > 1
        and not name.startswith("bias")
        and id(parameter) not in ends
    ]


def _owned(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Each parameter of `model` once, in its order, with the module that holds it and its name there."""
    known: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in known:
                known.add(id(parameter))
                yield module, name, parameter


def _ends(model: nn.Module, shape: tuple[int, int, int] | None) -> set[int]:
    """The ids of the parameters of the first layer and of the last, of each member where there are several."""
    learning = any(p.requires_grad for p in model.parameters())
    layers: list[nn.Module] = [one for one in model.modules() if isinstance(one, LAYERS)]
    if shape is not None and learning:
        layers = _called(model, shape) or layers
    members = [one for group in model.modules() if isinstance(group, Members) for one in group]
    of_member = {id(layer): number for number, one in enumerate(members) for layer in one.modules()}
    parts = [[one for one in layers if of_member.get(id(one)) == part] for part in range(len(members))] or [layers]
    ends = [layer for part in parts for layer in part[:1] + part[-1:]]
    backbone = backbone_of(model)
    heads = list(backbone.heads) if backbone is not None else []
    return {id(p) for module in ends + heads for p in module.parameters()}


def _called(model: nn.Module, shape: tuple[int, int, int]) -> list[nn.Module]:
    """The layers of `model` in the order in which they are called."""
    called: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any) -> None:
        called.append(module)

    hooks = [one.register_forward_pre_hook(note) for one in model.modules() if isinstance(one, LAYERS)]
    where = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()  # batch normalisation must not learn from it
    try:
        with own_numbers(where), torch.no_grad():
            model(_black(shape, where))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return called


def _black(shape: tuple[int, int, int], where: torch.device) -> Tensor:
    return torch.zeros((2, *shape), dtype=torch.uint8, device=where)
