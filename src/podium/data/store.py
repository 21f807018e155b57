"""What was decoded, kept from run to run: pixels and thumbs by row, and an index by the SHA-256 of the image file.

It only speeds up: without it every file is decoded again, to the same bits. Another decoder, another Pillow or another
size is another store, so nothing in one is ever out of date. Rows are written before the index names them: what a
killed run left behind the last of them is overwritten.
"""

import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from podium.data import decode
from podium.data.decode import THUMB, Decoded, Preprocess
from podium.data.rows import RowFile
from podium.locks import locked, unless_held

LOCK = "lock"
"""In the folder of a store for the time being; a store that is kept has its lock beside it."""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS image (digest BLOB PRIMARY KEY, row INTEGER, width INTEGER, height INTEGER, mode TEXT,"
    " frames INTEGER) WITHOUT ROWID"
)


class Facts(NamedTuple):
    """What is remembered of an image besides its pixels."""

    row: int
    width: int
    """Of the image itself, before it was resized."""
    height: int
    mode: str
    frames: int


class Store:
    """Pixels (C, H, W) and thumbs of images, by row; by digest too where it was opened to be kept."""

    def __init__(self, folder: Path, spec: Preprocess, index: sqlite3.Connection | None = None) -> None:
        self.pixels = RowFile(folder / "pixels", (spec.channels, spec.height, spec.width))
        self.thumbs = RowFile(folder / "thumbs", (THUMB, THUMB))
        self._index = index
        self._known: dict[bytes, Facts] = {}
        if index is not None:
            index.execute(SCHEMA)
            self._known = {digest: Facts(*rest) for digest, *rest in index.execute("SELECT * FROM image")}
        whole = 1 + max((facts.row for facts in self._known.values()), default=-1)
        if min(len(self.pixels), len(self.thumbs)) < whole:  # somebody cut the files: nothing in them is trusted
            self._known, whole = {}, 0
            if index is not None:
                index.execute("DELETE FROM image")
        self.pixels.truncate(whole)
        self.thumbs.truncate(whole)

    def find(self, digest: bytes) -> Facts | None:
        """What is known of the image file with this SHA-256; safe in any thread."""
        return self._known.get(digest)

    def add(self, images: list[tuple[bytes | None, Decoded]]) -> list[Facts]:
        """Keep images, with the SHA-256 of their files where they have one; what is known by now is not doubled."""
        facts: list[Facts] = []
        new: list[Decoded] = []
        for digest, image in images:
            found = self._known.get(digest) if digest is not None else None
            if found is None:
                found = Facts(len(self.pixels) + len(new), image.width, image.height, image.mode, image.frames)
                new.append(image)
                if digest is not None:
                    self._known[digest] = found
                    self._remember(digest, found)
            facts.append(found)
        if new:
            self.pixels.append(np.stack([image.pixels for image in new]))
            self.thumbs.append(np.stack([_thumb(image) for image in new]))
        return facts

    def save(self) -> None:
        """Put what was added where a crash can't reach it."""
        if self._index is not None:
            self.pixels.flush()
            self.thumbs.flush()
            self._index.commit()

    def close(self) -> None:
        """Close the files."""
        self.pixels.close()
        self.thumbs.close()

    def _remember(self, digest: bytes, facts: Facts) -> None:
        if self._index is not None:
            self._index.execute("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?, ?)", (digest, *facts))


@contextmanager
def passing(folder: Path, spec: Preprocess) -> Iterator[Store]:
    """A store below `folder` that goes when the block ends, without an index."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        locked(Path(place) / LOCK, wait=True),
        closing(Store(Path(place), spec)) as store,
    ):
        yield store


@contextmanager
def kept(folder: Path, spec: Preprocess) -> Iterator[Store]:
    """The store below `folder` of images decoded as `spec` says; another process that uses it is waited for."""
    place = folder / key_of(spec)
    with locked(folder / f"{place.name}.lock", wait=True):
        place.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(place / "index.sqlite")) as index, closing(Store(place, spec, index)) as store:
            yield store


def outdated(folder: Path, wanted: Collection[Preprocess], busy: Callable[[str], None]) -> Iterator[Path]:
    """The files of every store below `folder` but those of `wanted`: of another size, or by another Pillow or decoder.

    Each comes while its store's lock is held: delete it before the next is asked for. A store that is in use is left
    out, and its name told to `busy`.
    """
    names = {key_of(spec) for spec in wanted}
    for place in sorted(path for path in folder.glob("*") if path.is_dir() and path.name not in names):
        lock = next((path for path in (folder / f"{place.name}.lock", place / LOCK) if path.exists()), None)
        with unless_held(locked(lock) if lock else nullcontext()) as free:
            if free:
                yield from sorted(path for path in place.glob("*") if path.is_file())
            else:
                busy(place.name)


def key_of(spec: Preprocess) -> str:
    """Name of the store: it follows from all that decides what a file is decoded to."""
    code = Path(decode.__file__).read_bytes()
    what = json.dumps([spec.to_dict(), THUMB, PIL.__version__, hashlib.sha256(code).hexdigest()])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _thumb(image: Decoded) -> NDArray[np.uint8]:
    if image.thumb is None:
        raise ValueError("the image was decoded without a thumb")
    return image.thumb
