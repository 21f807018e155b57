"""Images deeper than 8 bits, grey or in colours, made 8 bits by one range of values.

As decode.py it travels inside every registered model, and imports nothing of Podium but its neighbour.
"""

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .damage import BadImage

SWAPPED = {
    f"{colours};16{one}": f"{colours};16{other}" for colours in ("RGB", "RGBA", "RGBX") for one, other in ("LB", "BL")
}
"""Pillow's raw modes of colours of 16 bits, of which it keeps the high byte, and those that give the low byte."""
SWAPPED |= {
    f"{colours};16N": f"{colours};16{'B' if sys.byteorder == 'little' else 'L'}" for colours in ("RGB", "RGBA", "RGBX")
}


SAMPLE_FORMAT, UNSIGNED, SIGNED = 339, 1, 2
"""TIFF's tag of what its numbers are."""
GREY_ALPHA = "LA;16B"
"""Pillow's raw mode of grey and alpha of 16 bits, which has no other for the low bytes: read as four channels of 8."""


def sample_format(tags: Any) -> int:
    """What the numbers of a TIFF are by its tags (Pillow's tag_v2); 0: it says nothing, or is no TIFF."""
    found = tags.get(SAMPLE_FORMAT, 0)
    found = found[0] if isinstance(found, tuple) and found else found
    return found if isinstance(found, int) else 0


def low_bytes_of(data: bytes, image: Image.Image) -> Image.Image | None:
    """The low bytes of colours of 16 bits, of which Pillow keeps the high ones only; None: they are no such colours.

    The same reader is told that the file has its bytes in the other order.
    """
    tiles: Any = getattr(image, "tile", [])
    raw = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles]
    if raw and all(mode == GREY_ALPHA for mode in raw):
        return _four_bytes(data, image)
    if not raw or not all(mode in SWAPPED for mode in raw):
        return None
    other: Any = Image.open(io.BytesIO(data), formats=[str(image.format)])
    other.tile = [
        tile._replace(args=SWAPPED[mode] if isinstance(tile.args, str) else (SWAPPED[mode], *tile.args[1:]))
        for tile, mode in zip(other.tile, raw, strict=True)
    ]
    other.load()
    low: Image.Image = other
    return low


def _four_bytes(data: bytes, image: Image.Image) -> Image.Image:
    """Grey and alpha of 16 bits as RGBA: the high and the low byte of grey, then those of alpha."""
    other: Any = Image.open(io.BytesIO(data), formats=[str(image.format)])
    other._mode = "RGBA"
    other.tile = [tile._replace(args="RGBA") for tile in other.tile]
    other.load()
    other.info[GREY_ALPHA] = True  # Pillow's mode of these is RGBA as well
    found: Image.Image = other
    return found


def eight_bits(
    image: Image.Image, span: tuple[float, float] | None, *, white_is_zero: bool, sample: int = 0
) -> tuple[Image.Image, tuple[float, float] | None]:
    """Modes deeper than 8 bits as L, with the lowest and highest value; Pillow would clip them at 255: a white image.

    `white_is_zero`: a TIFF of high values for black, which Pillow puts right for 8 bits only. `sample`: as
    `sample_format` says; Pillow takes numbers of 8 bits for unsigned ones, and those of 32 bits for signed ones.
    """
    small = image.mode == "L" and sample == SIGNED
    if not (small or image.mode in ("F", "I") or image.mode.startswith("I;16")):
        return image, None
    if small:
        stored = 255 - np.asarray(image) if white_is_zero else np.asarray(image)  # Pillow has turned them round
        values = stored.view(np.int8).astype(np.float64)
    elif image.mode == "I" and sample == UNSIGNED:
        values = np.asarray(image).view(np.uint32).astype(np.float64)
    else:
        values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" and (lost := int((~np.isfinite(values)).sum())):
        raise BadImage(
            f"{lost:,} of its {values.size:,} pixels are not numbers (NaN or infinite), as where values are missing:"
            " write a number in their place, such as the lowest of the others"
        )
    ends = float(values.min()), float(values.max())
    # Both scales of floats are in use; no visible image on the scale to 255 stays below 1.
    whole = (0.0, 65535.0) if image.mode != "F" else (0.0, 1.0) if ends[1] <= 1 else (0.0, 255.0)
    whole = (-128.0, 127.0) if small else whole
    grey = _scaled(values, span or whole)
    return Image.fromarray(255 - grey if white_is_zero else grey), ends


def eight_bits_of_colours(
    high: Image.Image, low: Image.Image, span: tuple[float, float] | None
) -> tuple[Image.Image, tuple[float, float] | None]:
    """Colours, or grey and alpha, of 16 bits as 8 bits, with the lowest and highest value of what can be seen.

    Alpha by its high byte, unless all of it is within `span`: then it is as deep as the colours. `low`: `low_bytes_of`.
    """
    bytes_, rest = np.asarray(high), np.asarray(low)
    if GREY_ALPHA in low.info:
        values, alpha = _sixteen(rest[..., :1], rest[..., 1:2]), _sixteen(rest[..., 2:3], rest[..., 3:])
    else:
        whole = _sixteen(bytes_, rest)
        values, alpha = whole[..., :3], whole[..., 3:]
    seen = values[alpha[..., 0] > 0] if alpha.size else values
    ends = (float(seen.min()), float(seen.max())) if seen.size else None
    if span is None:
        return high, ends  # as versions before did that knew high bytes only
    steps = _scaled(np.arange(65536.0), span)
    deep = alpha.size and alpha.max() <= span[1]
    shown = _scaled(alpha.astype(np.float64), (0.0, span[1])) if deep else (alpha >> 8).astype(np.uint8)
    return Image.fromarray(np.concatenate([steps[values], shown], axis=2)), ends


def _sixteen(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    both: NDArray[np.uint16] = high.astype(np.uint16) * np.uint16(256) + low
    return both


def _scaled(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.uint8]:
    """`values` with `ends` as 0 and 255, what lies beyond cut off."""
    low, high = ends
    values = values - low if low else values
    return np.rint(np.clip(values * (255.0 / (high - low)), 0, 255)).astype(np.uint8)
