"""Which file each prepared image came from, which belong together, and how large each was: next to a split's images."""

import csv
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TextIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import LazyRows
from podium.data.sources.item import Content, shown
from podium.data.split_draw import numbered
from podium.data.split_errors import unreadable
from podium.errors import InputError

NAME = "files.csv"
SEPARATOR = "\0"
"""Of the parts of a row in memory: no path holds it."""
SIZES = "sizes.npy"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One prepared image, in the order of its split."""

    origin: str
    """Its name in the source, such as cat/1.jpg or train[12]: reports and corrections of labels use it."""
    path: str
    """From the project's folder; empty: it is no file in there."""
    group: str
    """Images that share a split have the same one: near-duplicates, and what the source groups."""


def names_of(groups: NDArray[np.int64], prints: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number (N,) for each image's group: its lowest fingerprint of `prints` (N, 2), whatever the source's order."""
    count, group = numbered(groups)
    lowest = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(lowest, group, prints[:, 0])
    return lowest[group]


def path_of(content: Content | str, project: str) -> str:
    """The path of an image file from the folder `project`, the present one; empty where it is no file in there."""
    if not isinstance(content, Path | str):
        return ""
    path = os.path.abspath(content)  # noqa: PTH100 (links stay as they are; a Path would cost more than all else)
    inside = os.path.join(project, "")  # noqa: PTH118
    return shown(path.removeprefix(inside)) if path.startswith(inside) else ""


def write_files(folder: Path, files: Sequence[ImageFile]) -> None:
    """Write files.csv to the folder of a split."""
    with (folder / NAME).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(ImageFile)])
        writer.writerows((one.origin, one.path, one.group) for one in files)  # astuple copies each deeply


class _Rows(LazyRows[ImageFile]):
    """The rows of a files.csv as packed bytes; one is made when it is asked for. An object takes 500 bytes."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("Q", [0])

    def append(self, row: list[str]) -> None:
        """Add the row of one image."""
        self._text += SEPARATOR.join(row).encode()
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def row(self, number: int) -> ImageFile:
        return ImageFile(*self._text[self._ends[number] : self._ends[number + 1]].decode().split(SEPARATOR))


def read_files(folder: Path, count: int) -> Sequence[ImageFile]:
    """What `write_files` wrote for the `count` images of the split in `folder`.

    Raises InputError where it is missing: an earlier Podium prepared the images; or where it is of other images.
    """
    path = folder / NAME
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = _rows(path, file)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path} is missing: run `dvc repro prepare`") from None
    except OSError as error:
        raise unreadable(path, error) from None
    if len(found) != count:
        raise InputError(f"{path} must have a row for each of {count:,} images; got {len(found):,}: run `dvc repro`")
    return found


def _rows(path: Path, file: TextIO) -> _Rows:
    """The rows of `file`, which is `path`."""
    reader = csv.reader(file)
    names = [field.name for field in fields(ImageFile)]
    if next(reader, None) != names:
        raise InputError(f"{path} is another Podium's: run `dvc repro prepare`")
    found = _Rows()
    for row in filter(None, reader):
        if len(row) != len(names):
            raise InputError(f"{path} is damaged in line {reader.line_num}: run `dvc repro prepare`")
        found.append(row)
    return found


def anonymous(count: int, split: str = "") -> list[ImageFile]:
    """For `count` images of which nothing is known: each is in a group of its own, also than those of other splits."""
    return [ImageFile("", "", f"{split}{number}") for number in range(count)]


def write_sizes(folder: Path, sizes: NDArray[np.int32]) -> None:
    """Write sizes.npy to the folder of a split: width and height (N, 2) that its images had before resizing."""
    np.save(folder / SIZES, np.asarray(sizes, np.int32), allow_pickle=False)


def read_sizes(folder: Path, count: int) -> NDArray[np.int32] | None:
    """What `write_sizes` wrote for the `count` images of the split in `folder`; None where an earlier Podium made it.

    Raises InputError where it is damaged or of other images.
    """
    path = folder / SIZES
    try:
        with path.open("rb") as file:  # numpy leaves its own open where the content is damaged
            found = np.load(file, allow_pickle=False)
    except (FileNotFoundError, IsADirectoryError):
        return None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise unreadable(path, error) from None
    if not isinstance(found, np.ndarray):  # numpy.savez's archive
        raise InputError(f"{path} must be one array of numpy.save; got an archive of several: run `dvc repro prepare`")
    if found.shape != (count, 2) or found.dtype != np.int32:
        raise InputError(
            f"{path} must have a width and a height for each of {count:,} images, ({count}, 2) of type int32; got"
            f" {found.shape} of type {found.dtype}: run `dvc repro prepare`"
        )
    return found
