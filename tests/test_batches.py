from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from podium.batches import Batches, augment
from podium.dataset import open_split
from podium.recipe import TrainParams

CPU = torch.device("cpu")


def _images(count: int = 50) -> Tensor:
    return torch.from_numpy(tiny.pixels(count, 3)[0])


def _augment(images: Tensor, seed: int = 0, **fields: Any) -> Tensor:
    params = TrainParams.model_validate(fields)
    return augment(images, params, torch.Generator().manual_seed(seed))


def _moved(image: Tensor, down: int, right: int) -> Tensor:
    """`image` (C, H, W) read at (row + down, column + right), its edges repeated outward."""
    _, height, width = image.shape
    rows = [min(max(row + down, 0), height - 1) for row in range(height)]
    columns = [min(max(column + right, 0), width - 1) for column in range(width)]
    return image[:, rows][:, :, columns]


def test_augmentation_switched_off_gives_the_very_images() -> None:
    images = _images()
    assert _augment(images, shift=0, flip=False) is images


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


@pytest.mark.parametrize("fields", [{"shift": 2}, {"flip": True}, {"shift": 1, "flip": True}], ids=str)
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
    assert torch.equal(_augment(images, 1, shift=2, flip=True), _augment(images, 1, shift=2, flip=True))
    assert not torch.equal(_augment(images, 1, shift=2, flip=True), _augment(images, 2, shift=2, flip=True))
    assert torch.equal(images, before)


def test_batches_of_several_splits_are_one_after_the_other(tmp_path: Path) -> None:
    folder = tiny.prepare(tmp_path)
    splits = [open_split(folder / "train"), open_split(folder / "val")]
    batches = Batches.of(splits, CPU)
    assert len(batches) == 80
    assert np.array_equal(batches.images[60:].numpy(), splits[1].images)
    assert np.array_equal(batches.labels.numpy(), np.concatenate([split.labels for split in splits]))


def test_batches_of_one_split_share_its_memory(tmp_path: Path) -> None:
    split = open_split(tiny.prepare(tmp_path) / "train")
    batches = Batches.of([split], CPU)
    assert batches.images.data_ptr() == split.images.__array_interface__["data"][0]
