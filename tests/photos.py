"""Folders of photographs: tiles of the two that are inside scikit-learn."""

import functools
import io
from pathlib import Path

from PIL import Image
from sklearn import datasets

SIDE = 96


@functools.cache
def tiles() -> list[Image.Image]:
    """48 different pieces of 96x96 of real photographs, none of them overlapping another."""
    folder = Path(datasets.__file__).parent / "images"
    found = []
    for name in ("china.jpg", "flower.jpg"):
        whole = Image.open(folder / name).convert("RGB")
        for top in range(0, whole.height - SIDE + 1, SIDE):
            found += [whole.crop((x, top, x + SIDE, top + SIDE)) for x in range(0, whole.width - SIDE + 1, SIDE)]
    return found


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, image: Image.Image, kind: str = "PNG", **options: object) -> Path:
    """An image file at `path`, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image, kind, **options))
    return path


def folder(root: Path, per_class: int = 12, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """`per_class` different photographs of each class, as PNG."""
    for number, name in enumerate(classes):
        for index in range(per_class):
            write(root / name / f"{index:02}.png", tiles()[number * per_class + index])
    return root
