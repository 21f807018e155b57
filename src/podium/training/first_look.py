"""What of a network is fitted to training images before the first step, without labels and without gradients."""

import torch
from torch import nn

from podium.models.fisher import FisherVectors
from podium.training.batches import Batches

IMAGES = 256
"""That are looked at, at most."""


def first_look(model: nn.Module, average: nn.Module, train: Batches, seed: int) -> None:
    """Fit what is fitted so in `model`, normalisation first, and give it to `average`, which may be `model`.

    It follows from `seed` and the images: a training that begins again has the same.
    """
    parts, others = ([one for one in each.modules() if isinstance(one, FisherVectors)] for each in (model, average))
    if not parts:
        return
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    with torch.no_grad():
        images = next(iter(model.children()))(train.images[rows.to(train.labels.device)])
        for number, (part, other) in enumerate(zip(parts, others, strict=True)):
            part.look_at(images, torch.Generator().manual_seed(seed + number))
            other.mixtures.load_state_dict(part.mixtures.state_dict())
