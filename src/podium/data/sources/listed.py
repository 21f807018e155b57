"""Files that a table of images names and that are missing, and images beside these that it does not name."""

import os
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from podium.data.sources.item import SUFFIXES, is_meant, shown
from podium.data.sources.listing import is_litter
from podium.text import counted

BATCH = 1024
"""Names of a folder's files that are held at a time."""


class Listed:
    """The files that a table names, as numbers: a set of names takes a hundred bytes for each."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        """Each folder as it is written, and without links."""
        self._folders: dict[str, str] = {}
        """The folders to look in without links, and as they are written first."""
        self._files = array("q")

    def add(self, file: Path, *, is_read: bool) -> None:
        """Count the file as named. Those beside a file that `is_read` are looked at."""
        folder, name = os.path.split(file)
        real = self._real.get(folder) or self._real.setdefault(folder, os.path.realpath(folder))
        if is_read:
            self._folders.setdefault(real, folder)
        self._files.append(hash((real, name)))

    def notes(self) -> tuple[str, ...]:
        """A note of the images that lie beside those named and are in no line; none where all are named."""
        known = np.unique(np.frombuffer(self._files, np.int64)) if self._files else np.empty(0, np.int64)
        count, first = 0, ""
        for real, written in self._folders.items():
            lowest = ""
            for names in _batches(real):
                hashes = np.array([hash((real, name)) for name in names], np.int64)
                places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
                lost = np.flatnonzero(known[places] != hashes).tolist()
                count += len(lost)
                lowest = min(filter(None, [lowest, *(names[number] for number in lost)]), default="")
            first = first or (os.path.join(written, lowest) if lowest else "")  # noqa: PTH118
        if not count:
            return ()
        what = f"{counted(count, 'image file')} {'lies' if count == 1 else 'lie'} beside those of the table"
        return (f"{what} and {'is' if count == 1 else 'are'} not in it, such as {shown(first)}",)


def _batches(folder: str) -> Iterator[list[str]]:
    """Names of the image files in a folder, in no order; none of one that can't be listed."""
    try:
        found = os.scandir(folder)
    except OSError:  # its files can be read all the same
        return
    with found:
        names = (one.name for one in found if is_meant(one.name) and not is_litter(one.name))
        while batch := list(islice(names, BATCH)):
            yield batch


def why_missing(path: str, folder: Path) -> str:
    """Why there is no file `path` as seen from the `folder` of the table, and which one may be meant."""
    file = folder / path
    if os.path.isdir(file):  # noqa: PTH112 (Path raises where a name is too long)
        return "it is a folder, not a file"
    try:
        os.stat(file)  # noqa: PTH116
    except PermissionError as error:
        return f"it can't be reached: {error.strerror}"
    except OSError:
        pass
    why = "there is no such file"
    if os.path.isfile(path):  # noqa: PTH113
        return f"{why} below {shown(folder)}, the folder of the table, where paths start (from the project's there is)"
    if found := next((suffix for suffix in SUFFIXES if os.path.isfile(f"{file}{suffix}")), ""):  # noqa: PTH113
        return f"{why}; write it with its ending, {shown(path + found)}"
    if other := _in_another_case(path, folder):
        return f"{why}; there is {shown(other)}"
    return why


def _in_another_case(path: str, folder: Path) -> str:
    """The path that differs from `path` by the case of letters only; empty: there is none, or several."""
    found = folder
    parts = [part for part in Path(path).parts if part not in (".", "/")]
    if Path(path).is_absolute() or ".." in parts:
        return ""
    for part in parts:
        try:
            same = [name for name in os.listdir(found) if name.casefold() == part.casefold()]  # noqa: PTH208
        except OSError:
            return ""
        if len(same) != 1:
            return ""
        found = found / same[0]
    return os.fspath(found.relative_to(folder)) if os.path.isfile(found) else ""  # noqa: PTH113
