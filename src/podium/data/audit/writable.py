"""Whether what prepare writes can be written: asked before anything is, by `prepare` and by `podium doctor data`."""

import math
import os
import tempfile
from pathlib import Path

from podium.data import split_file
from podium.data.audit.data_audit import AuditedData
from podium.data.linked_files import linked_bytes

REMEDY = ", and a folder must be there: move it away"


def unwritable(data: AuditedData, prepared: Path, sealed: Path, split: Path, *, links: bool = False) -> list[str]:
    """What keeps prepare from writing `prepared`, `sealed` and, if it changes, `split`: a sentence for each folder.

    Nothing is left behind. Images that are there already may be replaced or kept, so their room counts as free. With
    `links` those that the store keeps count, too: they are linked again, and DVC has deleted the other links.
    """
    wrong = [f"{folder} is {what}{REMEDY}" for folder in (prepared, sealed) if (what := _other_than_a_folder(folder))]
    parts = data.division.parts()
    sizes = {name: len(rows) * math.prod(data.report.shape) for name, rows in parts.items()}
    needed = {_existing(split.parent): 0} if split_file.changes(split, data.split) else {}
    for folder, names in ((prepared, ("train", "val")), (sealed, ("test",))):
        place, size = _existing(folder.parent), sum(sizes[name] for name in names)
        kept = linked_bytes(data.store.folder, names) if links and data.store.folder else 0
        needed[place] = needed.get(place, 0) + size - max(_size_of(folder), kept)
    return [*wrong, *(why for place, size in needed.items() if (why := _why_not(place, size)))]


def _other_than_a_folder(path: Path) -> str:
    """What is in the place of the folder `path`; empty: a folder, a link to one, or nothing."""
    if path.is_dir() or not os.path.lexists(path):
        return ""
    return "a link to nowhere" if path.is_symlink() and not path.exists() else "a file"


def _existing(folder: Path) -> Path:
    """`folder`, or what is there of the folders above it."""
    return next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)


def _why_not(place: Path, size: int) -> str:
    """Why `size` bytes can't be written to the folder `place`; empty: they can."""
    if what := _other_than_a_folder(place):
        return f"{place} is {what}{REMEDY}"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0")
    except OSError as error:
        return f"{place} can't be written: {error.strerror}; change its permissions, or make room there"
    about = os.statvfs(place)
    free = about.f_frsize * (about.f_bavail if os.geteuid() else about.f_bfree)
    if about.f_blocks and size > free:
        return (
            f"{place} has room for {free / 1e6:,.0f} MB, and the images need {size / 1e6:,.0f} MB more: make room there"
        )
    return ""


def _size_of(folder: Path) -> int:
    """Bytes of the files below `folder`."""
    return sum((Path(place) / name).lstat().st_size for place, _, files in os.walk(folder) for name in files)
