"""Which size and channels the images of a source get: as params.yaml says, else as the source has them."""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from podium.config.params import DoctorParams, PrepareParams
from podium.data.decode import Preprocess, orientation, quiet, stored_size
from podium.data.image_modes import GREY
from podium.data.reading import read_file
from podium.data.sources.item import Item, shown
from podium.data.sources.source import Source
from podium.errors import InputError
from podium.text import reason_of

REASONS = 3
"""Images of which the reason is said, where none can be read."""
LOOKED_AT = 1000
"""Images whose headers are looked at where a parameter leaves the shape to the source."""


def preprocess_of(source: Source, params: PrepareParams, audit: DoctorParams) -> Preprocess:
    """How to decode `source`. Raises InputError where it has several sizes and `prepare.size` names none."""
    size, channels = params.size, params.channels
    if size is None or channels is None:
        shapes = _shapes(source.items)
        if size is None and not shapes:
            raise InputError(_unreadable(source.items, int(audit.max_megabytes * 1024**2), source.name))
        channels = channels or (1 if shapes and all(shape[0] == 1 for shape in shapes) else 3)
        size = size or _only(Counter((channels, *shape[1:]) for shape in shapes.elements()), source.name)
    height, width = (size, size) if isinstance(size, int) else size
    limits = int(audit.max_megabytes * 1024**2), int(audit.max_megapixels * 1e6)
    ends = None if isinstance(params.range, str) else params.range
    return Preprocess(channels, height, width, *limits, resize=params.resize, background=params.background, range=ends)


def check_sizes(spec: Preprocess, sizes: Mapping[tuple[int, int], int], params: PrepareParams, name: str) -> None:
    """Raise InputError where `sizes` (width, height) differ from `spec` and nobody asked for another size.

    Only the first headers were looked at before; now all images have been decoded.
    """
    if params.size is None and set(sizes) - {(spec.width, spec.height)}:
        _only(Counter({(spec.channels, height, width): n for (width, height), n in sizes.items()}), name)


def _unreadable(items: Sequence[Item], spec_bytes: int, name: str) -> str:
    """That none of the first images of the source `name` can be read, with the first reasons."""
    step = -(-len(items) // LOOKED_AT) or 1
    looked_at = items[::step]
    lines = [f"  {shown(item.origin)}: {_why_not(item, spec_bytes)}" for item in looked_at[:REASONS]]
    more = [f"  and {len(looked_at) - REASONS:,} more"] if len(looked_at) > REASONS else []
    return "\n".join([f"prepare.source: none of the first images of {name} can be read:", *lines, *more])


def _why_not(item: Item, most: int) -> str:
    """Why the header of an image can't be read."""
    content = item.content
    try:
        if isinstance(content, Path):
            if re.match(r"[a-z]+:/", item.origin):
                return "it is an address: nothing is downloaded, so give the file's bytes, or a path of a file"
            if content.is_dir():
                return f"{shown(content)} is a folder, not a file"
            if not content.exists():
                return f"there is no file {shown(content)}"
            content = read_file(content, most)
        if isinstance(content, bytes):
            with quiet, Image.open(io.BytesIO(content)) as image:
                image.size  # noqa: B018 (it is read, whatever was wrong before)
        elif callable(content):
            content()
    except Exception as error:  # whatever Pillow's and other readers raise
        return f"it can't be read: {reason_of(error)}"
    return "it has no size"


def _only(shapes: Counter[tuple[int, int, int]], name: str) -> tuple[int, int]:
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
        if isinstance(item.content, Image.Image):
            return _shape_of(item.content)
        with (
            quiet,
            Image.open(_opens(item.content)) if isinstance(item.content, Path | bytes) else item.content() as image,
        ):
            return _shape_of(image)
    except Exception:  # whatever Pillow's readers raise; decoding will say what it is
        return None


def _opens(content: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content


def _shape_of(image: Image.Image) -> tuple[int, int, int]:
    width, height = stored_size(image)
    if orientation(image) >= 5:
        width, height = height, width
    return (1 if image.mode in GREY else 3), height, width
