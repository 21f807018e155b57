"""Muon for the hidden layers and AdamW for the rest, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Group = dict[str, Any]
"""Parameters (`params`) and what holds for them, as torch's optimizers take it."""


class MuonAndAdamW:
    """K. Jordan et al., Muon, 2024: momentum made orthogonal, for matrices; the rest by AdamW, as its authors advise.

    torch's Muon takes matrices only: a convolution's weights are shown to it as one, in the same memory. Its steps have
    the size of AdamW's (Liu et al., Muon is Scalable for LLM Training, 2025), so one learning rate fits both.
    """

    def __init__(self, groups: list[Group], hidden: list[nn.Parameter], rate: float, momentum: float) -> None:
        """`hidden`: which parameters of `groups` Muon takes; the first layer and the last are better left to AdamW."""
        self._matrices = {id(p): (p, nn.Parameter(_matrix(p, p), requires_grad=False)) for p in hidden}
        self._all = [p for group in groups for p in group["params"]]
        of_muon = [self._part(group, hidden=True) for group in groups]
        of_adamw = [self._part(group, hidden=False) for group in groups]
        self._muon = torch.optim.Muon(
            [group for group in of_muon if group["params"]], rate, momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        others = [group for group in of_adamw if group["params"]] or of_adamw[:1]  # none, where the ends are frozen
        self._adamw = torch.optim.AdamW(others, rate, fused=True)

    @property
    def param_groups(self) -> list[Group]:
        """The groups of both."""
        return [*self._muon.param_groups, *self._adamw.param_groups]

    def step(self) -> None:
        """One step of both."""
        for parameter, matrix in self._matrices.values():
            matrix.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()

    def register_step_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Have `hook` called before each step."""
        return self._muon.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Have `hook` called after each step."""
        return self._adamw.register_step_post_hook(hook)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self._all:
            parameter.grad = None
        for _, matrix in self._matrices.values():
            matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        self._muon.load_state_dict(state["muon"])
        self._adamw.load_state_dict(state["adamw"])

    def _part(self, group: Group, *, hidden: bool) -> Group:
        """`group` with its hidden parameters only, as matrices, or with all others."""
        taken = [p for p in group["params"] if (id(p) in self._matrices) == hidden]
        return group | {"params": [self._matrices[id(p)][1] if hidden else p for p in taken]}


def _matrix(values: Tensor, weights: Tensor) -> Tensor:
    """`values` (outputs, inputs, ...) as (outputs, the rest), in the order in which `weights` lie in memory.

    Which order does not matter to Muon, as long as it is always the same one.
    """
    values = values.detach()
    if values.dim() == 4 and not weights.is_contiguous():  # channels_last
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
