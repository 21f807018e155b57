"""Bytes of images in every common form, and of things that are none."""

import io
import json
import struct
import threading
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

import photos
from podium.data.decode import THUMB, BadImage, Preprocess, decode, decode_file, encode_png

GREY = Preprocess(1, 8, 6)
RGB = Preprocess(3, 8, 6)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
LEVELS = NOISE[..., 0]


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_image(mode: str) -> tuple[Image.Image, str]:
    """LEVELS in `mode`, and a format that keeps it."""
    if mode == "I;16":
        return Image.fromarray(LEVELS.astype(np.uint16) * 257), "PNG"
    if mode == "I":
        return Image.fromarray(LEVELS.astype(np.int32) * 257), "TIFF"
    if mode == "F":
        return Image.fromarray(LEVELS.astype(np.float32)), "TIFF"
    if mode == "F to 1":
        return Image.fromarray(LEVELS.astype(np.float32) / 255), "TIFF"
    return Image.fromarray(LEVELS).convert(mode), "TIFF" if mode == "CMYK" else "PNG"


@pytest.mark.parametrize("channels", [1, 3])
def test_decode_of_a_prepared_image_written_as_png_gives_its_exact_pixels(channels: int) -> None:
    image = np.ascontiguousarray(NOISE[..., :channels].transpose(2, 0, 1))
    got = decode(encode_png(image), Preprocess(channels, 8, 6))
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK", "I;16", "I", "F", "F to 1"])
@pytest.mark.parametrize("spec", [GREY, RGB])
def test_decode_of_grey_in_any_mode_gives_the_same_levels(mode: str, spec: Preprocess) -> None:
    got = decode(encoded(*grey_image(mode)), spec)
    np.testing.assert_array_equal(got, np.broadcast_to(LEVELS, (spec.channels, 8, 6)))


def test_decode_of_one_bit_gives_black_and_white() -> None:
    got = decode(encoded(Image.fromarray(LEVELS > 127)), GREY)
    np.testing.assert_array_equal(got[0], np.where(LEVELS > 127, 255, 0))


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: Image.new("RGBA", (6, 8), (0, 0, 0, 0)), 255),
        (lambda: Image.new("RGBA", (6, 8), (0, 0, 0, 255)), 0),
        (lambda: Image.new("LA", (6, 8), (0, 102)), 153),
    ],
    ids=["clear", "opaque", "forty percent black"],
)
def test_decode_of_transparent_pixels_lays_them_on_white(make: Callable[[], Image.Image], seen: int) -> None:
    assert np.unique(decode(encoded(make()), RGB)).tolist() == [seen]


