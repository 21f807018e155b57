"""What an image is known by, whatever becomes of it: a digest of what the file itself shows at full resolution.

Size, channels, resizing, the range of values and the version of a decoder change nothing about it; nor do a file's
name, its date and its metadata. Formats without loss are known by their pixels, upright. Decoders of JPEG may differ by
a rounding, so a JPEG is known by what its pixels are computed from: the coded data and the orientation, without
metadata. The same holds, for the whole file, of JPEG 2000, AVIF and HEIC. What follows the end of a file is no part.

One picture has several forms: grey in three equal channels, 8 bits as 16, an alpha channel of which nothing is seen. A
digest is of the plainest of them. Splits were remembered by the digest of the form in the file before
(docs/decisions/2026-11-30-split-names.md), which is computed as well.
"""

import hashlib
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.damage import JPEG, JPEG_END, is_heic, jpeg_end
from podium.data.decode import TURNS

BYTES = 8
"""Of a digest: two of 10 million different images share one with a chance of 3 in a million."""
SCAN, FIRST_NOTE, LAST_NOTE, COMMENT, ADOBE = 0xDA, 0xE0, 0xEF, 0xFE, 0xEE
"""Markers of a JPEG: where the coded pixels begin, and the segments that hold notes; Adobe's says which colours are
coded."""
WHOLE = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""Beginnings of JPEG 2000."""
CODED = WHOLE[1]
BOX = re.compile(rb"[ -~]{4}")
"""Names of boxes."""
ALPHA = {"RGBA", "LA", "PA", "RGBa", "La"}
"""Pillow's modes whose last channel is alpha."""
STEP = 257
"""8 bits times this are the same in 16."""
SOME = 16
"""Each 16th row and column is looked at first: most images have colours there."""


class Seen:
    """The digests of an image, which are known once it was decoded: `decode_image` calls this object."""

    def __init__(self, data: bytes = b"") -> None:
        """`data`: the file; empty for an image that is none."""
        self._data = data
        self.digest = b""
        """BYTES bytes."""
        self.former = b""
        """The same of the form in the file, by which Podium knew images before."""

    @property
    def both(self) -> bytes:
        """The digest and the former one."""
        return self.digest + self.former

    def __call__(self, image: Image.Image, turn: int) -> None:
        """Take in an image as it is stored, and the orientation that it has to be turned by."""
        if self._data.startswith(JPEG):  # it may have been decoded at a part of its size
            head, at = _of_jpeg(self._data)
            self.former = _short(bytes([turn]), head, self._data[at:])
            end = jpeg_end(self._data, at) or len(self._data)
            self.digest = _short(bytes([turn]), head, self._data[at:end])
        elif self._data.startswith(WHOLE) or self._data[4:12] in (b"ftypavif", b"ftypavis") or is_heic(self._data):
            self.former = _short(self._data)
            self.digest = _short(_without_rest(self._data))
        else:
            form = _plain(image)
            stored = np.asarray(form.transpose(TURNS[turn]) if turn in TURNS else form)
            self.former = of_pixels(stored)
            plainest = _plainest(stored, alpha=form.mode in ALPHA)
            self.digest = self.former if plainest is stored else of_pixels(plainest)


def of_array(pixels: NDArray[np.uint8]) -> bytes:
    """The digest and the former one of pixels (1 or 3, H, W)."""
    former = of_pixels(pixels)
    return (of_pixels(pixels[:1]) if len(pixels) == 3 and _is_grey(np.moveaxis(pixels, 0, 2)) else former) + former


def of_pixels(array: NDArray[np.generic]) -> bytes:
    """The digest of pixels of any shape and type; equal values in another order of bytes have the same one."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return _short(f"{'x'.join(map(str, plain.shape))} {plain.dtype.str}".encode(), plain.data)


def as_numbers(digests: list[bytes]) -> NDArray[np.uint64]:
    """Digests as (N,) numbers, in the same order as their hexadecimal text."""
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _plain(image: Image.Image) -> Image.Image:
    """Without what says nothing about the pixels: palettes, and one bit in the place of eight."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _plainest(stored: NDArray[np.generic], *, alpha: bool) -> NDArray[np.generic]:
    """Pixels (H, W) or (H, W, C) in the plainest form that shows the same; the object itself where that is it."""
    plain = stored
    if alpha:
        seen = plain[..., -1] != 0
        if (plain[..., -1] == 255).all():
            plain = plain[..., :-1]
        elif not seen.all():  # colours that nobody sees; writers change them
            plain = _blanked(plain, seen)
    colours = plain.ndim == 3 and plain.shape[2] >= 3
    if colours and (plain.shape[2] == 3 or alpha) and _is_grey(plain):
        plain = np.delete(plain, (1, 2), axis=2)
    if plain.ndim == 3 and plain.shape[2] == 1:
        plain = plain[..., 0]
    if plain.ndim == 2 and plain.dtype.kind in "iu" and plain.dtype.itemsize > 1:
        plain = _fewer_bits(plain)
    return plain


def _blanked(pixels: NDArray[np.generic], seen: NDArray[np.bool_]) -> NDArray[np.generic]:
    """`pixels` (H, W, C) with zeros where they are not `seen` (H, W)."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 4:  # most are: a pixel at once, a quarter of the time
        words = np.ascontiguousarray(pixels).view(np.uint32)
        return np.where(seen[..., None], words, np.uint32(0)).view(np.uint8)
    return np.where(seen[..., None], pixels, np.zeros((), pixels.dtype))


def _is_grey(pixels: NDArray[np.generic]) -> bool:
    """Whether the first three channels of (H, W, C) are equal."""
    return all(
        bool((part[..., 0] == part[..., other]).all()) for part in (pixels[::SOME, ::SOME], pixels) for other in (1, 2)
    )


def _fewer_bits(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Grey values (H, W) of 16 bits as the 8 that they were made of, and 32 bits as 16 where these hold them."""
    numbers: NDArray[np.int64] = np.asarray(values).astype(np.int64)
    if numbers.size and numbers.min() >= 0 and numbers.max() <= 65535:
        if not (numbers % STEP).any():
            return (numbers // STEP).astype(np.uint8)
        return values if values.dtype.kind == "u" else numbers.astype(np.uint16)
    return values


def _without_rest(data: bytes) -> bytes:
    """A file of boxes (JPEG 2000, AVIF, HEIC), or the coded data of a JPEG 2000, without what follows.

    JPEG 2000 has the mark of the end of JPEG.
    """
    at = 0
    while not data.startswith(CODED) and at + 8 <= len(data) and BOX.fullmatch(data, at + 4, at + 8):
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size
        if size < 8:  # 0: it goes on to the end of the file
            break
        at += size
    else:
        if at:
            return data[:at]
    end = data.rfind(JPEG_END)
    return data if end < 0 else data[: end + len(JPEG_END)]


def _of_jpeg(data: bytes) -> tuple[bytes, int]:
    """What the pixels of a JPEG are computed from, but for the scans, and where these begin.

    Where a file is not built like one, all of it is scans.
    """
    kept: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == SCAN:
            return b"".join(kept), at
        if (not FIRST_NOTE <= marker <= LAST_NOTE and marker != COMMENT) or marker == ADOBE:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return b"", 0


def _short(*parts: bytes | memoryview) -> bytes:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.digest()[:BYTES]
