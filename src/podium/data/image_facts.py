"""What is known of an image besides its pixels: all that follows from the image alone, computed when it is decoded.

So the pixels and thumbs of known images need not be read again for it when others are added. Fingerprints are of the
prepared pixels; what an image looks like is told by its grey thumb.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from podium.data.content import BYTES
from podium.data.decode import Decoded

PRINT_BYTES = 16
"""Of a fingerprint, the first half of a SHA-256: among a billion different images two share one with a chance of 1 in
10^20; the other half would be 16 bytes."""
DIGEST_BYTES = 8
"""Of a digest that finds damage, which is no attack."""
COARSE = 8
"""Frequencies each way by which a look is told."""
FLAT = 0.5
"""Standard deviation of a thumb's grey values below which nothing is there to compare."""
LEAST_CONTRAST = 6.0
"""Standard deviation below which a thumb shows too little to look for near-duplicates."""
HAS_LOOK = np.uint64(1 << 63)
"""The highest bit of every look; 0 is none."""


FORM = struct.Struct(f"<III{2 * BYTES}sddB{PRINT_BYTES}s{DIGEST_BYTES}s8sBBd")
"""Of facts in the index; the mode follows. A deep image's values are numbers, so NaN stands for none."""


class New(NamedTuple):
    """An image that was just decoded."""

    digest: bytes | None
    """SHA-256 of its file, if it has one."""
    image: Decoded
    content: bytes
    """Digests of what the image itself shows, the former one behind: see podium.data.content."""
    fingerprint: bytes


class Facts(NamedTuple):
    """What is stored of an image in addition to its pixels."""

    row: int
    width: int
    """Of the image itself, before it was resized."""
    height: int
    mode: str
    frames: int
    content: bytes
    """As in New."""
    low: float | None
    """The lowest and the highest value of an image deeper than 8 bits."""
    high: float | None
    transparent: int
    """1: no pixel can be seen."""
    fingerprint: bytes
    """PRINT_BYTES of the prepared pixels."""
    thumb: bytes
    """DIGEST_BYTES of the thumb."""
    look: bytes
    """8 bytes, the highest first: see `looks`."""
    darkest: int
    """Of the thumb's grey values."""
    lightest: int
    contrast: float
    """Their standard deviation."""


def facts_of(new: Sequence[New], thumbs: NDArray[np.uint8]) -> list[Facts]:
    """Of images with their thumbs (n, side, side); the rows are 0 until they have some in the store."""
    grey = thumbs.reshape(len(thumbs), -1)
    columns = (digests(thumbs), looks(thumbs), grey.min(1), grey.max(1), grey.std(1))
    found = []
    for one, thumb, look, darkest, lightest, contrast in zip(new, *columns, strict=True):
        image = one.image
        low, high = image.values or (None, None)
        found.append(
            Facts(*(0, image.width, image.height, image.mode, image.frames, one.content, low, high),
                  *(int(image.transparent), one.fingerprint, thumb, int(look).to_bytes(8, "big")),
                  *(int(darkest), int(lightest), float(contrast)))
        )  # fmt: skip
    return found


def packed(facts: Facts) -> bytes:
    """All but the row, for the index."""
    low, high = (math.nan if value is None else value for value in (facts.low, facts.high))
    return FORM.pack(*facts[1:3], facts.frames, facts.content, low, high, *facts[8:]) + facts.mode.encode()


def unpacked(row: int, told: bytes) -> Facts:
    """The opposite of `packed`."""
    width, height, frames, content, low, high, *rest = FORM.unpack_from(told)
    ends = (None, None) if math.isnan(low) else (low, high)
    return Facts(row, width, height, told[FORM.size :].decode(), frames, content, *ends, *rest)


def fingerprint(pixels: NDArray[np.uint8]) -> bytes:
    """Of the shape and the pixels (C, H, W) of an image, PRINT_BYTES."""
    sha = hashlib.sha256(f"{'x'.join(map(str, pixels.shape))}\x1f".encode())
    sha.update(np.ascontiguousarray(pixels).data)
    return sha.digest()[:PRINT_BYTES]


def digests(thumbs: NDArray[np.uint8]) -> list[bytes]:
    """DIGEST_BYTES of each of some thumbs."""
    return [hashlib.sha256(thumb.data).digest()[:DIGEST_BYTES] for thumb in np.ascontiguousarray(thumbs)]


def looks(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n,) what images look like by their thumbs (n, side, side), in 63 bits below HAS_LOOK.

    0 where too little can be seen. See podium.data.audit.replaced.
    """
    import scipy.fft

    grey = thumbs.astype(np.float32)
    low = scipy.fft.dctn(grey, axes=(1, 2), norm="ortho")[:, :COARSE, :COARSE].reshape(len(grey), -1)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    weights = np.uint64(1) << np.arange(COARSE * COARSE - 1, dtype=np.uint64)
    values = (bits * weights).sum(1, dtype=np.uint64) | HAS_LOOK
    return np.where(grey.std((1, 2)) >= FLAT, values, np.uint64(0))
