"""Items of files in a few bytes each: what a source of a million images holds of them until they are asked for."""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import LazyRows
from podium.data.sources.item import Item, shown

SPLITS = (None, "train", "val", "test")
MOST = 2**32 - 1
"""Bytes of names that a number of 4 bytes can tell."""


class FileItems(LazyRows[Item]):
    """Items that are files below one folder. Each takes 9 bytes and those of its name; an Item is made when asked for.

    Groups take 4 more where there are some, and names of more than 4 GB in all 4 more.

    An Item with a Path in it takes about 1,200 bytes (Python 3.11) and 3 microseconds: who goes over all files asks for
    columns.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._text = folder, os.fspath(folder)
        self._names = bytearray()
        self._ends = array("I", [0])
        self._labels = array("i")
        self._splits = array("b")
        self._groups = array("i")
        """Empty as long as no file is in a group."""
        self._group_numbers: dict[str, int] = {}
        self._group_names: list[str] = []
        self._left_out: set[int] = set()
        """Numbers of the few that a person leaves out."""

    def append(self, name: str, label: int, split: str | None, group: str | None = None) -> None:
        """Add the file `name`, as seen from the folder."""
        self._names += os.fsencode(name)
        if len(self._names) > MOST and self._ends.typecode == "I":
            self._ends = array("Q", self._ends)
        self._ends.append(len(self._names))
        if group is not None and not self._groups:
            self._groups = array("i", [-1]) * len(self)
        if group is not None or self._groups:
            self._groups.append(self._number(group))
        self._labels.append(label)
        self._splits.append(SPLITS.index(split))

    def relabel(self, labels: Sequence[int]) -> None:
        """Give each file of label k the label `labels[k]`."""
        if len(self):
            self._labels = array("i", np.asarray(labels, np.int32)[np.frombuffer(self._labels, np.int32)].tobytes())

    def kept(self, keep: NDArray[np.bool_]) -> "FileItems":
        """Those where `keep` (N,) is true."""
        found = FileItems(self._folder)
        for number in np.flatnonzero(keep).tolist():
            if number in self._left_out:
                found._left_out.add(len(found))
            name, split = self._name(number), SPLITS[self._splits[number]]
            found.append(name, self._labels[number], split, self._group(number))
        return found

    def grouped(self, groups: Iterator[str | None]) -> "FileItems":
        """The same files in other groups, one for each."""
        found = self._copy()
        found._group_numbers, found._group_names = {}, []
        found._groups = array("i", map(found._number, groups))
        return found

    def changed(self, labels: dict[int, int], left_out: set[int]) -> "FileItems":
        """The same files with other labels, and some of them left out, by their numbers."""
        found = self._copy()
        found._labels = array("i", self._labels)
        for number, label in labels.items():
            found._labels[number] = label
        found._left_out = self._left_out | left_out
        return found

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) a copy."""
        return np.array(self._labels, np.int32)

    @property
    def splits(self) -> NDArray[np.int8]:
        """(N,) 0 to 2 for train, val and test; -1: the source names no split."""
        return np.array(self._splits, np.int8) - np.int8(1)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups that the source names."""
        return tuple(self._group_names)

    @property
    def groups(self) -> NDArray[np.int32]:
        """(N,) index into `group_names`; -1: in no group."""
        return np.array(self._groups, np.int32) if self._groups else np.full(len(self), -1, np.int32)

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """(N,) whether a person leaves the image out."""
        found = np.zeros(len(self), np.bool_)
        found[list(self._left_out)] = True
        return found

    def paths(self) -> Iterator[str]:
        """The path of each file."""
        return map(self.path, range(len(self)))

    def path(self, number: int) -> str:
        """The path of the file, without making a Path of it; its name may be a whole path, as in a table."""
        return os.path.join(self._text, self._name(number))  # noqa: PTH118

    def origins(self) -> Iterator[str]:
        """What reports call each file."""
        return map(self.origin, range(len(self)))

    def origin(self, number: int) -> str:
        """What reports call the file, without making the rest of its Item."""
        return shown(self._name(number))

    def __len__(self) -> int:
        return len(self._labels)

    def row(self, number: int) -> Item:
        """The file `number` as an Item."""
        name = self._name(number)
        return Item(
            shown(name),
            self._labels[number],
            SPLITS[self._splits[number]],
            self._folder / name,
            self._group(number),
            number in self._left_out,
        )

    def _name(self, number: int) -> str:
        return os.fsdecode(bytes(self._names[self._ends[number] : self._ends[number + 1]]))

    def _group(self, number: int) -> str | None:
        place = self._groups[number] if self._groups else -1
        return self._group_names[place] if place >= 0 else None

    def _number(self, group: str | None) -> int:
        if group is None:
            return -1
        if group not in self._group_numbers:
            self._group_numbers[group] = len(self._group_names)
            self._group_names.append(group)
        return self._group_numbers[group]

    def _copy(self) -> "FileItems":
        """The same files; what is held of them is shared, so only whole columns of a copy may be replaced."""
        found = FileItems(self._folder)
        found.__dict__ |= self.__dict__
        return found
