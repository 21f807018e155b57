"""Sequences whose rows are made when they are asked for: as Python objects, rows of all images take hundreds of bytes
each."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

Row = TypeVar("Row")


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
