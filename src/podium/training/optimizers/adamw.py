"""Adam with decoupled weight decay."""

from typing import TYPE_CHECKING, Any, ClassVar

from podium.training.optimizers import Decaying, Group

if TYPE_CHECKING:
    from torch import nn


class AdamW(Decaying):
    """I. Loshchilov and F. Hutter, Decoupled Weight Decay Regularization, ICLR 2019."""

    NAME: ClassVar[str] = "adamw"

    def build(self, groups: list[Group], hidden: "list[nn.Parameter]", rate: float) -> Any:
        """torch's AdamW, fused."""
        import torch

        return torch.optim.AdamW(self.decayed(groups), lr=rate, fused=True)
