"""What a source gives, as arrays."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.sources.item import Content
from podium.data.sources.source import Source


def pixels(source: Source) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, C, H, W) of a source whose images have one size, and their labels (N,)."""
    images = []
    for item in source.items:
        if isinstance(item.content, np.ndarray):
            images.append(item.content)
        else:
            images.append(np.asarray(_opened(item.content).convert("RGB")).transpose(2, 0, 1))
    return np.stack(images), np.array([item.label for item in source.items], np.int64)


def given(source: Source) -> list[str | None]:
    """The split that the source names for each image."""
    return [item.split for item in source.items]


def _opened(content: Content) -> Image.Image:
    match content:
        case Path():
            return Image.open(content)
        case bytes():
            return Image.open(io.BytesIO(content))
        case Image.Image():
            return content
    assert not isinstance(content, np.ndarray)
    return content()
