"""Sentences about a set of images as a whole: what was dropped, what was taken for what, what a setting counts for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from podium.config.params import PrepareParams
from podium.data import reading
from podium.data.audit.checks import SEVERAL
from podium.data.audit.item_columns import ItemColumns
from podium.data.decode import Preprocess
from podium.data.dvcignore import DvcIgnore
from podium.data.sources.item import Reject
from podium.data.sources.source import Source
from podium.data.split_file import NOWHERE
from podium.data.splitting import NAMES, Placed
from podium.errors import InputError
from podium.text import counted

FRACTIONS_DIFFER = 0.01
"""Beyond this, and what a few images make, a fraction is another one than images were placed by."""
SHOWN = 5
"""Files that an error names; it counts the rest."""


def about_links(source: Source, params: PrepareParams) -> list[str]:
    """Where links were followed out of what DVC watches."""
    unseen = source.unseen(Path(params.root), DvcIgnore(Path.cwd()))
    if not unseen:
        return []
    return [
        f"{counted(len(unseen), 'file')} outside of prepare.root or left out by .dvcignore, such as {unseen[0]}: DVC"
        " does not see when they change; run `dvc repro -f prepare` then"
    ]


def about_frames(images: reading.Images) -> list[str]:
    """Frames and pages that are dropped."""
    several = sum(count for mode, count in images.modes.counts().items() if SEVERAL in mode)
    if not several:
        return []
    verb = "has" if several == 1 else "have"
    return [
        f"{counted(several, 'file')} {verb} several frames or pages, of which only the first is taken: make a file of"
        " each frame that is an image of its own"
    ]


def about_fractions(params: PrepareParams, known: NDArray[np.int8], given: NDArray[np.int8]) -> list[str]:
    """Where a fraction in params.yaml is another one than that of all images that are remembered."""
    wanted = [k for k in (1, 2) if not (given == k).any()]
    drawn = known[np.isin(known, [0, *wanted])]
    notes = []
    for k, fraction in ((1, params.val_fraction), (2, params.test_fraction)):
        if len(drawn) and k in wanted:
            is_now = float((drawn == k).mean())
            if abs(is_now - fraction) > FRACTIONS_DIFFER + params.min_per_class / len(drawn):
                notes.append(
                    f"prepare.{NAMES[k]}_fraction is {fraction:g}, and {is_now:.0%} of the {len(drawn):,} images that"
                    f" were placed before are in {NAMES[k]}: these keep their split, so it counts for added images only"
                )
    return notes


def about_profiles(images: reading.Images) -> list[str]:
    """Images with other colours than those of sRGB."""
    found = images.profiles
    if not found.counts:
        return []
    total = found.counts.total()
    names = sorted(found.counts.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
    more = f" and {len(found.counts) - SHOWN:,} other profiles" if len(found.counts) > SHOWN else ""
    kinds = ", ".join(f"{name}: {count:,}" for name, count in names)
    return [
        f"{counted(total, 'image')} {'has' if total == 1 else 'have'} another colour profile than sRGB ({kinds}{more}),"
        f" such as {min(found.first.values())}: it is not applied, in training or in serving, so their colours differ a"
        " little from those of the rest; if colours tell your classes apart, convert these files to sRGB"
    ]


def about_range(spec: Preprocess, images: reading.Images) -> list[str]:
    """What became of images deeper than 8 bits."""
    if not images.values:
        return []
    found = ", ".join(f"{kind} from {low:g} to {high:g}" for kind, (low, high) in images.values.items())
    taken = "0 to 65535" if spec.range is None else "{:g} to {:g}".format(*spec.range)
    return [f"images deeper than 8 bits hold {found}: {taken} became black to white (prepare.range)"]


def about_split(placed: Placed, left_out: NDArray[np.bool_]) -> list[str]:
    """Images that are in no split."""
    between = int((~left_out & (placed.places == NOWHERE)).sum())
    if not between:
        return []
    what = "1 image is" if between == 1 else f"{between:,} images are"
    return [f"{what} in no split: near-duplicates, or of the group, of images in several splits"]


def check_range(params: PrepareParams, images: reading.Images) -> None:
    """Raise InputError where params.yaml names a range, and there is no image that it could count for."""
    if not isinstance(params.range, str) and not images.values and params.range != (0.0, 255.0):
        low, high = params.range
        raise InputError(
            f"prepare.range: [{low:g}, {high:g}] counts for images deeper than 8 bits, and all {len(images.rows):,}"
            " images have 8 bits, of which 0 to 255 become black to white: it would change nothing. Write"
            " `range: auto`; images of 8 bits that use a part of it must be converted"
        )


def check_given(
    source: Source,
    images: reading.Images,
    items: ItemColumns,
    left_out: NDArray[np.bool_],
    rejects: Sequence[Reject],
) -> None:
    """Raise InputError where the source gives validation or test images and none is used: they would be drawn.

    `left_out` (N,): of the usable images; `rejects`: all other files.
    """
    for name, what in (("val", "validation"), ("test", "held-out test")):
        given = items.given == NAMES.index(name)
        if name not in source.splits() or (given & ~left_out).any():
            continue
        files = [one for one in rejects if one.split == name]
        if not files and not given.any():
            files = [one for one in rejects if one.split is None]
        reasons = [f"{one.origin!r}: {one.why}" for one in files]
        reasons += [
            f"{source.items[number].origin!r}: it is left out (prepare.corrections, or `skip` below doctor)"
            for number in images.numbers[given].tolist()
        ]
        lines = [f"  {reason}" for reason in reasons[:SHOWN]]
        lines += [f"  and {len(reasons) - SHOWN:,} more"] if len(reasons) > SHOWN else []
        links = " (`doctor.outside: keep` follows links)" if any(one.kind == "outside" for one in files) else ""
        raise InputError(
            f"prepare.source: {source.name} gives {what} images, and none of them can be used:\n"
            + "\n".join(lines)
            + f"\nOthers would be drawn in their place, from train. Bring these files{links}, or, if they are to"
            f" be drawn, take the split {name} out of the source"
        )
