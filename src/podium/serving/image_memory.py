"""How much memory the decoding of an image takes, known from its header: before a pixel is decoded.

The figures per pixel are upper bounds of what podium.data.decode and Pillow 11 to 13 hold at once; a test compares
them with the peak of a process.
"""

import io
import re
import struct
from typing import Protocol

from PIL import Image

from podium.data.decode import LEAST, formats, quiet
from podium.serving.image_notes import has_too_many_notes, notes_bytes

PNG = b"\x89PNG\r\n\x1a\n"
PLAIN, BLENDED, DEEP = 14, 34, 52
"""Bytes per pixel of 8 bits (read, converted, turned: up to three copies of 4), of pixels with transparency (laid on
the background: eight copies), and of more than 8 bits (scaled as float64: five arrays of 8)."""
COEFFICIENTS = 6
"""Bytes per pixel of a progressive JPEG at its full size: libjpeg holds three components of 2 bytes until the end."""
MOST_SCANS, MOST_SEGMENTS = 100, 10_000
"""Of a JPEG. Each scan of some 50 bytes costs a pass over all pixels, so a small file could keep a core busy for
minutes. Encoders write up to about 15; libtiff has the same limit."""
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""In the data of a scan 0xff is followed by 0 or by a restart's number; 1 is a marker that has no length."""
START, END, SCAN = 0xD8, 0xD9, 0xDA
OTHER = 8
"""Bytes per pixel more, of formats that are decoded as a whole before Pillow has them."""


class Size(Protocol):
    """What is known of the model's input."""

    @property
    def height(self) -> int:
        """Pixels."""

    @property
    def width(self) -> int:
        """Pixels."""


def decoding_bytes(data: bytes, wanted: Size) -> int:
    """Bytes of memory that decoding the image file `data` for the size `wanted` takes at most, with all that it holds
    beside its pixels; 0: it is no image.
    """
    pixels = _of_png(data) if data.startswith(PNG) else _of_others(data, wanted)
    return pixels + notes_bytes(data) if pixels else 0


def _of_others(data: bytes, wanted: Size) -> int:
    try:
        # The decoder's own formats: others (ICO) would decode their pixels when they are opened.
        with quiet, Image.open(io.BytesIO(data), formats=formats()) as image:
            return _of_image(image, wanted)
    except Exception:  # damaged: the decoder fails at the same place, and says why
        return 0


def slow_to_open(data: bytes) -> str:
    """Why the image file `data` would take long, or much memory, before memory is reserved; empty: it would not."""
    if has_too_many_scans(data):
        return (
            f"its JPEG has more than {MOST_SCANS} scans or is cut into very many segments: save it again as a plain one"
        )
    if has_too_many_notes(data):
        return "its notes (EXIF, or tags and strips of a TIFF) hold very many numbers: save it again without them"
    return ""


def has_too_many_scans(data: bytes) -> bool:
    """Whether the image file `data` is a JPEG of more than MOST_SCANS scans, or MOST_SEGMENTS segments."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    place = scans = 0
    for _ in range(MOST_SEGMENTS):
        found = MARKER.search(data, place)
        if found is None or data[found.end() - 1] == END:  # what follows is another image, or a film
            return False
        place, kind = found.end(), data[found.end() - 1]
        if kind != START:
            place += int.from_bytes(data[place : place + 2], "big")
        scans += kind == SCAN
        if scans > MOST_SCANS:
            return True
    return True


def _of_png(data: bytes) -> int:
    """By the first chunk (RFC 2083), which comes before everything that could be damaged."""
    if len(data) < 33:
        return 0
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    blended = colour in (3, 4, 6) or b"tRNS" in data  # anywhere: texts of any length may come before it
    return int(width * height * (DEEP if depth == 16 else BLENDED if blended else PLAIN))


def _of_image(image: Image.Image, wanted: Size) -> int:
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        whole = COEFFICIENTS * pixels if image.info.get("progressive") else 0
        side = max(2 * wanted.height, 2 * wanted.width, LEAST)
        image.draft(None, (side, side))  # what the decoder does; here never to less
        return whole + PLAIN * image.width * image.height
    stored = str(
        [getattr(tile, "args", None) for tile in getattr(image, "tile", [])]
    )  # of colours, Pillow's mode does not say 16 bits
    deep = image.mode in ("F", "I") or ";16" in image.mode or ";16" in stored
    each = DEEP if deep else BLENDED if image.has_transparency_data or image.mode == "P" else PLAIN
    return (each + OTHER) * pixels
