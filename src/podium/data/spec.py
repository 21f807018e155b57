"""Which shape a source's images get, and how: as params.yaml says, and as the source has it where that says nothing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from podium.config.params import DoctorParams, PrepareParams
from podium.data.decode import ORIENTATION, Preprocess
from podium.data.sources.items import Item, Source
from podium.errors import InputError

LOOKED_AT = 1000
"""Images whose headers are looked at where a parameter leaves the shape to the source."""
GREY = {"1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L"}
"""Pillow's modes without colour; a palette may hold colours."""


def preprocess_of(source: Source, params: PrepareParams, doctor: DoctorParams) -> Preprocess:
    """How to decode `source`. Raises InputError where it has several sizes and `prepare.size` names none."""
    size, channels = params.size, params.channels
    if size is None or channels is None:
        shapes = _shapes(source.items)
        channels = channels or (1 if shapes and all(shape[0] == 1 for shape in shapes) else 3)
        size = size or _only(Counter((channels, *shape[1:]) for shape in shapes.elements()), source.name)
    height, width = (size, size) if isinstance(size, int) else size
    limits = {
        "max_bytes": int(doctor.max_megabytes * 1024**2),
        "max_pixels": int(doctor.max_megapixels * 1e6),
    }
    return Preprocess(channels, height, width, **limits, resize=params.resize, background=params.background)


def check_sizes(spec: Preprocess, sizes: Counter[tuple[int, int]], params: PrepareParams, name: str) -> None:
    """Raise InputError where `sizes` (width, height) differ from `spec` and nobody asked for another size.

    Only the first headers were looked at before; now all images have been decoded.
    """
    if params.size is None and set(sizes) - {(spec.width, spec.height)}:
        _only(Counter({(spec.channels, height, width): n for (width, height), n in sizes.items()}), name)


def _only(shapes: Counter[tuple[int, int, int]], name: str) -> tuple[int, int]:
    if not shapes:
        raise InputError(f"prepare.source: none of the first images of {name} can be read; see `podium doctor data`")
    if len(shapes) == 1:
        return next(iter(shapes))[1:]
    shown = [f"{'x'.join(map(str, shape))} ({count:,})" for shape, count in shapes.most_common(5)]
    more = f" and {len(shapes) - 5:,} other sizes" if len(shapes) > 5 else ""
    raise InputError(
        f"prepare.size: must say which size the images get where they have several; {name} has"
        f" (channels x height x width) {', '.join(shown)}{more}. Write a side in pixels, such as `size: 64`"
    )


def _shapes(items: Sequence[Item]) -> Counter[tuple[int, int, int]]:
    """Channels, height and width of items spread over all of them; those that can't be opened are left out."""
    step = -(-len(items) // LOOKED_AT) or 1
    return Counter(shape for item in items[::step] if (shape := _shape(item)))


def _shape(item: Item) -> tuple[int, int, int] | None:
    if isinstance(item.content, np.ndarray):
        channels, height, width = item.content.shape
        return channels, height, width
    try:
        with Image.open(item.content) if isinstance(item.content, Path) else item.content() as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            return (1 if image.mode in GREY else 3), height, width
    except Exception:  # whatever Pillow's readers raise; decoding will say what it is
        return None
