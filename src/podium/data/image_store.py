"""The store of decoded images: pixels and thumbs by row, and an index by the SHA-256 of the image file.

It stays from run to run and only saves time: without it every file is decoded again, to the same bits. Another
decoder, another Pillow or another size is another store, so nothing in one is ever out of date. Rows are written before
the index names them: what a killed run left behind the last of them is overwritten.

Rows are read with plain reads instead of a memory map: pages of a map count as memory of the process, and a limit on
its address space would have to be above the size of the set.
"""

import hashlib
import json
import math
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from podium.data import content as content_code
from podium.data import decode
from podium.data.decode import THUMB, Decoded, Preprocess
from podium.locks import locked, unless_held

LOCK = "lock"
"""In the folder of a temporary store; a persistent one has its lock next to it."""
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS image (digest BLOB PRIMARY KEY, row INTEGER, width INTEGER, height INTEGER, mode TEXT,"
    " frames INTEGER, content BLOB, low REAL, high REAL, transparent INTEGER) WITHOUT ROWID"
)


INSERT = "INSERT OR IGNORE INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class RowFile:
    """A file of uint8 rows of one shape, appended to at its end."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        """Open `path`, made if missing; what a killed run left of a last row is cut off by `truncate`."""
        self.shape = shape
        self.row_bytes = math.prod(shape)
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._length = os.fstat(self._file.fileno()).st_size // self.row_bytes

    def __len__(self) -> int:
        return self._length

    def truncate(self, length: int) -> None:
        """Forget the rows from `length` on."""
        self._file.truncate(length * self.row_bytes)
        self._length = length

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Write (n, *shape) at the end."""
        left = np.ascontiguousarray(rows).data.cast("B")
        self._file.seek(self._length * self.row_bytes)
        while left:
            left = left[self._file.write(left) :]
        self._length += len(rows)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The rows of these numbers, as (n, *shape)."""
        rows = np.empty((len(numbers), self.row_bytes), np.uint8)
        starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)  # rows that follow each other are read at once
        ends = [*starts[1:].tolist(), len(numbers)]
        for start, end, number in zip(starts.tolist(), ends, numbers[starts].tolist(), strict=False):
            self._read(rows[start:end], number)
        return rows.reshape(len(numbers), *self.shape)

    def _read(self, rows: NDArray[np.uint8], number: int) -> None:
        """Fill `rows` (n, row_bytes) from row `number` on."""
        left, at = rows.data.cast("B"), number * self.row_bytes
        while left:  # one call reads at most 2 GB
            read = os.preadv(self._file.fileno(), [left], at)
            if not read:
                raise EOFError(f"row {at // self.row_bytes} of {self._file.name} is not there")
            left, at = left[read:], at + read

    def flush(self) -> None:
        """See that the rows are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Gathered:
    """Some rows of a file in some order, as if they were an array."""

    def __init__(self, file: RowFile, numbers: NDArray[np.int64]) -> None:
        self._file = file
        self._numbers = numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape of a row)."""
        return (len(self._numbers), *self._file.shape)

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        return self._file.take(self._numbers[rows])


class Facts(NamedTuple):
    """What is stored of an image in addition to its pixels."""

    row: int
    width: int
    """Of the image itself, before it was resized."""
    height: int
    mode: str
    frames: int
    content: bytes
    """Digests of what the image itself shows, the former one behind: see podium.data.content."""
    low: float | None = None
    """The lowest and the highest value of an image deeper than 8 bits."""
    high: float | None = None
    transparent: int = 0
    """1: no pixel can be seen."""


class Store:
    """Pixels (C, H, W) and thumbs of images, by row; by digest too if it is persistent."""

    def __init__(self, folder: Path, spec: Preprocess, index: sqlite3.Connection | None = None) -> None:
        self.pixels = RowFile(folder / "pixels", (spec.channels, spec.height, spec.width))
        self.thumbs = RowFile(folder / "thumbs", (THUMB, THUMB))
        self._index = index
        self._lock = threading.Lock()
        whole = 0
        if index is not None:
            index.execute(SCHEMA)
            whole = 1 + index.execute("SELECT COALESCE(MAX(row), -1) FROM image").fetchone()[0]
            if min(len(self.pixels), len(self.thumbs)) < whole:  # somebody cut the files: nothing in them is trusted
                index.execute("DELETE FROM image")
                whole = 0
        self._is_new = not whole
        self.pixels.truncate(whole)
        self.thumbs.truncate(whole)

    def find(self, digest: bytes) -> Facts | None:
        """What is known of the image file with this SHA-256; safe in any thread."""
        if self._index is None or self._is_new:
            return None
        with self._lock:
            return self._found(digest)

    def add(self, images: list[tuple[bytes | None, Decoded, bytes]]) -> list[Facts]:
        """Store images, with the SHA-256 of their files if they have one, and both digests of their contents.

        What is known by now is not stored twice.
        """
        facts: list[Facts] = []
        new: list[Decoded] = []
        for digest, image, content in images:
            found = _facts(len(self.pixels) + len(new), image, content)
            before = self._remember(digest, found) if digest is not None else None
            if before is None:
                new.append(image)
            facts.append(before or found)
        if new:
            self.pixels.append(np.stack([image.pixels for image in new]))
            self.thumbs.append(np.stack([_thumb(image) for image in new]))
        return facts

    def save(self) -> None:
        """Put what was added where a crash can't reach it."""
        if self._index is not None:
            self.pixels.flush()
            self.thumbs.flush()
            with self._lock:
                self._index.commit()

    def close(self) -> None:
        """Close the files."""
        self.pixels.close()
        self.thumbs.close()

    def _remember(self, digest: bytes, facts: Facts) -> Facts | None:
        """Add an image file to the index; returns what is known of it if it is there already."""
        if self._index is None:
            return None
        with self._lock:
            added = self._index.execute(INSERT, (digest, *facts)).rowcount
            return None if added else self._found(digest)

    def _found(self, digest: bytes) -> Facts | None:
        if self._index is None:
            return None
        row = self._index.execute("SELECT * FROM image WHERE digest = ?", (digest,)).fetchone()
        return Facts(*row[1:]) if row else None


