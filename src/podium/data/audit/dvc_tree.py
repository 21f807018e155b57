"""What DVC makes of a folder of images: it walks the tree by rules of its own, and stops at things that are no images.

It names no file when it does, so `podium doctor data` says beforehand what it would stumble over.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from podium import paths
from podium.data.dvcignore import DvcIgnore
from podium.data.sources.item import not_pulled, shown

SHOWN = 10
"""Files that are named; the rest is counted."""


def refusals(root: Path) -> tuple[list[str], list[str]]:
    """What ends `dvc repro` in the folder `root` that it watches, and what it does not see, a sentence each."""
    if not root.exists():
        hint = not_pulled(root)
        return [f"prepare.root: {shown(root)} does not exist; make it, or name the folder of the images{hint}"], []
    named = _text_of(Path("dvc.yaml"))
    wrong = [
        f"{shown(folder)} does not exist, and dvc.yaml names it: restore it (`git checkout {shown(folder)}`), or"
        " make an empty folder"
        for folder in (paths.SPLIT.parent, paths.LABELS)
        if folder.as_posix() in named and not folder.exists()
    ]
    unseen: list[str] = []
    inside = root.resolve()
    for path in _everything(root, DvcIgnore(Path.cwd())) if root.is_dir() else []:
        if why := _refused(path):
            wrong.append(f"{shown(path)}: {why}")
        elif path.is_symlink() and path.is_dir() and not path.resolve().is_relative_to(inside):
            unseen.append(f"{shown(path)} is a link to a folder: DVC does not see when what it leads to changes")
    return _some(wrong), _some(unseen)


def _text_of(path: Path) -> str:
    """What stands in `path`; nothing where it is no file of text, which DVC says itself."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _everything(folder: Path, ignore: DvcIgnore) -> Iterator[Path]:
    """All that DVC finds below `folder`, links not followed; folders that can't be listed are left to the audit."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if not ignore.hides_folder(here / name)]
        for name in sorted([*folders, *(name for name in files if not ignore.hides(here / name))]):
            yield here / name


def _refused(path: Path) -> str:
    """Why DVC would fail on it; empty: it would not."""
    try:
        os.fsencode(path.name).decode("utf-8")
    except UnicodeDecodeError:
        return "its name is not UTF-8; rename it"
    try:
        kind = path.stat().st_mode
    except PermissionError as error:
        return f"it can't be reached ({error.strerror}); change the permissions of its folder"
    except OSError as error:
        return f"it is a link to nowhere ({error.strerror}); remove it" if path.is_symlink() else ""
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        return "it is neither a file nor a folder, and reading it may never end; remove it"
    if not os.access(path, os.R_OK):
        return "it may not be read; change its permissions"
    return ""


def _some(lines: list[str]) -> list[str]:
    return lines[:SHOWN] + ([f"and {len(lines) - SHOWN:,} more such files"] if len(lines) > SHOWN else [])
