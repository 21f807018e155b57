"""Groups of a source: those of a pattern of the images' paths, `prepare.group`, and names that may not be meant."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from podium.data.sources.alike import alike, folded_group, is_no_group, plain_group
from podium.data.sources.file_items import FileItems
from podium.data.sources.item import Item
from podium.data.sources.source import Source
from podium.errors import InputError
from podium.text import counted

SHOWN = 3
"""Paths that a message shows."""
FEW = 3
"""Images that may share what is written for a missing group: so few are in one split, and nothing is lost."""


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


def checked(source: Source, similar: str, *, by_pattern: bool) -> Source:
    """`source` with a note of its groups whose names are hard to tell apart. `similar`: refuse or keep.

    `by_pattern`: its groups are those of prepare.group.

    Raises InputError where many images share a name that stands for a missing group, and, unless `similar` is keep,
    where several names are most likely one: images of one group share a split, of two not.
    """
    names = source.group_names()
    _check_missing(source, [name for name in names if is_no_group(name)], by_pattern=by_pattern)
    if len({hash(folded_group(name)) for name in names}) == len(names):  # lists of them would be larger
        return source
    folded = alike(names, folded_group)
    is_most = sum(map(len, folded)) * 2 >= len(names)  # fewer are as well identifiers of random letters
    found = folded if is_most else alike(names, plain_group)
    if found and similar == "refuse":
        raise _similar(source, found)
    pairs = "; ".join(" and ".join(map(repr, same)) for same in folded[:SHOWN])
    note = (
        f"names of groups that are nearly the same are taken as different groups,"
        f" {counted(len(folded), 'time')}, such as {pairs}: if they are one group, write it in one way"
    )
    return replace(source, notes=(*source.notes, note))


def _check_missing(source: Source, names: Sequence[str], *, by_pattern: bool) -> None:
    """Raise InputError where one of `names`, which stand for a missing group, joins many images."""
    if not names:
        return
    counts = _counts(source, set(names))
    name = max(names, key=lambda one: counts[one])
    if counts[name] <= FEW:
        return
    first = next(item.origin for item in source.items if item.group == name)
    begin = f"{counts[name]:,} images, such as {first!r}, are in the group {name!r}, which is also how a missing"
    if by_pattern:
        raise InputError(
            f"prepare.group: {begin} group is written: they would share a split. Write a pattern that does not match"
            " it, which leaves each image on its own, or, if it is a group, one whose brackets find more than this word"
        )
    raise InputError(
        f"prepare.source: {begin} group is written: they would share a split. Leave the group empty (None in rows of"
        f" your own source), and each image is its own group; or, if it is a group, call it such as 'group {name}'"
    )


def _counts(source: Source, names: set[str]) -> Counter[str]:
    """How many images are in each of the groups `names`."""
    if isinstance(source.items, FileItems):
        numbers = source.items.groups
        counts = np.bincount(numbers[numbers >= 0], minlength=len(source.items.group_names)).tolist()
        named = zip(source.items.group_names, counts, strict=True)
        return Counter({name: count for name, count in named if name in names})
    return Counter(item.group for item in source.items if item.group is not None and item.group in names)


def _similar(source: Source, similar: list[list[str]]) -> InputError:
    wanted = {name for same in similar[:SHOWN] for name in same}
    counts = _counts(source, wanted)
    first: dict[str, str] = {}
    for item in source.items:
        if item.group in wanted:
            first.setdefault(item.group, item.origin)
    lines = [
        "  " + " and ".join(f"{name!r} ({counted(counts[name], 'image')}, such as {first[name]!r})" for name in same)
        for same in similar[:SHOWN]
    ]
    lines += [f"  and {len(similar) - SHOWN:,} more"] if len(similar) > SHOWN else []
    return InputError(
        "doctor.similar_groups: names of groups that are hard to tell apart can be one group, whose images share a"
        " split, or several, whose images may be in several splits:\n" + "\n".join(lines) + "\nIf they are one, write"
        " it in one way (in the column group, the rows, or the part of the path that prepare.group finds); if they are"
        " several, write `doctor.similar_groups: keep`"
    )


def _has_groups(items: Sequence[Item]) -> bool:
    return not isinstance(items, FileItems) or bool(items.group_names)
