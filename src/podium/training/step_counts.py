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


def phase_of(params: TrainParams, *, head_alone: bool, head_was: bool) -> tuple[int, int]:
    """The epochs, from 0, at which a phase began and will have ended: each has a schedule of its own.

    `head_alone`: the head learns alone in it; `head_was`: it did before, where train.head_epochs says how long.
    """
    if head_alone:
        return 0, min(params.head_epochs, params.epochs)
    return (params.head_epochs if head_was and params.backbone_rate else 0), params.epochs


def steps_of_phase(params: TrainParams, phase: tuple[int, int], count: int, epochs: int) -> tuple[int, int]:
    """The steps of `phase` on `count` images until `epochs` epochs are done, and all of its steps."""
    first, end = phase
    begun = steps_of(params, count, first)
    return steps_of(params, count, epochs) - begun, steps_of(params, count, end) - begun
