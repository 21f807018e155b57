"""Networks. Each takes raw uint8 images: normalisation is its first layer, so training and serving can't differ."""

from collections.abc import Sequence

from torch import nn

from podium.config.recipe import ModelParams
from podium.models import cnn, resnet, zoo
from podium.models.layers import FlipAverage, Normalize

OWN = {"cnn": cnn.layers, "resnet": resnet.layers}


def build_model(
    params: ModelParams,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> nn.Sequential:
    """The network that `params` names for images of `shape` (C, H, W): uint8 (N, C, H, W) in, logits (N, classes) out.

    Its weights are random: `params.weights` is read where a training begins. Raises InputError where the network can't
    take that shape.
    """
    body = OWN.get(params.name, zoo.layers)(params, shape, classes)
    whole = FlipAverage if params.flip_average else nn.Sequential
    return whole(Normalize(mean, std), *body)


def zoo_of(model: nn.Module) -> zoo.Zoo | None:
    """The network of torchvision's inside `model`; None where it is one of our own."""
    return next((module for module in model.modules() if isinstance(module, zoo.Zoo)), None)


def likes_channels_last(params: ModelParams) -> bool:
    """Whether the network trains faster on a CPU with the channels as the last dimension: all with padded convolutions.

    Measured in docs/decisions/2026-11-24-models.md; on CUDA every network does.
    """
    return params.name != "cnn"
