"""A moving average of a network's weights, which is often better than the last of them."""

import copy

import torch
from torch import Tensor, nn

HEAD_START = 10
"""Steps after which the decay is about a half: the first weights are random, and are soon forgotten."""


class Average:
    """The exponential moving average of a network's weights and running statistics (Polyak and Juditsky 1992)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._live, self._kept = _numbers(model), _numbers(self.model)

    def update(self, step: int) -> None:
        """Take in the weights after step `step` of the whole run, counted from 0."""
        decay = min(self.decay, (1 + step) / (HEAD_START + step))
        torch._foreach_lerp_(self._kept, self._live, 1 - decay)


def _numbers(model: nn.Module) -> list[Tensor]:
    """Every weight and running statistic; the counters of batches are whole numbers and decide nothing."""
    return [tensor.detach() for tensor in model.state_dict().values() if tensor.is_floating_point()]
