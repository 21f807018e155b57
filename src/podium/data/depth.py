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


def low_bytes_of(data: bytes, image: Image.Image) -> Image.Image | None:
    """The low bytes of colours of 16 bits, of which Pillow keeps the high ones only; None: they are no such colours.

    The same reader is told that the file has its bytes in the other order.
    """
    tiles: Any = getattr(image, "tile", [])
    raw = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in tiles]
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


def eight_bits(
    image: Image.Image, span: tuple[float, float] | None, *, white_is_zero: bool
) -> tuple[Image.Image, tuple[float, float] | None]:
    """Modes deeper than 8 bits as L, with the lowest and highest value; Pillow would clip them at 255: a white image.

    `white_is_zero`: a TIFF of high values for black, which Pillow puts right for 8 bits only.
    """
    if not (image.mode in ("F", "I") or image.mode.startswith("I;16")):
        return image, None
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F" and not np.isfinite(values).all():
        raise BadImage("it holds pixels that are not numbers")
    ends = float(values.min()), float(values.max())
    # Both scales of floats are in use; no visible image on the scale to 255 stays below 1.
    whole = (0.0, 65535.0) if image.mode != "F" else (0.0, 1.0) if ends[1] <= 1 else (0.0, 255.0)
    grey = _scaled(values, span or whole)
    return Image.fromarray(255 - grey if white_is_zero else grey), ends


def eight_bits_of_colours(
    high: Image.Image, low: Image.Image, span: tuple[float, float] | None
) -> tuple[Image.Image, tuple[float, float] | None]:
    """Colours of 16 bits as 8 bits, with the lowest and highest value of what can be seen; alpha by its high byte."""
    bytes_ = np.asarray(high)
    values = bytes_[..., :3].astype(np.uint16) << 8 | np.asarray(low)[..., :3]
    seen = values[bytes_[..., 3] > 0] if bytes_.shape[2] == 4 else values
    ends = (float(seen.min()), float(seen.max())) if seen.size else None
    if span is None:
        return high, ends  # as versions before did that knew high bytes only
    colours = _scaled(np.arange(65536.0), span)[values]
    return Image.fromarray(np.concatenate([colours, bytes_[..., 3:]], axis=2)), ends


def _scaled(values: NDArray[np.float64], ends: tuple[float, float]) -> NDArray[np.uint8]:
    """`values` with `ends` as 0 and 255, what lies beyond cut off."""
    low, high = ends
    values = values - low if low else values
    return np.rint(np.clip(values * (255.0 / (high - low)), 0, 255)).astype(np.uint8)
