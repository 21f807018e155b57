"""What an image is known by, whatever becomes of it: a digest of what the file itself shows at full resolution.

Size, channels, resizing, the range of values and the version of a decoder change nothing about it; nor do a file's
name, its date and its metadata. Formats without loss are known by their pixels, upright. Decoders of JPEG may differ by
a rounding, so a JPEG is known by what its pixels are computed from: the coded data and the orientation, without
metadata. The same holds, for the whole file, of JPEG 2000, AVIF and HEIC.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.damage import is_heic
from podium.data.decode import TURNS

BYTES = 8
"""Of a digest: two of 10 million different images share one with a chance of 3 in a million."""
JPEG = b"\xff\xd8\xff"
SCAN, FIRST_NOTE, LAST_NOTE, COMMENT, ADOBE = 0xDA, 0xE0, 0xEF, 0xFE, 0xEE
"""Markers of a JPEG: where the coded pixels begin, and the segments that hold notes; Adobe's says which colours are
coded."""
WHOLE = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""Beginnings of JPEG 2000."""


class Seen:
    """The digest of an image, which is known once it was decoded: `decode_image` calls this object."""

    def __init__(self, data: bytes = b"") -> None:
        """`data`: the file; empty for an image that is none."""
        self._data = data
        self.digest = b""
        """BYTES bytes."""

    def __call__(self, image: Image.Image, turn: int) -> None:
        """Take in an image as it is stored, and the orientation that it has to be turned by."""
        if self._data.startswith(JPEG):  # it may have been decoded at a part of its size
            self.digest = _short(bytes([turn]), _of_jpeg(self._data))
        elif self._data.startswith(WHOLE) or self._data[4:12] in (b"ftypavif", b"ftypavis") or is_heic(self._data):
            self.digest = _short(self._data)
        else:
            plain = _plain(image)
            self.digest = of_pixels(np.asarray(plain.transpose(TURNS[turn]) if turn in TURNS else plain))


def of_pixels(array: NDArray[np.generic]) -> bytes:
    """The digest of pixels of any shape and type; equal values in another order of bytes have the same one."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return _short(f"{'x'.join(map(str, plain.shape))} {plain.dtype.str}".encode(), plain.tobytes())


def as_numbers(digests: list[bytes]) -> NDArray[np.uint64]:
    """Digests as (N,) numbers, in the same order as their hexadecimal text."""
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def _plain(image: Image.Image) -> Image.Image:
    """Without what says nothing about the pixels: palettes, and one bit in the place of eight."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _of_jpeg(data: bytes) -> bytes:
    """What the pixels of a JPEG are computed from; the whole file where it is not built like one."""
    kept: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == SCAN:
            return b"".join([*kept, data[at:]])
        if (not FIRST_NOTE <= marker <= LAST_NOTE and marker != COMMENT) or marker == ADOBE:
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return data


def _short(*parts: bytes) -> bytes:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.digest()[:BYTES]
