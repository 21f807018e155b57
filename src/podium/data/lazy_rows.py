"""Sequences whose rows are made when they are asked for: as Python objects, rows of all images take hundreds of bytes
each."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row")
Numbers = NDArray[np.int32] | NDArray[np.int64]
"""Numbers of rows. There may be one for each image, so they take 4 bytes where these hold them."""


def room_for(count: int, most: int) -> Numbers:
    """An array (count,) for numbers up to `most`, whose values are any."""
    return np.empty(count, np.int32) if most <= np.iinfo(np.int32).max else np.empty(count, np.int64)


def packed(numbers: NDArray[np.int64], most: int) -> Numbers:
    """`numbers` (n,), which are up to `most`."""
    return numbers.astype(np.int32) if most <= np.iinfo(np.int32).max else numbers


class LazyRows(Sequence[Row]):
    """A sequence of which a class below says how many rows it has, and makes one."""

    @abstractmethod
    def row(self, number: int) -> Row:
        """The row `number`, from 0 to below the length."""

    @overload
    def __getitem__(self, index: int, /) -> Row: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[Row]: ...

    def __getitem__(self, index: int | slice, /) -> Row | list[Row]:
        numbers = range(len(self))[index]
        return self.row(numbers) if isinstance(numbers, int) else list(map(self.row, numbers))

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, range(len(self)))
