"""Augmentations of whole batches on their device, a file each.

A parameter of the augmentation's own name turns it on (`train.shift: 2`); so does its name in `train.augment`. There
classes of torchvision.transforms.v2 and people's own stand too.
"""

import copy
import random
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from podium import components, own_code
from podium.components import Choice, Component
from podium.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Where an augmentation's random numbers come from, and the colour of what is cut out."""

    generator: "torch.Generator"
    """On the images' device; it follows from seed and epoch."""
    seed: int
    """Of this step."""
    colour: "Tensor"
    """(1, C, 1, 1) uint8, the training images' mean."""


class Augmentation(Component):
    """An augmentation: (B, C, H, W) uint8 in, the same out."""

    ORDER: ClassVar[int] = 50
    """Of those that a parameter turns on, those of a lower number come first."""
    BLENDS: ClassVar[bool] = False
    """Whether it blends pairs of images, so that labels are blended too: see `blend`. Of several, one is drawn a step.
    """

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """The batch, each image changed at random."""
        raise NotImplementedError

    def blend(self, images: "Tensor", draw: random.Random) -> "tuple[Tensor, float]":
        """Each image blended with the one before it in the batch (the first with the last), all by one fraction.

        Returns the images and the fraction of each that is its own; the rest is that of `images.roll(1, 0)`, whose
        labels are `labels.roll(1)`.
        """
        raise NotImplementedError


class OwnAugmentation(Augmentation):
    """A class of torchvision.transforms.v2, or somebody's own function or class; made with its `arguments`.

    A transform of torchvision draws once for all that it is given, so it is applied to each image; people's own get
    the whole batch.
    """

    chosen: Choice

    def apply(self, images: "Tensor", draw: Draw) -> "Tensor":
        """The batch, with random numbers that follow from the step alone. Raises InputError for another shape."""
        import torch

        from podium.training.device import own_numbers

        with own_numbers(images.device, draw.seed):
            if self._is_of_torchvision:
                changed = torch.stack([self.own(image) for image in images])
            elif isinstance(components.load("augmentation", self.chosen.name), type):
                changed = self.own(images)
            else:
                changed = self.own(images, **copy.deepcopy(dict(self.chosen.arguments)))
        if not isinstance(changed, torch.Tensor) or changed.shape != images.shape or changed.dtype != images.dtype:
            raise InputError(
                f"train.augment: {self.chosen.name} must give images as it got them, {own_code.described(images)};"
                f" it gave {own_code.described(changed)}{own_code.at(self.chosen.name)}"
            )
        return changed

    @cached_property
    def own(self) -> Any:
        """The object that is applied, which may hold a state; made where it is first asked for."""
        found = components.load("augmentation", self.chosen.name)
        given, place = dict(self.chosen.arguments), f"train.augment.{self.chosen.label}"
        known, _ = own_code.arguments_of(found)
        images = set() if isinstance(found, type) else set(list(known)[:1])
        own_code.check_arguments(found, self.chosen.name, place, given, images)
        if isinstance(found, type):
            return own_code.call(found, self.chosen.name, "train.augment", given, {})
        return own_code.fresh(found)  # an object, such as a v2.Compose; a function is itself

    @cached_property
    def _is_of_torchvision(self) -> bool:
        """Whether it is a transform of torchvision, or a torch.nn.Sequential of some."""
        whole = self.own
        parts = list(whole) if type(whole).__module__ == "torch.nn.modules.container" else [whole]
        return bool(parts) and all(type(one).__module__.startswith("torchvision.") for one in parts)


def wrap(choice: Choice) -> Augmentation:
    """Somebody else's augmentation as one of ours."""
    return OwnAugmentation(chosen=choice)
