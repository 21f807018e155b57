"""How much memory what an image file holds beside its pixels takes: EXIF, texts, a TIFF's tags. Known before Pillow
opens the file, from its bytes alone.

Pillow makes an object of each number: a file of 32 MB whose tags hold millions of them took 0.8 GB, one with as many
strips 2.8 GB, for an image of a few pixels. The figures are upper bounds, which a test compares with Pillow's own peak.
"""

import re
import struct
from collections.abc import Iterator

from podium.data.damage import JPEG_END, JPEG_MARK, JPEG_SCAN, PNG, TIFF_BYTES, TIFFS

MOST_NOTES = 32_000_000
"""Bytes of memory for the notes of a JPEG or TIFF, which are read when it is opened, before memory is reserved. Cameras
write up to 64 kB of EXIF (4 MB here), scanners a few thousand strips (510 bytes each)."""
NUMBER, FRACTION, STRIP, EXIF = 110, 200, 400, 64
"""Bytes for a number and a fraction of a tag, a strip or tile of a TIFF, and each byte of EXIF, whatever is in it."""
AS_BYTES = (1, 2, 7)
"""TIFF's types that Pillow keeps as bytes or text."""
FRACTIONS = (5, 10)
OFFSETS = (273, 324)
"""Tags with the places of strips and tiles: one object more for each."""
TABLES = (34665, 34853, 40965)
"""Tags that name another table of tags: Exif, GPS, interoperability."""
TEXTS = (b"zTXt", b"iTXt", b"tEXt")
CHUNK, INFLATED, ALL_INFLATED, RATIO, WIDE = 120, 2**20, 2**26, 1032, 5
"""Of a PNG's chunks: bytes for each; of a text at most, and of all (Pillow's limits); how much more zlib can make of a
byte; bytes of memory for one of text."""
HEX_EXIF = b"Raw profile type exif"
HEADER = re.compile(rb"II\*\0|MM\0\*")


def has_too_many_notes(data: bytes) -> bool:
    """Whether only to open the image file `data` would take more than MOST_NOTES bytes."""
    return (data[:4] in TIFFS or data.startswith(b"\xff\xd8\xff")) and notes_bytes(data) > MOST_NOTES


def notes_bytes(data: bytes) -> int:
    """Bytes of memory that Pillow takes at most for what the image file `data` holds beside its pixels."""
    if data.startswith(PNG):
        return _of_png(data)
    if data[:4] in TIFFS:
        return _of_tags(data)
    if data.startswith(b"\xff\xd8\xff"):
        return EXIF * _exif_of_jpeg(data)
    if data[:4] == b"RIFF":
        return EXIF * sum(size for name, _, size in _chunks(data, 12, "<4sI", 0) if name == b"EXIF")
    if data[4:8] == b"ftyp":  # the notes of HEIC and AVIF are in one piece
        return max((_of_tags(data[at.start() :]) for at in HEADER.finditer(data)), default=0)
    return 0


def _of_png(data: bytes) -> int:
    found = texts = 0
    for name, start, size in _chunks(data, len(PNG), ">I4s", 4):
        found += CHUNK
        if name == b"eXIf":
            found += EXIF * size
        elif name in TEXTS:
            length = size if name == b"tEXt" else max(size, min(RATIO * size, INFLATED))
            texts += length
            if data.startswith(HEX_EXIF, start):
                found += EXIF // 2 * length
    return found + WIDE * min(texts, ALL_INFLATED)


def _chunks(data: bytes, at: int, form: str, after: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and size of each chunk of a PNG (with a checksum of 4 bytes after it) or a RIFF file."""
    while at + 8 <= len(data):
        first, second = struct.unpack_from(form, data, at)
        name, size = (second, first) if after else (first, second)
        yield name, at + 8, min(size, len(data) - at - 8)
        at += 8 + size + after + (0 if after else size % 2)


def _exif_of_jpeg(data: bytes) -> int:
    """Bytes of all its segments of EXIF: Pillow puts them together."""
    at, found = 2, 0
    while (mark := JPEG_MARK.search(data, at)) and mark[0] not in (JPEG_END, JPEG_SCAN):
        size = max(2, int.from_bytes(data[mark.end() : mark.end() + 2], "big"))
        found += size if mark[0] == b"\xff\xe1" and data.startswith(b"Exif\0\0", mark.end() + 2) else 0
        at = mark.end() + size
    return found


def _of_tags(data: bytes) -> int:
    """Of the tags of a TIFF's first image, and of EXIF, which has the form of a TIFF."""
    order, big = TIFFS[data[:4]], b"+" in data[2:4]
    number, width, step = ("Q", 8, 20) if big else ("I", 4, 12)
    found, seen = 0, set[int]()
    try:
        waiting = list(struct.unpack_from(order + number, data, 8 if big else 4))
        while waiting:
            if (table := waiting.pop()) in seen:
                continue
            seen.add(table)
            (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, table)
            first = table + (8 if big else 2)
            for at in range(first, min(first + step * count, len(data)), step):
                tag, kind, many = struct.unpack_from(order + "HH" + number, data, at)
                size = TIFF_BYTES.get(kind, 0) * many
                if tag in TABLES and size <= width:
                    waiting += struct.unpack_from(order + number, data, at + step - width)
                if width < size <= len(data):  # what is longer is no part of the file, and skipped
                    found += size if kind in AS_BYTES else many * (FRACTION if kind in FRACTIONS else NUMBER)
                    found += STRIP * many if tag in OFFSETS else 0
    except struct.error:  # damaged: Pillow reads no further either
        pass
    return found
