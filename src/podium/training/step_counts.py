"""How many images an epoch takes, and how many steps several epochs have."""

import math

from podium.config.recipe import TrainParams
from podium.training.batches import bounds


def images_taken(params: TrainParams, count: int, epoch: int) -> int:
    """How many of `count` images the epoch `epoch`, from 0, takes."""
    return (
        math.ceil(params.data_fraction * count)
        if not params.data_fraction_epochs or epoch < params.data_fraction_epochs
        else count
    )


def steps_of(params: TrainParams, count: int, epochs: int) -> int:
    """The steps of the first `epochs` epochs over `count` images."""
    early = min(epochs, params.data_fraction_epochs or epochs)
    each = [len(bounds(some, params.batch_size)) - 1 for some in (images_taken(params, count, 0), count)]
    return early * each[0] + (epochs - early) * each[1]
