"""What is reserved for EXIF, texts and tags of an image file, compared with what its decoding takes."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from PIL import Image

from asgi_calls import Brightness, Request, application, ask, picture, records
from podium.data.decode import BadImage, Preprocess, decode
from podium.serving.image_memory import decoding_bytes, slow_to_open
from podium.serving.image_notes import notes_bytes

SPEC = Preprocess(3, 32, 32)
SIZE = 240_000
"""Bytes of the notes here; a request may have two hundred times as many."""
FRACTIONS = struct.pack("<II", 3, 7) * (SIZE // 8)


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def tiff(tag: int, kind: int, count: int, content: bytes, **shape: int) -> bytes:
    """8 x 8 pixels in one strip, or rows of its own in each, with one tag of `content`."""
    width, height, rows = (shape.get(name, 8) for name in ("width", "height", "rows"))
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    tags |= {277: (3, 1, 1), 278: (4, 1, rows), 279: (4, 1, 64)}
    end = 8 + 64 + 2 + 12 * len({*tags, tag}) + 4
    tags[tag] = kind, count, end
    table = b"".join(struct.pack("<HHII", number, *tags[number]) for number in sorted(tags))
    return struct.pack("<2sHI64xH", b"II", 42, 72, len(tags)) + table + bytes(4) + content


def exif(tag: int, kind: int, count: int, content: bytes) -> bytes:
    return struct.pack("<2sHIHHHII4x", b"II", 42, 8, 1, tag, kind, count, 26) + content


def jpeg(notes: bytes) -> bytes:
    """With EXIF in as many segments as it needs, and no other notes."""
    parts = [b"Exif\0\0" + notes[start : start + 65_000] for start in range(0, len(notes), 65_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    whole = image("JPEG")
    return whole[:2] + segments + whole[4 + int.from_bytes(whole[4:6], "big") :]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = image("PNG")
    made = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    return whole[:33] + b"".join(made) + whole[33:]


def texts(count: int) -> bytes:
    """Each of half a million characters, one of which makes all of them wide."""
    wide = "\U0001f600".encode() + bytes(500_000)
    each = [(b"iTXt", b"k%d\0\1\0\0\0" % number + zlib.compress(wide)) for number in range(count)]
    return png(*each)


def hexadecimal(notes: bytes) -> bytes:
    content = b"Exif\0\0" + notes
    return png((b"tEXt", b"Raw profile type exif\0\nexif\n  %d\n" % len(content) + content.hex().encode()))


def webp(notes: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP", exif=notes)
    return buffer.getvalue()


def avif(notes: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "AVIF", exif=notes)
    return buffer.getvalue()


FILES: dict[str, Callable[[], bytes]] = {
    "fractions of a TIFF": lambda: tiff(282, 5, SIZE // 8, FRACTIONS),
    "numbers of a TIFF": lambda: tiff(338, 3, SIZE // 2, struct.pack("<H", 300) * (SIZE // 2)),
    "signed bytes of a TIFF": lambda: tiff(339, 6, SIZE, b"\x80" * SIZE),
    "strips of a TIFF": lambda: tiff(
        273, 4, SIZE // 4, struct.pack("<I", 8) * (SIZE // 4), width=1, height=SIZE // 4, rows=1
    ),
    "EXIF of a JPEG": lambda: jpeg(exif(0x0128, 5, SIZE // 8, FRACTIONS)),
    "orientation of a JPEG": lambda: jpeg(exif(0x0112, 6, SIZE, b"\x80" * SIZE)),
    "EXIF of a PNG": lambda: png((b"eXIf", exif(0x0112, 5, SIZE // 8, FRACTIONS))),
    "EXIF of a PNG as text": lambda: hexadecimal(exif(0x0112, 5, SIZE // 8, FRACTIONS)),
    "EXIF of a WebP": lambda: webp(exif(0x0112, 5, SIZE // 8, FRACTIONS)),
    "texts of a PNG": lambda: texts(10),
    "chunks of a PNG": lambda: png(*[(b"aaAa", b"")] * (SIZE // 12)),
}


@pytest.mark.parametrize("name", FILES)
def test_notes_take_no_more_than_was_reserved(name: str) -> None:
    data = FILES[name]()
    decode(image("PNG"), SPEC)  # imports Pillow's readers
    tracemalloc.start()
    try:
        with suppress(BadImage):
            decode(data, SPEC)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak > 1_000_000, "it is none of the files that this is about"
    assert peak - 3 * len(data) - 500_000 < notes_bytes(data) < 12 * peak


def test_notes_of_an_avif_are_counted() -> None:
    """libavif keeps them in one piece; Pillow reads them as EXIF."""
    assert notes_bytes(avif(exif(60_000, 5, SIZE // 8, FRACTIONS))) > 100 * SIZE // 8


@pytest.mark.parametrize("name", ["fractions of a TIFF", "strips of a TIFF", "EXIF of a JPEG"])
def test_file_whose_notes_alone_would_take_much_memory_is_refused_unopened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.serving.image_notes.MOST_NOTES", 3_000_000)
    (found,) = ask(application(Brightness()), Request(records(picture(), FILES[name]())))
    assert found.status == 400
    assert found.json["message"].startswith("image 2 of 2: its notes (EXIF, or tags and strips of a TIFF) hold very")


@pytest.mark.parametrize(
    "data",
    [
        tiff(273, 4, 20_000, struct.pack("<I", 8) * 20_000, width=1, height=20_000, rows=1),
        tiff(34675, 7, 3_000_000, bytes(3_000_000)),  # a long profile of colours
        tiff(700, 1, 3_000_000, bytes(3_000_000)),  # a long text of XMP
        tiff(33434, 5, 2**31, b""),  # a damaged tag, which Pillow leaves out
        jpeg(exif(0x927C, 7, 64_000, bytes(64_000))),
        texts(2),
    ],
)
def test_notes_of_usual_files_are_taken(data: bytes) -> None:
    assert slow_to_open(data) == ""
    assert decoding_bytes(data, SPEC) < 20_000_000
    assert decode(data, SPEC).shape == (3, 32, 32)
