"""A small set of images in the four IDX files of MNIST, as torchvision reads them: ten classes that can be learnt."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def pixels(per_class: int, seed: int, size: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noise (N, size, size) with a bright bar at the place of the label (N,), which goes from 0 to 9."""
    draw = np.random.default_rng(seed)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    images = draw.integers(0, 90, (len(labels), size, size), dtype=np.uint8)
    for label in range(10):
        row, column = divmod(label * 3, size)
        images[labels == label, row : row + 3, column % size] += np.uint8(160)
    return images, labels


def write(folder: Path, train: int = 20, test: int = 4, *, packed: bool = False) -> Path:
    """Write the four files with so many images a class to `folder`, as they are or as .gz; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [array for count, seed in ((train, 1), (test, 2)) for array in pixels(count, seed)]
    for name, array in zip(NAMES, arrays, strict=True):
        write_file(folder / name, array, packed=packed)
    return folder


def write_file(path: Path, array: NDArray[np.uint8], *, packed: bool = False) -> None:
    """One array as an IDX file of bytes."""
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    if packed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
