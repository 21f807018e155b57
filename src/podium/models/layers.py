"""What every network begins with, what may be around it, and blocks that networks are built of."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from podium.private_names import say


class Normalize(nn.Module):
    """(N, C, H, W) uint8 to float with the training images' mean 0 and standard deviation 1 in each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # One multiply and one add a pixel: x / 255 / std - mean / std.
        deviation = torch.tensor(std).clamp_min(1 / 255).view(1, -1, 1, 1)  # a channel may be constant
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(mean).view(1, -1, 1, 1) / deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise `images`; the result is float32. Blended images come as floats on the same scale of 0 to 255."""
        return torch.addcmul(self.offset, images.float(), self.scale)  # type: ignore[arg-type]


class Temperature(nn.Module):
    """Logits divided by a number: no answer changes, only how sure it is. No weight of the network's."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: Tensor) -> Tensor:
        """Logits of any shape."""
        return logits / self.temperature


class FlipAverage(nn.Sequential):
    """Layers one after the other; in eval mode the answer is the mean of those to each image and to its mirror."""

    def forward(self, input: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        logits: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
        if self.training:
            return logits
        mirrored: Tensor = super().forward(input.flip(3))  # type: ignore[no-untyped-call]
        return (logits.float() + mirrored.float()) / 2


class CropAverage(nn.Sequential):
    """Layers one after the other; in eval mode the answer is the mean of those to the image and to five parts of it.

    The parts, the middle and the four corners, are enlarged to the size of the image: what a network that learnt from
    random parts (train.random_resized_crop) has seen (A. Krizhevsky et al., ImageNet Classification with Deep
    Convolutional Neural Networks, NeurIPS 2012, section 4.1). `side`: the parts' sides as a fraction of the image's;
    `mirrored`: the mirror image of each counts as well.
    """

    def __init__(self, *layers: nn.Module, side: float, mirrored: bool) -> None:
        super().__init__(*layers)
        self.side, self.mirrored = side, mirrored

    def extra_repr(self) -> str:
        """What it is known by."""
        return f"side={self.side}, mirrored={self.mirrored}"

    def forward(self, input: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        if self.training:
            return self._answer(input)
        size = height, width = input.shape[2:]
        h, w = max(1, round(self.side * height)), max(1, round(self.side * width))
        down, across = height - h, width - w
        places = [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)]
        parts = [input[:, :, top : top + h, left : left + w].float() for top, left in places]
        views = [input, *(F.interpolate(part, size, mode="bilinear") for part in parts)]
        views += [view.flip(3) for view in views] if self.mirrored else []
        return torch.stack([self._answer(view).float() for view in views]).mean(0)

    def _answer(self, view: Tensor) -> Tensor:
        logits: Tensor = super().forward(view)  # type: ignore[no-untyped-call]
        return logits


def whole_of(layers: Sequence[nn.Module], *, mirrored: bool, side: float) -> nn.Sequential:
    """`layers` one after the other, averaged as model.flip_average and model.crop_average say."""
    if side:
        return CropAverage(*layers, side=side, mirrored=mirrored)
    return (FlipAverage if mirrored else nn.Sequential)(*layers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        branch = F.relu(self.first_norm(self.first(maps)))
        return F.relu(self.second_norm(self.second(branch)) + self.shortcut(maps))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    halve: list[nn.Module] = [nn.AvgPool2d(stride, ceil_mode=True)] if stride > 1 else []
    return nn.Sequential(*halve, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def unwrapped(module: nn.Module) -> nn.Module:
    """The network in a `module` that only runs it otherwise: compiled, or on several devices."""
    while True:
        inner = _compiled_of(module)
        inner = module.module if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) else inner
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _compiled_of(module: nn.Module) -> nn.Module | None:
    """What torch.compile made `module` of; None: it did not make it. torch has no public name for either."""
    inner = getattr(module, "_orig_mod", None)
    if isinstance(inner, nn.Module) or not type(module).__module__.startswith("torch._dynamo"):
        return inner
    error = AttributeError(f"{type(module).__name__} has no _orig_mod")
    say("torch", "what was compiled is found as the only module within", error)
    return next(module.children(), None)


def only_logits(module: nn.Module) -> nn.Module:
    """`module`, which gives its logits alone where it gave them as `logits` of an object or a dict, as networks of
    Hugging Face do, or of a named tuple, as torchvision's with auxiliary heads do, or as the only element of a tuple.
    """
    last = module[-1] if type(module) is nn.Sequential and len(module) else module
    if not isinstance(last, torch.jit.ScriptModule):  # it takes no hook; network_check says what to do instead
        last.register_forward_hook(_logits_of)
    return module


def _logits_of(module: nn.Module, args: Any, output: Any) -> Tensor | None:
    found = output.get("logits") if isinstance(output, Mapping) else None
    if isinstance(output, tuple | list) and not hasattr(output, "logits"):
        found = output[0] if len(output) == 1 else None  # of several, which one it is can't be known
    elif found is None and not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
    return found if isinstance(found, Tensor) else None
