"""Files that a table of images names and that are missing, and what lies beside these and is not named."""

import os
import unicodedata
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from podium.data.sources.item import SUFFIXES, is_meant, shown
from podium.data.sources.listing import Hides, is_litter, none_hidden
from podium.text import counted

BATCH = 1024
"""Names of a folder's files that are held at a time."""
COUNTED = 100_000
"""Files and folders that are looked at in all folders beside those of a table: nobody asked for them."""
SHOWN = 5
"""Folders that a note names."""


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

    def notes(self, top: Path, root: Path, hides: Hides = none_hidden) -> tuple[str, ...]:
        """Notes of the images that lie beside those named and are in no line; none where all are named.

        `top`: the folder of the table. Below it, folders beside those of the named files are looked at too, such as
        a class that the table leaves out, but for those that `hides` leaves out or that are outside of `root`. Links
        are not followed. Where `top` is the project's own folder, what else lies in it may be anything, and is not
        looked at.
        """
        inside = root.resolve()
        return (
            *self._beside(),
            *self._folders_beside(os.path.realpath(top), lambda path: hides(path) or not path.is_relative_to(inside)),
        )

    def _beside(self) -> tuple[str, ...]:
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
        what = f"{counted(count, 'image file')} {'lies' if count == 1 else 'lie'} next to those of the table"
        return (f"{what} and {'is' if count == 1 else 'are'} not in it, such as {shown(first)}",)

    def _folders_beside(self, end: str, hides: Hides) -> tuple[str, ...]:
        """A note of the folders in which images lie, and none that is named; folders in those are counted with them."""
        places = set[str]()
        for folder in self._real.values():
            place = folder
            while place not in places and (place == end or place.startswith(os.path.join(end, ""))):  # noqa: PTH118
                places.add(place)
                place = os.path.dirname(place)  # noqa: PTH120
        if Path(end) == Path.cwd().resolve():
            places.discard(end)
        unnamed, left = dict[str, str](), COUNTED
        for one in sorted(_folders_in(places) - places - set(self._real.values())):
            images, seen = _images_below(one, hides, left)
            left -= seen
            if images:
                unnamed[one] = counted(images, "image") + (" or more" if left <= 0 else "")
            if left <= 0:
                break
        if not unnamed:
            return ()
        named = [f"{shown(os.path.relpath(path, end))} ({many})" for path, many in list(unnamed.items())[:SHOWN]]
        more = f" and {len(unnamed) - SHOWN:,} more" if len(unnamed) > SHOWN else ""
        what = "1 folder holds" if len(unnamed) == 1 else f"{len(unnamed):,} folders hold"
        return (f"{what} images next to those of the table, which names none of them: {', '.join(named)}{more}",)


def _folders_in(places: set[str]) -> set[str]:
    """The folders in `places`, without links; none of a place that can't be listed."""
    found = set[str]()
    for place in places:
        try:
            with os.scandir(place) as inside:
                found |= {one.path for one in inside if not is_litter(one.name) and one.is_dir(follow_symlinks=False)}
        except OSError:  # its files can be read all the same
            continue
    return found


def _images_below(folder: str, hides: Hides, most: int) -> tuple[int, int]:
    """How many files named like images lie in `folder` and in those in it that `hides` does not leave out.

    Also how many files and folders were looked at: it ends after `most` of them. Links are not followed.
    """
    images, seen = 0, 0
    for place, folders, files in os.walk(folder):
        if hides(Path(place)):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not is_litter(name)]
        images += sum(is_meant(name) and not is_litter(name) for name in files)
        seen += 1 + len(files)
        if seen >= most:
            break
    return images, seen


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
    if "%" in path and os.path.isfile(folder / unquote(path)):  # noqa: PTH113
        return f"{why}; it is written as in an address: write {shown(unquote(path))}"
    bare = path.strip("'\"`")
    if bare != path and os.path.isfile(folder / bare):  # noqa: PTH113
        return f"{why}; its quotes are part of the name here: write {shown(bare)}"
    if other := _in_another_form(path, folder):
        return f"{why}; there is {_told_apart(other, path)}"
    return why


def _told_apart(other: str, path: str) -> str:
    """`other` as text; where it looks like `path`, with its accents as codes."""
    same = unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", path)
    return f"{other!a}, whose accents are made of other characters" if same else shown(other)


def _in_another_form(path: str, folder: Path) -> str:
    """The path that differs from `path` by the case of letters only, or by how accents are written.

    Empty: there is none, or several.
    """
    found = folder
    parts = [part for part in Path(path).parts if part not in (".", "/")]
    if Path(path).is_absolute() or ".." in parts:
        return ""
    for part in parts:
        try:
            same = [name for name in os.listdir(found) if _plain(name) == _plain(part)]  # noqa: PTH208
        except OSError:
            return ""
        if len(same) != 1:
            return ""
        found = found / same[0]
    return os.fspath(found.relative_to(folder)) if os.path.isfile(found) else ""  # noqa: PTH113


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
