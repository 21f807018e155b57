"""Files of pixels that stay beside the decoded images: one that did not change is linked into data/prepared.

DVC deletes an output before its stage runs, so what is to be taken over lies elsewhere. A hard link is the same file:
DVC, which tells files by their inode and time, does not read it again either. Each is compared with the pixels that it
is to hold before it is linked, so the result is that of writing it, whatever became of the file.

This is for projects in which DVC itself links hard (cache.type). Where it copies, it replaces each file with several
links by a copy of its own, and the files would be on the disk once more.
"""

import configparser
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

PREFIX = "linked-"
READ_ONLY = 0o444
"""As DVC has what is in its cache: who wrote to one of the links would change all of them."""


class LinkedFiles:
    """The files in the folder of a store of decoded images; use them while its lock is held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: set[str] = set()

    def write(self, path: Path, pieces: Iterable[memoryview]) -> None:
        """Have a file with the bytes of `pieces` at `path`: the one of this name that is kept, where it holds them."""
        kept = self._folder / f"{PREFIX}{path.parent.name}-{path.name}"
        self._used.add(kept.name)
        new = kept.with_name(f"{kept.name}.new")
        try:
            if self._differs(kept, pieces, new):
                new.chmod(READ_ONLY)
                new.replace(kept)
        finally:
            new.unlink(missing_ok=True)
        try:
            path.hardlink_to(kept)
        except OSError:  # another file system, or as many links as there may be
            shutil.copyfile(kept, path)

    def tidy(self) -> None:
        """Remove what nothing was written from, and what a killed run left."""
        for path in self._folder.glob(f"{PREFIX}*"):
            if path.name not in self._used:
                path.unlink()

    def _differs(self, kept: Path, pieces: Iterable[memoryview], new: Path) -> bool:
        """Whether `kept` does not hold `pieces`; then `new` does."""
        with ExitStack() as stack:
            old = stack.enter_context(kept.open("rb")) if kept.is_file() and not kept.is_symlink() else None
            same, written = 0, None
            for piece in pieces:
                if written is None and old is not None and old.read(len(piece)) == bytes(piece):
                    same += len(piece)
                    continue
                if written is None:
                    written = stack.enter_context(_begun(new, old, same))
                written.write(piece)
            if written is None and (old is None or old.read(1)):
                written = stack.enter_context(_begun(new, old, same))
        return written is not None


def linked_bytes(folder: Path, splits: Iterable[str]) -> int:
    """How many bytes of `splits` the store in `folder` keeps to be linked."""
    return sum(path.lstat().st_size for name in splits for path in folder.glob(f"{PREFIX}{name}-*.npy"))


def _begun(path: Path, old: BinaryIO | None, same: int) -> BinaryIO:
    """A new file at `path` with the first `same` bytes of `old`, which are right."""
    path.unlink(missing_ok=True)
    file = path.open("wb")
    if old is not None:
        old.seek(0)
        while same:
            same -= file.write(old.read(min(same, 1 << 20)))
    return file


def dvc_links(root: Path) -> bool:
    """Whether DVC's `cache.type` of the project in `root` is hardlink, or begins with it."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read([root / ".dvc" / name for name in ("config", "config.local")], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):  # DVC says so itself
        return False
    return parser.get("cache", "type", fallback="").strip("\"' ").split(",")[0].strip() == "hardlink"
