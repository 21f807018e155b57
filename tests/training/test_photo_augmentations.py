"""Augmentations of photographs: each image by its own numbers, beside torchvision's functions for one image."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from podium.config.recipe import TrainParams
from podium.training.augmentations import Draw, operations
from podium.training.augmentations.rand_augment import RANGES

SIDE = 96
"""Pixels; Pillow rounds in `equalize` by the number of pixels, which matters for small images."""
COLOUR = torch.tensor([10, 200, 90], dtype=torch.uint8).view(1, 3, 1, 1)
OURS = {
    "random_resized_crop": 0.3,
    "rotation": 20.0,
    "color_jitter": 0.5,
    "erasing": 1.0,
    "trivial_augment": 1.0,
    "rand_augment": 0.5,
}


def _smooth(count: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Different colour gradients (count, 3, height, width): what is interpolated differs little from what is copied."""
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    one = torch.stack([rows.expand(height, width), columns.expand(height, width), (rows + columns) / 2])
    scale = torch.linspace(120, 240, count).view(-1, 1, 1, 1)
    return (one * scale + 10).to(torch.uint8)


def _draw(seed: int, channels: int = 3) -> Draw:
    return Draw(torch.Generator().manual_seed(seed), seed, COLOUR[:, :channels])


def _augment(images: Tensor, seed: int = 0, **fields: Any) -> Tensor:
    draw = _draw(seed, images.shape[1])
    for one in TrainParams.model_validate(fields).augmentations():
        images = one.apply(images, draw)
    return images


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", [(1, 1, 5, 9), (4, 3, 8, 8), (7, 3, 30, 12), (2, 1, 2, 2)], ids=str)
def test_augmented_batch_keeps_shape_and_type(shape: tuple[int, ...], name: str) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    for seed in range(20):
        augmented = _augment(images, seed, **{name: OURS[name]})
        assert augmented.shape == images.shape
        assert augmented.dtype == torch.uint8


@pytest.mark.parametrize("name", OURS)
def test_augmentation_follows_from_its_generator_image_by_image_and_leaves_the_images_alone(name: str) -> None:
    images = _smooth(1, 24, 24).expand(40, -1, -1, -1).contiguous()
    before = images.clone()
    first, again, other = (_augment(images, seed, **{name: OURS[name]}) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(image.flatten().tolist()) for image in first}) > 20  # not one draw for the batch
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", OURS)
def test_strength_of_zero_is_off_and_a_name_in_the_list_is_on(name: str) -> None:
    assert TrainParams.model_validate({name: type(OURS[name])(0)}).augmentations() == []
    (one,) = TrainParams.model_validate({"augment": [name]}).augmentations()
    assert name == one.NAME


def test_crop_is_a_part_of_the_image_of_at_least_the_smallest_area() -> None:
    side = 64
    rows = torch.arange(side, dtype=torch.uint8)[:, None].expand(side, side)
    images = torch.stack([rows, rows.T, rows]).expand(300, -1, -1, -1).contiguous()  # each pixel holds its own place
    cropped = _augment(images, random_resized_crop=0.25, crop_ratio=1.5).float()
    heights = (cropped[:, 0].amax((1, 2)) - cropped[:, 0].amin((1, 2)) + 1) / side
    widths = (cropped[:, 1].amax((1, 2)) - cropped[:, 1].amin((1, 2)) + 1) / side
    areas = heights * widths
    assert areas.min() > 0.25 - 0.06
    assert areas.max() > 0.9
    assert ((heights / widths).log().abs() < torch.tensor(1.5 + 0.15).log()).all()
    assert cropped[:, 0].amin() == 0  # nothing from outside
    assert cropped[:, 0].amax() == side - 1


def test_whole_crop_without_another_ratio_is_the_image() -> None:
    images = _smooth(4)
    assert torch.equal(_augment(images, random_resized_crop=1.0, crop_ratio=1.0), images)


