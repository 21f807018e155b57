"""Arrays of one shape in a file, read and written a few at a time: memory holds only those.

Plain reads instead of a memory map: pages of a map count as memory of the process, and a limit on its address space
would have to be above the size of the set.
"""

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


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
        fd = self._file.fileno()
        for place, number in enumerate(numbers.tolist()):
            if os.preadv(fd, [rows[place].data], number * self.row_bytes) != self.row_bytes:
                raise EOFError(f"row {number} of {self._file.name} is not there")
        return rows.reshape(len(numbers), *self.shape)

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
