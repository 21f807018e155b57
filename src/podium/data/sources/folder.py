"""A folder of image files: one sub-folder per class, or the same below train/, val/ and test/."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from podium.data.sources import ImageSource
from podium.data.sources import layout as layouts
from podium.data.sources.item import Item, Reject, Source, in_order, shown
from podium.data.sources.layout import entries
from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.params import PrepareParams


class Folder(ImageSource):
    """A sub-folder for each class, or these below train/, val/ and test/."""

    NAME: ClassVar[str] = "folder:"
    HAS_PATH: ClassVar[bool] = True

    def read(self, params: "PrepareParams", *, follow_links: bool) -> Source:
        """Every file of the folder."""
        return read(Path(self.rest), follow_links=follow_links, layout=params.layout)


def read(folder: Path, *, follow_links: bool = False, layout: str = "auto") -> Source:
    """Every file of `folder`, sorted by path; its class is the folder right below `folder` (or below its split).

    Raises InputError where `folder` is none, holds no class folder, or can be read in two ways: see
    podium.data.sources.layout.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise InputError(f"prepare.source: {shown(folder)} {what}; it must hold one sub-folder per class")
    walk = _Walk(folder, folder.resolve(), follow_links)
    found = layouts.read(folder, layout)
    for one in found.folders:
        walk.names.add(one.name)
        walk.files_of(one.path, one.name, one.split, ())
    for path, why in found.strays:
        walk.reject("stray", path, why)
    if not walk.found:
        raise InputError(
            f"prepare.source: {shown(folder)} holds no image that could be read: it needs a sub-folder with images for"
            f" each class (or train/, val/ and test/ with these below){_loose(walk.rejects)}"
        )
    names = in_order(walk.names)
    numbers = {name: number for number, name in enumerate(names)}
    items = [Item(shown(path.relative_to(folder)), numbers[name], split, path) for name, split, path in walk.found]
    return Source(f"folder:{shown(folder)}", tuple(map(shown, names)), items, walk.rejects)


def files_below(folder: Path) -> tuple[list[Path], list[Reject]]:
    """Every file below `folder`, sorted, as a source of images would find them, and what would be rejected."""
    walk = _Walk(folder, folder.resolve(), follow_links=False)
    walk.files_of(folder, "", None, ())
    return sorted(path for _, _, path in walk.found), walk.rejects


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

    def files_of(self, path: Path, name: str, split: str | None, above: tuple[Path, ...]) -> None:
        """Everything below the folder `path`; `above`: the real folders on the way, to which a link may lead back."""
        real = path.resolve()
        if not self._allowed(path, real):
            return
        if real in above:
            self.reject("outside", path, "it is a link that leads back to a folder above it")
            return
        try:
            within = entries(path)
        except OSError as error:
            self.reject("unreadable", path, f"it can't be listed: {error.strerror}")
            return
        for entry in within:
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


def _loose(rejects: list[Reject]) -> str:
    loose: Iterator[str] = (reject.origin for reject in rejects if reject.kind == "stray")
    if first := next(loose, None):
        return f"; files such as {first!r} lie in no class folder"
    links = next((reject for reject in rejects if reject.kind == "outside"), None)
    remedy = "; `doctor.outside: keep` follows links (DVC does not see when what they lead to changes)"
    return f"; {links.origin!r}: {links.why}{remedy}" if links else ""
