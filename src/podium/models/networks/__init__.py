"""Networks, a file each: `model.name` names them.

A network is a class with its parameters as fields and a `build` that returns a torch module: normalised float images
(N, C, H, W) in, logits (N, classes) out. Normalisation, the average over mirrored images and the temperature are put
around it by `podium.models.build`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from podium.data.dataset import DatasetInfo
    from podium.models.weight_files import Statistics


@dataclass(frozen=True)
class ImageSpec:
    """What a model has to know of its images."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    """Of the classes, in the order of their labels; empty: not known."""

    @staticmethod
    def of(info: "DatasetInfo") -> "ImageSpec":
        """Those of dataset.json."""
        channels, height, width = info.shape
        shape, names = (channels, height, width), tuple(info.classes)
        return ImageSpec(shape, len(names), tuple(info.mean), tuple(info.std), names)


class Network(Component):
    """A network that `model.name` names."""

    CHANNELS_LAST: ClassVar[bool] = True
    """Whether a CPU trains it faster with the channels as the last dimension: all with padded convolutions.

    Measured in docs/decisions/2026-11-24-models.md; on CUDA every network does.
    """
    TAKES_WEIGHTS: ClassVar[bool] = False
    """Whether `model.weights` may name a file that it starts from."""

    def build(self, images: ImageSpec) -> "nn.Module":
        """The network with random weights. Raises InputError where it can't take these images."""
        raise NotImplementedError

    def pretrained_statistics(self) -> "Statistics | None":
        """Mean and standard deviation, 0 to 1, of what its library's weights were trained on; None: not known."""
        return None


class OwnNetwork(Network):
    """Somebody's own class or function that returns a torch module.

    Its arguments `num_classes`, `in_channels` and `image_size` (a side, or [height, width] where these differ) are
    given by name where it has them.
    """

    TAKES_WEIGHTS: ClassVar[bool] = True

    chosen: Choice

    def build(self, images: ImageSpec) -> "nn.Module":
        """The module that the object returns."""
        from torch import nn

        from podium.models.layers import only_logits

        function = components.load("network", self.chosen.name)
        if isinstance(function, nn.Module):
            raise InputError(
                f"model.name: {self.chosen.name} is one network ({type(function).__name__}), and each trial needs a new"
                f" one: name its class, or a function that returns a new network{own_code.at(self.chosen.name)}"
            )
        module = own_code.call(function, self.chosen.name, "model.name", self.chosen.arguments, offered(images))
        if not isinstance(module, nn.Module):
            raise InputError(
                f"model.name: {self.chosen.name} must be a class or function that gives a torch.nn.Module;"
                f" it gave {type(module).__name__}{own_code.at(self.chosen.name)}"
            )
        return only_logits(_materialized(module, images, self.chosen.name))


def _materialized(module: "nn.Module", images: ImageSpec, name: str) -> "nn.Module":
    """`module` with the weights of its lazy layers (torch.nn.LazyLinear), which take their shapes from a first pass.

    Without such layers nothing is called: no random number of the training's is drawn.
    """
    import torch
    from torch.nn.parameter import is_lazy

    if not any(is_lazy(one) for one in (*module.parameters(), *module.buffers())):
        return module
    was_training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.zeros((2, *images.shape)))
    except own_code.RAISED as error:
        raise InputError(f"model.name: {name} fails on 2 images: {own_code.blame(error)}") from error
    if left := [key for key, one in module.named_parameters() if is_lazy(one)]:
        raise InputError(
            f"model.name: {name} has lazy layers that no image reaches ({', '.join(left[:5])}): remove them, or give"
            f" them their sizes{own_code.at(name)}"
        )
    return module.train(was_training)


def offered(images: ImageSpec) -> dict[str, Any]:
    """What an own network is given by name."""
    channels, height, width = images.shape
    size: Any = height if height == width else (height, width)
    return {"num_classes": images.classes, "in_channels": channels, "image_size": size}


def wrap(choice: Choice) -> Network:
    """Somebody's own network as one of ours."""
    return OwnNetwork(chosen=choice)
