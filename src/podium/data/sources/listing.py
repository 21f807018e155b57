"""What lies in a folder of images, without what file managers and file systems leave there."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from podium.data.sources.item import is_meant

LITTER = {"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "icon\r", "$recycle.bin", "system volume information"}
LITTER |= {"lost+found"}
"""What file managers and file systems leave; it is ignored silently, as hidden files and Synology's folders are."""
SYNOLOGY = {"@eadir", "#recycle", "#snapshot", "@recycle", "@tmp", "@sharebin"}
OF_PROGRAMS = re.compile(
    r"\.(ipynb_checkpoints|trash|thumb|cache|git|dvc|apple|_|spotlight|fsevent|temp|tmp|snapshot)", re.IGNORECASE
)
"""Beginnings of the names of hidden folders in which programs keep copies."""

UNFINISHED = re.compile(r".+(~|\.(bak|part|partial|crdownload|download|filepart|swp))", re.IGNORECASE)
"""Names of copies that editors keep, and of files that are still being downloaded."""

Hides = Callable[[Path], bool]
"""Whether a folder is left out of all layouts."""


def none_hidden(_: Path) -> bool:
    """No folder is left out."""
    return False


def entries(folder: Path, hides: Hides = none_hidden) -> list[Path]:
    """What lies in `folder`, sorted, without hidden files, litter and the folders that `hides` leaves out."""
    found = list(each_entry(folder))
    return found if hides is none_hidden else [path for path in found if not (path.is_dir() and hides(path))]


def each_entry(folder: Path) -> Iterator[Path]:
    """The same with all folders, one at a time: a Path takes a kilobyte, a name a tenth of that."""
    names = sorted(os.listdir(folder))  # noqa: PTH208 (names, of any bytes)
    return (folder / name for name in names if not is_litter(name))


def hidden_images(folder: Path) -> list[Path]:
    """Files in `folder` that `entries` leaves out although they are named like images; macOS's `._x.jpg` are none."""
    with os.scandir(folder) as found:
        names = [one.name for one in found if one.name.startswith(".") and is_meant(one.name)]
    return sorted(folder / name for name in names if not name.startswith("._"))


def hidden_folders(folder: Path) -> list[Path]:
    """Folders in `folder` that `entries` leaves out, and that hold files named like images: no copies of programs."""
    with os.scandir(folder) as found:
        names = [one.name for one in found if one.name.startswith(".") and one.is_dir(follow_symlinks=False)]
    return sorted(folder / name for name in names if not OF_PROGRAMS.match(name) and _holds_named_images(folder / name))


def _holds_named_images(folder: Path) -> bool:
    try:
        with os.scandir(folder) as found:
            return any(is_meant(one.name) and not is_litter(one.name) for one in found)
    except OSError:
        return False


def folders_in(folder: Path, hides: Hides = none_hidden) -> list[Path]:
    """The folders in `folder`, links to folders too, without those of `is_litter` and those that `hides` leaves out."""
    with os.scandir(folder) as found:
        folders = sorted(folder / one.name for one in found if not is_litter(one.name) and one.is_dir())
    return [path for path in folders if not hides(path)]


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is ignored silently."""
    return name.startswith(".") or name.lower() in LITTER | SYNOLOGY