def test_decode_of_a_palette_with_a_transparent_colour_lays_it_on_white() -> None:
    image = Image.new("P", (6, 8), 0)
    image.putpalette([10, 20, 30])
    assert np.unique(decode(encoded(image, transparency=0), RGB)).tolist() == [255]


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
def test_decode_of_a_turned_photograph_follows_its_exif_orientation(orientation: int, turns: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.rot90(NOISE, turns)
    spec = Preprocess(3, upright.shape[0], upright.shape[1])
    got = decode(encoded(Image.fromarray(NOISE), exif=exif), spec)
    np.testing.assert_array_equal(got, upright.transpose(2, 0, 1))


def test_decode_of_a_larger_image_averages_what_it_covers() -> None:
    stripes = np.zeros((80, 60), np.uint8)
    stripes[:, ::2] = 200
    got = decode(encoded(Image.fromarray(stripes)), GREY)
    assert got.shape == (1, 8, 6)
    assert np.abs(got[:, 1:-1, 1:-1].astype(int) - 100).max() <= 5  # without antialiasing: 0 or 200


@pytest.mark.parametrize("spec", [GREY, RGB])
@pytest.mark.parametrize(("mode", "white"), [("LAB", (255, 128, 128)), ("YCbCr", (255, 128, 128))])
def test_decode_of_other_colour_spaces_keeps_white(mode: str, white: tuple[int, ...], spec: Preprocess) -> None:
    kind = "JPEG" if mode == "YCbCr" else "TIFF"
    assert decode(encoded(Image.new(mode, (6, 8), white), kind), spec).min() >= 250


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_decode_reads_common_formats(kind: str) -> None:
    data = encoded(Image.new("RGB", (6, 8), (255, 255, 255)), kind)
    assert decode(data, RGB).min() >= 250


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header names a size that its data does not have."""
    data = bytearray(encoded(Image.new("1", (1, 1))))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"it is empty \(0 bytes\)"),
        (b"not an image", "it is no image that can be read"),
        (encoded(Image.fromarray(NOISE))[:60], "it can't be decoded: "),
        (encoded(Image.fromarray(NOISE), "JPEG")[:200], "it can't be decoded: "),
        (encoded(Image.fromarray(NOISE), "BMP")[:80], "it can't be decoded: "),
        (encoded(Image.new("RGB", (6, 8)), "EPS"), "it is no image that can be read"),
        (encoded(Image.fromarray(np.full((8, 6), np.nan, np.float32)), "TIFF"), "48 of its 48 pixels are not numbers"),
        (bytes(33 * 1024**2), "it has 34,603,008 bytes; at most 33,554,432 are taken"),
        (png_that_claims(9000, 9000), "it is 9000x9000, 81,000,000 pixels; at most 64,000,000 are taken"),
        (png_that_claims(30_000, 30_000), "it is 30000x30000, 900,000,000 pixels; at most 64,000,000 are taken"),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "cut bmp", "eps", "nan", "long", "large", "bomb"],
)
def test_decode_of_what_is_no_usable_image_says_why(data: bytes, sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence):
        decode(data, RGB)


def test_decode_leaves_every_warning_inside_and_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    large = Preprocess(1, 8, 6, max_pixels=200_000_000)
    with pytest.raises(BadImage, match="it can't be decoded"):  # Pillow warns of a bomb at 89 million pixels
        decode(png_that_claims(10_000, 10_000), large)
    assert list(warnings.filters) == before


def test_decode_in_threads_leaves_the_filters_as_they_were() -> None:
    before = list(warnings.filters)
    data = encoded(Image.fromarray(NOISE))
    results: list[NDArray[np.uint8]] = []
    threads = [threading.Thread(target=lambda: results.extend(decode(data, RGB) for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 200
    assert list(warnings.filters) == before


def test_preprocess_survives_json() -> None:
    assert Preprocess.from_dict(RGB.to_dict()) == RGB


@pytest.mark.parametrize(
    ("channels", "height", "sentence"),
    [(2, 8, "channels must be 1 .grey. or 3 .RGB.; got 2"), (3, 0, "height must be at least 1; got 0")],
)
def test_preprocess_of_an_impossible_shape_is_refused(channels: int, height: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Preprocess(channels, height, 8)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"not an image", "not_image"),
        (encoded(Image.fromarray(NOISE))[:100], "truncated"),
        (encoded(Image.fromarray(NOISE), "BMP")[:80], "truncated"),
        (encoded(Image.fromarray(NOISE))[:12] + bytes(100), "corrupt"),
        (png_that_claims(9000, 9000), "huge"),
    ],
)
def test_decode_of_a_bad_image_says_of_which_kind_it_is(data: bytes, kind: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data, RGB)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("resize", "side", "above"), [("stretch", 100, 200), ("crop", 200, 200), ("pad", 100, 10)])
def test_decode_of_a_wide_image_follows_the_policy(resize: str, side: int, above: int) -> None:
    image = np.full((20, 60, 3), 200, np.uint8)  # three times as wide as high, its outer thirds darker
    image[:, :20] = image[:, 40:] = 100
    got = decode(encoded(Image.fromarray(image)), Preprocess(3, 30, 30, resize=resize, background="#0a0a0a"))
    assert got.shape == (3, 30, 30)
    assert (got[0, 15, 2], got[0, 15, 15], got[0, 0, 15]) == (side, 200, above)


def test_decode_of_a_large_photograph_at_an_eighth_is_that_of_the_whole() -> None:
    smooth = Image.fromarray(NOISE).resize((600, 800), Image.Resampling.BICUBIC)
    spec = Preprocess(3, 32, 24)
    drafted = decode(encoded(smooth, "JPEG", quality=95), spec).astype(int)
    whole = decode(encoded(smooth, "PNG"), spec).astype(int)
    assert np.abs(drafted - whole).max() <= 8


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("side", [8, 16, 24, 28, 31, 64])
@pytest.mark.parametrize("width", [480, 511, 960])
def test_decode_of_a_photograph_is_the_same_with_a_thumb_and_without(width: int, side: int, resize: str) -> None:
    whole = Image.new("RGB", (width, 480))
    for number, tile in enumerate(photos.tiles()):
        whole.paste(tile, (number % 10 * photos.SIDE, number // 10 * photos.SIDE))
    data = photos.encoded(whole, "JPEG", quality=90)
    spec = Preprocess(3, side, side, resize=resize)
    prepared = decode_file(data, spec, THUMB)
    np.testing.assert_array_equal(decode(data, spec), prepared.pixels)
    assert prepared.thumb is not None
    assert prepared.thumb.shape == (THUMB, THUMB)


def test_preprocess_with_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="resize must be one of stretch, crop, pad; got 'squash'"):
        Preprocess(3, 8, 8, resize="squash")


@pytest.mark.parametrize("turn", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_decode_turns_once_whatever_the_format(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(NOISE), kind, exif=exif, **options)
    plain = Image.fromarray(NOISE)
    plain.getexif()[0x0112] = turn
    upright = np.asarray(ImageOps.exif_transpose(plain))
    found = decode_file(data, Preprocess(3, *upright.shape[:2]))
    assert (found.height, found.width) == upright.shape[:2]
    np.testing.assert_array_equal(found.pixels, upright.transpose(2, 0, 1))


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP", b"iTXt"])
def test_decode_of_a_png_is_not_failed_by_what_is_said_about_it(chunk: bytes) -> None:
    body = b"note\0\0" + zlib.compress(bytes(5_000_000))
    if chunk == b"iTXt":
        body = b"note\0\1\0\0\0" + zlib.compress(bytes(5_000_000))
    whole = encoded(Image.fromarray(NOISE))
    extra = len(body).to_bytes(4, "big") + chunk + body + zlib.crc32(chunk + body).to_bytes(4, "big")
    for piece in (extra, extra[:-4] + b"none"):  # too long for Pillow, and damaged
        data = whole[:33] + piece + whole[33:]
        np.testing.assert_array_equal(decode(data, RGB), NOISE.transpose(2, 0, 1))


@pytest.mark.parametrize("chunk", [b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME", b"bKGD"])
def test_decode_of_a_png_is_not_failed_by_a_short_note(chunk: bytes) -> None:
    whole = encoded(Image.fromarray(NOISE))
    piece = (1).to_bytes(4, "big") + chunk + b"1" + zlib.crc32(chunk + b"1").to_bytes(4, "big")
    np.testing.assert_array_equal(decode(whole[:33] + piece + whole[33:], RGB), NOISE.transpose(2, 0, 1))


def test_decode_takes_as_many_pixels_as_the_parameter_says() -> None:
    side = 14_000  # 196 million; Pillow's own limit is 179
    data = encoded(Image.new("1", (side, side), 1))
    assert decode(data, Preprocess(1, 4, 4, max_pixels=200_000_000)).min() == 255
    with pytest.raises(BadImage, match="at most 195,000,000 are taken"):
        decode(data, Preprocess(1, 4, 4, max_pixels=195_000_000))


@pytest.mark.parametrize(
    ("values", "ends", "seen"),
    [
        (np.array([[0, 4095], [2048, 1024]], np.uint16), (0, 4095), [0, 255, 128, 64]),
        (np.array([[-1000, 3000], [1000, 0]], np.int32), (-1000, 3000), [0, 255, 128, 64]),
        (np.array([[-1, 1], [0, 2]], np.float32), (-1, 1), [0, 255, 128, 255]),
        (np.array([[0, 65535], [257, 514]], np.uint16), None, [0, 255, 1, 2]),
        (np.array([[0.0, 1.0], [0.5, 0.2]], np.float32), (0, 255), [0, 1, 0, 0]),
    ],
    ids=["12 bits", "int32", "floats", "16 bits", "floats to 255"],
)
def test_decode_of_deep_values_follows_the_range(
    values: NDArray[np.generic], ends: tuple[float, float] | None, seen: list[int]
) -> None:
    data = encoded(Image.fromarray(values), "TIFF")
    found = decode_file(data, Preprocess(1, 2, 2, range=ends))
    assert found.pixels.ravel().tolist() == seen
    assert found.values == (float(values.min()), float(values.max()))


def deep_png(values: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow can't write: (H, W, 3 or 4)."""
    height, width, channels = values.shape

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    png = b"\x89PNG\r\n\x1a\n"
    return png + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_tiff(values: NDArray[np.uint16], order: str, photometric: int = 2) -> bytes:
    """An uncompressed TIFF of 16 bits a channel: (H, W, C)."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    depths = struct.pack(f"{order}{channels}H", *[16] * channels)
    at = 8 + len(pixels)
    table = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, at if channels > 2 else 16), (259, 3, 1, 1)]
    table += [(262, 3, 1, photometric), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, height)]
    table += [(279, 4, 1, len(pixels))]
    data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", at + len(depths)) + pixels + depths
    data += struct.pack(f"{order}H", len(table))
    for tag, kind, count, value in table:
        short = kind == 3 and count == 1
        data += struct.pack(
            f"{order}HHI" + ("HH" if short else "I"), tag, kind, count, *((value, 0) if short else (value,))
        )
    return data + bytes(4)


DEEP = np.random.default_rng(2).integers(0, 4096, (8, 6, 4), dtype=np.uint16)


@pytest.mark.parametrize(
    ("data", "channels"),
    [
        (deep_png(DEEP[..., :3]), 3),
        (deep_png(np.concatenate([DEEP[..., :3], np.full((8, 6, 1), 65535, np.uint16)], axis=2)), 3),
        (deep_tiff(DEEP[..., :3], "<"), 3),
        (deep_tiff(DEEP[..., :3], ">"), 3),
        (encoded(Image.fromarray(DEEP[..., 0])), 1),
        (deep_tiff(DEEP[..., :1], "<", 1), 1),
    ],
    ids=["png", "png with alpha", "tiff", "tiff of Motorola", "grey png", "grey tiff"],
)
def test_decode_of_twelve_bits_in_sixteen_uses_all_of_them_in_grey_and_in_colours(data: bytes, channels: int) -> None:
    values = DEEP[..., :channels]
    found = decode_file(data, Preprocess(channels, 8, 6, range=(0.0, 4095.0)))
    np.testing.assert_array_equal(found.pixels, np.rint(values * (255 / 4095)).astype(np.uint8).transpose(2, 0, 1))
    assert found.values == (float(values.min()), float(values.max()))
    nearly_black = decode_file(data, Preprocess(channels, 8, 6))
    assert nearly_black.values == found.values
    assert nearly_black.pixels.max() <= 16


def test_decode_of_a_deep_tiff_whose_zero_is_white_is_no_negative() -> None:
    values = np.array([[0, 65535], [65535, 0]], np.uint16)
    data = bytearray(encoded(Image.fromarray(values), "TIFF"))
    entry = data.find(b"\x06\x01\x03\x00\x01\x00\x00\x00")  # PhotometricInterpretation
    data[entry + 8] = 0
    assert decode(bytes(data), Preprocess(1, 2, 2)).ravel().tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "TIFF")),
        *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"progressive": True}),
        ("JPEG2000", {"no_jp2": True}),
    ],
)
def test_decode_of_a_file_that_ends_early_says_so_in_any_format(kind: str, options: dict[str, object]) -> None:
    big = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(big, kind, **options)
    assert decode(data, RGB).shape == (3, 8, 6)
    for part in (0.05, 0.5, 0.99):
        with pytest.raises(BadImage) as caught:
            decode(data[: int(len(data) * part)], RGB)
        assert caught.value.kind == "truncated", part


def _noise(kind: str, **options: object) -> bytes:
    return encoded(
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind, **options
    )


def _noted(data: bytes, stray: bytes = b"") -> bytes:
    """A JPEG with a thumbnail in its notes, which has a mark of its own end."""
    note = b"Exif\0\0" + _noise("JPEG")[:200] + b"\xff\xd9"
    return data[:2] + b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note + stray + data[2:]


@pytest.mark.parametrize(
    "data",
    [
        _noise("JPEG"),
        _noise("JPEG", progressive=True),
        _noted(_noise("JPEG")),
        _noted(_noise("JPEG", progressive=True), b"stray"),
        _noise("GIF"),
    ],
)
@pytest.mark.parametrize("trailer", [b"", b"\0\0\0\x18ftypmp42 a video", b"Samsung;"])
def test_zero_bytes_at_the_end_are_damage_only_where_the_image_itself_has_no_end(data: bytes, trailer: bytes) -> None:
    assert decode(data + trailer + bytes(100), RGB).shape == (3, 8, 6)
    for part in (0.7, 0.97):
        with pytest.raises(BadImage) as caught:
            decode(data[: int(len(data) * part)] + bytes(300), RGB)
        assert caught.value.kind == "truncated"


@pytest.mark.parametrize(("order", "photometric", "channels"), [(">", 0, 1), ("<", 1, 2)])
def test_decode_of_a_whole_tiff_that_pillow_does_not_read_says_so(order: str, photometric: int, channels: int) -> None:
    with pytest.raises(BadImage, match=r"a TIFF of .*, which is not read: convert it"):
        decode(deep_tiff(DEEP[..., :channels], order, photometric), RGB)


def _heic(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95)
    return buffer.getvalue()


@pytest.fixture
def no_heic_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pillow-heif is not installed."""
    decode(encoded(Image.new("L", (2, 2))), RGB)  # it is looked for once
    monkeypatch.delitem(Image.OPEN, "HEIF")


@pytest.mark.usefixtures("no_heic_reader")
@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_decode_of_heic_without_its_reader_says_what_it_is_and_what_to_do(brand: bytes) -> None:
    with pytest.raises(BadImage, match="it is HEIC, which the package pillow-heif reads.*or convert") as caught:
        decode(b"\0\0\0\x18ftyp" + brand + bytes(100), RGB)
    assert caught.value.kind == "not_image"


@pytest.mark.usefixtures("no_heic_reader")
@pytest.mark.parametrize(
    ("brands", "kind"), [(b"mif1\0\0\0\0mif1avif", "truncated"), (b"mif1\0\0\0\0mif1heic", "not_image")]
)
def test_decode_of_a_common_brand_tells_avif_from_heic(brands: bytes, kind: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(b"\0\0\0\x18ftyp" + brands + b"\0\0\1\0meta" + bytes(20), RGB)
    assert caught.value.kind == kind


def test_decode_reads_heic() -> None:
    image = Image.linear_gradient("L").resize((32, 48)).convert("RGB")
    spec = Preprocess(3, 48, 32)

    found = decode_file(_heic(image), spec)

    assert (found.width, found.height, found.mode, found.frames) == (32, 48, "RGB", 1)
    assert np.abs(found.pixels.astype(int) - np.asarray(image).transpose(2, 0, 1)).mean() < 3


@pytest.mark.parametrize(("part", "kind"), [(0.9, "truncated"), (0.3, "truncated")])
def test_decode_of_a_part_of_heic_is_truncated(part: float, kind: str) -> None:
    whole = _heic(Image.linear_gradient("L").convert("RGB"))

    with pytest.raises(BadImage) as caught:
        decode(whole[: int(part * len(whole))], RGB)
    assert caught.value.kind == kind


def test_decode_of_huge_heic_is_refused_by_its_header() -> None:
    with pytest.raises(BadImage, match="it is 64x64, 4,096 pixels; at most 100 are taken"):
        decode(_heic(Image.new("RGB", (64, 64))), Preprocess(3, 8, 8, max_pixels=100))


def test_decode_finds_what_is_transparent_all_over() -> None:
    assert decode_file(encoded(Image.new("RGBA", (6, 8), (9, 9, 9, 0))), RGB).transparent
    assert not decode_file(encoded(Image.new("RGBA", (6, 8), (9, 9, 9, 1))), RGB).transparent


def test_preprocess_with_a_range_survives_json() -> None:
    spec = Preprocess(3, 8, 8, range=(0.0, 4095.0))
    assert Preprocess.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    with pytest.raises(ValueError, match="range must be two rising numbers"):
        Preprocess(3, 8, 8, range=(1.0, 1.0))


def test_decode_of_damaged_pixels_is_corrupt_in_any_format() -> None:
    big = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = encoded(big)
    with pytest.raises(BadImage) as caught:
        decode(whole[:3000] + b"\xff" * 200 + whole[3200:], RGB)
    assert caught.value.kind == "corrupt"


def _chunk(name: bytes, data: bytes, *, damaged: bool = False) -> bytes:
    check = zlib.crc32(name + data) ^ damaged
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(b"tEXt", b"a\0b", damaged=True),
        _chunk(b"gAMA", struct.pack(">I", 45455), damaged=True),
        _chunk(b"pHYs", bytes(9), damaged=True),
        _chunk(b"eXIf", b"MM", damaged=True),
        _chunk(b"prVt", b"x" * 999, damaged=True),
    ],
)
def test_damaged_chunk_beside_the_pixels_of_a_png_fails_nothing(chunk: bytes) -> None:
    whole = encoded(Image.fromarray(NOISE))

    assert np.array_equal(decode(whole[:33] + chunk + whole[33:], RGB), decode(whole, RGB))


def test_first_image_of_a_raw_file_is_not_taken_for_the_photograph() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1

    with pytest.raises(BadImage, match="its first image, 6x8, is a small copy of another one.*convert it"):
        decode(encoded(Image.fromarray(NOISE), "TIFF", tiffinfo=tags), RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS.*git lfs pull"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(200), "a camera's raw file.*convert it"),
    ],
)
def test_decode_says_what_stands_in_the_place_of_an_image(data: bytes, message: str) -> None:
    with pytest.raises(BadImage, match=message) as caught:
        decode(data, RGB)
    assert caught.value.kind == "not_image"
