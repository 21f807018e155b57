"""The augmentations of a training, applied to its batches: random numbers follow from seed, epoch and step."""

import random
from typing import Any

import torch
from torch import Tensor

from podium.config.recipe import Recipe
from podium.models.networks import ImageSpec
from podium.training.augmentations import Draw, OwnAugmentation
from podium.training.device import own_numbers
from podium.training.seeds import derive


class Augmenter:
    """Those of `train.augment` and of parameters of their own."""

    def __init__(self, recipe: Recipe, images: ImageSpec, seed: int, device: torch.device) -> None:
        every = recipe.train.augmentations()
        self._changes = [one for one in every if not one.BLENDS]
        self._blends = [one for one in every if one.BLENDS]
        self._seed = seed
        self._mean = _mean_colour(images, device)
        self.generator = torch.Generator(device=device)
        self.own: dict[str, Any] = {}
        """Other people's objects, which may hold a state, by their place in params.yaml; made at the beginning."""
        with own_numbers(device, derive(seed, "own")):
            for number, one in enumerate(one for one in every if isinstance(one, OwnAugmentation)):
                self.own[f"train.augment {one.chosen.name} ({number + 1})"] = one.own

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._changes or self._blends)

    @property
    def sees_batches(self) -> bool:
        """Whether one of other people's may look at a whole batch."""
        return bool(self.own)

    def begin_epoch(self, epoch: int) -> None:
        """Let the numbers follow from `epoch`."""
        self.generator.manual_seed(derive(self._seed, "augment", epoch))

    def apply(self, images: Tensor, epoch: int, step: int) -> tuple[Tensor, float]:
        """`images` (B, C, H, W) uint8 as the network gets them, and which fraction of each is its own."""
        if self._changes:
            draw = Draw(self.generator, derive(self._seed, "augment", epoch, step), self._mean)
            for one in self._changes:
                images = one.apply(images, draw)
        if not self._blends:
            return images, 1.0
        numbers = random.Random(derive(self._seed, "mix", epoch, step))  # noqa: S311 (no secret)
        which = int(numbers.random() * len(self._blends)) if len(self._blends) > 1 else 0
        blended: tuple[Tensor, float] = self._blends[which].blend(images, numbers)
        return blended


def _mean_colour(images: ImageSpec, device: torch.device) -> Tensor:
    """The mean pixel (1, C, 1, 1) of the training images, uint8."""
    colour = [round(255 * value) for value in images.mean]
    return torch.tensor(colour, dtype=torch.uint8, device=device).view(1, -1, 1, 1)
