"""A folder of image files: one sub-folder per class, or the same below train/, val/ and test/."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from podium.data.sources import ImageSource
from podium.data.sources.item import Item, Reject, Source, in_order, shown
from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.params import PrepareParams

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders that hold a split, in lower case."""
LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
"""What file managers leave; it is ignored silently, as hidden files are."""


class Folder(ImageSource):
    """A sub-folder for each class, or these below train/, val/ and test/."""

    NAME: ClassVar[str] = "folder:"
    HAS_PATH: ClassVar[bool] = True

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """Every file of the folder."""
        return read(Path(self.rest), follow_links=follow_links)


def read(folder: Path, *, follow_links: bool = False) -> Source:
    """Every file of `folder`, sorted by path; its class is the folder right below `folder` (or below its split).

    Raises InputError where `folder` is none or holds no class folder.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise InputError(f"prepare.source: {shown(folder)} {what}; it must hold one sub-folder per class")
    walk = _Walk(folder, folder.resolve(), follow_links)
    parts = _splits(folder)
    for split, part in parts.items() or {None: folder}.items():
        walk.classes_of(part, split)
    for path in _entries(folder) if parts else []:
        if path not in parts.values():
            walk.reject("stray", path, "it lies outside the folders of the splits")
    if not walk.found:
        raise InputError(
            f"prepare.source: {shown(folder)} holds no image that could be read: it needs a sub-folder with images for"
            f" each class (or train/, val/ and test/ with these below){_loose(walk.rejects)}"
        )
    names = in_order(walk.names)
    numbers = {name: number for number, name in enumerate(names)}
    items = [Item(shown(path.relative_to(folder)), numbers[name], split, path) for name, split, path in walk.found]
    return Source(f"folder:{shown(folder)}", tuple(map(shown, names)), items, walk.rejects)


@dataclass
class _Walk:
    """Files found so far, and what was rejected."""

    folder: Path
    inside: Path
    """The folder itself, links resolved; what leads out of it is rejected unless `follow_links`."""
    follow_links: bool
    found: list[tuple[str, str | None, Path]] = field(default_factory=list)
    """Class, given split, file."""
    names: set[str] = field(default_factory=set)
    """Classes; those without a file too."""
    rejects: list[Reject] = field(default_factory=list)

    def reject(self, kind: str, path: Path, why: str) -> None:
        self.rejects.append(Reject(kind, shown(path.relative_to(self.folder)), why))

    def classes_of(self, part: Path, split: str | None) -> None:
        for path in _entries(part):
            if path.is_dir():
                self.names.add(path.name)
                self.files_of(path, path.name, split, ())
            else:
                self.reject("stray", path, "it lies outside the class folders")

    def files_of(self, path: Path, name: str, split: str | None, above: tuple[Path, ...]) -> None:
        """Everything below the folder `path`; `above`: the real folders on the way, to which a link may lead back."""
        real = path.resolve()
        if not self._allowed(path, real):
            return
        if real in above:
            self.reject("outside", path, "it is a link that leads back to a folder above it")
            return
        try:
            entries = _entries(path)
        except OSError as error:
            self.reject("unreadable", path, f"it can't be listed: {error.strerror}")
            return
        for entry in entries:
            if entry.is_dir():
                self.files_of(entry, name, split, (*above, real))
            elif self._is_file(entry):
                self.found.append((name, split, entry))

    def _allowed(self, path: Path, real: Path) -> bool:
        if self.follow_links or real.is_relative_to(self.inside):
            return True
        self.reject("outside", path, "it is a link that leaves the folder")
        return False

    def _is_file(self, path: Path) -> bool:
        try:
            kind = path.stat().st_mode
        except OSError as error:
            self.reject("unreadable", path, f"it is a link to nowhere: {error.strerror}")
            return False
        if not stat.S_ISREG(kind):
            self.reject("unreadable", path, "it is neither a file nor a folder")
            return False
        return not path.is_symlink() or self._allowed(path, path.resolve())


def _entries(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted, without hidden files and litter."""
    names = sorted(os.listdir(folder))  # noqa: PTH208 (names, of any bytes)
    return [folder / name for name in names if not name.startswith(".") and name.lower() not in LITTER]


def _splits(folder: Path) -> dict[str, Path]:
    """The folders of the splits, by split; empty where `folder` holds anything else or no train."""
    folders = [path for path in _entries(folder) if path.is_dir()]
    found = {SPLITS[path.name.lower()]: path for path in folders if path.name.lower() in SPLITS}
    return found if "train" in found and len(found) == len(folders) else {}


def _loose(rejects: list[Reject]) -> str:
    loose: Iterator[str] = (reject.origin for reject in rejects if reject.kind == "stray")
    first = next(loose, None)
    return f"; files such as {first!r} lie in no class folder" if first else ""
