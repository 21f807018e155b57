"""The store of decoded images: pixels and thumbs by row, and an index by the SHA-256 of the image file.

It stays from run to run and only saves time: without it every file is decoded again, to the same bits. Another
decoder, another Pillow or another size is another store, so nothing in one is ever out of date. Rows are written before
the index names them: what a killed run left behind the last of them is overwritten. The index also tells what follows
from the pixels, so that known ones are not read again; where the files are not as they were left (size, times), each
row is compared with its fingerprint first.

Rows are read with plain reads instead of a memory map: pages of a map count as memory of the process, and a limit on
its address space would have to be above the size of the set.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from podium.data import content as content_code
from podium.data import decode
from podium.data.decode import THUMB, Decoded, Preprocess
from podium.data.image_facts import Facts, New, digests, facts_of, fingerprint
from podium.data.image_index import FORMAT, Index, Stamp
from podium.data.lazy_rows import Numbers
from podium.locks import locked, unless_held

LOCK = "lock"
"""In the folder of a temporary store; a persistent one has its lock next to it."""


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
        """Forget the rows from `length` on, and what was left of a last row."""
        if os.fstat(self._file.fileno()).st_size != length * self.row_bytes:  # it would change the file's time
            self._file.truncate(length * self.row_bytes)
        self._length = length

    def stamp(self) -> Stamp:
        """By what is known later whether the file was changed."""
        return Stamp.of(self._file.fileno())

    def append(self, rows: NDArray[np.uint8]) -> None:
        """Write (n, *shape) at the end."""
        left = np.ascontiguousarray(rows).data.cast("B")
        self._file.seek(self._length * self.row_bytes)
        while left:
            left = left[self._file.write(left) :]
        self._length += len(rows)

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
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

    def __init__(self, file: RowFile, numbers: Numbers) -> None:
        self._file = file
        self._numbers = numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape of a row)."""
        return (len(self._numbers), *self._file.shape)

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]:
        return self._file.take(self._numbers[rows])


class Store:
    """Pixels (C, H, W) and thumbs of images, by row; by digest too if it is persistent."""

    def __init__(self, folder: Path, spec: Preprocess, index: Index | None = None) -> None:
        self.pixels = RowFile(folder / "pixels", (spec.channels, spec.height, spec.width))
        self.thumbs = RowFile(folder / "thumbs", (THUMB, THUMB))
        self._index = index
        self.folder = None if index is None else folder
        """Where it stays; None: it is temporary."""
        whole = 0 if index is None else self._named(index)
        self._is_new = not whole
        for file in (self.pixels, self.thumbs):
            file.truncate(whole)
        if index is not None:
            index.save(self._stamps())

    def find(self, digest: bytes) -> Facts | None:
        """What is known of the image file with this SHA-256; safe in any thread."""
        return None if self._index is None or self._is_new else self._index.find(digest)

    def add(self, images: Sequence[New]) -> list[Facts]:
        """Store images. What is known by now is not stored twice."""
        if not images:
            return []
        thumbs = np.stack([_thumb(one.image) for one in images])
        facts: list[Facts] = []
        kept: list[int] = []
        for number, (one, found) in enumerate(zip(images, facts_of(images, thumbs), strict=True)):
            before = self._index.find(one.digest) if self._index is not None and one.digest is not None else None
            if before is None:
                found = found._replace(row=len(self.pixels) + len(kept))
                kept.append(number)
                if self._index is not None and one.digest is not None:
                    self._index.put(one.digest, found)
            facts.append(before or found)
        if kept:
            self.pixels.append(np.stack([images[number].image.pixels for number in kept]))
            self.thumbs.append(thumbs[kept])
        return facts

    def save(self) -> None:
        """Put what was added where a crash can't reach it."""
        if self._index is not None:
            self.pixels.flush()
            self.thumbs.flush()
            self._index.save(self._stamps())

    def close(self) -> None:
        """Close the files."""
        self.pixels.close()
        self.thumbs.close()

    def _stamps(self) -> dict[str, Stamp]:
        return {"pixels": self.pixels.stamp(), "thumbs": self.thumbs.stamp()}

    def _named(self, index: Index) -> int:
        """How many rows `index` names. What it says of others than are there is removed first.

        The rows are read where a file is not as it was left: somebody changed it, or a run was killed.
        """
        if index.rows() and (index.stamps() != self._stamps() or index.rows() > self._length()):
            index.forget(self._otherwise(index))
        return index.rows()

    def _length(self) -> int:
        return min(len(self.pixels), len(self.thumbs))

    def _otherwise(self, index: Index) -> list[int]:
        """Rows whose pixels or thumbs are not those that `index` tells of, or of which it tells nothing."""
        wrong: list[int] = []
        with tqdm(total=index.rows(), desc="check", unit=" images", delay=1, leave=False, disable=None) as bar:
            for row, facts in index.every():
                if facts is None or row >= self._length() or not self._holds(facts):
                    wrong.append(row)
                bar.update(row + 1 - bar.n)
        return wrong

    def _holds(self, facts: Facts) -> bool:
        at = np.array([facts.row])
        same = fingerprint(self.pixels.take(at)[0]) == facts.fingerprint
        return same and digests(self.thumbs.take(at)) == [facts.thumb]


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
        with closing(Index(place / "index.sqlite", place.name)) as index, closing(Store(place, spec, index)) as store:
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
    what = json.dumps([spec.to_dict(), THUMB, PIL.__version__, decoder_digest(), content, *_heic_reader(), FORMAT])
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


def _thumb(image: Decoded) -> NDArray[np.uint8]:
    if image.thumb is None:
        raise ValueError("the image was decoded without a thumb")
    return image.thumb
