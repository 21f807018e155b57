"""What a source gives, as arrays."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.data.sources.items import Source


def pixels(source: Source) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (N, C, H, W) of a source whose images have one size, and their labels (N,)."""
    images = []
    for item in source.items:
        if isinstance(item.content, np.ndarray):
            images.append(item.content)
        else:
            image = Image.open(item.content) if isinstance(item.content, Path) else item.content()
            images.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    return np.stack(images), np.array([item.label for item in source.items], np.int64)


def given(source: Source) -> list[str | None]:
    """The split that the source names for each image."""
    return [item.split for item in source.items]
