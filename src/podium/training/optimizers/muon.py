"""Muon for the hidden layers and AdamW for the others."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from podium.training.optimizers import Decaying, Group

if TYPE_CHECKING:
    from torch import nn


class Muon(Decaying):
    """Momentum made orthogonal, for matrices. K. Jordan et al., Muon, 2024."""

    NAME: ClassVar[str] = "muon"
    TAKES_HIDDEN: ClassVar[bool] = True

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (0: none)."""

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """Both as one optimizer; AdamW alone where there is no hidden layer."""
        import torch

        from podium.training.muon_adamw import MuonAndAdamW

        decayed = self.decayed(groups)
        if not hidden:
            return torch.optim.AdamW(decayed, lr=rate, fused=True)
        return MuonAndAdamW(decayed, hidden, rate, self.momentum)
