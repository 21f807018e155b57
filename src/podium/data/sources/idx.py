"""MNIST and its kin from their four IDX files, as they are published.

torchvision reads the same files, but importing it takes 3 s and 700 MB: more than all the rest of the preparation.
Format: Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.
"""

import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.data.sources.items import Item, Source
from podium.errors import InputError

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST = "0 - zero, 1 - one, 2 - two, 3 - three, 4 - four, 5 - five, 6 - six, 7 - seven, 8 - eight, 9 - nine"
FASHION = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"
CLASSES = {"MNIST": MNIST, "FashionMNIST": FASHION, "KMNIST": "o, ki, su, tsu, na, ha, ma, ya, re, wo"}
"""Names of the classes, as torchvision has them."""


def find(name: str, root: Path) -> list[Path]:
    """The four files of `name`, or of .gz, in `root` or torchvision's folders below it; empty where one is missing."""
    places = [root, root / name, root / name / "raw"]
    found = [next((p for f in places for p in (f / w, f / f"{w}.gz") if p.is_file()), None) for w in FILES]
    whole = [path for path in found if path is not None]
    return whole if name in CLASSES and len(whole) == len(FILES) else []


def read(name: str, files: list[Path]) -> Source:
    """The set `name` from its four files; the second pair is given as test. Raises InputError for a damaged file."""
    classes = tuple(CLASSES[name].split(", "))
    items: list[Item] = []
    for split, (images, labels) in {"train": files[:2], "test": files[2:]}.items():
        pixels, numbers = _array(images, 3), _array(labels, 1)
        if len(pixels) != len(numbers):
            raise InputError(
                f"prepare.root: {images} and {labels} don't belong together: {len(pixels):,} images, {len(numbers):,}"
                " labels"
            )
        if len(numbers) and numbers.max() >= len(classes):
            raise InputError(
                f"prepare.root: labels in {labels} must be 0 to {len(classes) - 1}; got {numbers.max()}: it is damaged"
            )
        items += [
            Item(f"{split}[{row}]", int(numbers[row]), split, pixels[row : row + 1]) for row in range(len(pixels))
        ]
    if not items:
        raise InputError(f"prepare.root: {files[0]} and {files[2]} hold no images")
    return Source(f"torchvision:{name}", classes, items)


def _array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of an IDX file as an array."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"prepare.root: {path} is damaged: {error}") from None
    start = 4 + 4 * dimensions
    header = np.frombuffer(content[4:start], ">u4")
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) - start != math.prod(header.tolist()):
        raise InputError(
            f"prepare.root: {path} is damaged: it must be an IDX file of bytes with {dimensions} dimensions, as long as"
            f" its header says; it has {len(content):,} bytes"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(header.tolist())
