"""Copies of real photographs, and photographs that are none."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import photos
from podium.data.audit import near_duplicates


def _thumbs(images: list[Image.Image]) -> NDArray[np.uint8]:
    grey = (
        image.convert("L").resize((near_duplicates.SIDE, near_duplicates.SIDE), Image.Resampling.BILINEAR)
        for image in images
    )
    return np.stack([np.asarray(image) for image in grey])


def _groups(images: list[Image.Image], *, crops: bool) -> list[int]:
    thumbs = _thumbs(images)
    found: list[int] = near_duplicates.groups(lambda numbers: thumbs[numbers], len(thumbs), crops=crops).tolist()
    return found


def _jpeg(image: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(photos.encoded(image, "JPEG", quality=40)))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg": _jpeg,
    "webp": lambda image: Image.open(io.BytesIO(photos.encoded(image, "WEBP", quality=60))),
    "smaller": lambda image: image.resize((48, 48)),
    "larger": lambda image: image.resize((300, 200)),
    "grey": lambda image: image.convert("L"),
}
CROPS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "middle": lambda image: image.crop((5, 5, 91, 91)),
    "corner": lambda image: image.crop((0, 0, 88, 90)),
    "a tenth a side": lambda image: image.crop((9, 9, 87, 87)),
    "and jpeg": lambda image: _jpeg(image.crop((3, 8, 96, 90)).resize((200, 200))),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("crops", [False, True])
def test_copies_of_photographs_are_found_and_strangers_are_not(copy: str, crops: bool) -> None:
    tiles = _shown(photos.tiles())
    found = _groups([*tiles, *map(COPIES[copy], tiles)], crops=crops)

    assert found[: len(tiles)] == list(range(len(tiles)))
    assert found[len(tiles) :] == list(range(len(tiles)))


@pytest.mark.parametrize("crop", CROPS)
def test_crops_of_photographs_are_found_and_strangers_are_not(crop: str) -> None:
    tiles = _shown(photos.tiles())
    found = _groups([*tiles, *map(CROPS[crop], tiles)], crops=True)

    assert found[: len(tiles)] == list(range(len(tiles)))
    assert np.mean(np.equal(found[len(tiles) :], range(len(tiles)))) >= 0.94


def test_images_that_show_nothing_are_no_copies() -> None:
    assert _groups([Image.new("L", (40, 40), level) for level in (0, 80, 80, 255)], crops=True) == [0, 1, 2, 3]


def test_brighter_copy_of_less_contrast_is_another_image() -> None:
    tile = photos.tiles()[30].convert("L")

    assert _groups([tile, tile.point(lambda level: 100 + level // 2)], crops=False) == [0, 1]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_copies(count: int) -> None:
    thumbs = np.zeros((count, 32, 32), np.uint8)

    assert near_duplicates.groups(lambda numbers: thumbs[numbers], count, crops=True).tolist() == list(range(count))


def _shown(images: list[Image.Image]) -> list[Image.Image]:
    """Those that show something: some tiles are sky."""
    return [image for image, thumb in zip(images, _thumbs(images), strict=True) if thumb.std() >= 12]
