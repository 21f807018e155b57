"""Classes of libraries by their names: what params.yaml can say of them, and what is said where it can't."""

from typing import Any

import pytest
import torch

import tiny
from own import OwnCode
from podium import own_code
from podium.config.recipe import Recipe
from podium.config.search_section import SearchParams
from podium.errors import InputError
from podium.training import rehearsal
from podium.training.augmentations import Draw

IMAGES = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8).repeat(16, 1, 1, 1)


def _augmented(choice: Any) -> torch.Tensor:
    (one,) = Recipe.model_validate({"train": {"augment": [choice]}}).train.augmentations()[-1:]
    changed: torch.Tensor = one.apply(IMAGES, Draw(torch.Generator(), 0, IMAGES[:1, :, :1, :1]))
    return changed


def test_transforms_within_a_transform_are_named_too() -> None:
    within = ["RandomHorizontalFlip", {"name": "RandomInvert", "arguments": {"p": 1.0}}]
    changed = _augmented({"name": "RandomChoice", "arguments": {"transforms": within, "p": [0.5, 0.5]}})
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 3
    nested = {"name": "Compose", "arguments": {"transforms": [within[1], within[1]]}}
    both = {"name": "RandomApply", "arguments": {"transforms": [nested, within[1]], "p": 1.0}}
    assert torch.equal(_augmented(both), 255 - IMAGES)


@pytest.mark.parametrize("value", ["bilinear", "nearest-exact"])
def test_kind_of_interpolation_is_written_as_text(value: str) -> None:
    rotation = {"name": "RandomRotation", "arguments": {"degrees": [90, 90], "interpolation": value}}
    assert torch.equal(_augmented(rotation), IMAGES.rot90(1, (2, 3)))


REFUSED = {
    "kind of interpolation": (
        {"name": "RandomRotation", "arguments": {"degrees": 5, "interpolation": "best"}},
        r"^train.augment.RandomRotation.arguments.interpolation: must be nearest, nearest-exact, .* got best$",
    ),
    "policy": (
        {"name": "AutoAugment", "arguments": {"policy": "mnist"}},
        r"^train.augment.AutoAugment.arguments.policy: must be imagenet, cifar10, svhn; got mnist$",
    ),
    "name within": (
        {"name": "RandomOrder", "arguments": {"transforms": ["flip"]}},
        r"^train.augment.RandomOrder.arguments.transforms: must be classes of torchvision.transforms.v2, .*got 'flip'$",
    ),
    "images that become larger": (
        {"name": "Pad", "arguments": {"padding": 2}},
        r"^train.augment: Pad must give images as it got them, \(3, 8, 8\) of torch.uint8; it gave \(3, 12, 12\) of ",
    ),
    "images of another type": (
        "ToPILImage",
        r"^train.augment: ToPILImage must give images as.* gave Image",
    ),
}


@pytest.mark.parametrize(("choice", "words"), REFUSED.values(), ids=REFUSED)
def test_transform_that_can_not_be_is_refused_with_the_rule(choice: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _augmented(choice)


CODE = {
    "LambdaLR": (
        "train",
        "schedule",
        "LambdaLR needs a function, which can't stand in params.yaml: name a function of",
    ),
    "SequentialLR": ("train", "schedule", "SequentialLR needs other schedulers, which can't stand in params.yaml"),
    "Lambda": ("train", "augment", "Lambda needs a function, which can't stand in params.yaml"),
    "PartialFixedSampler": ("search", "sampler", "PartialFixedSampler needs another sampler, which can't stand in"),
    "MixUp": ("train", "augment", "MixUp blends labels too: Podium's own is turned on by train.mixup"),
    "Normalize": ("train", "augment", "Normalize is not needed: images stay uint8 here, and become normalised floats"),
    "CutMix": ("train", "augment", "CutMix blends labels too: Podium's own is turned on by train.cutmix"),
}


@pytest.mark.parametrize("name", CODE)
def test_class_that_needs_code_is_refused_with_what_to_write(name: str) -> None:
    section, field, words = CODE[name]
    value: Any = [name] if field == "augment" else name
    with pytest.raises(ValueError, match=words):
        (Recipe if section == "train" else SearchParams).model_validate(
            {"train": {field: value}} if section == "train" else {field: value}
        )


SIGNATURES = {
    "by position alone": (
        "def own(num_classes, /, width: int = 3): ...",
        r"^model.name: {m}:own takes num_classes by its position alone, .*: remove the `/` after it \(src/",
    ),
    "any name": (
        "def own(**settings):\n    return settings['num_classes']",
        r"^model.name: {m}:own failed: src/{m}.py, line 2, in own: KeyError: 'num_classes'\. {m}:own is given"
        r" num_classes where it names that argument itself; `\*\*` does not$",
    ),
}


@pytest.mark.parametrize(("text", "words"), SIGNATURES.values(), ids=SIGNATURES)
def test_arguments_that_podium_can_not_give_are_named(own: OwnCode, text: str, words: str) -> None:
    name = own.write(text)
    with pytest.raises(InputError, match=words.replace("{m}", name)):
        own_code.call(own_code.load(f"{name}:own", ""), f"{name}:own", "model.name", {}, {"num_classes": 3})


@pytest.mark.parametrize(
    "text",
    [
        "def own(logits, targets, /):\n    return (logits[:, 0] - targets).square().mean()\n",
        "def own(logits, targets, /, scale: float = 1.0):\n    return scale * (logits[:, 0] - targets).square().mean()",
        "def own(logits, *targets):\n    return (logits[:, 0] - targets[0]).square().mean()\n",
        "class own:\n    def __call__(self, logits, targets, /):\n        return logits.square().mean()\n",
    ],
)
def test_loss_may_take_what_it_is_given_by_position_so(own: OwnCode, text: str) -> None:
    recipe = tiny.recipe(**{"train.loss": f"{own.write(text)}:own"})
    assert rehearsal.problems_of(recipe, SearchParams(), tiny.IMAGES) == []