@contextmanager
def temporary_store(folder: Path, spec: Preprocess) -> Iterator[Store]:
    """A store below `folder` that is deleted when the block ends, without an index."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=folder) as place,
        locked(Path(place) / LOCK, wait=True),
        closing(Store(Path(place), spec)) as store,
    ):
        yield store


@contextmanager
def persistent_store(folder: Path, spec: Preprocess) -> Iterator[Store]:
    """The store below `folder` of images decoded as `spec` says; another process that uses it is waited for."""
    place = folder / key_of(spec)
    with locked(folder / f"{place.name}.lock", wait=True):
        place.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(place / "index.sqlite", check_same_thread=False)) as index,
            closing(Store(place, spec, index)) as store,
        ):
            yield store


def outdated(folder: Path, wanted: Collection[Preprocess], busy: Callable[[str], None]) -> Iterator[Path]:
    """The files of every store below `folder` but those of `wanted`: of another size, or by another Pillow or decoder.

    Each comes while its store's lock is held: delete it before the next is asked for. A store that is in use is left
    out, and `busy` is called with its name.
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
    content = hashlib.sha256(Path(content_code.__file__).read_bytes()).hexdigest()
    what = json.dumps([spec.to_dict(), THUMB, PIL.__version__, decoder_digest(), content, *_heic_reader()])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _heic_reader() -> list[str]:
    """The version of the package that reads HEIC, where it is installed."""
    try:
        return [metadata.version("pillow-heif")]
    except metadata.PackageNotFoundError:
        return []


def decoder_files() -> list[Path]:
    """The files that decode images, here and in a registered model, in the order in which they are loaded."""
    return [Path(decode.__file__).with_name(name) for name in decode.FILES]


def decoder_digest() -> str:
    """SHA-256 of them."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in decoder_files())).hexdigest()


def _facts(row: int, image: Decoded, content: bytes) -> Facts:
    low, high = image.values or (None, None)
    return Facts(row, image.width, image.height, image.mode, image.frames, content, low, high, int(image.transparent))


def _thumb(image: Decoded) -> NDArray[np.uint8]:
    if image.thumb is None:
        raise ValueError("the image was decoded without a thumb")
    return image.thumb
