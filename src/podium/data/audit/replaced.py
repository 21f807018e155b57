"""Images whose files were re-encoded with loss: by what they look like they get the splits of those that are gone.

A file that was written anew, such as a PNG as JPEG, has other pixels, and so another digest (podium.data.content): it
would be placed anew, and a test image of before might be trained on. So the split file remembers 63 bits of what each
image looks like: which low frequencies of its grey thumb are above their median (pHash: C. Zauner, Implementation and
Benchmarking of Perceptual Image Hash Functions, 2010). An added image takes over the split of an image that is gone
where each is the nearest to the other.

These bits take strangers for each other now and then, and a set of nothing but strangers is a new set. So the nearest
has to be nearer by far than the second, as D. Lowe tells matches apart (Distinctive Image Features from Scale-Invariant
Keypoints, 2004, 7.1), among those that are gone and among those that are added, unless more than half of the images are
matched so: then the files were re-encoded. Where fewer are, they may have been turned or mirrored, each in its own way:
each added image is looked at in all eight ways then, and the same rule tells whether it was so.

Added images are compared with those that are gone, all with all: 100,000 with 100,000 take a minute of one core.
An index of four parts of 16 bits is no help: two looks that differ in 16 bits differ in up to 4 of some part, so that
one look has 10,000 entries to search, a tenth of all, in places all over the memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from podium.data.lazy_rows import Numbers
from podium.data.split_draw import numbered
from podium.data.split_file import NOWHERE, PLACES, SplitFile
from podium.text import counted

NEAR = 16
"""Bits of 63 in which two images of one look differ at most. Of 48 pieces of photographs as PNG and as JPEG of quality
75 the largest difference was 14; 1 of 1,000 pairs of strangers is as near (docs/decisions, 2026-11-30-split-names)."""
CLEAR = 2
"""The second nearest look is this many times as far where one is sure, seen from both: 6 of 597 digits have such a
match among 900 others, and 896 of 900 as JPEG of quality 95 with themselves."""
SAME = 6
"""Bits in which two remembered images differ at most that are no rivals if they share a split: a file that was
re-encoded before, or another of its burst."""
WAYS = 8
"""In which a picture lies: a quarter turn more with each number, mirrored from the fourth on."""
SOME = 1000
"""Added images by which it is told whether files were turned; all in seven ways more would take minutes."""
CELLS = 1_000_000
"""Pairs that are compared at once."""
SEVERAL = NOWHERE
"""In the place of a split, for images of one look in several splits."""


Turned = Callable[[NDArray[np.int64], int], NDArray[np.uint64]]
"""From numbers (n,) of images and one of WAYS, the looks (n,) that they have in that way."""


@dataclass(frozen=True)
class TakenOver:
    """What N images take over from images that are gone."""

    places: NDArray[np.int8]
    """(N,) index into PLACES; -1: nothing."""
    sure: NDArray[np.bool_]
    """(N,) whether it holds against what the source says: a clear match in a set of which most are matched."""
    again: bool
    """Whether more than half of the images that are added, or gone, are clear matches: the files were re-encoded."""
    turned: int = 0
    """Images that take something over because they were turned or mirrored."""


@dataclass(frozen=True)
class Gone:
    """Remembered images whose files are not there any more."""

    by_place: NDArray[np.int64]
    """(4,) how many, by PLACES."""
    replaced: int
    """How many added images took over the split of one of these."""
    unknown: int
    """Of these, test images of which no look is remembered."""
    added: int
    """Images that are there and were not remembered."""
    given_otherwise: Sequence[str] = ()
    """Names of added images that look like test images that are gone, and that the source gives another split."""
    turned: int = 0
    """How many of `replaced` were turned or mirrored."""
    remembered: int = 0
    """Images that are remembered, there or not."""

    @property
    def is_other(self) -> bool:
        """Whether most of what is remembered went and as much came that looks like nothing of it."""
        vanished, came = int(self.by_place.sum()) - self.replaced, self.added - self.replaced
        return 2 * vanished > self.remembered and 2 * came >= vanished

    @property
    def notes(self) -> list[str]:
        """What to say."""
        total = int(self.by_place.sum())
        if not total:
            return []
        by = ", ".join(f"{name} {count:,}" for name, count in zip(PLACES, self.by_place.tolist(), strict=True) if count)
        took = "looks like one of them and takes over its split"
        took = took if self.replaced == 1 else "look like some of them and take over their splits"
        rest = f"; {counted(self.replaced, 'added image')} {took}" if self.replaced else ""
        rest += f" ({self.turned:,} of them turned or mirrored)" if self.turned else ""
        verb = "is" if total == 1 else "are"
        notes = [f"{counted(total, 'image')} with a remembered split {verb} not in the source any more ({by}){rest}"]
        if self.given_otherwise:
            many = counted(len(self.given_otherwise), "added image")
            notes.append(
                f"{many}, such as {self.given_otherwise[0]!r}, can be re-encoded test images that are gone, and the"
                " source gives another split than test, which counts: if they show the same, give them the split test"
            )
        if self.is_other and self.by_place[PLACES.index("test")]:
            notes.append(
                f"{self.added - self.replaced:,} images are new and look like none of those that are gone, which are"
                f" more than half of the {self.remembered:,} that data/split remembers: if they are the same pictures,"
                " changed (cropped, drawn on, in other colours), earlier test images may be trained on. Prepare the"
                " old files and change them with prepare.resize, train.augmentation or code of your own; if they are"
                " other pictures, nothing is to be done"
            )
        if self.added and self.unknown:
            notes.append(
                f"how {counted(self.unknown, 'test image')} among them looked is not remembered (an earlier"
                " Podium wrote their lines, or nothing can be seen on them): if files were re-encoded, restore the"
                " old ones, run prepare, and replace them then; otherwise earlier test images may be trained on"
            )
        return notes


def taken_over(
    known: SplitFile,
    contents: NDArray[np.uint64],
    formers: NDArray[np.uint64],
    looks: NDArray[np.uint64],
    near: Numbers,
    turned: Turned | None = None,
) -> TakenOver:
    """What each of N images takes over; in other ways of lying only where `turned` tells what they look like there.

    `near` (N,): near-duplicates share a number. Where these would be in several splits, those that take one over are
    in none. Groups of the source are checked as those of remembered images are (podium.data.splitting).
    """
    pool = ~is_there(known, contents, formers) & (known.places < NOWHERE) & (known.looks > 0)
    remembered = known.place_of(contents, formers)
    rows = np.flatnonzero((remembered < 0) & (looks > 0))
    gone_looks, gone_places = known.looks[pool], known.places[pool]
    clear, any_ = (_at(gone_places, match) for match in _matches(looks[rows], gone_looks, gone_places))
    again = bool((clear >= 0).sum() * 2 > min(len(rows), int(pool.sum())))
    places, sure = np.full(len(contents), -1, np.int8), np.zeros(len(contents), np.bool_)
    turns = 0
    if not again and turned is not None:
        other = _turned(clear, rows, gone_looks, gone_places, turned)
        again = other is not None
        clear, turns = other or (clear, 0)
        any_ = clear
    places[rows], sure[rows] = any_ if again else clear, again & (clear >= 0)
    torn = _torn(np.where(remembered < 0, places, remembered), near)
    return TakenOver(np.where(torn & (places >= 0), NOWHERE, places).astype(np.int8), sure, again, turns)


def gone(
    known: SplitFile,
    contents: NDArray[np.uint64],
    formers: NDArray[np.uint64],
    replaced: int = 0,
    given_otherwise: Sequence[str] = (),
    turned: int = 0,
) -> Gone:
    """What of `known` is not among N images any more. `replaced`, `given_otherwise` and `turned`: as in Gone."""
    lost = ~is_there(known, contents, formers)
    was, look = known.places[lost], known.looks[lost]
    unknown = int(((was == PLACES.index("test")) & (look == 0)).sum())
    added = int((known.place_of(contents, formers) < 0).sum())
    by_place = np.bincount(was, minlength=len(PLACES)).astype(np.int64)
    return Gone(by_place, replaced, unknown, added, given_otherwise, turned, len(known.digests))


def is_there(known: SplitFile, contents: NDArray[np.uint64], formers: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the images that `known` remembers are among N images, by either digest of these."""
    there: NDArray[np.bool_] = np.isin(known.digests, np.concatenate([contents, formers]))
    return there


