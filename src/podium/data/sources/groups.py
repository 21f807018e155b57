"""Groups of a source by a pattern of the images' paths: `prepare.group`."""

import re
from collections.abc import Sequence
from dataclasses import replace

from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Item
from podium.data.sources.source import Source
from podium.errors import InputError

SHOWN = 3
"""Paths that a message shows."""


def of_paths(source: Source, pattern: str) -> Source:
    """`source`, each image in the group that the one group of `pattern` finds in its path.

    A path is as reports have it: below the source's folder, or as the table or the function gives it. An image whose
    path does not match is in no group, and a note says how many these are. Raises InputError where none matches, or
    where the source names groups itself.
    """
    items = source.items
    if named := next((item for item in items if item.group is not None), None) if _has_groups(items) else None:
        raise InputError(
            f"prepare.group: the source names groups itself ({named.group!r} of {named.origin!r}), and the"
            f" pattern {pattern!r} would name others. Write `group: null` to use its own, or take that column out"
        )
    find = re.compile(pattern).search
    missed: list[str] = []
    count = 0

    def group_of(origin: str) -> str | None:
        nonlocal count
        match = find(origin)
        name = (match[1] if match else None) or None
        if name is None:
            count += 1
            missed.extend([origin] if len(missed) < SHOWN else [])
        return name

    grouped: Sequence[Item] = (
        items.grouped(map(group_of, items.origins()))
        if isinstance(items, FileItems)
        else [replace(item, group=group_of(item.origin)) for item in items]
    )
    if count == len(items):
        raise InputError(
            f"prepare.group: {pattern!r} must find a group in the paths of images, and finds none in any of"
            f" {count:,}, such as {', '.join(map(repr, missed))}"
        )
    note = f"prepare.group finds no group in {count:,} of {len(items):,} paths, such as {missed[0]!r}" if count else ""
    return replace(source, items=grouped, notes=(*source.notes, note) if note else source.notes)


def _has_groups(items: Sequence[Item]) -> bool:
    return not isinstance(items, FileItems) or bool(items.group_names)
