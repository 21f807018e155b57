"""The memory that is reserved for an image, compared with what its decoding takes."""

import gc
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from podium.data.decode import Preprocess, decode
from podium.serving.image_memory import decoding_bytes

SIDE = 1200
SPEC = Preprocess(3, 32, 32, range=(0, 60000))
PEAK = Path("/proc/self/clear_refs")


def file(kind: str, mode: str) -> bytes:
    slope = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None]  # noise would take seconds to compress
    draw = (slope // np.array([1, 2, 3, 5]) % 256).astype(np.uint8)
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


def peak(data: bytes) -> int:
    """Bytes by which this process grows at most while it decodes `data`."""
    gc.collect()
    PEAK.write_text("5", encoding="ascii")
    before = _memory("VmRSS")
    decode(data, SPEC)
    return _memory("VmHWM") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.skipif(not PEAK.exists(), reason="the peak of memory is reset by Linux alone")
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("L", "LA", "P", "RGB", "RGBA", "I;16", "1")),
        *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "I;16", "F", "CMYK")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("JPEG2", "RGB"), ("PPM", "RGB")),
    ],
)
def test_decoding_takes_no_more_than_was_reserved(kind: str, mode: str) -> None:
    data = file(kind, mode)
    reserved = decoding_bytes(data, SPEC)
    assert peak(data) <= reserved + 4_000_000
    assert reserved <= 64 * SIDE * SIDE


def test_photograph_that_is_decoded_at_a_part_of_its_size_reserves_less() -> None:
    assert decoding_bytes(file("JPEG", "RGB"), SPEC) < SIDE * SIDE


@pytest.mark.parametrize("data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_reserves_nothing(data: bytes) -> None:
    assert decoding_bytes(data, SPEC) == 0


def test_png_with_damaged_texts_is_measured_all_the_same() -> None:
    data = file("PNG", "I;16")
    damaged = data[:33] + b"\x7f\xff\xff\xffzTXt" + data[33:]
    assert decoding_bytes(damaged, SPEC) == decoding_bytes(data, SPEC)
