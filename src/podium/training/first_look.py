"""What of a network is fitted to training images before the first step, without labels and without gradients."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from podium.models.fisher import FisherVectors
from podium.training.batches import Batches

IMAGES = 256
"""That are looked at, at most."""


def first_look(network: nn.Module, train: Batches, seed: int, normalize: Callable[[Tensor], Tensor]) -> nn.Module:
    """`network`, in which what is fitted so is fitted to images of `train`, through `normalize`.

    It follows from `seed` and the images: a training that begins again has the same.
    """
    parts = [one for one in network.modules() if isinstance(one, FisherVectors)]
    if not parts:
        return network
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    with torch.no_grad():
        images = normalize(train.images[rows.to(train.labels.device)]).to(parts[0].last.weight.device)
        for number, part in enumerate(parts):
            part.look_at(images, torch.Generator().manual_seed(seed + number))
    return network