def test_rotation_shows_the_mean_colour_where_nothing_was() -> None:
    images = torch.zeros((50, 3, 33, 33), dtype=torch.uint8)
    turned = _augment(images, rotation=45.0)
    corners = turned[:, :, 0, 0]
    assert (corners == COLOUR.flatten()).all(1).sum() > 30
    assert not turned[:, :, 16, 16].any()


def test_color_jitter_of_grey_pixels_in_color_stays_grey_and_its_mean_moves_within_the_strength() -> None:
    images = torch.full((200, 3, 4, 4), 100, dtype=torch.uint8)
    changed = _augment(images, color_jitter=0.5).float()
    assert (changed.amax(1) - changed.amin(1)).max() <= 1
    assert 49 <= changed.min() < 60
    assert 140 < changed.max() <= 151


@pytest.mark.parametrize("probability", [0.2, 1.0])
def test_erasing_is_a_rectangle_of_the_mean_colour_in_so_many_images(probability: float) -> None:
    images = torch.zeros((400, 3, 40, 50), dtype=torch.uint8)
    erased = (_augment(images, erasing=probability) == COLOUR).all(1)
    hit = erased.flatten(1).any(1)
    assert abs(float(hit.float().mean()) - probability) < 0.07
    for one in erased[hit]:
        rows, columns = one.any(1), one.any(0)
        assert one.sum() == rows.sum() * columns.sum()
        assert 0.01 < float(one.float().mean()) < 0.36


@pytest.mark.parametrize(
    ("name", "strength", "expected"),
    [
        ("identity", 1.0, lambda x, sign: x),
        ("brightness", 0.5, lambda x, sign: reference.adjust_brightness(x, 1 + sign * 0.45)),
        ("colour", 0.5, lambda x, sign: reference.adjust_saturation(x, 1 + sign * 0.45)),
        ("contrast", 0.5, lambda x, sign: reference.adjust_contrast(x, 1 + sign * 0.45)),
        ("sharpness", 0.5, lambda x, sign: reference.adjust_sharpness(x, 1 + sign * 0.45)),
        ("posterize", 1.0, lambda x, sign: reference.posterize(x, 4)),
        ("solarize", 0.5, lambda x, sign: reference.solarize(x, 127.5)),
        ("autocontrast", 1.0, lambda x, sign: reference.autocontrast(x)),
        ("equalize", 1.0, lambda x, sign: reference.equalize(x)),
        ("rotate", 0.5, lambda x, sign: _moved(x, -sign * 15.0)),
        ("translate_x", 0.5, lambda x, sign: _moved(x, 0.0, -sign * 0.225 * SIDE)),
        ("translate_y", 0.5, lambda x, sign: _moved(x, 0.0, 0.0, -sign * 0.225 * SIDE)),
    ],
)
def test_operation_is_that_of_torchvision(name: str, strength: float, expected: Any) -> None:
    images = _smooth(6)
    kinds = torch.full((6,), operations.NAMES.index(name))
    changed = operations.change(images, _draw(0), kinds, torch.full((6,), strength), RANGES)
    for before, after in zip(images, changed, strict=True):
        near = [_difference(expected(before, sign), after) for sign in (-1, 1)]
        assert min(near) < 4, near


def _moved(image: Tensor, angle: float, right: float = 0.0, down: float = 0.0) -> Tensor:
    moved: Tensor = reference.affine(
        image, angle, [right, down], 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR, fill=[10, 200, 90]
    )
    return moved


def _difference(expected: Tensor, got: Tensor) -> float:
    """The mean of the pixels' differences: interpolation and rounding at edges may differ."""
    return float((expected.float() - got.float()).abs().mean())


def test_every_operation_is_drawn_by_trivial_augment() -> None:
    images = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    many = images.expand(600, -1, -1, -1).contiguous()
    unchanged = (_augment(many, trivial_augment=1.0) == many).flatten(1).all(1).float().mean()
    assert 1 / 14 / 2 < float(unchanged) < 4 / 14