def _matches(
    looks: NDArray[np.uint64], pool: NDArray[np.uint64], places: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) which of `pool`, whose splits are `places`, matches each of `looks`, -1: none; clear matches, and all.

    Images of one look share a match, as many of them as are in the pool; its number is that of the first of these.
    """
    clear, every = np.full(len(looks), -1, np.int64), np.full(len(looks), -1, np.int64)
    if not len(pool) or not len(looks):
        return clear, every
    ours, first, mine = np.unique(looks, return_index=True, return_inverse=True)
    theirs, at, look, many = np.unique(pool, return_index=True, return_inverse=True, return_counts=True)
    split = places[at].copy()
    split[look[places != split[look]]] = SEVERAL
    nearest, apart = _mutual(ours, theirs)
    found = np.flatnonzero((apart <= NEAR) & (split[nearest] != SEVERAL))
    match = nearest[found]
    unclear, tied = _rivals(ours[found], match, apart[found], theirs, split)
    rest = np.flatnonzero(~unclear)  # an image that is gone has a near one among thousands of strangers: several
    one_split = np.zeros(len(ours), np.int8)
    unclear[rest] = _rivals(theirs[match[rest]], found[rest], apart[found[rest]], ours, one_split)[0]
    order = np.argsort(mine, kind="stable")
    rank = np.empty(len(looks), np.int64)
    rank[order] = np.arange(len(looks)) - np.searchsorted(mine[order], np.arange(len(first)))[mine[order]]
    for matched, ok in ((clear, ~unclear), (every, ~tied)):
        of = np.full(len(ours), -1, np.int64)
        of[found[ok]] = match[ok]
        used = (of[mine] >= 0) & (rank < many[of[mine]])
        matched[used] = at[of[mine][used]]
    return clear, every


def _at(places: NDArray[np.int8], match: NDArray[np.int64]) -> NDArray[np.int8]:
    """(n,) the places of what n images match, -1 where they match nothing."""
    found = np.full(len(match), -1, np.int8)
    found[match >= 0] = places[match[match >= 0]]
    return found


def _turned(
    clear: NDArray[np.int8],
    rows: NDArray[np.int64],
    looks: NDArray[np.uint64],
    places: NDArray[np.int8],
    turned: Turned,
) -> tuple[NDArray[np.int8], int] | None:
    """`clear` (n,), the places of clear matches of the images `rows` (n,) as they lie, with turned or mirrored ones.

    Also how many of these there are. `looks` and `places` (m,): of what is gone. None: not more than half of either
    would be matched, so that the matches are chance. The way that matches most comes first, and who is matched there is
    matched with no other: in the other ways strangers would take what is left over.
    """
    if not len(rows) or not len(looks):
        return None
    some = np.linspace(0, len(rows) - 1, min(SOME, len(rows))).astype(np.int64)
    least = min(len(rows), len(looks)) / len(rows) / 2
    found = [clear[some] >= 0, *(_matches(turned(rows[some], way), looks, places)[0] >= 0 for way in range(1, WAYS))]
    if np.mean(np.logical_or.reduce(found)) <= least:
        return None
    whole, turns = np.full(len(rows), -1, np.int8), 0
    look = np.unique(looks, return_inverse=True)[1]
    spare = np.bincount(look)
    for way in sorted(range(WAYS), key=lambda way: -int(found[way].sum())):
        rest = np.flatnonzero(whole < 0)
        if not len(rest):
            break
        match = _matches(turned(rows[rest], way), looks, places)[0]
        new = np.flatnonzero((match >= 0) & (spare[look[match]] > 0))
        whole[rest[new]] = places[match[new]]
        spare -= np.bincount(look[match[new]], minlength=len(spare))
        turns += len(new) if way else 0
    return None if np.mean(whole >= 0) <= least else (whole, turns)


def _mutual(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) which of `theirs` each is nearest to, and in how many bits they differ: 64 where it has a nearer one."""
    nearest, apart = np.empty(len(ours), np.int64), np.empty(len(ours), np.int64)
    back, least = np.zeros(len(theirs), np.int64), np.full(len(theirs), 64, np.int64)
    for some in _blocks(len(ours), len(theirs)):
        bits = np.bitwise_count(ours[some, None] ^ theirs)
        nearest[some], apart[some] = bits.argmin(1), bits.min(1)
        lowest = bits.min(0)
        better = np.flatnonzero(lowest < least)  # few but at first; argmin along columns takes as long as all the rest
        back[better], least[better] = some.start + bits[:, better].argmin(0), lowest[better]
    return nearest, np.where(back[nearest] == np.arange(len(ours)), apart, 64)


