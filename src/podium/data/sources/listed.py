"""Files that a table of images names and that are missing, and images beside these that it does not name."""

import os
from array import array
from pathlib import Path

import numpy as np

from podium.data.sources.item import SUFFIXES, is_meant, shown
from podium.data.sources.listing import is_litter
from podium.text import counted


class Listed:
    """The files that a table names, as numbers: a set of names takes a hundred bytes for each."""

    def __init__(self) -> None:
        self._folders: dict[str, None] = {}
        self._files = array("q")

    def add(self, file: Path) -> None:
        """Count the file as named."""
        folder, name = os.path.split(os.path.normpath(file))
        self._folders.setdefault(folder)
        self._files.append(hash((folder, name)))

    def notes(self) -> tuple[str, ...]:
        """A note of the images that lie beside those named and are in no line; none where all are named."""
        known = np.unique(np.frombuffer(self._files, np.int64)) if self._files else np.empty(0, np.int64)
        count, first = 0, ""
        for folder in self._folders:
            try:
                names = sorted(name for name in os.listdir(folder) if is_meant(name) and not is_litter(name))  # noqa: PTH208
            except OSError:  # its files can be read all the same
                continue
            hashes = np.array([hash((folder, name)) for name in names], np.int64)
            lost = np.flatnonzero(~np.isin(hashes, known)).tolist()
            count += len(lost)
            first = first or (os.path.join(folder, names[lost[0]]) if lost else "")  # noqa: PTH118
        if not count:
            return ()
        what = f"{counted(count, 'image file')} {'lies' if count == 1 else 'lie'} beside those of the table"
        return (f"{what} and {'is' if count == 1 else 'are'} not in it, such as {shown(first)}",)


def why_missing(path: str, folder: Path) -> str:
    """Why there is no file `path` as seen from the `folder` of the table, and which one may be meant."""
    file = folder / path
    try:
        if file.is_dir():
            return "it is a folder, not a file"
    except PermissionError as error:
        return f"it can't be reached: {error.strerror}"
    why = "there is no such file"
    if Path(path).is_file():
        return f"{why} below {shown(folder)}, the folder of the table, where paths start (from the project's there is)"
    if (
        found := next((suffix for suffix in SUFFIXES if file.with_name(file.name + suffix).is_file()), "")
    ) and file.name:
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
    return os.fspath(found.relative_to(folder)) if found.is_file() else ""
