"""What a source of many files holds of each."""

import tracemalloc
from pathlib import Path

import numpy as np

from podium.data.audit.item_columns import ItemColumns
from podium.data.sources.file_items import FileItems


def test_a_file_takes_a_few_bytes_beside_its_name_and_groups_nothing_where_there_are_none() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        items = FileItems(Path("raw"))
        for number in range(count):
            items.append(f"cat/{number:06}.png", 0, None)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    columns = ItemColumns.of(items, np.arange(count, dtype=np.int32))

    assert held / count < len("cat/000000.png") + 13
    assert columns.groups.numbers.strides == (0,)
    assert (columns.groups.numbers == -1).all()


def test_group_that_is_named_late_is_that_of_its_file_only() -> None:
    items = FileItems(Path("raw"))
    for number in range(5):
        items.append(f"{number}.png", 0, "train", "burst" if number == 3 else None)

    assert items.groups.tolist() == [-1, -1, -1, 0, -1]
    assert [item.group for item in items] == [None, None, None, "burst", None]
    assert items.kept(np.arange(5) > 2).groups.tolist() == [0, -1]
    assert items.grouped(iter([None] * 5)).groups.tolist() == [-1] * 5
