"""Files that lie beside an image under its name, such as its labels, its raw file or a video: no image is missing."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from podium.data.sources.item import Reject


def without_companions(origins: Iterable[str], rejects: Sequence[Reject]) -> list[Reject]:
    """`rejects` of a folder, of which those beside an image of their name are not meant to be in the set.

    `origins`: the images that can be used. `cat/1.json`, `cat/1.CR2` and `cat/1.jpg.xmp` lie beside `cat/1.jpg`.
    """
    wanted = {os.path.splitext(one.origin)[0] for one in rejects if one.kind == "not_image"}  # noqa: PTH122
    if not wanted:
        return list(rejects)
    found = {name for origin in origins for name in (origin, os.path.splitext(origin)[0]) if name in wanted}  # noqa: PTH122
    return [
        replace(one, meant=False) if one.kind == "not_image" and os.path.splitext(one.origin)[0] in found else one  # noqa: PTH122
        for one in rejects
    ]