def _rivals(
    ours: NDArray[np.uint64],
    nearest: NDArray[np.int64],
    apart: NDArray[np.int64],
    theirs: NDArray[np.uint64],
    split: NDArray[np.int8],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) whether another of `theirs` is too near for a clear match, and whether one of another split is as near.

    `nearest` (n,): which of `theirs` each is nearest to; `apart` (n,): in how many bits they differ.
    """
    unclear, tied = np.zeros(len(ours), np.bool_), np.zeros(len(ours), np.bool_)
    limit = np.maximum(CLEAR * apart, apart + 1).astype(np.uint8)
    for some in _blocks(len(ours), len(theirs)):
        bits = np.bitwise_count(ours[some, None] ^ theirs)
        row, rival = np.nonzero(bits < limit[some, None])
        row += some.start
        match = nearest[row]
        elsewhere = split[match] != split[rival]
        unlike = np.bitwise_count(theirs[match] ^ theirs[rival]) > SAME
        unclear[row[elsewhere | unlike]] = True
        tied[row[elsewhere & (bits[row - some.start, rival] <= apart[row])]] = True
    return unclear, tied


def _blocks(count: int, width: int) -> Iterator[slice]:
    """Numbers below `count`, as many at a time as are compared with `width` others at once."""
    step = max(1, CELLS // width)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _torn(places: NDArray[np.int8], near: Numbers) -> NDArray[np.bool_]:
    """(N,) whether the images that share a number in `near` (N,) have several of `places` (N,), -1: none."""
    count, group = numbered(near)
    present = np.zeros((count, NOWHERE), np.bool_)
    named = (places >= 0) & (places < NOWHERE)
    present[group[named], places[named]] = True
    torn: NDArray[np.bool_] = (present.sum(1) > 1)[group]
    return torn
