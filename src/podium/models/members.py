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
    """Networks that differ by their first weights and by the images that they learn from.

    `parts`: how large a part of every batch each of them learns from, beside the others'; empty: all as large.
    """

    def __init__(self, networks: Sequence[nn.Module] = (), parts: Sequence[int] = ()) -> None:
        super().__init__(networks)
        self.parts = tuple(parts) or (1,) * len(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W).

        In training each network gets a part of the batch, so a step takes as long as one network's; of a batch with
        fewer images than networks, some that are drawn get one each. Else the logits are the logarithm of the mean of
        all networks' probabilities.
        """
        if self.training:
            parts = torch.split(images, self._sizes(len(images)))
            first = int(torch.randint(len(self), ())) if len(parts) < len(self) else 0
            return torch.cat([self[(first + i) % len(self)](part) for i, part in enumerate(parts)])
        each = torch.stack([one(images).float().log_softmax(1) for one in self])
        return each.logsumexp(0) - math.log(len(self))

    def _sizes(self, images: int) -> list[int]:
        """How many of `images` each network gets: one at least, and of the rest its part."""
        if images < len(self):
            return [1] * images
        rest = images - len(self)
        sizes = [1 + rest * part // sum(self.parts) for part in self.parts]
        for n in range(images - sum(sizes)):
            sizes[n] += 1
        return sizes


def together(networks: Sequence[nn.Module], parts: Sequence[int] = ()) -> nn.Module:
    """`networks`, each of which takes images (N, C, H, W) and gives logits, as one; a single one stays as it is.

    `parts`: as Members takes them.
    """
    return networks[0] if len(networks) == 1 else Members(networks, parts)
