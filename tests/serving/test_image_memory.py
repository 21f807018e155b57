"""The memory that is reserved for an image, compared with what its decoding takes."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from podium.data.decode import BadImage, Preprocess, decode
from podium.serving.image_memory import PNG, decoding_bytes, has_too_many_scans

SIDE = 1200
SPEC = Preprocess(3, 32, 32, range=(0, 60000))
PEAK = Path("/proc/self/clear_refs")


MEASURE = """
import gc, os, sys
from pathlib import Path
from podium.data.decode import Preprocess, decode, formats

def memory(name):
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

formats()  # imports Pillow's readers
for path in Path().glob("*.image"):
    if os.fork():  # the parent never decodes, so each child's heap is a fresh one
        sys.exit(1) if os.wait()[1] else None
        continue
    data, spec = path.read_bytes(), Preprocess(3, 32, 32, range=(0, 60000))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    before = memory("VmRSS")
    decode(data, spec)
    path.with_suffix(".peak").write_text(str(memory("VmHWM") - before), "ascii")
    os._exit(0)
"""
CASES = [
    *(("PNG", mode) for mode in ("L", "LA", "P", "RGB", "RGBA", "I;16", "1", "RGB;16", "RGBA;16", "RGB;late")),
    *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "I;16", "F", "CMYK", "RGB;16", "RGBA;16")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("JPEG2", "RGB"), ("PPM", "RGB")),
]
"""Format and mode; `;late` is a PNG whose transparency is told after a long text."""


def pixels() -> NDArray[np.uint8]:
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None]  # noise would take seconds to compress
    return np.asarray(slope // np.array([1, 2, 3, 5]) % 256, np.uint8)


def file(kind: str, mode: str) -> bytes:
    if mode == "RGB;late":
        plain = file("PNG", "RGB")
        notes = chunk(b"tEXt", b"Comment\0" + 80_000 * b"x") + chunk(b"tRNS", struct.pack(">HHH", 1, 1, 1))
        return plain[:33] + notes + plain[33:]
    draw = pixels()
    if mode in ("RGB;16", "RGBA;16"):
        colours = draw[..., : len(mode) - 3].astype(np.uint16) * 257
        return tiff_of_16_bits(colours) if kind == "TIFF" else png_of_16_bits(colours)
    image = Image.fromarray(draw[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(draw).convert(mode)
    if mode == "F":
        image = Image.fromarray(draw[..., 0].astype(np.float32) / 255)
    buffer = io.BytesIO()
    options: dict[str, dict[str, Any]] = {
        "PNG": {"compress_level": 1},
        "JPEG2": {"progressive": True},
        "WEBP": {"method": 0},
    }
    image.save(buffer, kind.removesuffix("2"), **options.get(kind, {}))
    return buffer.getvalue()


def png_of_16_bits(colours: NDArray[np.uint16]) -> bytes:
    """Pillow writes colours of 8 bits alone."""
    height, width, channels = colours.shape
    rows = colours.astype(">u2").tobytes()
    length = 2 * channels * width
    lines = b"".join(b"\0" + rows[n : n + length] for n in range(0, len(rows), length))
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def tiff_of_16_bits(colours: NDArray[np.uint16]) -> bytes:
    height, width, channels = colours.shape
    content = colours.astype("<u2").tobytes()
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 16), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(content))]
    tags += [(338, 3, 1, 2)] if channels == 4 else []
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHI4H", b"II", 42, 16 + len(content), *[16] * 4) + content + table


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[bytes, int]]:
    """A file, and the bytes by which a process that has decoded nothing yet grows at most while it decodes it."""
    folder = tmp_path_factory.mktemp("peaks")

    def path(kind: str, mode: str, ending: str) -> Path:
        return folder / f"{kind} {mode}.{ending}"

    for kind, mode in CASES:
        path(kind, mode, "image").write_bytes(file(kind, mode))
    subprocess.run([sys.executable, "-c", MEASURE], cwd=folder, check=True)
    return lambda kind, mode: (path(kind, mode, "image").read_bytes(), int(path(kind, mode, "peak").read_text("ascii")))


@pytest.mark.slow
@pytest.mark.skipif(not PEAK.exists(), reason="the peak of memory is reset by Linux alone")
@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_decoding_takes_no_more_than_was_reserved(
    kind: str, mode: str, measured: Callable[[str, str], tuple[bytes, int]]
) -> None:
    data, peak = measured(kind, mode)
    reserved = decoding_bytes(data, SPEC)
    assert SIDE * SIDE / 2 < peak <= reserved + 4_000_000
    assert reserved <= 64 * SIDE * SIDE


@pytest.mark.parametrize("data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_reserves_nothing(data: bytes) -> None:
    assert decoding_bytes(data, SPEC) == 0


def test_png_with_damaged_texts_is_measured_all_the_same() -> None:
    data = file("PNG", "I;16")
    damaged = data[:33] + b"\x7f\xff\xff\xffzTXt" + data[33:]
    assert decoding_bytes(damaged, SPEC) >= decoding_bytes(data, SPEC) > 0


def test_format_that_is_not_read_is_not_opened_either(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = file("PNG", "L")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22) + inside
    loaded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    assert decoding_bytes(icon, SPEC) == 0
    with pytest.raises(BadImage, match="no image that can be read"):
        decode(icon, SPEC)
    assert loaded == []


@pytest.mark.parametrize(
    ("more", "after", "slow"),
    [
        (0, b"", False),
        (80, b"", False),
        (120, b"", True),
        (0, b"\xff\xda\x00\x02" * 200, False),  # a film behind the image, as phones write it
    ],
)
def test_jpeg_that_takes_a_pass_over_its_pixels_for_each_few_bytes_is_told(more: int, after: bytes, slow: bool) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    tables = whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda"))
    hidden = b"\xff\x01\xff\xff" if slow else b""  # a marker without a length, which is none of the next segment
    assert has_too_many_scans(whole[:-2] + hidden + whole[tables:-2] * more + whole[-2:] + after) is slow
    assert has_too_many_scans(whole[:-2] + whole[tables:-2] * more + whole[-2:] + after) is slow


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xda", file("PNG", "1") + b"\xff\xda" * 999])
def test_what_is_no_whole_jpeg_has_no_scans(data: bytes) -> None:
    assert not has_too_many_scans(data)


def test_jpeg_of_segments_without_end_is_told() -> None:
    assert has_too_many_scans(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 20_000)
