"""Groups of a source by a pattern of the images' paths: `prepare.group`."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from podium.errors import InputError

if TYPE_CHECKING:
    from podium.data.sources.item import Source

SHOWN = 3
"""Paths that a message shows."""


def of_paths(source: "Source", pattern: str) -> "Source":
    """`source`, each image in the group that the one group of `pattern` finds in its path.

    A path is as reports have it: below the source's folder, or as the table or the function gives it. An image whose
    path does not match is in no group, and a note says how many these are. Raises InputError where none matches, or
    where the source names groups itself.
    """
    if named := [item for item in source.items if item.group is not None]:
        raise InputError(
            f"prepare.group: the source names groups itself ({named[0].group!r} of {named[0].origin!r}), and the"
            f" pattern {pattern!r} would name others. Write `group: null` to use its own, or take that column out"
        )
    find = re.compile(pattern).search
    found = [find(item.origin) for item in source.items]
    names = [match[1] if match else None for match in found]
    missed = [item.origin for item, name in zip(source.items, names, strict=True) if not name]
    if len(missed) == len(names):
        raise InputError(
            f"prepare.group: {pattern!r} must find a group in the paths of images, and finds none in any of"
            f" {len(missed):,}, such as {', '.join(map(repr, missed[:SHOWN]))}"
        )
    items = [replace(item, group=name or None) for item, name in zip(source.items, names, strict=True)]
    note = (
        f"prepare.group finds no group in {len(missed):,} of {len(names):,} paths, such as {missed[0]!r}"
        if missed
        else ""
    )
    return replace(source, items=items, notes=(*source.notes, note) if note else source.notes)
