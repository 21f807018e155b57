"""Several networks that are one: each learns from other images of a batch, and their probabilities are averaged.

B. Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS 2017; L.
Brigato and L. Iocchi, On the Effectiveness of Neural Ensembles for Image Classification with Small Datasets, 2021:
small networks together beat one that takes the same time to train, where there are few images.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Members(nn.ModuleList):
    """Networks that differ by their first weights and by the images that they learn from."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W).

        In training each network gets a part of the batch, so a step takes as long as one network's; of a batch with
        fewer images than networks, some that are drawn get one each. Else the logits are the logarithm of the mean of
        all networks' probabilities.
        """
        if self.training:
            parts = images.tensor_split(min(len(self), len(images)))
            first = int(torch.randint(len(self), ())) if len(parts) < len(self) else 0
            return torch.cat([self[(first + i) % len(self)](part) for i, part in enumerate(parts)])
        each = torch.stack([one(images).float().log_softmax(1) for one in self])
        return each.logsumexp(0) - math.log(len(self))


def together(networks: Sequence[nn.Module]) -> nn.Module:
    """`networks`, each of which takes images (N, C, H, W) and gives logits, as one; a single one stays as it is."""
    return networks[0] if len(networks) == 1 else Members(networks)
