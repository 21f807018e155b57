"""One image of a source, yet to be decoded, with its name, label, given split and group; and the names of files."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from podium.text import FORMULAS

Content = Path | bytes | NDArray[np.uint8] | Image.Image | Callable[[], Image.Image]
"""A file, the bytes of one, pixels (1 or 3, H, W), a loaded image, or what opens one when called, in any thread."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source, before it is decoded."""

    origin: str
    """What reports call it: its path in the source, or such as train[12]."""
    label: int
    """Index into the source's classes."""
    split: str | None
    """train, val or test where the source itself says so."""
    content: Content
    group: str | None = None
    """Images that belong together (of one patient, scene or burst) have one group, and so one split."""
    left_out: bool = False
    """Whether a person leaves it out (prepare.corrections); it still counts for the split of what belongs to it."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Something among a source's files that no image is made of."""

    kind: str
    """A field of DoctorParams."""
    origin: str
    why: str
    meant: bool = True
    """Whether it was to be in the set, so that it is missing there; a folder that a person left out was not."""
    files: int = 1
    """How many it stands for: a folder for those in it."""
    split: str | None = None
    """As an Item's; None where the source names none, or it is not known."""


_KINDS = "png jpg jpeg jfif jpe webp gif bmp tif tiff ppm pgm pbm pnm pfm jp2 j2k avif heic heif hif mpo apng jxl"
SUFFIXES = tuple(f".{kind}" for kind in _KINDS.split())
"""Of names that are meant as images: other files beside class folders are notes."""


def is_meant(name: str) -> bool:
    """Whether a file of this name is meant as an image."""
    return name.lower().endswith(SUFFIXES)


def shown(path: Path | str) -> str:
    """A path as text that can be printed and encoded, whatever bytes it is made of."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def not_pulled(path: Path) -> str:
    """How to get `path`, of which only DVC's pointer is here, or of a folder above it; empty where there is none."""
    pointers = (one.with_name(f"{one.name}.dvc") for one in (path, *path.parents) if one.name not in ("", ".."))
    found = next((one for one in pointers if os.path.isfile(one)), None)  # noqa: PTH113 (Path raises where it may not look)
    return f"; DVC tracks it, but it is not in this clone: run `dvc pull {shown(found)}`" if found else ""


def cell(path: Path | str) -> str:
    """A path as `shown`, for a table: one that a spreadsheet would compute as a formula begins with `./`."""
    text = shown(path)
    return f"./{text}" if text.startswith(FORMULAS) else text


def in_order(names: set[str]) -> list[str]:
    """Names of classes sorted, whole numbers by their value."""
    whole = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=lambda name: (int(name), name)) if whole else sorted(names)
