"""What a source's items say of the usable images: in columns, and rows that are made when they are asked for.

Python objects take hundreds of bytes for each image, so none is held for all of them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.data.image_files import ImageFile, path_of
from podium.data.lazy_rows import LazyRows, Numbers
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Item
from podium.data.splitting import NAMES, SourceGroups


@dataclass(frozen=True)
class ItemColumns:
    """What the items of N images say, in columns."""

    labels: NDArray[np.int64]
    given: NDArray[np.int8]
    """Number in NAMES of the split that the source itself names; -1: none."""
    left_out: NDArray[np.bool_]
    groups: SourceGroups

    @staticmethod
    def of(items: Sequence[Item], numbers: Numbers) -> "ItemColumns":
        """Of the items of these numbers."""
        if isinstance(items, FileItems):
            named = items.group_names
            groups = SourceGroups.numbered(named, items.groups[numbers]) if named else SourceGroups.none(len(numbers))
            return ItemColumns(items.labels[numbers].astype(np.int64), items.splits[numbers],
                               items.left_out[numbers], groups)  # fmt: skip
        some = [items[number] for number in numbers.tolist()]
        given = [NAMES.index(item.split) if item.split else -1 for item in some]
        return ItemColumns(
            np.array([item.label for item in some], np.int64),
            np.array(given, np.int8),
            np.array([item.left_out for item in some], np.bool_),
            SourceGroups.of([item.group for item in some]),
        )


class Files(LazyRows[ImageFile]):
    """Where each image came from, and which belong together; a row is made when it is asked for."""

    def __init__(self, items: Sequence[Item], numbers: Numbers, together: NDArray[np.uint64]) -> None:
        """`numbers` (N,) of the images among `items`; `together` (N,): a number that each group has."""
        self._items, self._numbers, self._together = items, numbers, together
        self._project = os.getcwd()  # noqa: PTH109 (compared as text)

    def of(self, rows: NDArray[np.int64]) -> "Files":
        """Those of some images."""
        return Files(self._items, self._numbers[rows], self._together[rows])

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, number: int) -> ImageFile:
        """Of the image `number`."""
        place, group = int(self._numbers[number]), f"{self._together[number]:016x}"
        if isinstance(self._items, FileItems):
            return ImageFile(self._items.origin(place), path_of(self._items.path(place), self._project), group)
        item = self._items[place]
        return ImageFile(item.origin, path_of(item.content, self._project), group)
