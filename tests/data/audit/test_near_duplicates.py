"""Copies of real photographs, and photographs that are none."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import photos
from podium.data.audit import near_duplicates
from podium.data.image_facts import LEAST_CONTRAST


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


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("alike", [0.0, 0.9, 0.97])
def test_groups_are_those_of_comparing_every_image_with_every_other(crops: bool, alike: float) -> None:
    """`alike`: how much all images have in common; so much that one has more neighbours than are looked for at once."""
    draw = np.random.default_rng(0)
    pieces = [_piece(draw) for _ in range(90)]
    images = [Image.blend(one, photos.tiles()[30], alike) for one in pieces]
    thumbs = _thumbs([*images, *(one.crop((4, 5, 92, 90)) for one in images)])
    seen = np.flatnonzero(thumbs.reshape(len(thumbs), -1).std(1) >= LEAST_CONTRAST)
    found = near_duplicates.groups(lambda numbers: thumbs[numbers], len(thumbs), crops=crops)
    assert np.array_equal(found, _by_force(thumbs, seen, crops=crops))


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("size", [7, 30])
def test_groups_are_the_same_however_many_pieces_are_searched(
    crops: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(1)
    pieces = [_piece(draw) for _ in range(45)]
    thumbs = _thumbs(
        [*pieces, *(one.resize((50, 50)) for one in pieces), *(one.crop((4, 5, 92, 90)) for one in pieces)]
    )
    whole = near_duplicates.groups(lambda numbers: thumbs[numbers], len(thumbs), crops=crops)
    monkeypatch.setattr(near_duplicates, "PIECE", size)  # 16 and 4 pieces
    found = near_duplicates.groups(lambda numbers: thumbs[numbers], len(thumbs), crops=crops)
    assert np.array_equal(found, whole)
    assert len(np.unique(found)) <= len(thumbs) - (80 if crops else 40)


def _piece(draw: np.random.Generator) -> Image.Image:
    one, other = (photos.tiles()[int(number)] for number in draw.integers(0, len(photos.tiles()), 2))
    return Image.blend(one, other.transpose(Image.Transpose(int(draw.integers(0, 7)))), float(draw.uniform(0, 0.5)))


def _by_force(thumbs: NDArray[np.uint8], seen: NDArray[np.int64], *, crops: bool) -> NDArray[np.int64]:
    """The groups by the same measures of every pair."""
    nd = near_duplicates
    edges = np.zeros((len(thumbs), len(thumbs)), np.bool_)
    whole = nd.coarse(lambda numbers: thumbs[numbers], seen, nd.WHOLE)
    for part in (nd.WHOLE, *(nd.PARTS if crops else ())):
        least, same = (nd.COPY, nd.SAME_COPY) if part == nd.WHOLE else (nd.CROP, nd.SAME_CROP)
        parts = nd.coarse(lambda numbers: thumbs[numbers], seen, part)
        one, other = np.nonzero(whole @ parts.T >= least)
        one, other = seen[one], seen[other]
        if part == nd.WHOLE:  # a pair is compared one way
            one, other = np.maximum(one, other), np.minimum(one, other)
        one, other = one[one != other], other[one != other]
        if len(one):
            fits = nd.fit(thumbs[one], thumbs[other], part) >= same
            edges[one[fits], other[fits]] = True
    _, component = connected_components(coo_array(edges), directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    return np.asarray(first[number])
