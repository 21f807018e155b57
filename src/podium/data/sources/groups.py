"""Groups of a source by a pattern of the images' paths: `prepare.group`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from podium.data.sources.alike import alike, is_missing, plain
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Item
from podium.data.sources.source import Source
from podium.errors import InputError
from podium.text import counted

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
        if name is not None and is_missing(name):
            raise InputError(
                f"prepare.group: {pattern!r} finds {name!r} in {origin!r}, as a missing value is written: write a"
                " pattern that does not match it, which leaves the image without a group, or rename the file"
            )
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


def check(source: Source) -> None:
    """Raise InputError where names of groups are hard to tell apart: images of one group share a split, of two not."""
    names = source.group_names()
    if len({hash(plain(name)) for name in names}) == len(names):  # lists of them would be larger
        return
    if similar := alike(names):
        first: dict[str, str] = {}
        counts = Counter[str]()
        wanted = {name for same in similar[:SHOWN] for name in same}
        for item in source.items:
            if item.group in wanted:
                first.setdefault(item.group, item.origin)
                counts[item.group] += 1
        lines = [
            "  "
            + " and ".join(f"{name!r} ({counted(counts[name], 'image')}, such as {first[name]!r})" for name in same)
            for same in similar[:SHOWN]
        ]
        lines += [f"  and {len(similar) - SHOWN:,} more"] if len(similar) > SHOWN else []
        raise InputError(
            "prepare.source: names of groups that are hard to tell apart can be one group, whose images share a split,"
            " or several, whose images may be in several splits:\n" + "\n".join(lines) + "\nWrite one group in one way;"
            " give groups that are different names that differ by more than case, spaces or the form of a number (in"
            " the column group, the rows, or the part of the path that prepare.group finds)"
        )


def _has_groups(items: Sequence[Item]) -> bool:
    return not isinstance(items, FileItems) or bool(items.group_names)
