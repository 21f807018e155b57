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
                each = [self.own(image) for image in images]
                wrong = (new for new, old in zip(each, images, strict=True) if not _is_like(new, old))
                if (one := next(wrong, None)) is not None:
                    raise self._refusal(one, images[0])
                changed = torch.stack(each)
            else:
                changed = self.own(images, **copy.deepcopy(self._arguments))
        if not _is_like(changed, images):
            raise self._refusal(changed, images)
        return changed

    def _refusal(self, changed: Any, images: "Tensor") -> InputError:
        return InputError(
            f"train.augment: {self.chosen.name} must give images as it got them, {own_code.described(images)};"
            f" it gave {own_code.described(changed)}{_remedy(changed, images)}{own_code.at(self.chosen.name)}"
        )

    @cached_property
    def own(self) -> Any:
        """The object that is applied, which may hold a state; made where it is first asked for."""
        found = components.load("augmentation", self.chosen.name)
        given, place = dict(self.chosen.arguments), f"train.augment.{self.chosen.label}"
        images = set() if isinstance(found, type) else own_code.first_arguments(found, 1)
        own_code.check_arguments(found, self.chosen.name, place, given, images)
        if isinstance(found, type):
            if not own_code.is_name(self.chosen.name):
                given = {name: self._settled(name, value) for name, value in given.items()}
            return own_code.call(found, self.chosen.name, "train.augment", given, {})
        return own_code.fresh(found)  # an object, such as a v2.Compose; a function is itself

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        """What a function gets with each batch; a class got it when it was made."""
        found = components.load("augmentation", self.chosen.name)
        return {} if isinstance(found, type) else dict(self.chosen.arguments)

    def _settled(self, name: str, value: Any) -> Any:
        """An argument of torchvision's as params.yaml has it, with what that names: transforms, a kind of
        interpolation, a policy."""
        from torchvision.transforms import v2

        if name == "transforms":
            return [self._within(one) for one in (value if isinstance(value, list) else [value])]
        kind: Any = {"interpolation": v2.InterpolationMode, "policy": v2.AutoAugmentPolicy}.get(name)
        if kind is None or not isinstance(value, str):
            return value
        if value not in (names := [one.value for one in kind]):
            raise InputError(
                f"train.augment.{self.chosen.label}.arguments.{name}: must be {', '.join(names)}; got {value}"
            )
        return kind(value)

    def _within(self, value: Any) -> Any:
        """The transform that `value`, of the list `transforms`, stands for: a name, or a mapping with arguments."""
        found = {"name": value} if isinstance(value, str) else value
        known = components.library_names("augmentation")
        is_form = isinstance(found, dict) and not set(found) - {"name", "arguments"}
        if not is_form or found.get("name") not in known or not isinstance(found.get("arguments", {}), dict):
            raise InputError(
                f"train.augment.{self.chosen.label}.arguments.transforms: must be classes of"
                f" {components.KINDS['augmentation'].library}, each a name or a mapping of name and arguments;"
                f" got {value!r}"
            )
        return OwnAugmentation(chosen=Choice.model_validate(found)).own

    @cached_property
    def _is_of_torchvision(self) -> bool:
        """Whether it is a transform of torchvision, or a torch.nn.Sequential of some."""
        whole = self.own
        parts = list(whole) if type(whole).__module__ == "torch.nn.modules.container" else [whole]
        return bool(parts) and all(type(one).__module__.startswith("torchvision.") for one in parts)


def _remedy(changed: Any, images: "Tensor") -> str:
    """What to change where `changed` is not as `images`, if that is clear."""
    import torch

    if not isinstance(changed, torch.Tensor):
        return ""
    if changed.dtype != images.dtype:
        return (
            ": leave out what makes floats of them, such as ToTensor or Normalize; they become normalised floats later"
        )
    return ": prepare.size decides the size of all images" if changed.shape[:-2] == images.shape[:-2] else ""


def _is_like(changed: Any, images: "Tensor") -> bool:
    import torch

    return isinstance(changed, torch.Tensor) and changed.shape == images.shape and changed.dtype == images.dtype


def wrap(choice: Choice) -> Augmentation:
    """Somebody else's augmentation as one of ours."""
    return OwnAugmentation(chosen=choice)
