"""What an image is known by: what it shows, and nothing about how it is stored, named or prepared."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import photos
from podium.data.content import Seen, as_numbers, of_pixels
from podium.data.decode import Preprocess, decode_file

TILE = photos.tiles()[30].resize((120, 90))
EXIF = 0x0112


def _digest(data: bytes, **how: Any) -> bytes:
    seen = Seen(data)
    fields: dict[str, Any] = {"channels": 3, "height": 32, "width": 32} | how
    decode_file(data, Preprocess(**fields), 32, seen)
    return seen.digest


def _encoded(image: Image.Image, kind: str = "PNG", orientation: int = 0, **options: Any) -> bytes:
    if orientation:
        exif = Image.Exif()
        exif[EXIF] = orientation
        options["exif"] = exif
    return photos.encoded(image, kind, **options)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_digest_does_not_depend_on_how_an_image_is_prepared(kind: str) -> None:
    data = _encoded(TILE, kind)
    found = {
        _digest(data, height=side, width=side, channels=channels, resize=resize, background="black")
        for side in (8, 32, 64, 200)
        for channels in (1, 3)
        for resize in ("stretch", "crop", "pad")
    }
    assert len(found) == 1
    assert found != {_digest(_encoded(photos.tiles()[31].resize((120, 90)), kind))}


def test_formats_without_loss_and_palettes_are_known_by_their_pixels() -> None:
    few = TILE.quantize(16)
    same = [_encoded(few.convert("RGB"), kind) for kind in ("PNG", "BMP", "TIFF", "PPM")] + [_encoded(few)]
    same += [_encoded(few.convert("RGB"), "WEBP", lossless=True), _encoded(few.convert("RGB"), compress_level=1)]
    assert len({_digest(data) for data in same}) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_notes_in_a_file_change_nothing_and_its_orientation_does(kind: str) -> None:
    plain = _digest(_encoded(TILE, kind))
    assert plain == _digest(_encoded(TILE, kind, icc_profile=b"x" * 400))
    assert plain == _digest(_encoded(TILE, kind, orientation=1))
    assert plain != _digest(_encoded(TILE, kind, orientation=6))


def test_png_that_is_turned_by_a_note_is_the_same_as_one_that_lies_so() -> None:
    turned = TILE.transpose(Image.Transpose.ROTATE_270)
    assert _digest(_encoded(TILE, orientation=6)) == _digest(_encoded(turned))


def test_jpeg_of_another_quality_is_another_image() -> None:
    assert _digest(_encoded(TILE, "JPEG", quality=90)) != _digest(_encoded(TILE, "JPEG", quality=80))


def test_cut_jpeg_has_a_digest_of_its_own_however_it_is_cut() -> None:
    data = _encoded(TILE, "JPEG")
    digests = set()
    for end in (3, 10, 200, 700, len(data)):
        seen = Seen(data[:end])
        seen(TILE, 1)
        digests.add(seen.digest)
    assert len(digests) == 5


def test_sixteen_bits_are_the_same_in_both_orders_of_bytes_whatever_range_is_taken() -> None:
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 9
    files = []
    for order in ("<u2", ">u2"):
        buffer = io.BytesIO()
        Image.fromarray(values.astype(order)).save(buffer, "TIFF")
        files.append(buffer.getvalue())
    assert len({_digest(data, range=ends) for data in files for ends in (None, (0.0, 4095.0))}) == 1


def test_pixels_are_known_by_shape_and_values_in_any_memory_layout() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    assert of_pixels(pixels) == of_pixels(np.asfortranarray(pixels))
    assert of_pixels(pixels) != of_pixels(pixels.reshape(3, 7, 5))


def test_numbers_of_digests_are_in_the_order_of_their_text() -> None:
    digests = [of_pixels(np.array([n])) for n in range(50)]
    assert [f"{number:016x}" for number in as_numbers(digests).tolist()] == [one.hex() for one in digests]
    assert len(as_numbers([])) == 0
