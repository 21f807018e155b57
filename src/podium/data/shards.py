"""The images of a large split in several files: each has those whose fingerprints begin with the same bits.

One after the other the files have the order of one file, which is that of the fingerprints, so whatever is computed
from the images stays the same. An image that is added or removed changes one of the files: DVC stores, pushes and
pulls this one again instead of all images. Into how many files a split is divided follows from its size alone, so
every clone has the same; when a split has doubled, each file is divided into two.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

FILE_BYTES = 64 * 1024**2
"""A split of more is divided; a file then has between a half of it and all of it, as fingerprints fall."""
MOST_BITS = 6
"""By at most so many bits: each file stays open while it is mapped, and a process may have 256 open files on a Mac.
Beyond 64 files of 64 MB they are larger."""


class Shards:
    """Images in several arrays (n, C, H, W) uint8, one after the other, read as if they were one array (N, C, H, W).

    `numpy.asarray` copies all of them into memory.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        """`parts`: at least one, all of one shape but for their length."""
        self.parts = tuple(part.view(np.ndarray) for part in parts)  # rows of a memmap itself take twice the time
        self.shape: tuple[int, ...] = (sum(map(len, parts)), *parts[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Of all pixels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, rows: SupportsIndex, /) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, rows: slice | Sequence[int] | NDArray[Any], /) -> NDArray[np.uint8]: ...

    def __getitem__(self, rows: SupportsIndex | slice | Sequence[int] | NDArray[Any], /) -> NDArray[np.uint8]:
        """One image (C, H, W), or those of a slice, of numbers or of a mask. Raises IndexError beyond."""
        if isinstance(rows, slice):
            first, end, step = rows.indices(len(self))
            return self._between(first, end) if step == 1 else self._taken(np.arange(len(self))[rows])
        wanted = np.asarray(rows)
        if isinstance(rows, tuple) or wanted.ndim > 1 or (wanted.size and wanted.dtype.kind not in "iub"):
            raise TypeError(
                f"images are taken by rows: a number, a slice, a list of numbers or a mask; got {rows!r}."
                " numpy.asarray(images) is one array, in memory"
            )
        if wanted.dtype.kind == "b":
            if wanted.shape != (len(self),):
                raise IndexError(f"a mask of {wanted.shape} does not fit {len(self):,} images")
            wanted = np.flatnonzero(wanted)
        return self._taken(wanted.astype(np.int64).reshape(1))[0] if wanted.ndim == 0 else self._taken(wanted)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (image for part in self.parts for image in part)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images of several files can't be one array without a copy")
        return np.concatenate(self.parts).astype(self.dtype if dtype is None else dtype, copy=False)

    def _between(self, first: int, end: int) -> NDArray[np.uint8]:
        """Rows that follow each other: a view where they lie in one file, as of one array."""
        starts = np.cumsum([0, *map(len, self.parts)]).tolist()
        pieces = [part[max(first - n, 0) : max(end - n, 0)] for n, part in zip(starts, self.parts, strict=False)]
        some = [piece for piece in pieces if len(piece)] or [self.parts[0][:0]]
        return some[0] if len(some) == 1 else np.concatenate(some)

    def _taken(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        outside = (rows < -len(self)) | (rows >= len(self))
        if outside.any():
            raise IndexError(f"there are {len(self):,} images; got row {rows[outside][0]}")
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        gather(self.parts, np.where(rows < 0, rows + len(self), rows).astype(np.int64), found)
        return found


Images = NDArray[np.uint8] | Shards
"""(N, C, H, W) uint8, in one array or several."""


def parts_of(images: Images) -> tuple[NDArray[np.uint8], ...]:
    """The arrays of `images`, one after the other."""
    return images.parts if isinstance(images, Shards) else (images,)


def gather(parts: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], into: NDArray[np.uint8]) -> None:
    """Copy the images of `rows` (B,) of `parts`, counted through all of them, to `into` (B, C, H, W).

    Row by row, so that each pixel is copied once; a row that is not its own copy costs half a microsecond.
    """
    ends = np.cumsum([len(part) for part in parts])
    which = np.searchsorted(ends, rows, side="right")
    inside = rows - np.concatenate([[0], ends])[which]
    for place, (part, row) in enumerate(zip(which.tolist(), inside.tolist(), strict=True)):
        into[place] = parts[part][row]


def starts_of(prints: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(2 ** MOST_BITS + 1,) where the images of each beginning of a fingerprint start among `prints` (N, 2), sorted."""
    beginnings = np.arange(1 << MOST_BITS, dtype=np.uint64) << np.uint64(64 - MOST_BITS)
    return np.append(np.searchsorted(prints[:, 0], beginnings), len(prints)).astype(np.int64)


def counts_of(starts: NDArray[np.int64] | None, shape: tuple[int, ...]) -> list[int]:
    """How many images each file of a split of `shape` (N, C, H, W) has; `starts` as above, None: they are not known."""
    bits = min((max(math.prod(shape) - 1, 0) // FILE_BYTES).bit_length(), MOST_BITS)
    if starts is None or not bits:
        return [shape[0]]
    counts: list[int] = np.diff(starts[:: 1 << (MOST_BITS - bits)]).tolist()
    return counts


def files_of(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Name and number of images of each file; a file without images is not written."""
    if len(counts) == 1:
        return [("images.npy", counts[0])]
    return [(f"images-{number:02d}.npy", count) for number, count in enumerate(counts) if count]
