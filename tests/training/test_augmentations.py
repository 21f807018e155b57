import random
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from podium.config.recipe import TrainParams
from podium.training.augmentations import Draw
from podium.training.loop import TrainingRun


def _images(count: int = 50) -> Tensor:
    return torch.from_numpy(tiny.pixels(count, 3)[0])


def _augment(images: Tensor, seed: int = 0, mean: Tensor | None = None, **fields: Any) -> Tensor:
    """What the augmentations that `fields` of the section `train` turn on make of `images`, one after the other."""
    colour = torch.zeros((1, images.shape[1], 1, 1), dtype=torch.uint8) if mean is None else mean
    draw = Draw(torch.Generator().manual_seed(seed), seed, colour)
    for one in TrainParams.model_validate(fields).augmentations():
        images = one.apply(images, draw)
    return images


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    """`image` (C, H, W) read at (row + down, column + right), its edges repeated outward."""
    _, height, width = image.shape
    rows = [min(max(row + down, 0), height - 1) for row in range(height)]
    columns = [min(max(column + right, 0), width - 1) for column in range(width)]
    return image[:, rows][:, :, columns]


def test_augmentation_switched_off_gives_the_very_images() -> None:
    images = _images()
    assert _augment(images, shift=0, flip=False, cutout=0) is images


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_shift_moves_each_image_by_at_most_so_much_and_repeats_edges(shift: int) -> None:
    images = _images(200)
    moved = _augment(images, shift=shift)
    span = range(-shift, shift + 1)
    seen = set()
    for before, after in zip(images, moved, strict=True):
        moves = [(d, r) for d in span for r in span if torch.equal(_moved(before, d, r), after)]
        assert moves, "no such move"
        seen.add(moves[0])
    assert len(seen) == len(span) ** 2


def test_shift_larger_than_the_image_repeats_its_edge() -> None:
    image = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3).expand(100, 1, 3, 3)
    corners = {int(i.flatten()[0]) for i in _augment(image, shift=64) if len(i.unique()) == 1}
    assert corners == {0, 2, 6, 8}


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = _images(200)
    mirrored = _augment(images, flip=True)
    kinds = [
        "mirrored" if torch.equal(after, before.flip(2)) else "same" if torch.equal(after, before) else "other"
        for before, after in zip(images, mirrored, strict=True)
    ]
    assert "other" not in kinds
    assert 70 <= kinds.count("mirrored") <= 130


def test_shift_and_flip_together_are_one_after_the_other() -> None:
    images = _images(100)
    moves = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1)]
    for before, after in zip(images, _augment(images, shift=1, flip=True), strict=True):
        candidates = [_moved(before, *move) for move in moves]
        assert any(torch.equal(after, c) or torch.equal(after, c.flip(2)) for c in candidates)


@pytest.mark.parametrize(
    "fields",
    [{"shift": 2}, {"flip": True}, {"shift": 1, "flip": True}, {"cutout": 3}, {"flip": True, "cutout": 9}],
    ids=str,
)
@pytest.mark.parametrize("shape", [(1, 1, 5, 9), (4, 3, 8, 8), (7, 2, 12, 6)], ids=str)
def test_augmented_batch_keeps_shape_and_type(shape: tuple[int, ...], fields: dict[str, Any]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    augmented = _augment(images, **fields)
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.uint8
    assert augmented.is_contiguous()


def test_augmentation_follows_from_its_generator_and_leaves_the_images_alone() -> None:
    images = _images()
    before = images.clone()
    first, again, other = (_augment(images, seed, shift=2, flip=True, cutout=3) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(images, before)


@pytest.mark.parametrize("side", [1, 2, 3, 8, 20])
def test_cutout_is_a_square_of_the_mean_colour_around_a_pixel(side: int) -> None:
    images = _images(60)
    mean = torch.tensor([250, 251, 252], dtype=torch.uint8).view(1, 3, 1, 1)  # no pixel of theirs is as bright
    cut = _augment(images, mean=mean, cutout=side)
    tallest = 0
    for before, after in zip(images, cut, strict=True):
        changed = (after == mean[0]).all(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        assert len(rows) > 0
        assert changed.sum() == len(rows) * len(columns)
        assert torch.equal(after[:, ~changed], before[:, ~changed])
        tallest = max(tallest, len(rows))
        assert max(len(rows), len(columns)) <= side
    assert tallest == min(side, 8)


def _mixed(images: Tensor, seed: int = 0, **fields: Any) -> tuple[Tensor, float]:
    (one,) = TrainParams.model_validate(fields).augmentations()
    blended: tuple[Tensor, float] = one.blend(images, random.Random(seed))  # noqa: S311 (no secret)
    return blended


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_the_share_of_each_image_and_the_rest_of_the_one_before(seed: int) -> None:
    images = _images(6)
    mixed, own = _mixed(images, seed, mixup=0.4)
    assert 0 <= own <= 1
    expected = own * images.float() + (1 - own) * images.roll(1, 0).float()
    torch.testing.assert_close(mixed, expected)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_is_a_box_of_the_one_before_whose_area_is_its_share(seed: int) -> None:
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 2, 10, 20).contiguous()
    mixed, own = _mixed(images, seed, cutmix=1.0)
    assert mixed.dtype == torch.uint8
    for image, before in zip(range(4), (3, 0, 1, 2), strict=True):
        foreign = mixed[image, 0] == before
        assert set(mixed[image].flatten().tolist()) <= {image, before}
        assert foreign.sum() == foreign.any(1).sum() * foreign.any(0).sum()
        assert foreign.float().mean() == pytest.approx(1 - own)
    assert set(images[:, 0, 0, 0].tolist()) == {0, 1, 2, 3}


def test_mixup_and_cutmix_together_are_one_of_them_a_step() -> None:
    run = TrainingRun(tiny.recipe(train__mixup=1.0, train__cutmix=1.0), tiny.IMAGES, 0, torch.device("cpu"))
    kinds: list[torch.dtype] = []
    run.model.register_forward_pre_hook(lambda model, inputs: kinds.append(inputs[0].dtype))
    for step in range(100):
        run.step = step
        run.train_step(_images(4), torch.arange(4) % 3, 0.001)
    assert 30 <= kinds.count(torch.float32) <= 70
    assert set(kinds) == {torch.float32, torch.uint8}


def test_mix_follows_from_its_seed() -> None:
    images = _images(6)
    first, again, other = (_mixed(images, seed, mixup=1.0) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1] != other[1]


def test_augmentations_are_in_the_order_of_their_kind_then_in_that_of_the_list() -> None:
    params = TrainParams.model_validate({"cutout": 2, "shift": 1, "augment": ["flip", "GaussianBlur"]})
    names = [one.NAME or one.chosen.name for one in params.augmentations()]
    assert names == ["shift", "cutout", "flip", "GaussianBlur"]


def test_transform_of_torchvision_is_drawn_for_each_image_and_follows_from_the_step() -> None:
    images = _images(40)
    crop = {"name": "RandomCrop", "arguments": {"size": 8, "padding": 4}}
    first, again, other = (_augment(images, seed, augment=[crop]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    moved = {tuple((image != before).flatten().tolist()) for image, before in zip(first, images, strict=True)}
    assert len(moved) > 20  # not one draw for the batch
    before = torch.get_rng_state()
    _augment(images, 3, augment=[crop])
    assert torch.equal(torch.get_rng_state(), before)
