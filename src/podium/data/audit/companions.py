"""Files that lie beside an image under its name, such as its labels, its raw file or a video: no image is missing."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from podium.data.sources.item import Reject, is_meant


def without_companions(origins: Iterable[str], rejects: Sequence[Reject]) -> list[Reject]:
    """`rejects` of a folder, of which those beside an image of their name are not meant to be in the set.

    `origins`: the images that can be used. `cat/1.json`, `cat/1.CR2` and `cat/1.jpg.meta.json` lie beside `cat/1.jpg`.
    What is named like an image is meant as one, whatever it holds: `cat/1.png` may be a pointer of Git LFS.
    """
    wanted = {name for one in rejects if _may_be_companion(one) for name in _beginnings(one.origin)}
    if not wanted:
        return list(rejects)
    names = ((origin, os.path.splitext(origin)[0]) for origin in origins)  # noqa: PTH122 (no Path for each image)
    found = {name for pair in names for name in pair if name in wanted}
    return [
        replace(one, meant=False) if _may_be_companion(one) and found & _beginnings(one.origin) else one
        for one in rejects
    ]


def _may_be_companion(one: Reject) -> bool:
    return one.kind == "not_image" and not is_meant(one.origin)


def _beginnings(origin: str) -> set[str]:
    """What stands before each dot in the name of a file, with its folder."""
    start = origin.rfind("/") + 2  # a name that begins with a dot has no other beginning
    return {origin[:at] for at in range(start, len(origin)) if origin[at] == "."}
