"""Items of files in a few bytes each: what a source of a million images holds of them until they are asked for."""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from podium.data.sources.item import Item, shown

SPLITS = (None, "train", "val", "test")


class FileItems(Sequence[Item]):
    """Items that are files below one folder. Each takes 17 bytes and those of its name; an Item is made when asked for.

    An Item with a Path in it takes about 1,200 bytes (Python 3.11).
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = bytearray()
        self._ends = array("Q", [0])
        self._labels = array("i")
        self._splits = array("b")
        self._groups = array("i")
        self._group_numbers: dict[str, int] = {}
        self._group_names: list[str] = []

    def append(self, name: str, label: int, split: str | None, group: str | None = None) -> None:
        """Add the file `name`, as seen from the folder."""
        self._names += os.fsencode(name)
        self._ends.append(len(self._names))
        self._labels.append(label)
        self._splits.append(SPLITS.index(split))
        self._groups.append(-1 if group is None else self._number(group))

    def relabel(self, labels: Sequence[int]) -> None:
        """Give each file of label k the label `labels[k]`."""
        if len(self):
            self._labels = array("i", np.asarray(labels, np.int32)[np.frombuffer(self._labels, np.int32)].tobytes())

    def origin(self, number: int) -> str:
        """What reports call the file, without making the rest of its Item."""
        return shown(self._name(number))

    def __len__(self) -> int:
        return len(self._labels)

    @overload
    def __getitem__(self, index: int, /) -> Item: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[Item]: ...

    def __getitem__(self, index: int | slice, /) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self._item(number) for number in range(*index.indices(len(self)))]
        return self._item(range(len(self))[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, range(len(self)))

    def _item(self, number: int) -> Item:
        name = self._name(number)
        group = self._groups[number]
        return Item(
            shown(name),
            self._labels[number],
            SPLITS[self._splits[number]],
            self._folder / name,
            self._group_names[group] if group >= 0 else None,
        )

    def _name(self, number: int) -> str:
        return os.fsdecode(bytes(self._names[self._ends[number] : self._ends[number + 1]]))

    def _number(self, group: str) -> int:
        if group not in self._group_numbers:
            self._group_numbers[group] = len(self._group_names)
            self._group_names.append(group)
        return self._group_numbers[group]
