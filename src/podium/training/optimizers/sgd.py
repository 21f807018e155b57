"""Stochastic gradient descent."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from podium.training.optimizers import Decaying, Group

if TYPE_CHECKING:
    from torch import nn


class Sgd(Decaying):
    """SGD, with Nesterov's momentum where it has momentum."""

    NAME: ClassVar[str] = "sgd"

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum (0: none)."""

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """torch's SGD, fused."""
        import torch

        return torch.optim.SGD(
            self.decayed(groups), lr=rate, momentum=self.momentum, nesterov=self.momentum > 0, fused=True
        )
